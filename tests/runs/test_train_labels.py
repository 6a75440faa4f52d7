"""The experiment on few labels: which photos are drawn, how settings are chosen, what is fed in."""

import json
from itertools import product
from statistics import mean

import numpy as np
import pytest
import torch
from PIL import Image

from vitlib import ImageData, ImageSet, TrainConfig, VisionTransformer
from vitlib.runs import train_labels as script
from vitlib.runs.photos import photo_pixels


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)

    def part(count):
        images = torch.randint(256, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
        return ImageSet(images, torch.arange(count) % 10, (0.5,) * 3, (0.2,) * 3)

    return ImageData("noise", part(6000), part(40), tuple("0123456789"), (0.5,) * 3, (0.2,) * 3)


@pytest.mark.parametrize("count", script.COUNTS)
def test_as_many_of_each_class_are_drawn_and_the_smaller_sets_from_the_largest(data, count):
    drawn = script.draw(data, count, seed=1)
    assert len(set(drawn)) == count
    assert torch.bincount(data.train.labels[torch.from_numpy(drawn)]).tolist() == [count // 10] * 10
    assert set(drawn) <= set(script.draw(data, max(script.COUNTS), seed=1))
    assert set(drawn) != set(script.draw(data, count, seed=2))


def test_a_trial_asks_about_labelled_photos_that_it_does_not_learn_from(data):
    learned, asked = script.learned_and_asked(data, (100, 0, 1.0, True))
    assert (len(learned), len(asked)) == (80, 20)
    assert set(learned) | set(asked) == set(script.draw(data, 100, 0))
    learned, asked = script.learned_and_asked(data, (100, 0, 1.0, False))
    assert len(learned) == 100
    assert asked is None


def test_the_best_trial_chooses_and_where_there_is_none_that_of_another_number():
    best = {100: 5, 500: 20}
    seen = []

    def accuracies(jobs):
        seen.append(jobs)
        return [0.9 if is_trial and best[n] == s else 0.5 for n, _, s, is_trial in jobs]

    trials, runs = script.choose_and_run(script.NEIGHBOURS, accuracies)
    assert len(trials) == 2 * len(script.SETTINGS[script.NEIGHBOURS])
    chosen = {(run["labels"], run["setting"]) for run in runs}
    assert chosen == {(10, 5), (100, 5), (500, 20), (5000, 20)}
    assert [run["seed"] for run in runs] == [0, 1, 2] * 4
    assert {seed for _, seed, _, is_trial in seen[0] if is_trial} == {0}
    assert not any(is_trial for *_, is_trial in seen[1])


def test_photos_are_enlarged_as_pillow_does():
    small = photo_pixels("cup", (8, 8))
    photos = torch.from_numpy(small).permute(2, 0, 1)[None]
    made = script.enlarged(ImageSet(photos, torch.zeros(1).long(), (0.5,) * 3, (0.2,) * 3), 28)
    expected = Image.fromarray(small).resize((28, 28), Image.Resampling.BICUBIC)
    difference = made.images[0].permute(1, 2, 0).numpy().astype(int) - np.array(expected)
    assert np.abs(difference).max() <= 2


def test_features_are_the_class_token_and_the_mean_patch_token():
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=8, patch_size=4, embed_dim=6, depth=1, num_heads=2, num_classes=0, reg_tokens=2
    ).eval()
    both = script.BothTokens(model)
    images = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        tokens = both.forward_features(images)
        found = both.forward_head(tokens)
        torch.testing.assert_close(found[:, :6], model(images))
        torch.testing.assert_close(found[:, 6:], tokens[:, 3:].mean(dim=1))


@pytest.mark.parametrize("method", [script.by_neighbours, script.by_regression])
def test_methods_find_what_is_easy(method):
    generator = torch.Generator().manual_seed(0)
    centres = 5 * torch.randn(10, 6, generator=generator)
    labels = torch.arange(60) % 10
    inputs = (centres[labels] + 0.1 * torch.randn(60, 6, generator=generator)).numpy()
    answers = method(inputs[:40], labels[:40].numpy(), inputs[40:], 3)
    assert (answers == labels[40:].numpy()).all()


def test_the_log_holds_every_run_of_its_script():
    log = json.loads(script.LOG.read_text("utf8"))
    runs = {(run["method"], run["labels"], run["seed"]) for run in log["runs"]}
    assert runs == set(product(script.SETTINGS, script.COUNTS, script.SEEDS))
    assert len(log["trials"]) == 2 * sum(map(len, script.SETTINGS.values()))
    assert log["side"] == script.SIDE
    assert TrainConfig.from_dict(log["recipe"]) == script.RECIPE


def test_what_the_record_shows():
    """With room for another torch: features need a fraction of the labels."""
    log = json.loads(script.LOG.read_text("utf8"))

    def accuracy(method, count):
        of = (r for r in log["runs"] if (r["method"], r["labels"]) == (method, count))
        return mean(run["test_accuracy"] for run in of)

    for count in script.COUNTS[1:]:
        known = accuracy(script.FEATURES, count)
        assert known > accuracy(script.SCRATCH, count) + 0.05
        assert known > accuracy(script.PIXELS, count) + 0.05
    assert accuracy(script.FEATURES, 500) > accuracy(script.SCRATCH, 5000)
