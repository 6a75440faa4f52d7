"""The packaged weights: they are what their log says, and the log is of today's recipe."""

import json
from dataclasses import replace
from importlib.resources import files

import pytest
import torch

from vitlib import TrainConfig, create_model, evaluate, load_data
from vitlib.presets import PRESETS

NAME = "vit_nano_patch7_28"
STEPS = {NAME: TrainConfig().steps, "vit_nano_patch4_28": 4000}  # all else is the same recipe


def log_of(name):
    return json.loads((files("vitlib") / "weights" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", STEPS)
def test_the_log_is_of_the_recipe_that_fit_uses(name):
    recipe = replace(TrainConfig(), val_fraction=0.0, progress=False, steps=STEPS[name])
    assert TrainConfig.from_dict(log_of(name)["recipe"]) == recipe


@pytest.mark.parametrize("name", STEPS)
def test_three_seeds_reach_98_percent_in_the_median_and_the_median_was_kept(name):
    log = log_of(name)
    accuracies = {run["seed"]: run["test_accuracy"] for run in log["runs"]}
    assert sorted(accuracies) == [0, 1, 2]
    assert log["median_test_accuracy"] == sorted(accuracies.values())[1] >= 0.98
    assert accuracies[log["kept_seed"]] == log["median_test_accuracy"]


def test_the_recipe_was_chosen_on_validation_images_against_its_candidates():
    log = log_of(NAME)
    first, *others = log["candidates"]
    assert first["change"] == {}
    assert len(others) >= 7
    assert all(len(row["val_accuracy"]) == len(row["val_loss"]) == 2 for row in log["candidates"])


def test_what_chapter_7_says_of_the_candidates_and_the_runs():
    log = log_of(NAME)
    recipe, *others = log["candidates"]
    change = {json.dumps(row["change"]): row for row in others}
    lost = {
        key: [a - b for a, b in zip(recipe["val_accuracy"], row["val_accuracy"], strict=True)]
        for key, row in change.items()
    }
    worse = [key for key, points in lost.items() if min(points) > 0.0199]
    assert worse == ['{"augment": "none"}', '{"weight_init": ""}']
    plain = change['{"label_smoothing": 0.0}']
    for split in (0, 1):
        rows = [row for row in log["candidates"] if row is not plain]
        assert plain["val_loss"][split] < min(row["val_loss"][split] for row in rows)
        assert plain["val_accuracy"][split] < recipe["val_accuracy"][split]
    assert all(45 < run["seconds"] < 55 for run in log["runs"])
    assert [(row["steps"], len(row["test_accuracy"])) for row in log["also_tested"]] == [
        (2000, 3), (1900, 3), (1700, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_pretrained_weights_reach_the_accuracy_that_the_log_states(name):
    model, data = create_model(name, pretrained=True), load_data("mnist5k")
    assert evaluate(model, data.test).accuracy == pytest.approx(
        log_of(name)["median_test_accuracy"], abs=0.0021
    )
    assert (model.mean, model.std) == (data.mean, data.std)
    assert model.classes == data.classes
    assert not model.training


def test_another_number_of_classes_keeps_the_body_and_starts_the_head_anew():
    whole = create_model(NAME, pretrained=True)
    other = create_model(NAME, pretrained=True, num_classes=3)
    for key, value in whole.state_dict().items():
        if not key.startswith("head"):
            assert torch.equal(other.state_dict()[key], value), key
    assert other(torch.zeros(2, 1, 28, 28)).shape == (2, 3)
    assert other.classes is None


def test_weights_of_another_shape_are_refused_by_name():
    with pytest.raises(ValueError, match=r"vit_nano_patch7_28.*width|patch_embed|64"):
        create_model(NAME, pretrained=True, embed_dim=32)


def test_a_model_without_packaged_weights_says_which_have_some(monkeypatch):
    row = replace(PRESETS["vit_micro_patch4_32"], name="vit_micro_patch8_32")
    monkeypatch.setitem(PRESETS, row.name, row)
    with pytest.raises(ValueError, match=NAME):
        create_model(row.name, pretrained=True)
