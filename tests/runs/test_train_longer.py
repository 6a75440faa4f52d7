"""The mistakes once more, four times as long: the record is whole, and the ranking is another."""

import json
from dataclasses import replace
from importlib.resources import files
from statistics import mean

from vitlib import TrainConfig
from vitlib.runs import train_longer as script
from vitlib.runs.log import accuracy_curve, loss_curve
from vitlib.runs.record import Record
from vitlib.runs.train_mistakes import CHANGES, EVAL_EVERY, RECIPE, SEEDS, WINDOW

LOG = json.loads((files("vitlib") / "runs" / "longer.json").read_text("utf8"))


def best(change):
    """The mean accuracy of three seeds at the better rate."""
    of = {}
    for run in LOG["runs"]:
        if run["change"] == change:
            of.setdefault(run["lr"], []).append(run["last_val_accuracy"])
    return max(map(mean, of.values()))


def test_the_log_holds_every_run_of_its_script():
    assert len(Record("longer").runs) == 6 * 2 * 3
    assert {(run["change"], run["lr"], run["seed"]) for run in LOG["runs"]} == {
        (change, lr, seed) for change in script.CHANGES for lr in script.RATES for seed in SEEDS
    }
    assert set(script.CHANGES) <= set(CHANGES)
    assert TrainConfig.from_dict(LOG["recipe"]) == replace(RECIPE, steps=1600)
    assert LOG["curves"] == loss_curve(1600, WINDOW) | {
        "val_accuracy": accuracy_curve(1600, EVAL_EVERY)
    }


def test_what_the_record_shows():
    """With room for another torch: in 1,600 steps the ranking of the short runs is gone."""
    usual = best("nothing")
    assert usual > 0.97
    for ahead_before in ("tokens start with deviation 1", "patches of 14"):
        assert abs(best(ahead_before) - usual) < 0.015
    for equal_before in ("no augmentation", "400 digits"):
        assert best(equal_before) < usual - 0.015
    assert usual - 0.04 < best("softmax over the queries") < usual
