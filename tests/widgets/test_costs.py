"""CostFigure in Python: what it shows, and what it refuses."""

import pytest
from traitlets import TraitError

from vitlib.costs import TrainingCost
from vitlib.widgets import CostFigure


def test_every_measured_step_can_be_chosen():
    figure = CostFigure()
    assert len(figure.measured) >= 30
    names = [*figure.sizes, "bf16", "checkpointing"]
    for point in figure.measured:
        chosen = CostFigure(**{name: point[name] for name in names})
        assert chosen.depth == point["depth"]
        fixed = {"patch_size": 16, "in_chans": 3, "num_classes": 1000, "mlp_ratio": 4.0}
        assert fixed.items() <= point.items()
        assert point["num_heads"] == point["embed_dim"] // 64


def test_speeds_are_those_of_the_measured_steps():
    figure = CostFigure()
    for precision, speed in figure.speeds.items():
        bf16 = precision == "bfloat16"
        some = [point for point in figure.measured if point["bf16"] == bf16]
        names = TrainingCost.__dataclass_fields__
        own = [TrainingCost(**{n: p[n] for n in names}).flops / p["seconds"] for p in some]
        assert min(own) < speed < max(own)
        assert sum(one < speed for one in own) in (len(own) // 2, (len(own) - 1) // 2)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("img_size", 100, "img_size must be one of 64, 96, .*: got 100"),
        ("embed_dim", 100, "embed_dim must be one of 64, 128, .*: got 100"),
        ("depth", 0, "depth must be one of 1, 2, .*: got 0"),
        ("batch", 3, "batch must be one of 1, 2, 4, .*: got 3"),
        ("along", "patch", "along must be one of img_size, .*: got 'patch'"),
    ],
)
def test_bad_values(name, value, said):
    with pytest.raises(ValueError, match=said):
        CostFigure(**{name: value})
    figure = CostFigure()
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=said):
        setattr(figure, name, value)
    assert getattr(figure, name) == before


def test_a_setting_that_it_does_not_have():
    with pytest.raises(ValueError, match="CostFigure has no setting patch_size"):
        CostFigure(patch_size=8)


def test_its_page_is_the_same_every_time_and_small():
    pages = [CostFigure(batch=64)._repr_mimebundle_()[0]["text/html"] for _ in "ab"]
    assert pages[0] == pages[1] != CostFigure()._repr_mimebundle_()[0]["text/html"]
    assert len(pages[0]) < 60_000
