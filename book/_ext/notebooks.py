"""What the Makefile does to notebooks: run them, clean them, and tell them where they live.

    python book/_ext/notebooks.py execute [NOTEBOOK ...]   run in place, store outputs, clean
    python book/_ext/notebooks.py clean [NOTEBOOK ...]     only clean
    python book/_ext/notebooks.py set-repo URL             write the repository's address everywhere

Each notebook starts with the same set-up cell, `setup_cell`: it installs vitlib where vitlib is
missing, as in Colab. `execute` and `clean` put it there.
"""

import argparse
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
README_PICTURE = "book/figures/attention_on_photos.png"  # of the photos that open the intro
README_HEADS = (4, 3)  # of the last layer: one lies on the object, one around it
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {  # as Jupyter writes it; nbconvert takes the ending of scripts from here
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}
CELL_METADATA = {"cellView", "jupyter", "mystnb", "tags"}  # all else is an editor's memory
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
SETUP = """\
# Set-up: where vitlib is missing, as in Colab, this cell installs it. Elsewhere it does nothing.
import importlib.util
import os
import subprocess
import sys

REPOSITORY = "{url}"  # written by `make set-repo`

if importlib.util.find_spec("vitlib") is None:
    source = os.environ.get("VITLIB_SOURCE") or (REPOSITORY and f"git+{{REPOSITORY}}")
    if not source:
        raise ModuleNotFoundError(
            "vitlib is not installed, and this copy of the book does not know the address of its "
            "repository. On your own machine, run `make lab` in the book's folder. For Colab, run "
            "`make set-repo URL=...` there first, with the address of your copy on GitHub."
        )
    print(f"Installing vitlib from {{source}}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", source]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"pip could not install vitlib from {{source}}:\\n{{done.stderr}}")
    importlib.invalidate_caches()
"""


def find_notebooks(root: Path = ROOT) -> list[Path]:
    """The book's notebooks: those that stand in book/ itself, in order."""
    return sorted((root / "book").glob("*.ipynb"))


def repository_url(root: Path = ROOT) -> str:
    """The repository's address as _config.yml states it; empty when it is not known."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    return config["repository"]["url"] or ""


def setup_cell(url: str) -> NotebookNode:
    """The first code cell of every notebook, for the repository at `url` (empty: not known)."""
    source = SETUP.format(url=url).rstrip("\n")
    return nbformat.v4.new_code_cell(
        source, id="setup", metadata={"tags": ["setup", "remove-cell"]}
    )


def put_setup_cell(notebook: NotebookNode, url: str) -> None:
    """Put the set-up cell before the first code cell, in place of an older one."""
    setup = setup_cell(url)
    others = []
    for cell in notebook.cells:
        if "setup" in cell.metadata.get("tags", []):
            setup.execution_count = cell.get("execution_count")
        else:
            others.append(cell)
    first = next((i for i, c in enumerate(others) if c.cell_type == "code"), len(others))
    notebook.cells = [*others[:first], setup, *others[first:]]


def clean(notebook: NotebookNode) -> None:
    """Keep what a reader sees; drop what changes from run to run, and the state of widgets.

    Code that the page folds away is folded in Jupyter and in Colab, too.

    A live widget is nothing without its kernel. Where an output holds an HTML view of it, that
    stays; a bare widget, such as a progress bar, goes.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: value for key, value in cell.metadata.items() if key in CELL_METADATA}
        )
        for key in FOLDED:
            cell.metadata.pop(key, None)
        if {"hide-input", "hide-cell"} & set(cell.metadata.get("tags", [])):
            cell.metadata.update(nbformat.from_dict(FOLDED))
        cell.pop("attachments", None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            data = output.get("data", {})
            if data.pop(WIDGET_VIEW, None) is None or set(data) - {"text/plain"}:
                kept.append(output)
        cell.outputs = kept


def execute(notebook: NotebookNode) -> None:
    """Run from top to bottom, in an empty folder, so that nothing depends on where that is."""
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=900,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()


def readme_picture() -> bytes:
    """The three photos that open the introduction, and two heads' maps over each, as a PNG file."""
    import matplotlib.pyplot as plt
    import torch
    from PIL import Image

    from vitlib.plots import overlay, use_book_style
    from vitlib.runs.photos import read_photos

    pictures = read_photos("astronaut", "cup", "photographer").pictures
    use_book_style()
    widths = [one.pixels.shape[1] / one.pixels.shape[0] for one in pictures]
    figure, grid = plt.subplots(3, 3, figsize=(5, 4.6), width_ratios=widths)
    for column, one in zip(grid.T, pictures, strict=True):
        size = (one.pixels.shape[0], one.pixels.shape[1])
        column[0].imshow(one.pixels)
        pale = 0.6 + 0.4 * one.pixels.mean(axis=-1) / 255  # so that orange is the only colour
        for ax, head in zip(column[1:], README_HEADS, strict=True):
            ax.imshow(pale, cmap="gray", vmin=0, vmax=1)
            steps = torch.from_numpy(one.maps[-1, head, 0, 1:].reshape(one.grid))
            overlay(ax, steps.float(), size, 0.9)
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
    for ax, words in zip(grid[:, 0], ("photo", *(f"head {h}" for h in README_HEADS)), strict=True):
        ax.set_ylabel(words)
    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=140)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(128).save(file, "png", optimize=True)  # a fifth
    return file.getvalue()


