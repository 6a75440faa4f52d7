"""The recorded trainings on canvases of fragments, and what chapter 12 says of them."""

import json
from importlib.resources import files

import pytest
import torch
from book.test_chapters import definitions

import vitlib
from vitlib import TrainConfig
from vitlib.fragments import fragments_data
from vitlib.runs import train_fragments
from vitlib.runs.log import loss_curve
from vitlib.runs.record import Record

LOG = json.loads((files("vitlib") / "runs" / "fragments.json").read_text("utf8"))


def test_the_log_is_a_record_of_its_scripts_three_runs():
    record = Record("fragments")
    assert [run["seed"] for run in record.runs] == [0, 1, 2] == list(train_fragments.SEEDS)
    assert all(run["diverged"] is None for run in record.runs)
    assert LOG["recipe"] == train_fragments.RECIPE.to_dict()
    assert LOG["recipe"].keys() == TrainConfig().to_dict().keys()
    assert LOG["model"] == train_fragments.MODEL
    assert LOG["curves"] == loss_curve(train_fragments.RECIPE.steps, train_fragments.WINDOW)


def test_the_log_says_what_chapter_12_says_of_it():
    for run in LOG["runs"]:
        order, share, whole = run["order"], run["share"], run["test_accuracy"]
        assert whole > 0.85
        assert run["lens"][-1] == whole
        assert order["gradient rollout"] > order["rollout"] + 0.05
        assert order["rollout"] > order["ink"] > order["last layer, mean"]
        assert share["occlusion"] > 0.85 > share["gradient rollout"] > share["ink"]
        assert whole - run["without_layer"][3] < 0.06 < 0.12 < whole - run["without_layer"][1]


def test_chapter_12s_rank_correlation_is_scipys():
    chapter = definitions("12_attention_maps")
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(5, (6, 12), generator=generator).double()  # with ties
    drops = torch.randn(6, 12, generator=generator, dtype=torch.float64)
    where = torch.rand(6, 12, generator=generator) > 0.2
    theirs = train_fragments.rank_agreement(maps, drops, where)
    assert chapter["agreement"](maps, drops, where).mean().item() == pytest.approx(theirs)


def test_scores_of_a_model_that_was_never_trained():
    data, whole = fragments_data(vitlib.load_data("mnist5k"), train=10, test=8)
    model = vitlib.VisionTransformer(**train_fragments.MODEL)
    torch.nn.init.normal_(model.head.weight)  # "jax" starts it at 0
    images = data.test.normalize(data.test.images.float() / 255)
    scores = train_fragments.score_maps(model, data, images, whole)
    for name in ("order", "share"):
        assert scores[name].keys() == LOG["runs"][0][name].keys()
    assert scores["share"]["ink"] == pytest.approx(0.49, abs=0.1)
