"""The drawing of the model: the right parts lit."""

import pytest

from vitlib.drawing import draw_model
from vitlib.palette import BLUE, FAINT

PARTS = ["image", "patches", "embedding", "tokens", "attention", "mlp", "encoder", "norm", "head"]


@pytest.mark.parametrize("part", [*PARTS, "logits"])
def test_each_part_can_be_lit(part):
    plain, lit = draw_model().svg, draw_model([part]).svg
    assert BLUE not in plain
    assert BLUE in lit
    assert lit.count(FAINT) > plain.count(FAINT)


def test_a_single_name_is_a_part_and_the_encoder_is_both_of_its_parts():
    assert draw_model("encoder").svg == draw_model(["encoder", "attention", "mlp"]).svg


def test_an_unknown_part_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"no part 'pathces'\. Did you mean 'patches'\?"):
        draw_model(["pathces"])