def write_all(texts: dict[Path, str]) -> None:
    """Write every file through a temporary one beside it, so that none is left half-written."""
    temporary = {path: path.with_name(f".{path.name}.new") for path in texts}
    try:
        for path, text in texts.items():
            temporary[path].write_text(text, "utf8")
        for path, new in temporary.items():
            os.replace(new, path)
    finally:
        for new in temporary.values():
            new.unlink(missing_ok=True)


def notebook_text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook) + "\n"


def check_url(url: str) -> str:
    """`url` if it is a GitHub repository's address; else a ValueError that says what is wrong."""
    if not re.fullmatch(r"https://github\.com/[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+", url):
        raise ValueError(
            "expected https://github.com/, then the owner, a slash and the repository's name, "
            f"got {url!r}: nothing was changed"
        )
    if url.endswith(".git"):
        raise ValueError(f"leave out the .git at the end of {url!r}: nothing was changed")
    return url


def set_repository(url: str, root: Path = ROOT) -> list[Path]:
    """Write the address into the config and into all that follows it; empty makes it unknown.

    Every new text is made before the first is written. Returns the files that changed.
    """
    if url:
        check_url(url)
    texts = {
        root / "_config.yml": _replace_line(root / "_config.yml", r"  url: .*", f'  url: "{url}"'),
        root / "README.md": _replace_block(root / "README.md", readme_lines(url)),
        root / "CITATION.cff": _replace_line(
            root / "CITATION.cff",
            r"#? ?repository-code:.*",
            f'repository-code: "{url}"' if url else "# repository-code: not known yet",
        ),
    }
    for path in find_notebooks(root):
        notebook = nbformat.read(path, as_version=4)
        put_setup_cell(notebook, url)
        texts[path] = notebook_text(notebook)
    changed = {path: text for path, text in texts.items() if text != path.read_text("utf8")}
    write_all(changed)
    return list(changed)


def readme_lines(url: str) -> str:
    """What the README says about Colab and the web, for an address or for none."""
    if not url:
        return (
            "This copy does not know the address of its repository yet. Once it is on GitHub, run\n"
            "`make set-repo URL=...` with its address and commit: every Colab button, the\n"
            "notebooks' set-up cells and this section then follow it."
        )
    path = url.removeprefix("https://github.com/") + "/blob/main/book/intro.ipynb"
    return (
        "Every chapter has a Colab button; here is the introduction's:\n"
        f"<https://colab.research.google.com/github/{path}>.\n"
        f"The first cell of each notebook installs vitlib from <{url}>."
    )


def _replace_line(path: Path, pattern: str, line: str) -> str:
    text, count = re.subn(rf"^{pattern}$", lambda _: line, path.read_text("utf8"), flags=re.M)
    if count != 1:
        raise ValueError(f"{path.name}: expected one line like {pattern!r}, found {count}")
    return text


def _replace_block(path: Path, block: str) -> str:
    start, end = "<!-- repository -->\n", "\n<!-- /repository -->"
    text = path.read_text("utf8")
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{path.name}: expected one {start.strip()} ... {end.strip()}")
    before, rest = text.split(start)
    return before + start + block + end + rest.split(end)[1]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run, clean and address the book's notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("execute", "clean"):
        commands.add_parser(name).add_argument("notebooks", nargs="*", type=Path)
    commands.add_parser("set-repo").add_argument("url")
    options = parser.parse_args(argv)

    if options.command == "set-repo":
        try:
            check_url(options.url)
            changed = set_repository(options.url)
        except ValueError as error:
            print(f"set-repo: {error}", file=sys.stderr)
            return 2
        names = ", ".join(path.name for path in changed)
        print(f"written into {names}" if names else "every file had this address already")
        return 0

    for path in options.notebooks or find_notebooks():
        if not path.is_file():
            print(f"{options.command}: there is no notebook {path}", file=sys.stderr)
            return 2
        notebook = nbformat.read(path, as_version=4)
        put_setup_cell(notebook, repository_url())
        if options.command == "execute":
            print(f"running {path}", flush=True)
            try:
                execute(notebook)
            except CellExecutionError as error:
                print(f"{path} was left as it was:\n{error}", file=sys.stderr)
                return 1
        clean(notebook)
        write_all({path: notebook_text(notebook)})
        if path.resolve() == ROOT / "book" / "intro.ipynb" and options.command == "execute":
            (ROOT / README_PICTURE).parent.mkdir(exist_ok=True)
            (ROOT / README_PICTURE).write_bytes(readme_picture())
    return 0


if __name__ == "__main__":
    sys.exit(main())
