"""The recorded distillation experiment: its controls are what they are called, and its record."""

import json
from dataclasses import replace
from importlib.resources import files
from statistics import mean

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitlib import DistillationLoss, ImageSet, TrainConfig, VisionTransformer, fit, load_data
from vitlib.runs import train_distillation as script
from vitlib.runs.log import loss_curve
from vitlib.runs.rates import choose_rates
from vitlib.runs.record import Record
from vitlib.train import UNLABELLED, param_groups

LOG = json.loads((files("vitlib") / "runs" / "distillation.json").read_text("utf8"))
NAMES = ["the teacher", *script.ARMS]
TWO, ONLY = "100 labels, two tokens", "soft, labelled digits only"


def tiny(**options):
    torch.manual_seed(0)
    sizes = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 10, "embed_dim": 16}
    return VisionTransformer(**sizes, depth=2, num_heads=2, **options)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def column(student, key="test_accuracy"):
    return [run[key] for run in LOG["runs"] if run["student"] == student]


# --- the controls


def test_one_head_lets_both_terms_reach_the_class_head():
    model = tiny().eval()
    student, images = script.OneHead(model), draw(3, 1, 8, 8)
    logits = model(images)
    assert torch.equal(student(images), logits)
    assert all(torch.equal(z, logits) for z in student(images, return_dist=True))


def test_one_head_decays_what_the_model_inside_decays():
    model = tiny()
    sizes = [
        [[p.shape for p in group["params"]] for group in param_groups(m, 0.1)]
        for m in (model, script.OneHead(model))
    ]
    assert sizes[0] == sizes[1]
    assert script.OneHead(model).no_weight_decay() == {"model.cls_token", "model.pos_embed"}


