"""The drawing of the model: well-formed, the right parts lit, legible."""

import re
from xml.etree import ElementTree

import pytest

from vitlib.drawing import FAINT, LIT, draw_model

PARTS = ["image", "patches", "embedding", "tokens", "attention", "mlp", "encoder", "norm", "head"]


@pytest.mark.parametrize("part", [*PARTS, "logits"])
def test_each_part_can_be_lit(part):
    plain, lit = draw_model().svg, draw_model([part]).svg
    assert LIT not in plain
    assert LIT in lit
    assert lit.count(FAINT) > plain.count(FAINT)


def test_a_single_name_is_a_part_and_the_encoder_is_both_of_its_parts():
    assert draw_model("encoder").svg == draw_model(["encoder", "attention", "mlp"]).svg


def test_the_drawing_is_valid_xml_within_its_frame():
    root = ElementTree.fromstring(draw_model(["patches"])._repr_svg_())
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for shape in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, y = float(shape.get("x", 0)), float(shape.get("y", 0))
        assert min(x, y) >= 0
        assert x + float(shape.attrib["width"]) <= width
        assert y + float(shape.attrib["height"]) <= height


def test_text_stays_legible_on_a_phone():
    sizes = [int(size) for size in re.findall(r'font-size="(\d+)"', draw_model().svg)]
    assert min(sizes) * 358 / 640 > 7.5  # pixels, where the page is 390 wide


def test_an_unknown_part_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"no part 'pathces'\. Did you mean 'patches'\?"):
        draw_model(["pathces"])
