"""Notebooks run as in Colab: vitlib is not there, and the set-up cell fetches it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import notebooks
import pytest
from building import ROOT

RUN = """\
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
where = "import sys, vitlib; print(vitlib.__file__, 'google.colab' in sys.modules)"
notebook.cells.append(nbformat.v4.new_code_cell(where))
nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
print(notebook.cells[-1].outputs[0].text)
"""

# Of google.colab.output, what anywidget calls and reads.
OUTPUT = """\
from types import SimpleNamespace
_widgets = SimpleNamespace(_installed_url=None)
def enable_custom_widget_manager():
    _widgets._installed_url = "where the widget manager lies"
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, ROOT], check=True
    )
    (built,) = folder.glob("vitlib-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The Python of a new environment that has all that Colab has, and not vitlib.

    torch and the rest are this environment's own, by links; all that would lead to vitlib is left
    out. `google.colab` is a stand-in, imported at the start as Colab does.
    """
    folder = tmp_path_factory.mktemp("colab")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
    for old in site_packages.glob("setuptools*"):
        shutil.rmtree(old)  # Python 3.11 puts one there, too old for torch
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "vitlib" not in entry.name and entry.suffix != ".pth":
            (borrowed / entry.name).symlink_to(entry)
    (site_packages / "borrowed.pth").write_text(f"{borrowed}\n")
    google = site_packages / "google" / "colab"
    google.mkdir(parents=True)
    (google / "__init__.py").write_text("from google.colab import output\n")
    (google / "output.py").write_text(OUTPUT)
    (site_packages / "sitecustomize.py").write_text("import google.colab\n")
    kernel = folder / "env" / "share" / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "Python 3",
                "language": "python",
            }
        )
    )
    return python


@pytest.fixture
def colab(environment: Path) -> Iterator[Path]:
    """That Python; what a test installed is gone for the next."""
    yield environment
    run_in(environment, "-m", "pip", "uninstall", "--quiet", "--yes", "vitlib")


def run_in(
    python: Path, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run in an empty folder, with an empty home, and with no index to fetch from."""
    home = python.parents[2] / "home"
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VITLIB_SOURCE")}
    kept |= {"HOME": str(home), "PIP_NO_INDEX": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    return subprocess.run(
        [python, *arguments], cwd=home, env=kept | environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["intro", "01_patches"])
def test_notebook_runs_as_in_colab(colab, wheel, name) -> None:
    missing = run_in(colab, "-c", "import torch, vitlib")
    assert "No module named 'vitlib'" in missing.stderr, "the stand-in must have torch only"

    path = ROOT / "book" / f"{name}.ipynb"
    ran = run_in(colab, "-c", RUN, path, VITLIB_SOURCE=str(wheel))
    assert ran.returncode == 0, ran.stderr[-3000:]
    file, in_colab = ran.stdout.split()[-2:]
    assert Path(file).is_relative_to(colab.parents[1]), "vitlib came from the wheel"
    assert in_colab == "True"


def test_without_an_address_the_cell_says_what_to_do(colab) -> None:
    ran = run_in(colab, "-c", notebooks.setup_cell("").source)
    assert ran.returncode != 0
    assert "ModuleNotFoundError: vitlib is not installed, and this copy" in ran.stderr
    assert "make lab" in ran.stderr
    assert "make set-repo URL=..." in ran.stderr


def test_a_source_that_is_not_there_fails_at_once(colab) -> None:
    cell = notebooks.setup_cell("").source
    ran = run_in(colab, "-c", cell, VITLIB_SOURCE="nowhere/vitlib.whl")
    assert ran.returncode != 0
    assert "Installing vitlib from nowhere/vitlib.whl" in ran.stdout
    assert "RuntimeError: pip could not install vitlib from nowhere/vitlib.whl" in ran.stderr
    assert "the file does not exist" in ran.stderr, "with pip's own words"


@pytest.mark.parametrize(
    ("environment", "source"),
    [
        ({}, "git+https://github.com/example/vision-transformers"),
        ({"VITLIB_SOURCE": "./vitlib.whl"}, "./vitlib.whl"),
    ],
)
def test_what_the_cell_installs(monkeypatch, environment, source) -> None:
    calls: list[list[str]] = []
    monkeypatch.delenv("VITLIB_SOURCE", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    def pip(command: list[str], **_: bool) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", pip)
    exec(notebooks.setup_cell("https://github.com/example/vision-transformers").source, {})
    assert calls == [[sys.executable, "-m", "pip", "install", "--quiet", source]]


def test_the_cell_does_nothing_where_vitlib_is(monkeypatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("it installed something"))
    exec(notebooks.setup_cell("").source, {})