def test_one_head_learns_from_the_teacher_in_fit():
    data = load_data("digits")
    config = TrainConfig(steps=2, batch_size=8, augment="none", progress=False, val_fraction=0.0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    losses = []
    for make in (script.hard, script.soft):
        student = script.OneHead(tiny())
        losses.append(fit(student, data, config, distillation=make(teacher)).loss[0])
    assert len(set(losses)) == 2


def test_labels_twice_is_hard_distillation_by_a_teacher_that_never_errs():
    loss = script.LabelsTwice(nn.Identity())
    z, z_d, labels = draw(4, 10), draw(4, 10, seed=1), torch.tensor([3, 1, 0, 9])
    expected = 0.5 * F.cross_entropy(z, labels, label_smoothing=0.1)
    expected += 0.5 * F.cross_entropy(z_d, labels)
    images = draw(4, 1, 8, 8)
    torch.testing.assert_close(loss(images, (z, z_d), labels, 0.1), expected)
    infallible = nn.Module()
    infallible.forward = lambda images: 9.0 * F.one_hot(labels, 10)
    hard = DistillationLoss(infallible, "hard")
    torch.testing.assert_close(hard(images, (z, z_d), labels, 0.1), expected)


def test_the_arms_are_what_they_are_called():
    teacher = nn.Identity()
    for name, arm in script.ARMS.items():
        assert arm.token == name.endswith("two tokens")
        if name == "all labels":
            assert (arm.digits, arm.loss) == ("all", None)
        elif name.startswith("100 labels"):
            assert arm.digits == "few"
            assert arm.loss in (None, script.LabelsTwice)
        else:
            made = arm.loss(teacher)
            assert type(made) is DistillationLoss
            assert (made.kind, made.alpha) == (name.split(",")[0], 0.9)
            assert made.kind == "hard" or made.tau == 3.0
            assert arm.digits == ("few" if name.endswith("labelled digits only") else "partly")


def test_a_round_deals_every_digit_once_and_the_labels_evenly():
    deal, data = script.Deal.of_round(1), load_data("mnist5k")
    assert (len(deal.few.train), len(deal.all.train), len(deal.kept_back)) == (100, 3250, 750)
    assert deal.few.train.labels.bincount().tolist() == [10] * 10
    dealt = torch.cat([deal.all.train.images, deal.kept_back.images]).flatten(1).float()
    theirs = data.train.images.flatten(1).float()
    mixed = torch.rand(dealt.shape[1], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close((dealt @ mixed).sort().values, (theirs @ mixed).sort().values)
    _, labels = deal.partly.train.batch(torch.arange(3250))
    assert (labels == UNLABELLED).sum() == 3150
    assert torch.equal(labels[:100], deal.few.train.labels)
    assert torch.equal(deal.partly.train.images[:100], deal.few.train.images)
    assert not torch.equal(deal.few.train.images, script.Deal.of_round(0).few.train.images)
    assert all(torch.equal(d.test.images, data.test.images) for d in (deal.few, deal.partly))


def test_token_cosines_by_hand():
    model = tiny(distilled=True).eval()
    digits = ImageSet(torch.randint(256, (5, 1, 8, 8)).byte(), torch.arange(5), (0.3,), (0.4,))
    found = script.token_cosines(model, digits)
    assert len(found) == 4
    first = model.cls_token[0, 0] + model.pos_embed[0, 0]
    second = model.dist_token[0, 0] + model.pos_embed[0, 1]
    assert found[0] == pytest.approx(
        (first @ second / first.norm() / second.norm()).item(), abs=1e-4
    )
    images = torch.stack([digits[i][0] for i in range(5)])
    last = model.forward_features(images).detach()
    each = [float(a @ b / a.norm() / b.norm()) for a, b in last[:, :2]]
    assert found[-1] == pytest.approx(mean(each), abs=1e-4)


# --- the record


def test_is_a_record_of_five_rounds_that_ended():
    record = Record("distillation")
    assert all(run["diverged"] is None for run in record.runs)
    found = sorted((r["student"], r["seed"]) for r in LOG["runs"])
    assert found == sorted((name, seed) for name in NAMES for seed in script.ROUNDS)
    assert LOG["curves"] == loss_curve(script.RECIPE.steps, script.WINDOW)


def test_was_trained_by_the_recipe_of_its_script():
    recipe = replace(
        TrainConfig(), steps=1000, batch_size=50, ema_decay=None, val_fraction=0.0, progress=False
    )
    assert TrainConfig.from_dict(LOG["recipe"]) == recipe == script.RECIPE
    assert (LOG["labels"], LOG["kept_back"], LOG["teacher"]) == (100, 750, {"width": 16})
    assert (LOG["alpha"], LOG["tau"]) == (0.9, 3.0)


def test_digits_kept_back_chose_the_rates_and_no_rate_is_at_the_edge():
    tried = sorted((one["student"], one["lr"], one["seed"]) for one in LOG["trials"])
    assert tried == sorted(
        (arm, lr, seed)
        for arm in script.ARMS
        for lr in script.RATES
        for seed in script.TRIAL_ROUNDS
    )
    assert LOG["rates"] == choose_rates(LOG["trials"], "student", script.ARMS)
    assert all(run["lr"] == LOG["rates"][run["student"]] for run in LOG["runs"] if "lr" in run)
    for rate in LOG["rates"].values():
        assert min(script.RATES) < rate < max(script.RATES)


def test_two_tokens_tell_of_both():
    for run in LOG["runs"]:
        arm = script.ARMS.get(run["student"])
        assert ("cosine" in run) == ("class_head" in run) == bool(arm and arm.token)
        if "cosine" in run:
            assert len(run["cosine"]) == len(run["cosine_untrained"]) == 6


def test_what_chapter_10_says_of_it():
    """With room for another torch; what lies within the noise is not claimed there, either."""
    teacher, alone = column("the teacher"), column("100 labels")
    assert mean(teacher) > mean(alone) + 0.05
    for student, over in [("hard", "100 labels"), ("hard, two tokens", TWO), ("soft", ONLY)]:
        gains = [a - b for a, b in zip(column(student), column(over), strict=True)]
        assert min(gains) > 0.02
        assert mean(gains) > 0.045
    assert abs(mean(column(ONLY)) - mean(alone)) < 0.015
    for tokens in ("", ", two tokens"):
        assert abs(mean(column("soft" + tokens)) - mean(column("hard" + tokens))) < 0.01
    token = {
        kind: [a - b for a, b in zip(column(f"{kind}, two tokens"), column(kind), strict=True)]
        for kind in ("hard", "soft", "100 labels")
    }
    assert min(token["hard"] + token["soft"]) > 0 > max(token["100 labels"])
    assert mean(token["hard"]) - mean(token["100 labels"]) > 0.02
    assert mean(column("all labels")) - mean(column("soft")) > 0.03
    for kind in ("hard", "soft"):
        heads = (
            column(f"{kind}, two tokens", f"{head}_head") for head in ("class", "distillation")
        )
        first, second = map(mean, heads)
        assert mean(alone) + 0.05 < first < second
    last = {n: mean(c[-1] for c in column(n, "cosine")) for n in NAMES if n.endswith("two tokens")}
    assert max(last, key=last.get) == TWO
    assert min(last.values()) > 0.99
    untrained = column("hard, two tokens", "cosine_untrained")
    assert min(c[1] for c in untrained) > 0.4
    same = {name: mean(column(name, "same_mistakes")) for name in NAMES}
    assert max(same["hard"], same["soft"]) < same["100 labels"] + 0.02
    assert same["all labels"] < 0.2 < min(same["hard"], same["soft"])
