"""The stored notebooks, and the tool that runs, cleans and addresses them."""

import json
import os
import re
import shutil
from io import BytesIO
from pathlib import Path

import nbformat
import notebooks
import numpy as np
import pytest
from building import ROOT, copy_sources
from nbformat import v4
from PIL import Image

NOTEBOOKS = notebooks.find_notebooks()
ADDRESS = "https://github.com/example/vision-transformers"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def stored(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# --- the notebooks as they are stored


def test_setup_cell_is_first_and_follows_the_config(stored) -> None:
    first = code_cells(stored)[0]
    expected = notebooks.setup_cell(notebooks.repository_url())
    assert first.source == expected.source, "run `make execute`, or `make set-repo URL=...`"
    assert (first.id, first.metadata) == (expected.id, expected.metadata)
    assert sum("setup" in cell.metadata.get("tags", []) for cell in stored.cells) == 1


def test_is_stored_clean(path) -> None:
    notebook = nbformat.read(path, as_version=4)
    notebooks.clean(notebook)
    assert path.read_text("utf8") == notebooks.notebook_text(notebook), (
        f"run `make execute NB={path.relative_to(ROOT)}`"
    )


def test_code_that_a_page_folds_is_folded_in_jupyter_and_colab(stored) -> None:
    for cell in code_cells(stored):
        folded = bool({"hide-input", "hide-cell"} & set(cell.metadata.get("tags", [])))
        assert cell.metadata.get("jupyter", {}).get("source_hidden", False) == folded, cell.source
        assert cell.metadata.get("cellView") == ("form" if folded else None), cell.source


def test_outputs_come_from_one_run_from_top_to_bottom(stored) -> None:
    cells = [cell for cell in code_cells(stored) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_no_output_is_an_error_or_a_warning(stored) -> None:
    for cell in code_cells(stored):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", f"{cell.source}\n->\n{output.text}"


def test_no_output_names_a_place_on_the_authors_machine(stored) -> None:
    for cell in code_cells(stored):
        found = re.search(r"/(home|root|tmp|Users|work)/\w+", json.dumps(cell.outputs))
        assert found is None, f"{cell.source}\n-> {found}"


def test_every_picture_has_an_alt_text(stored) -> None:
    for cell in code_cells(stored):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 10, f"needs metadata mystnb.image.alt:\n{cell.source}"


def test_some_outputs_are_compared(stored) -> None:
    """Without one cell marked so, nbval would only see whether the cells run."""
    checked = [
        cell
        for cell in code_cells(stored)
        if "nbval-check-output" in cell.metadata.get("tags", [])
        or "NBVAL_CHECK_OUTPUT" in cell.source
    ]
    assert checked, "tag one cell that prints the same anywhere with nbval-check-output"
    assert all(cell.outputs for cell in checked), "a compared cell prints nothing"


def test_the_readmes_picture_shows_the_photos_that_open_the_introduction() -> None:
    stored = Image.open(ROOT / notebooks.README_PICTURE).convert("RGB")
    drawn = Image.open(BytesIO(notebooks.readme_picture())).convert("RGB")
    assert stored.size == drawn.size
    difference = np.abs(np.asarray(stored, int) - np.asarray(drawn, int))
    assert difference.mean() < 0.5, "run `make execute NB=book/intro.ipynb`"
    opening = nbformat.read(ROOT / "book" / "intro.ipynb", as_version=4)
    first = next(cell for cell in code_cells(opening) if cell.id != "setup")
    assert 'read_photos("astronaut", "cup", "photographer")' in first.source


# --- the tool


def notebook_with(*outputs: nbformat.NotebookNode) -> nbformat.NotebookNode:
    cell = v4.new_code_cell("show()", id="a", outputs=list(outputs), execution_count=3)
    cell.metadata = nbformat.from_dict({"tags": ["x"], "execution": {"iopub.status.busy": "t"}})
    made = v4.new_notebook(cells=[v4.new_markdown_cell("# Title", id="t"), cell])
    made.metadata = nbformat.from_dict({"widgets": {"state": {}}, "kernelspec": {"name": "mine"}})
    return made


def display(**data: str) -> nbformat.NotebookNode:
    return v4.new_output("display_data", data={k.replace("_", "/"): v for k, v in data.items()})


def test_clean_drops_what_changes_and_keeps_what_is_read() -> None:
    progress_bar = display(text_plain="0%")
    progress_bar.data[notebooks.WIDGET_VIEW] = {"model_id": "1"}
    figure = display(text_plain="Figure()", text_html="<b>figure</b>")
    figure.data[notebooks.WIDGET_VIEW] = {"model_id": "2"}
    printed = v4.new_output("stream", text="98 %")
    notebook = notebook_with(progress_bar, figure, printed)

    notebooks.clean(notebook)

    cell = notebook.cells[1]
    assert cell.outputs == [display(text_plain="Figure()", text_html="<b>figure</b>"), printed]
    assert cell.metadata == {"tags": ["x"]}
    assert (cell.id, cell.execution_count) == ("a", 3)
    assert notebook.metadata == notebooks.METADATA
    once = notebooks.notebook_text(notebook)
    notebooks.clean(notebook)
    assert notebooks.notebook_text(notebook) == once


def test_setup_cell_is_put_first_and_replaced() -> None:
    notebook = notebook_with()
    notebooks.put_setup_cell(notebook, "")
    notebooks.put_setup_cell(notebook, ADDRESS)
    assert [cell.id for cell in notebook.cells] == ["t", "setup", "a"]
    assert f'REPOSITORY = "{ADDRESS}"' in notebook.cells[1].source


def test_execute_stores_outputs_and_runs_elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = v4.new_notebook(cells=[v4.new_code_cell("import os\nprint(os.listdir())", id="a")])
    nbformat.write(notebook, tmp_path / "one.ipynb")
    assert notebooks.main(["execute", "one.ipynb"]) == 0
    setup, cell = nbformat.read(tmp_path / "one.ipynb", as_version=4).cells
    assert setup.id == "setup"
    assert cell.outputs[0].text == "[]\n", "it ran in an empty folder"
    assert [p.name for p in tmp_path.iterdir()] == ["one.ipynb"]


def test_a_failing_notebook_is_left_as_it_was(tmp_path, capsys) -> None:
    path = tmp_path / "bad.ipynb"
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1 / 0", id="a")]), path)
    before = path.read_text()
    assert notebooks.main(["execute", str(path)]) == 1
    assert path.read_text() == before
    assert "was left as it was" in (message := capsys.readouterr().err)
    assert "ZeroDivisionError" in message


def test_a_notebook_that_is_not_there_is_named(capsys) -> None:
    assert notebooks.main(["clean", "book/99_missing.ipynb"]) == 2
    assert "there is no notebook book/99_missing.ipynb" in capsys.readouterr().err


def test_nothing_is_half_written_when_the_disk_fails(tmp_path, monkeypatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("old")
    two.write_text("old")
    write = Path.write_text

    def full(self: Path, text: str, *rest: str) -> int:
        if "two" in self.name:
            raise OSError(28, "No space left on device")
        return write(self, text, *rest)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        notebooks.write_all({one: "new", two: "new"})
    assert (one.read_text(), two.read_text()) == ("old", "old")
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


# --- the repository's address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "got ''"),
        ("github.com/a/b", "got 'github.com/a/b'"),
        ("http://github.com/a/b", "expected https://github.com/"),
        ("https://gitlab.com/a/b", "expected https://github.com/"),
        ("https://github.com/a", "owner, a slash and the repository's name"),
        ("https://github.com/a/b/tree/main", "nothing was changed"),
        ("https://github.com/a/b\n", "nothing was changed"),
        ('https://github.com/a/"; rm', "nothing was changed"),
        ("https://github.com/a/b.git", "leave out the .git"),
        ("https://github.com/…/…", "expected https://github.com/"),
    ],
)
def test_wrong_addresses_are_refused(url, message, capsys) -> None:
    before = (ROOT / "_config.yml").read_text("utf8")
    assert notebooks.main(["set-repo", url]) == 2
    assert message in capsys.readouterr().err
    assert (ROOT / "_config.yml").read_text("utf8") == before


@pytest.fixture
def tree(tmp_path) -> Path:
    tree = copy_sources(tmp_path / "tree")
    notebooks.set_repository("", tree)
    return tree


def test_set_repository_reaches_everything(tree) -> None:
    before = {path: path.read_text("utf8") for path in tree.rglob("*.ipynb")}
    changed = notebooks.set_repository(ADDRESS, tree)
    names = {"_config.yml", "README.md", "CITATION.cff", *(path.name for path in before)}
    assert {path.name for path in changed} == names
    assert notebooks.repository_url(tree) == ADDRESS
    for path in changed:
        assert ADDRESS.removeprefix("https://github.com/") in path.read_text("utf8")

    assert notebooks.set_repository(ADDRESS, tree) == [], "a second time changes nothing"
    notebooks.set_repository("", tree)
    assert {path: path.read_text("utf8") for path in before} == before
    assert "example/vision-transformers" not in "".join(path.read_text("utf8") for path in changed)


def test_set_repository_changes_nothing_when_a_file_cannot_follow(tree) -> None:
    (tree / "README.md").write_text("# Another README\n")
    with pytest.raises(ValueError, match=r"README\.md: expected one <!-- repository -->"):
        notebooks.set_repository(ADDRESS, tree)
    assert notebooks.repository_url(tree) == ""


def test_the_tree_agrees_with_its_config(tmp_path) -> None:
    """README, CITATION and notebooks say what `make set-repo` would write."""
    tree = copy_sources(tmp_path / "tree")
    assert notebooks.set_repository(notebooks.repository_url(), tree) == []
    shutil.rmtree(tree)


def test_nbconvert_writes_a_script_in_python(path: Path, stored: nbformat.NotebookNode) -> None:
    from nbconvert.exporters import ScriptExporter

    assert stored.metadata == notebooks.METADATA
    _, resources = ScriptExporter().from_notebook_node(stored)
    assert resources["output_extension"] == ".py"
