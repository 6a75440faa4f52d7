"""Draws vitlib's modules and their imports into CONTRIBUTING.md: `make drawing`.

The arrows are read off the code (grimp), the rows are the layers of pyproject.toml. An arrow that
follows from others is left out. test_import_drawing.py fails when the code has gone on since.
"""

import tomllib
from pathlib import Path

import grimp
import networkx

ROOT = Path(__file__).resolve().parents[1]
# What the rows of pyproject.toml hold, the uppermost first.
TITLES = (
    "the command line",
    "checkers, figures, reports; experiments and weights with their scripts",
    "looking inside, training",
    "models by name, ONNX, a toy task; what fits a model",
    "data sets; weights in files",
    "the model, and what it is compared with",
    "its blocks, and how they are initialised",
    "the pieces of a block, and of the tokens",
    "what training costs; drawings, colours, files, wording of messages",
)
START, END = "<!-- imports: made by `make drawing` -->", "<!-- /imports -->"


def layers() -> list[list[str]]:
    """The rows of the house, the uppermost first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]["importlinter"]
    rows = next(c["layers"] for c in settings["contracts"] if c["type"] == "layers")
    return [row.split(" : ") for row in rows]


def arrows() -> list[tuple[str, str]]:
    """(importer, imported) among the modules and folders of vitlib, without what others imply."""
    graph = grimp.build_graph("vitlib")
    for module in graph.find_children("vitlib"):
        graph.squash_module(module)
    inner = networkx.DiGraph()
    for module in graph.find_children("vitlib") - {"vitlib.__main__"}:
        for imported in graph.find_modules_directly_imported_by(module) - {module, "vitlib"}:
            inner.add_edge(module.removeprefix("vitlib."), imported.removeprefix("vitlib."))
    return sorted(networkx.transitive_reduction(inner).edges)


def drawing() -> str:
    """A Mermaid chart, as GitHub draws it."""
    lines = ["```mermaid", "flowchart TD"]
    for number, (title, row) in enumerate(zip(TITLES, layers(), strict=True)):
        lines += [f'  subgraph layer{number}["{title}"]', f"    {'; '.join(row)}", "  end"]
    # invisible links, which keep the rows in their order
    lines += [f"  layer{number} ~~~ layer{number + 1}" for number in range(len(TITLES) - 1)]
    lines += [f"  {importer} --> {imported}" for importer, imported in arrows()]
    return "\n".join([*lines, "```"])


def drawn(text: str) -> str:
    """CONTRIBUTING.md with the drawing in its place."""
    before, _, rest = text.partition(START)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"CONTRIBUTING.md has no place for the drawing: {START} ... {END}")
    return f"{before}{START}\n{drawing()}\n{END}{after}"


if __name__ == "__main__":
    page = ROOT / "CONTRIBUTING.md"
    page.write_text(drawn(page.read_text("utf8")), "utf8")
