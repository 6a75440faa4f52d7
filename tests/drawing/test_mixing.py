"""The two directions: one lit column of all tokens, one lit row of all channels."""

import re

from vitlib.drawing import draw_mixing
from vitlib.palette import BLUE, ORANGE


def lit(colour):
    """The places of the filled cells: x, y."""
    pattern = rf'<rect x="(\d+)" y="(\d+)" width="24" height="24" fill="[^"]*{colour}\)?"'
    return [(int(x), int(y)) for x, y in re.findall(pattern, draw_mixing().svg)]


def test_tokens_are_mixed_in_a_column_and_channels_in_a_row():
    column, row = lit(ORANGE), lit(BLUE)
    assert (len(column), len({x for x, _ in column})) == (5, 1)
    assert (len(row), len({y for _, y in row})) == (6, 1)


def test_words_stay_legible_on_a_phone():
    svg = draw_mixing().svg
    width = int(re.search(r'viewBox="0 0 (\d+)', svg)[1])
    assert min(map(float, re.findall(r'font-size="([\d.]+)"', svg))) >= width / 38
