"""CONTRIBUTING.md shows the imports as they are."""

import import_drawing
from building import ROOT


def test_the_drawing_is_that_of_the_code():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf8")
    assert import_drawing.drawn(text) == text, "run `make drawing`"


def test_every_module_is_drawn_and_what_others_imply_is_not():
    names = {name for row in import_drawing.layers() for name in row}
    modules = {path.stem for path in (ROOT / "vitlib").iterdir() if path.name[0] != "_"}
    assert names == modules
    arrows = set(import_drawing.arrows())
    assert {("model", "init"), ("data", "checkpoints"), ("cli", "report")} <= arrows
    assert ("cli", "patch") not in arrows
