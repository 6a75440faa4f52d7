"""The recorded learning rates, and what chapter 7 says of them."""

import json
from dataclasses import replace
from statistics import mean

from runs.test_record import RATES

from vitlib import TrainConfig
from vitlib.runs import train_learning_rates


def test_learning_rates_were_trained_by_the_recipe_of_their_script():
    recipe = replace(TrainConfig(), steps=400, eval_every=40, ema_decay=None, progress=False)
    assert TrainConfig.from_dict(RATES["recipe"]) == train_learning_rates.RECIPE == recipe


def test_learning_rates_hold_three_seeds_of_each():
    runs = [(run["lr"], run["warmup_steps"], run["seed"]) for run in RATES["runs"]]
    rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    assert runs == [(lr, warmup, seed) for lr in rates for warmup in (0, 100) for seed in (0, 1, 2)]


def test_learning_rates_were_never_tested():
    """24 looks at the test set would leave a reader free to choose by it."""
    assert "test" not in json.dumps(RATES)
    assert list(RATES["results"]) == ["last_val_accuracy"]
    assert all(run["last_val_accuracy"] == run["val_accuracy"][-1] for run in RATES["runs"])


def test_both_ends_of_the_learning_rates_are_bad_and_warmup_bears_higher_ones():
    accuracy = {
        (lr, warmup): mean(
            r["last_val_accuracy"]
            for r in RATES["runs"]
            if (r["lr"], r["warmup_steps"]) == (lr, warmup)
        )
        for lr in train_learning_rates.RATES
        for warmup in (0, 100)
    }
    assert max(accuracy[lr, w] for lr in (1e-4, 3e-2) for w in (0, 100)) < 0.5
    assert accuracy[3e-3, 100] > 0.85
    at_ours = {
        warmup: [
            r["last_val_accuracy"]
            for r in RATES["runs"]
            if (r["lr"], r["warmup_steps"]) == (3e-3, warmup)
        ]
        for warmup in (0, 100)
    }
    gains = [b - a for a, b in zip(at_ours[0], at_ours[100], strict=True)]
    assert 0 < min(gains) < max(gains) < 0.05
    assert accuracy[1e-2, 100] - accuracy[1e-2, 0] > 0.2


def test_a_run_that_breaks_off_is_recorded_as_far_as_it_came(monkeypatch):
    """The learning rate is driven to infinity after two steps of four."""
    recipe = replace(train_learning_rates.RECIPE, steps=4, eval_every=2, batch_size=8, lr=1e30)
    monkeypatch.setattr(train_learning_rates, "RECIPE", recipe)
    monkeypatch.setattr(train_learning_rates, "WINDOW", 1)
    run = train_learning_rates.run(lr=1e30, warmup_steps=0, seed=0)
    assert run["diverged_at"] == len(run["loss"]) + 1
    assert run["last_val_accuracy"] is None
