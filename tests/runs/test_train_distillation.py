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
from vitlib.runs.record import Record
from vitlib.train import param_groups

LOG = json.loads((files("vitlib") / "runs" / "distillation.json").read_text("utf8"))
NAMES = ["the teacher", *script.ARMS]


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
    for make in (script.hard, script.soft_3, script.teacher_alone):
        student = script.OneHead(tiny())
        losses.append(fit(student, data, config, distillation=make(teacher)).loss[0])
    assert len(set(losses)) == 3


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
    both = script.LabelsTwice(nn.Identity(), smooth_both=True)(images, (z, z_d), labels, 0.1)
    smoothed = [F.cross_entropy(head, labels, label_smoothing=0.1) for head in (z, z_d)]
    torch.testing.assert_close(both, sum(smoothed) / 2)


def test_the_arms_losses_are_of_the_kinds_that_they_are_called():
    teacher = nn.Identity()
    made = {name: arm.loss(teacher) for name, arm in script.ARMS.items() if arm.loss}
    for name, smooth_both in [(NAMES[2], False), (NAMES[3], True)]:
        control = made.pop(name)
        assert isinstance(control, script.LabelsTwice)
        assert (control.smooth_both, control.alpha) == (smooth_both, 0.5)
    settings = {n: (type(m), m.kind, m.alpha, m.tau) for n, m in made.items()}
    for name, (kind_of_loss, kind, alpha, tau) in settings.items():
        assert kind_of_loss is DistillationLoss
        assert kind == ("soft" if "soft" in name else "hard")
        assert alpha == (1.0 if "4,000" in name else 0.5)
        assert tau == (3.0 if "τ = 3" in name else 1.0)
    assert {n for n, arm in script.ARMS.items() if arm.token} == {
        n for n in script.ARMS if n.endswith(", token") or n in NAMES[2:4]
    }
    assert {n for n, arm in script.ARMS.items() if arm.all_digits} == set(list(script.ARMS)[-2:])


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
    assert [(r["seed"], r["student"]) for r in LOG["runs"]] == [
        (seed, name) for seed in script.SEEDS for name in NAMES
    ]
    assert LOG["curves"] == loss_curve(script.RECIPE.steps, script.WINDOW)


def test_was_trained_by_the_recipe_of_its_script():
    recipe = replace(
        TrainConfig(), steps=1000, batch_size=50, ema_decay=None, val_fraction=0.0, progress=False
    )
    assert LOG["recipe"] == recipe.to_dict() == script.RECIPE.to_dict()
    assert (LOG["labels"], LOG["teacher"]) == (250, {"width": 16})


def test_two_tokens_tell_of_both():
    for run in LOG["runs"]:
        arm = script.ARMS.get(run["student"])
        assert ("cosine" in run) == ("class_head" in run) == bool(arm and arm.token)
        if "cosine" in run:
            assert len(run["cosine"]) == len(run["cosine_untrained"]) == 6


def test_what_chapter_10_says_of_it():
    """With room for another torch; what lies within the noise is not claimed there, either."""
    teacher, labels = column("the teacher"), column("labels")
    assert mean(teacher) > 0.95 > mean(labels) + 0.01
    everything = [column(name) for name in list(script.ARMS)[-2:]]
    assert all(mean(one) - mean(labels) > 0.01 for one in everything)
    assert abs(mean(everything[0]) - mean(everything[1])) < 0.01
    for name in script.ARMS:
        assert mean(teacher) - mean(column(name)) > 0.01
    for name in ("labels, two class tokens", "hard, no token", "soft, τ = 1, token"):
        assert abs(mean(column(name)) - mean(labels)) < 0.012
    two_tokens, hard = column("labels, two class tokens", "loss"), column("hard, token", "loss")
    assert sum(a == b for a, b in zip(two_tokens, hard, strict=True)) >= 3
    smoothed = column("the same, both smoothed")
    assert all(a > b for a, b in zip(column("soft, τ = 3, token"), smoothed, strict=True))
    assert min(cosines[-1] for n in NAMES[4:7] for cosines in column(n, "cosine")) > 0.98
    assert min(c[1] for c in column("hard, token", "cosine_untrained")) > 0.4
