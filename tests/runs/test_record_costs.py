"""The recorded steps: what was measured, beside what the cost model says."""

import json
from dataclasses import fields
from importlib.resources import files

import pytest

from vitlib.costs import TrainingCost
from vitlib.runs import record_costs

LOG = json.loads((files("vitlib") / "runs/costs.json").read_text("utf8"))
NAMES = [field.name for field in fields(TrainingCost)]
STEPS = [(TrainingCost(**{name: p[name] for name in NAMES}), p) for p in LOG["points"]]


def test_the_script_would_measure_what_is_there():
    assert [cost for cost, _ in STEPS] == record_costs.costs_to_measure()
    assert LOG["options"].keys() == record_costs.OPTIONS.keys()


def test_memory_is_at_least_what_is_counted_and_not_much_more():
    for cost, point in STEPS:
        assert point["bytes"] / cost.memory > 0.9, cost
        if cost.memory > 2e8 and not cost.checkpointing:
            assert point["bytes"] / cost.memory < 1.7, cost


def test_what_is_held_beyond_the_count_is_what_the_allocator_keeps():
    given = LOG["returned"]
    cost = TrainingCost(**{name: given[name] for name in NAMES})
    kept = next(point["bytes"] for other, point in STEPS if other == cost)
    assert given["bytes"] / cost.memory < 1.2 < 2 < kept / cost.memory


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_step_is_faster_than_a_matrix_product(precision):
    for cost, point in STEPS:
        if cost.bf16 == (precision == "bfloat16"):
            assert cost.flops / point["seconds"] < 1.1 * LOG["matmul"][precision], cost


def test_a_step_is_measured():
    """A small one; the numbers are those of another machine, so only their order is known."""
    cost = TrainingCost(img_size=64, embed_dim=64, num_heads=1, depth=2, batch=4)
    seconds = record_costs.train(cost, 2)
    assert len(seconds) == 2
    assert min(seconds) > 0
    assert record_costs.peak_memory() > cost.memory
