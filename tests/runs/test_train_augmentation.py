"""The recorded runs with and without augmentation, and what chapter 7 says of them."""

import json
from dataclasses import replace
from importlib.resources import files
from statistics import mean

from vitlib import TrainConfig, load_data
from vitlib.runs import train_augmentation as script
from vitlib.runs.record import Record

LOG = json.loads((files("vitlib") / "runs" / "augmentation.json").read_text("utf8"))


def column(augment, lr, key="last_val_accuracy"):
    return [run[key] for run in LOG["runs"] if (run["augment"], run["lr"]) == (augment, lr)]


def best_rate(augment):
    return max(script.RATES, key=lambda lr: mean(column(augment, lr)))


def test_is_a_record_of_three_seeds_at_each_rate_of_each_arm():
    record = Record("augmentation")
    assert all(run["diverged"] is None for run in record.runs)
    runs = [(run["augment"], run["lr"], run["seed"]) for run in LOG["runs"]]
    assert runs == [
        (augment, lr, seed)
        for augment in ("affine", "none")
        for lr in script.RATES
        for seed in (0, 1, 2)
    ]
    for curve in record.curves:
        assert curve["steps"] == list(range(100, 1501, 100))


def test_was_trained_by_the_recipe_and_never_tested():
    recipe = replace(TrainConfig(), eval_every=100, progress=False)
    assert TrainConfig.from_dict(LOG["recipe"]) == script.RECIPE == recipe
    assert "test" not in json.dumps(LOG)


def test_the_rates_reach_to_both_sides_of_each_arms_best():
    for augment in script.ARMS:
        assert min(script.RATES) < best_rate(augment) < max(script.RATES)


def test_what_chapter_7_says_of_it():
    plain, augmented = (column("none", best_rate("none")), column("affine", best_rate("affine")))
    assert mean(augmented) - mean(plain) > 0.02
    by_heart = column("none", best_rate("none"), "last_train_accuracy")
    assert min(by_heart) > 0.995
    averaged = column("affine", best_rate("affine"), "val_accuracy")
    single = column("affine", best_rate("affine"), "val_unaveraged")
    half = len(averaged[0]) // 2
    assert mean(mean(run[:half]) for run in averaged) > mean(mean(run[:half]) for run in single)
    assert abs(mean(run[-1] for run in averaged) - mean(run[-1] for run in single)) < 0.01


def test_a_run_measures_on_the_images_that_fit_holds_out(monkeypatch):
    monkeypatch.setattr(script, "RECIPE", replace(script.RECIPE, steps=4, eval_every=2))
    run = script.run("none", 1e-3, seed=3)
    assert [len(run[key]) for key in LOG["curves"]] == [2, 2, 2]
    train, val = load_data("mnist5k").split(0.1, seed=3)
    assert (len(train), len(val)) == (3600, 400)
    assert all(value * 400 == round(value * 400) for value in run["val_unaveraged"])
    assert run["last_val_accuracy"] == run["val_accuracy"][-1]
