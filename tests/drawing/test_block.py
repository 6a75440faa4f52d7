"""The drawing of a block: where the norms stand, and one token's numbers at their places."""

import re
from itertools import pairwise

import pytest

from vitlib.drawing import draw_block
from vitlib.palette import BLUE

VALUES = {
    "tokens": [1.0, 3.0, -5.0], "norm1": [-1.3, 0.2, 1.1], "attention": [0.4, 0.5, 0.6],
    "middle": [1.4, 3.5, -4.4], "norm2": [-0.7, 0.8, 0.9], "mlp": [2.1, 2.2, 2.3],
    "out": [3.5, 5.7, -2.1],
}  # fmt: skip


def words(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def stream(svg):
    """The vertical pieces of the thick blue line: (top, bottom) each."""
    lines = re.findall(rf'd="M[\d.]+ ([\d.]+)V([\d.]+)"[^>]*{BLUE}[^>]*stroke-width="5"', svg)
    return [(float(top), float(bottom)) for top, bottom in lines]


def test_the_norms_of_post_norm_cut_the_stream():
    assert len(stream(draw_block("pre-norm").svg)) == 1
    pieces = stream(draw_block("post-norm").svg)
    assert len(pieces) == 3
    assert all(above[1] < below[0] for above, below in pairwise(pieces))


@pytest.mark.parametrize("order", ["pre-norm", "post-norm"])
def test_each_order_has_two_norms_and_two_branches(order):
    shown = words(draw_block(order).svg)
    assert shown.count("LayerNorm") == 2
    assert (shown.count("attention"), shown.count("MLP")) == (1, 1)


def test_both_stand_side_by_side_with_names_and_formulas():
    both = words(draw_block().svg)
    alone = words(draw_block("pre-norm").svg) + words(draw_block("post-norm").svg)
    assert sorted(both) == sorted(
        [*alone, "pre-norm", "post-norm", "x + f(LN(x)), twice", "LN(x + f(x)), twice"]
    )
    assert 'viewBox="0 0 640 ' in draw_block().svg


def test_the_numbers_of_a_token_are_shown_from_top_to_bottom():
    svg = draw_block("pre-norm", VALUES).svg
    shown = [
        float(word.replace("−", "-")) for word in words(svg) if re.fullmatch(r"−?\d\.\d", word)
    ]
    assert sorted(shown) == sorted(number for row in VALUES.values() for number in row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prenorm",), r"cannot be drawn as 'prenorm'\. Did you mean 'pre-norm'\?"),
        (([],), "at least one order"),
        (("post-norm", VALUES), 'for orders="pre-norm" alone'),
        (("pre-norm", {"tokens": [1.0]}), "expected values for tokens, norm1, attention"),
        (("pre-norm", VALUES | {"out": [1.0]}), "the same number of channels everywhere"),
        (("pre-norm", {name: [0.0] * 5 for name in VALUES}), "at most 4"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_block(*arguments)
