"""The map of the three dialects: every cell is there, and only what differs is framed in orange."""

import re

from vitlib.drawing import draw_dialects
from vitlib.drawing.dialects import STEPS, STYLES
from vitlib.palette import ORANGE


def test_it_names_every_step_in_every_style():
    svg = draw_dialects().svg
    words = re.findall(r">([^<>]+)</text>", svg)
    cells = [cell.removeprefix("!") for row in STEPS.values() for cell in row]
    assert sorted(words) == sorted([*(s.replace("'", "&#x27;") for s in STYLES), *STEPS, *cells])
    marked = sum(cell.startswith("!") for row in STEPS.values() for cell in row)
    assert svg.count(f"var(--vitlib-orange, {ORANGE})") == marked == 8


def test_its_words_are_large_enough_on_a_phone():
    svg = draw_dialects().svg
    width = int(re.search(r'viewBox="0 0 (\d+)', svg)[1])
    assert min(map(float, re.findall(r'font-size="([\d.]+)"', svg))) >= width / 38
