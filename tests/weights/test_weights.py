"""The packaged weights: they are what their log says, and the log is of today's recipe."""

import json
import statistics
from dataclasses import replace
from importlib.resources import files

import pytest
import torch

from vitlib import TrainConfig, create_model, evaluate, load_data
from vitlib.presets import PRESETS
from vitlib.weights import train_nano

NAME = "vit_nano_patch7_28"
NAMES = (NAME, "vit_nano_patch4_28")


def log_of(name):
    return json.loads((files("vitlib") / "weights" / f"{name}.json").read_text())


def test_chapter_7_s_run_is_by_the_recipe_that_fit_uses():
    recipe = replace(TrainConfig(), val_fraction=0.0, progress=False)
    assert TrainConfig.from_dict(log_of(NAME)["short"]["recipe"]) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_the_packaged_weights_are_by_the_script_s_recipe(name):
    recipe = replace(train_nano.RECIPE, **train_nano.PACKAGED, val_fraction=0.0)
    assert TrainConfig.from_dict(log_of(name)["recipe"]) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_three_seeds_reach_99_percent_in_the_median(name):
    log = log_of(name)
    accuracies = [run["test_accuracy"] for run in log["runs"]]
    assert [run["seed"] for run in log["runs"]] == [0, 1, 2]
    assert log["median_test_accuracy"] == statistics.median(accuracies) >= 0.99


@pytest.mark.parametrize("name", NAMES)
def test_drawn_digits_and_not_test_digits_chose_the_seed(name):
    log = log_of(name)
    best = max(log["runs"], key=lambda run: sum(run["choosing"]))
    assert log["kept_seed"] == best["seed"]


@pytest.mark.parametrize("name", NAMES)
def test_packaged_weights_read_digits_drawn_by_others(name):
    model, log = create_model(name, pretrained=True), log_of(name)
    kept = log["runs"][log["kept_seed"]]
    halves = [[train_nano.drawn_accuracy(model, half, by) for half in (0, 1)] for by in (0, 4)]
    assert [half[0] for half in halves] == pytest.approx(kept["choosing"], abs=0.004)
    assert [half[1] for half in halves] == pytest.approx([kept["drawn"], kept["rolled"]], abs=0.004)
    drawn, rolled = (sum(half) / 2 for half in halves)
    assert drawn > 0.92
    assert rolled > 0.85


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
    assert all(40 < run["seconds"] < 60 for run in log["short"]["runs"])
    assert [(row["steps"], len(row["test_accuracy"])) for row in log["also_tested"]] == [
        (2000, 3), (1900, 3), (1700, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_pretrained_weights_reach_the_accuracy_that_the_log_states(name):
    model, data, log = create_model(name, pretrained=True), load_data("mnist5k"), log_of(name)
    kept = log["runs"][log["kept_seed"]]["test_accuracy"]
    assert evaluate(model, data.test).accuracy == pytest.approx(kept, abs=0.0021)
    assert (model.mean, model.std) == (data.mean, data.std)
    assert model.classes == data.classes
    assert not model.training


def test_what_chapters_2_7_and_9_say_of_the_wide_augmentation():
    log = log_of(NAME)
    wide, usual = log["runs"], log["affine"]["runs"]
    for name, runs in {"wide": wide, "usual": usual, "finer": log_of(NAMES[1])["runs"]}.items():
        correlations = [run["distance_correlation"] for run in runs]
        assert max(correlations) < -0.8 if name != "usual" else min(correlations) > -0.25, name
    assert min(run["shifted"][7] for run in wide) > 0.97 > 0.6 > usual[0]["shifted"][7]
    assert min(run["rolled"] for run in wide) > max(run["rolled"] for run in usual) + 0.15
    mean_accuracy = [
        statistics.mean(run["test_accuracy"] for run in runs) for runs in (wide, usual)
    ]
    assert abs(mean_accuracy[0] - mean_accuracy[1]) < 0.003
    short = statistics.mean(run["test_accuracy"] for run in log["short"]["runs"])
    assert short < mean_accuracy[1] - 0.008


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
