"""The drawing of distillation: label and class head in blue, teacher and distillation in orange."""

from xml.etree import ElementTree

from vitlib.drawing import draw_distillation
from vitlib.palette import BLUE, ORANGE

SVG = "{http://www.w3.org/2000/svg}"


def words(colour):
    root = ElementTree.fromstring(draw_distillation().svg)
    return {t.text for t in root.iter(f"{SVG}text") if colour in t.get("fill")}


def test_each_side_has_its_colour():
    assert {"class", "head", "loss", "“4”"} <= words(BLUE)
    assert {"distillation", "head_dist", "loss", "teacher:", "hard: “4”"} <= words(ORANGE)
    assert not words(BLUE) & words(ORANGE) - {"loss"}
