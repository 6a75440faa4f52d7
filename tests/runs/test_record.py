"""The recorded experiments as records: runs that ended, curves as long as their steps."""

import json
from importlib.resources import files

import pytest

from vitlib.runs import train_positions
from vitlib.runs.record import Record


def read(name):
    return json.loads((files("vitlib") / "runs" / f"{name}.json").read_text())


POSITIONS, RATES = read("positions"), read("learning_rates")


@pytest.mark.parametrize(
    "name", ["positions", "learning_rates", "augmentation", "distillation", "strips"]
)
def test_each_is_a_record_of_runs_that_ended(name):
    record = Record(name)
    for run in record.runs:
        assert run["diverged"] is None
        assert all(len(run["curves"][c["key"]]) == len(c["steps"]) for c in record.curves)


def test_scripts_write_what_is_there():
    assert POSITIONS["curves"] == train_positions.CURVES
    assert RATES["curves"]["loss"]["steps"] == list(range(20, 401, 20))
    assert RATES["curves"]["val_accuracy"]["steps"] == list(range(40, 401, 40))
