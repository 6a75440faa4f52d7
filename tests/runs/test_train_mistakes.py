"""The recorded mistakes: each is what it is called, and the record is whole."""

import json
from dataclasses import replace
from importlib.resources import files
from statistics import mean

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitlib import Attention, History, ImageSet, TrainConfig, check, load_data
from vitlib.runs import train_mistakes as script
from vitlib.runs.log import accuracy_curve, loss_curve
from vitlib.runs.record import Record
from vitlib.train import TrainState

LOG = json.loads((files("vitlib") / "runs" / "mistakes.json").read_text("utf8"))


def images_of(count=3):
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


# --- the changes


@pytest.mark.parametrize("change", script.CHANGES)
def test_each_change_gives_a_model_that_runs(change):
    model = script.build(change, seed=0)
    assert model(images_of()).shape == (3, 10)
    assert torch.equal(model.eval()(images_of()), script.build(change, 0).eval()(images_of()))


def test_a_softmax_over_the_queries_sums_to_one_over_the_queries():
    torch.manual_seed(0)
    attention = Attention(8, 2, qkv_bias=True)
    x = torch.randn(2, 5, 8)
    q, k, v = attention.qkv(x).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights = (q @ k.mT / 2).softmax(dim=2)  # (B, H, queries, keys)
    expected = attention.proj((weights @ v).transpose(1, 2).reshape(2, 5, 8))
    torch.testing.assert_close(script.OverQueries(attention)(x), expected)
    assert not torch.allclose(attention(x), expected)


def test_what_the_spoiled_models_lack():
    spoiled = {name: script.build(name, 0) for name in script.CHANGES}
    answers = spoiled["softmax before the loss"](images_of())
    torch.testing.assert_close(answers.sum(dim=1), torch.ones(3))
    lonely = spoiled["tokens never mix"]
    nn.init.normal_(lonely.head.weight)
    assert torch.equal(lonely(images_of()), lonely(images_of() + 1))
    deviation = spoiled["weights start with deviation 1"].blocks[0].attn.qkv.weight.std().item()
    assert deviation == pytest.approx(1, abs=0.05)
    assert spoiled["tokens start with deviation 1"].pos_embed.std().item() == pytest.approx(
        1, abs=0.1
    )


def test_decay_everything_decays_what_adamw_spares():
    model = script.build("nothing", 0)
    before = {name: value.clone() for name, value in model.named_parameters()}

    state = TrainState(
        step=1, steps=2, loss=0.0, lr=0.1, model=model, averaged=model,
        history=History(TrainConfig()),
    )  # fmt: skip
    script.decay_everything(state, weight_decay=0.5)
    for name, value in model.named_parameters():
        spared = value.ndim <= 1 or name in ("cls_token", "pos_embed")
        torch.testing.assert_close(value, before[name] * (0.95 if spared else 1))


def test_pixels_and_few_digits():
    data = load_data("mnist5k")
    bytes_ = script.pixels(data, 0.0, 1 / 255)
    images, _ = bytes_.train.batch(torch.arange(50))
    assert bytes_.train.normalize(images).max().item() == pytest.approx(255)
    few = script.few(data, 400)
    assert few.train.labels.bincount().tolist() == [40] * 10


def test_accuracy_in_training_mode_is_that_of_a_model_with_dropout():
    class Flips(nn.Module):
        """Right in eval mode; half wrong in training mode."""

        def __init__(self):
            super().__init__()
            self.idle = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            label = images[:, 0, 0, 0].round().long().clamp(0, 1)
            wrong = torch.arange(len(label)) % 2 if self.training else torch.zeros_like(label)
            return F.one_hot((label + wrong) % 2, 2).float()

    labels = torch.tensor([0, 1] * 4)
    digits = ImageSet((labels * 255).byte().reshape(8, 1, 1, 1), labels, (0.0,), (1.0,))
    assert script.accuracy(Flips(), digits) == 1
    assert script.accuracy(Flips(), digits, eval_mode=False) == 0.5


def test_the_checklist_finds_the_mistakes_that_it_names():
    """And is silent about those that only training, or only parity, shows."""
    found = {
        name: check.training(script.build(name, 0), load_data("mnist5k"), batch_size=16).failed
        for name in (
            "nothing", "weights start with deviation 1", "tokens never mix", "no positions",
            "no 1/√d", "strips instead of patches",
        )
    }  # fmt: skip
    assert found["weights start with deviation 1"][0] == "loss at the start"
    assert "parts of the image" in found["tokens never mix"]
    assert found["no positions"] == ["order"]
    for silent in ("nothing", "no 1/√d", "strips instead of patches"):
        assert found[silent] == []


# --- the record


def test_the_log_holds_every_run_of_its_script():
    record = Record("mistakes")
    assert [(run["change"], run["lr"], run["seed"]) for run in LOG["runs"]] == [
        (change, lr, seed)
        for change in script.CHANGES
        for lr in script.RATES
        for seed in script.SEEDS
    ]
    recipe = replace(TrainConfig(), steps=400, ema_decay=None, val_fraction=0.0, progress=False)
    assert TrainConfig.from_dict(LOG["recipe"]) == recipe == script.RECIPE
    assert LOG["curves"] == loss_curve(400, script.WINDOW) | {
        "val_accuracy": accuracy_curve(400, script.EVAL_EVERY)
    }
    assert len(record.runs) == 23 * 4 * 3


def best(change):
    """The mean accuracy of three seeds at the best rate."""
    of = {}
    for run in LOG["runs"]:
        if run["change"] == change:
            of.setdefault(run["lr"], []).append(run["last_val_accuracy"] or 0.1)
    return max(map(mean, of.values()))


def test_what_the_record_shows():
    """With room for another torch."""
    usual = best("nothing")
    assert 0.85 < usual < 0.95
    assert best("tokens never mix") == pytest.approx(0.1, abs=0.02)
    assert best("weights start with deviation 1") < 0.5
    assert best("softmax before the loss") < 0.75
    for harmless in (
        "no weight decay", "weight decay on everything", "no clipping", "strips instead of patches",
        "no norm at all", "pixels from 0 to 1",
    ):  # fmt: skip
        assert abs(best(harmless) - usual) < 0.04
    assert best("tokens start with deviation 1") > usual + 0.03
    assert best("patches of 14") > usual + 0.03  # 400 steps are few
