"""The recorded experiment on inductive bias: its models, its orders, its shifts, its record."""

import json
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from torch import nn

from vitlib import ImageSet, TrainConfig, load_data
from vitlib.runs import train_bias as script
from vitlib.runs import train_bias_longer as longer
from vitlib.runs.log import accuracy_curve, loss_curve
from vitlib.runs.rates import choose_rates
from vitlib.runs.record import Record
from vitlib.train import param_groups

LOGS = {name: json.loads((files("vitlib") / "runs" / f"{name}.json").read_text("utf8"))
        for name in ("bias", "bias_longer")}  # fmt: skip
PIXELS = torch.arange(784.0).reshape(1, 1, 28, 28)


def seen_by(order):
    """What the model behind an order gets to see."""
    return script.Reordered(nn.Flatten(), order)(PIXELS).reshape(PIXELS.shape)


def test_four_models_of_one_size():
    sizes = {name: sum(p.numel() for p in make().parameters()) for name, make in
             script.MODELS.items()}  # fmt: skip
    assert sizes == LOGS["bias"]["model"]
    assert sizes == {"CNN": 206350, "ViT": 205066, "Mixer": 207554, "MLP": 205120}


# --- orders


def test_digits_as_they_are_stay_so():
    assert torch.equal(seen_by("as they are"), PIXELS)


def test_shuffled_patches_keep_their_inside_and_change_places():
    cut = lambda x: x[0, 0].unfold(0, 7, 7).unfold(1, 7, 7).flatten(0, 1)  # noqa: E731  (N, 7, 7)
    before, after = cut(PIXELS), cut(seen_by("patches shuffled"))
    places = [next(i for i, one in enumerate(before) if torch.equal(one, patch)) for patch in after]
    assert sorted(places) == list(range(16))
    assert sum(i == place for i, place in enumerate(places)) < 4


def test_shuffled_pixels_are_the_same_pixels_far_from_home():
    after = seen_by("pixels shuffled")
    assert torch.equal(after.flatten().sort().values, PIXELS.flatten())
    assert (after == PIXELS).sum() < 10


@pytest.mark.parametrize("order", script.ORDERS)
def test_the_order_is_the_same_for_every_digit_and_every_model(order):
    images = torch.rand(3, 1, 28, 28)
    one, other = (script.Reordered(nn.Flatten(), order) for _ in range(2))
    together = one(images)
    assert torch.equal(together, torch.cat([other(image[None]) for image in images]))


def test_behind_an_order_the_same_parameters_decay():
    vit = script.MODELS["ViT"]()
    sizes = [
        [[p.shape for p in group["params"]] for group in param_groups(model, 0.1)]
        for model in (vit, script.Reordered(vit, "pixels shuffled"))
    ]
    assert sizes[0] == sizes[1]


# --- shifts


def test_digits_move_to_four_sides_and_leave_black():
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    images[0, 0, 10, 20] = 200
    digits = ImageSet(images, torch.tensor([3]), (0.1,), (0.3,))
    places = [one.images.nonzero()[0, 2:].tolist() for one in script.shifted(digits, 3)]
    assert sorted(places) == [[7, 20], [10, 17], [10, 23], [13, 20]]
    assert all(one.images.sum() == 200 for one in script.shifted(digits, 7))
    assert [int(one.images.sum()) for one in script.shifted(digits, 9)].count(0) == 1
    assert all(torch.equal(one.images, images) for one in script.shifted(digits, 0))


# --- the records

EXPERIMENTS = pytest.mark.parametrize(
    ("name", "arms", "steps"), [("bias", script.ARMS, 1000), ("bias_longer", longer.ARMS, 4000)]
)


def arm_of(run):
    return tuple(run[key] for key in ("model", "digits", "augment", "order"))


@EXPERIMENTS
def test_is_a_record_of_every_arm_three_times_and_none_diverged(name, arms, steps):
    assert all(run["diverged"] is None for run in Record(name).runs)
    found = sorted((*arm_of(run), run["seed"]) for run in LOGS[name]["runs"])
    assert found == sorted((*arm, seed) for arm in arms for seed in script.SEEDS)
    curves = {
        "val_accuracy": accuracy_curve(steps, script.EVERY),
        **loss_curve(steps, script.EVERY),
    }
    assert LOGS[name]["curves"] == curves


@EXPERIMENTS
def test_was_trained_by_the_recipe_of_its_script(name, arms, steps):
    recipe = replace(
        TrainConfig(), steps=steps, batch_size=50, ema_decay=None, val_fraction=0.0, progress=False
    )
    assert TrainConfig.from_dict(LOGS[name]["recipe"]) == recipe


@EXPERIMENTS
def test_every_arm_has_the_rate_that_was_best_on_digits_kept_back(name, arms, steps):
    trials = [one | {"arm": tuple(one["arm"])} for one in LOGS[name]["trials"]]
    assert sorted((one["arm"], one["lr"]) for one in trials) == sorted(
        (arm, lr) for arm in arms for lr in script.RATES
    )
    rates = choose_rates(trials, "arm", arms)
    assert all(run["lr"] == rates[arm_of(run)] for run in LOGS[name]["runs"])
    for run in LOGS[name]["runs"]:
        if run["seed"] == script.SEEDS[0]:
            trial = {"arm": arm_of(run), "lr": run["lr"], "val_accuracy": run["last_val_accuracy"]}
            assert trial in trials


def test_unshifted_digits_are_the_test_digits():
    for run in LOGS["bias"]["runs"] + LOGS["bias_longer"]["runs"]:
        assert run["shifted"][0] == run["test_accuracy"]
        many = (run["digits"], run["order"]) == (3600, "as they are")
        assert len(run["shifted"]) == (8 if many else 1)


def test_training_and_testing_one_arm():
    """Two short runs: deterministic, on as many digits as the arm says, kept-back digits apart."""
    arm = ("MLP", 50, "none", "pixels shuffled")
    entry, weights = script.train(arm, 1e-3, 0, 100)
    again, _ = script.train(arm, 1e-3, 0, 100)
    assert entry == again
    assert len(entry["val_accuracy"]) == len(entry["loss"]) == 1
    assert entry["loss"][0] < 2  # fifty digits are soon learned
    tested = script.test(arm, entry, weights)
    assert len(tested["shifted"]) == 1
    assert tested["test_accuracy"] > 0.4
    data = load_data("mnist5k")
    assert len(data.train) == script.DIGITS[-1] + script.KEPT_BACK
