"""Every drawing of the book: well-formed, within its frame, legible, in the page's colours."""

import re
from xml.etree import ElementTree

import pytest
import torch

from vitlib import drawing
from vitlib.drawing import Canvas
from vitlib.palette import BLUE, FAINT, INK, ORANGE, PAGE_COLOURS, PAPER

SVG = "{http://www.w3.org/2000/svg}"
SQUARE, NAMES = torch.eye(4), ["eye", "mouth", "wall", "hair"]
DRAWN = {
    "attention_head": drawing.draw_attention_head(*[SQUARE] * 4, names=NAMES, channels=NAMES),
    "attention_heads": drawing.draw_attention_heads(*[SQUARE] * 4, names=NAMES),
    "badge": drawing.draw_badge(3, 16),
    "block": drawing.draw_block(),
    "dialects": drawing.draw_dialects(),
    "distillation": drawing.draw_distillation(),
    "ladder": drawing.draw_ladder({"tokens": ("into blocks.0", "into transformer.layers.0", 0.9)}),
    "mixing": drawing.draw_mixing(),
    "model": drawing.draw_model(["patches"]),
    "row_orders": drawing.draw_row_orders(),
    "walk": drawing.draw_walk(),
    "rollout": drawing.draw_rollout([[[0.6, 0.4], [0, 1]]] * 2, ["class", "a"], [1, 0, 0]),
}


@pytest.fixture(params=DRAWN.values(), ids=DRAWN)
def root(request):
    return ElementTree.fromstring(request.param._repr_svg_())


def size(root):
    return tuple(map(float, root.attrib["viewBox"].split()[2:]))


def test_every_drawing_is_tested():
    made = {name.removeprefix("draw_") for name in drawing.__all__ if name.startswith("draw_")}
    assert made == set(DRAWN)


def test_boxes_and_words_stay_within_the_frame(root):
    width, height = size(root)
    for shape in root.iter(f"{SVG}rect"):
        x, y = float(shape.get("x", 0)), float(shape.get("y", 0))
        assert min(x, y) >= 0
        assert x + float(shape.attrib["width"]) <= width
        assert y + float(shape.attrib["height"]) <= height
    for text in root.iter(f"{SVG}text"):
        reach = 0.5 * float(text.attrib["font-size"]) * len(text.text)  # about, if not in bold
        left = {"start": 0, "middle": reach / 2, "end": reach}[text.attrib["text-anchor"]]
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        assert x - left >= -2, text.text
        assert x - left + reach <= width + 2, text.text
        assert 0 < y < height, text.text


def test_words_are_legible_on_a_phone(root):
    """There, a page's column is 358 pixels wide, and a wider drawing shrinks to it."""
    shrunk = min(1, 358 / size(root)[0])
    for text in root.iter(f"{SVG}text"):
        assert float(text.attrib["font-size"]) * shrunk >= 9, text.text


def test_every_colour_is_one_of_the_pages(root):
    svg = ElementTree.tostring(root, encoding="unicode")
    for colour in re.findall(r'(?:fill|stroke)="([^"]+)"', svg):
        named = re.fullmatch(r"var\(--vitlib-(\w+), (#\w+)\)", colour)
        assert colour == "none" or PAGE_COLOURS[named[1]] == named[2], colour


def test_it_says_what_it_is(root):
    assert root.find(f"{SVG}title").text


def drawn(draw):
    canvas = Canvas(200, 100, "a < b")
    draw(canvas)
    return ElementTree.fromstring(canvas.drawing().svg)


def test_lines_of_a_box_stand_in_its_middle():
    root = drawn(lambda c: c.box(20, 10, 100, 60, ["one", "a < b"], size=20))
    first, second = root.iter(f"{SVG}text")
    assert (first.text, second.text) == ("one", "a < b")
    assert float(first.get("x")) == float(second.get("x")) == 70
    middle = (float(first.get("y")) + float(second.get("y"))) / 2 - 0.35 * 20
    assert middle == pytest.approx(40)


def test_an_arrow_has_a_tip_of_its_colour():
    root = drawn(lambda c: (c.line("M0 0H9", tip=True), c.line("M0 9H9", colour=BLUE, tip=True)))
    paths = {p.get("marker-end"): p.get("stroke") for p in root if p.get("marker-end")}
    tips = {f"url(#{m.get('id')})": m[0].get("fill") for m in root.iter(f"{SVG}marker")}
    assert paths == tips
    assert len(tips) == 2
    assert FAINT in "".join(tips.values())


def test_cells_are_orange_above_zero_and_blue_below():
    root = drawn(lambda c: c.cells(10, 10, [[0.5, -1.0], [0.0, 2.0]], most=1.0))
    cells = [r for r in root.iter(f"{SVG}rect") if r.get("fill-opacity")]
    shares = [float(cell.get("fill-opacity")) for cell in cells]
    assert ORANGE in cells[0].get("fill")
    assert BLUE in cells[1].get("fill")
    assert shares[1] == shares[3] > shares[0] > shares[2] == 0
    assert [text.text for text in root.iter(f"{SVG}text")] == ["0.5", "−1.0", "0.0", "2.0"]
    silent = drawn(lambda c: c.cells(10, 10, [[0.5]], numbers=False))
    assert not list(silent.iter(f"{SVG}text"))


def test_pale_words_are_darker_than_pale_lines():
    root = drawn(lambda c: (c.text(9, 9, "x", colour=FAINT), c.plus(9, 9)))
    assert FAINT not in root.find(f"{SVG}text").get("fill")
    assert INK in root.find(f"{SVG}circle").get("stroke")
    assert PAPER in root.find(f"{SVG}rect").get("fill")
