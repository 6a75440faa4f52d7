"""One palette: each of its colours stands in vitlib/palette.py, and nowhere else as a number."""

import re

import pytest
from building import ROOT

from vitlib import palette
from vitlib.widgets.figure import KIT, STYLE

FILES = sorted(
    path
    for path in (ROOT / "vitlib").rglob("*")
    if path.suffix in (".py", ".js", ".css") and path.name != "palette.py"
)


def spellings(colour: str) -> str:
    """A pattern for a colour as CSS, JavaScript or Python may write it, in any case."""
    numbers = palette.rgb(colour)
    return rf"{colour}\b|0x{colour[1:]}\b|\b" + r"\s*,\s*".join(map(str, numbers)) + r"\b"


def test_the_files_are_all_here():
    names = {path.name for path in FILES}
    assert {"figure.js", "figure.css", "report.css", "plots.py", "canvas.py"} <= names


@pytest.mark.parametrize("name", [*palette.COLOURS, "ink", "muted", "faint", "ground", "lit"])
def test_no_other_file_writes_a_colour_of_the_palette_as_a_number(name):
    pattern = spellings(palette.PAGE_COLOURS[name])
    for path in FILES:
        found = re.search(pattern, path.read_text("utf8"), flags=re.I)
        assert not found, f"{path.relative_to(ROOT)}: {found[0]} is palette.{name.upper()}"


def test_the_pattern_finds_every_spelling():
    for text in ("color: #0072B2;", "(0, 114, 178)", "rgb(0,114,178)", "x = 0x0072b2"):
        assert re.search(spellings(palette.BLUE), text, flags=re.I), text
    assert not re.search(spellings(palette.BLUE), "#0072b25f, (10, 114, 178)", flags=re.I)


def test_rgb_is_the_three_numbers():
    assert palette.rgb("#0072b2") == palette.rgb("#0072B2") == (0, 114, 178)
    assert len(set(map(palette.rgb, palette.COLOURS.values()))) == len(palette.COLOURS)
    constants = {name: getattr(palette, name.upper()) for name in palette.COLOURS}
    assert constants == palette.COLOURS


def test_a_picture_asks_the_page_for_each_of_its_colours():
    for name, colour in palette.PAGE_COLOURS.items():
        svg = palette.themed(f'<path fill="{colour}" style="stroke: {colour}"/>')
        wanted = f"var(--vitlib-{name}, {colour})"
        assert svg == f'<path fill="{wanted}" style="stroke: {wanted}"/>'
    assert len(set(palette.PAGE_COLOURS.values())) == len(palette.PAGE_COLOURS)


def test_figures_get_it_in_javascript_and_in_css():
    for name, colour in palette.COLOURS.items():
        assert f'"{name}": "{colour}"' in KIT.splitlines()[0]
        assert f"--vitlib-{name}: {colour};" in STYLE
    text = "".join(path.read_text("utf8") for path in FILES if path.suffix != ".py")
    used = re.findall(r"\bCOLOURS\.(\w+)", text), re.findall(r"var\(--vitlib-(\w+)", text)
    for names in used:
        assert names
        assert set(names) <= palette.COLOURS.keys()


CSS = (ROOT / "book" / "_assets" / "book.css").read_text("utf8")


def test_the_books_style_sheet_has_the_same_colours():
    colours = re.findall(r"#[0-9a-f]{3,8}\b|rgba?\([^)]*\)", CSS, flags=re.I)
    known = {"#fff", "#000", *palette.PAGE_COLOURS.values(), *palette.DARK.values()}
    assert {colour.lower() for colour in colours} <= known


def test_the_books_pages_answer_every_picture_in_the_dark():
    (block,) = re.findall(r'html\[data-theme="dark"\] \{\n(.*?)\}', CSS, flags=re.DOTALL)
    answers = dict(re.findall(r"--vitlib-(\w+): ([^;]+);", block))
    assert answers == palette.DARK
    assert set(palette.DARK) == set(palette.PAGE_COLOURS)
