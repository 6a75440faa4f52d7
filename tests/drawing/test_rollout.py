"""The drawing of a rollout: its numbers, what is highlighted, and what it refuses."""

import re
from xml.etree import ElementTree

import pytest

from vitlib.drawing import draw_rollout
from vitlib.palette import ORANGE

TABLES = [
    [[0.6, 0.4, 0.0], [0.0, 0.75, 0.25], [0.0, 0.0, 1.0]],
    [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
]
NAMES = ["class", "a", "b"]


def texts(path, tables=TABLES):
    root = ElementTree.fromstring(draw_rollout(tables, NAMES, path).svg)
    return list(root.iter("{http://www.w3.org/2000/svg}text"))


def test_every_share_that_is_not_zero_is_written_once():
    shares = [t.text for t in texts([2, 1, 0]) if re.fullmatch(r"[\d.]+", t.text)]
    assert sorted(shares) == sorted(["0.6", "0.4", "0.75", "0.25", "1", "0.5", "0.5", "1", "1"])


def test_the_path_is_in_colour_with_its_product_below():
    coloured = [t.text for t in texts([2, 1, 0]) if ORANGE in t.attrib["fill"]]
    assert sorted(coloured) == sorted(
        ["0.25", "0.5", "b", "a", "class", "b → a → class: 0.25 × 0.5 = 0.125"]
    )


def test_a_path_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"2 tables need a path of 3, got \[2, 0\]"):
        texts([2, 0])
