"""The figures as live widgets: in a kernel without a page, and in JupyterLab itself."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from browsing import Visit
from nbclient import NotebookClient
from playwright.sync_api import Browser, Locator, Page, expect

from vitlib.widgets import PatchFigure

MAKE = """\
import torch
from vitlib.widgets import PatchFigure

figure = PatchFigure(torch.linspace(0, 1, 784).view(28, 28), patch_size=7, patch=5)
figure"""
TELL = 'print("is", figure.patch_size, figure.patch, figure.mode)'


# --- a kernel, and a stand-in for the page


class Kernel:
    """Runs code as a notebook's cells, and speaks to widgets as a page would."""

    def __init__(self, client: NotebookClient) -> None:
        self.client = client

    def run(self, code: str) -> list[nbformat.NotebookNode]:
        cell = nbformat.v4.new_code_cell(code)
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        return cell.outputs

    def tell(self) -> str:
        return "".join(o.text for o in self.run(TELL) if o.get("name") == "stdout").strip()

    def send(self, model_id: str, **state: object) -> None:
        """The message by which a page says that a reader moved a control."""
        data = {"method": "update", "state": state, "buffer_paths": []}
        session = self.client.kc.session
        message = session.msg("comm_msg", {"comm_id": model_id, "data": data})
        self.client.kc.shell_channel.send(message)


@pytest.fixture(scope="module")
def running() -> Iterator[Kernel]:
    client = NotebookClient(nbformat.v4.new_notebook(), kernel_name="python3", timeout=180)
    with client.setup_kernel():
        yield Kernel(client)


@pytest.fixture
def kernel(running: Kernel) -> tuple[Kernel, str]:
    """The kernel with a new figure in it, and the name by which a page would call that."""
    (output,) = running.run(MAKE)
    view = output.data["application/vnd.jupyter.widget-view+json"]
    assert running.tell() == "is 7 5 unfold"
    return running, view["model_id"]


def test_the_page_receives_the_traits_and_the_bytes(kernel) -> None:
    running, model_id = kernel
    state = running.client.widget_state[model_id]
    assert (state["patch_size"], state["patch"], state["mode"]) == (7, 5, "unfold")
    assert state["_esm"] == PatchFigure._esm
    assert state["_css"] == PatchFigure._css
    buffers = running.client.widget_buffers[model_id]
    sent = {path[0]: buffer["data"] for path, buffer in buffers.items()}
    assert sent.keys() == {"pixels", "kernels"}, "bytes travel as buffers, not as text"
    (told,) = running.run("import base64; base64.b64encode(figure.pixels).decode()")
    assert sent["pixels"].strip() == told.data["text/plain"].strip("'")


def test_what_the_page_says_reaches_the_kernel(kernel) -> None:
    running, model_id = kernel
    running.send(model_id, patch=3)
    assert running.tell() == "is 7 3 unfold"
    running.send(model_id, mode="view", patch_size=4)
    assert running.tell() == "is 4 3 view"
    running.send(model_id, patch=48)
    running.send(model_id, patch_size=14)
    assert running.tell() == "is 14 0 view", "of 4 patches, number 48 is none"


def test_what_the_kernel_says_reaches_the_page(kernel) -> None:
    running, model_id = kernel
    running.run("figure.patch_size = 14; figure.mode = 'conv'")
    state = running.client.widget_state[model_id]
    assert (state["patch_size"], state["patch"], state["mode"]) == (14, 0, "conv")


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": 16},
        {"patch": -1},
        {"patch": "one"},
        {"patch": None},
        {"patch_size": 5},
        {"patch_size": 7.5},
        {"mode": "fold"},
        {"patch": 2, "mode": "fold"},
    ],
    ids=str,
)
def test_a_bad_value_from_the_page_changes_nothing(kernel, wrong) -> None:
    running, model_id = kernel
    running.send(model_id, **wrong)
    assert running.tell() == "is 7 5 unfold"
    running.send(model_id, patch=4)
    assert running.tell() == "is 7 4 unfold", "and the figure still listens"


def test_two_views_of_one_figure_and_two_figures(kernel) -> None:
    running, model_id = kernel
    (again,) = running.run("figure")
    assert again.data["application/vnd.jupyter.widget-view+json"]["model_id"] == model_id
    running.run("other = PatchFigure(torch.rand(28, 28), patch_size=7)")
    running.send(model_id, patch=9)
    (told,) = running.run("(figure.patch, other.patch)")
    assert told.data["text/plain"] == "(9, 0)"


# --- JupyterLab

SETTINGS = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}


@contextmanager
def jupyterlab(folder: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """JupyterLab's address, serving this notebook as book.ipynb; no settings but its own."""
    work = folder / "work"
    work.mkdir()
    nbformat.write(notebook, work / "book.ipynb")
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(SETTINGS))
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={work}"),
        *("--IdentityProvider.token=", "--LabApp.news_url=None"),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    environment = os.environ | {name: str(folder / place) for name, place in places.items()}
    log = folder / "log.txt"
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        description = folder / "runtime" / f"jpserver-{server.pid}.json"
        deadline = time.monotonic() + 180
        while not description.exists() or not description.read_text().endswith("}"):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield json.loads(description.read_text())["url"].rstrip("/")
    finally:
        server.terminate()  # it ends its kernels, too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def run_cell(page: Page, number: int) -> Locator:
    """Run this cell and wait until it has run; its outputs."""
    cell = page.locator(".jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputArea-prompt")
    deadline = time.monotonic() + 180
    # A session that is still starting runs nothing, or takes the cell and then drops it.
    while not re.fullmatch(r"\[\d+\]:", words := prompt.inner_text().strip()):
        assert time.monotonic() < deadline, "JupyterLab does not run the cell"
        if words == "[ ]:":
            cell.locator(".cm-content").click()
            page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(500)
    return cell.locator(".jp-OutputArea-output")


@pytest.fixture
def lab(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A notebook open in JupyterLab, nothing run yet."""
    cells = [MAKE, TELL, "figure.patch_size, figure.mode = 4, 'view'"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    with jupyterlab(tmp_path, notebook) as address:
        visit = Visit(browser, address)
        page = visit.open("lab/tree/book.ipynb")
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        yield page
        visit.context.close()
        # JupyterLab has warnings of its own; but it must ask nobody, and no script may fail
        assert [t for t in visit.troubles if t.startswith(("foreign", "error"))] == []


def test_in_jupyterlab_page_and_kernel_follow_each_other(lab) -> None:
    run_cell(lab, 0)
    figure = lab.locator(".jp-OutputArea .vitlib-figure")
    slider, status = figure.locator("input[type=range]"), figure.locator("[data-part=status]")
    expect(status).to_contain_text("Patch 5 of 0 to 15")
    assert figure.get_attribute("data-figure") is None, "the widget, not the page's own HTML"

    slider.focus()
    lab.keyboard.press("ArrowRight")
    expect(status).to_contain_text("Patch 0 of 0 to 3")
    figure.locator(".vf-picker").first.focus()
    lab.keyboard.press("ArrowRight")
    figure.locator("input[type=radio][value=conv]").check()
    expect(run_cell(lab, 1)).to_contain_text("is 14 1 conv")

    run_cell(lab, 2)  # in which Python moves the controls
    expect(status).to_contain_text("Row 1 of reshape(49, −1)")
    expect(slider).to_have_value("1")
    expect(figure.locator("input[type=radio]:checked")).to_have_attribute("value", "view")
