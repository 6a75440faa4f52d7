"""The recorded trainings on patches, strips and shuffled pixels, and what chapter 1 says."""

import json
from dataclasses import replace
from importlib.resources import files
from statistics import mean

import torch
from book.test_chapters import definitions

import vitlib
from vitlib import TrainConfig
from vitlib.runs import train_strips
from vitlib.runs.log import loss_curve
from vitlib.runs.rates import choose_rates
from vitlib.runs.record import Record

LOG = json.loads((files("vitlib") / "runs" / "strips.json").read_text("utf8"))


def test_the_log_is_a_record_of_its_scripts_runs():
    record = Record("strips")
    runs = [(run["settings"]["tokens"], run["seed"]) for run in record.runs]
    assert runs == [(kind, seed) for kind in ("patches", "strips") for seed in (0, 1, 2)]
    assert all(run["diverged"] is None for run in record.runs)
    recipe = replace(TrainConfig(), val_fraction=0.0, progress=False)
    assert TrainConfig.from_dict(LOG["recipe"]) == recipe
    assert TrainConfig.from_dict(LOG["trial_recipe"]) == train_strips.TRIAL
    assert LOG["curves"] == loss_curve(train_strips.RECIPE.steps, train_strips.WINDOW)
    tried = [(one["tokens"], one["lr"], one["seed"]) for one in LOG["trials"]]
    assert tried == [
        (kind, lr, seed)
        for kind in train_strips.LAYERS
        for lr in train_strips.RATES
        for seed in train_strips.TRIAL_SEEDS
    ]


def test_validation_digits_chose_the_rates_and_no_rate_is_at_the_edge():
    assert LOG["rates"] == choose_rates(LOG["trials"], "tokens", train_strips.FULL)
    for kind in ("patches", "strips"):
        assert min(train_strips.RATES) < LOG["rates"][kind] < max(train_strips.RATES)


def test_strips_are_no_worse_than_patches():
    accuracy = {
        kind: mean(run["test_accuracy"] for run in LOG["runs"] if run["tokens"] == kind)
        for kind in ("patches", "strips")
    }
    assert min(accuracy.values()) > 0.96
    assert abs(accuracy["patches"] - accuracy["strips"]) < 0.01


def test_strips_are_chapter_1s():
    torch.manual_seed(0)
    chapters = definitions("01_patches")["Strips"](img_size=8, patch_size=4, in_chans=3)
    ours = train_strips.Strips(img_size=8, patch_size=4, in_chans=3)
    ours.load_state_dict(chapters.state_dict())
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(ours(images), chapters(images))
    patches = vitlib.PatchEmbed(img_size=8, patch_size=4, in_chans=3)
    patches.load_state_dict(chapters.state_dict())
    assert not torch.allclose(ours(images), patches(images))


def test_shuffled_pixels_are_the_same_ones_in_every_image():
    layer = train_strips.Shuffled(img_size=8, patch_size=4, in_chans=1, embed_dim=16)
    with torch.no_grad():
        layer.proj.weight.copy_(torch.eye(16).reshape(16, 1, 4, 4))
        layer.proj.bias.zero_()
    images = torch.arange(64.0).reshape(1, 1, 8, 8)
    tokens = layer(torch.cat([images, images + 100]))  # (2, 4, 16): the pixels themselves
    assert sorted(tokens[0].flatten().tolist()) == list(range(64))
    torch.testing.assert_close(tokens[1], tokens[0] + 100)
    assert not torch.equal(tokens[0].sort().values, vitlib.patchify(images, 4)[0].sort().values)
