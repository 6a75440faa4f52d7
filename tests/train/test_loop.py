"""fit, its parts, and what a run keeps (vitlib.train and the files that it draws on)."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from inspect import unwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from building import ROOT
from torch import nn
from torch.nn import functional as F

from vitlib.checkpoints import load_checkpoint, read_checkpoint, save_checkpoint
from vitlib.data import ImageData, ImageSet, augment
from vitlib.model import VisionTransformer
from vitlib.plots import LivePlot, plot_history, smooth
from vitlib.train import (
    DistillationLoss,
    History,
    TrainConfig,
    evaluate,
    fit,
    param_groups,
    pick_device,
    warmup_cosine,
)

SHORT = TrainConfig(
    steps=12, batch_size=8, lr=5e-3, min_lr=1e-5, warmup_steps=3, val_fraction=0.25, eval_every=5,
    progress=False, augment="none",
)  # fmt: skip


def tiny_model(seed: int = 0, **options) -> VisionTransformer:
    torch.manual_seed(seed)
    settings = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 3} | options
    return VisionTransformer(**{"embed_dim": 16, "depth": 2, "num_heads": 2} | settings)


def tiny_data(n: int = 48, channels: int = 1, size: int = 8) -> ImageData:
    """Three classes that differ in brightness, so that they can be learnt."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(n) % 3
    noise = torch.randint(0, 60, (n, channels, size, size), generator=generator)
    images = (noise + 90 * labels[:, None, None, None]).to(torch.uint8)
    parts = (
        ImageSet(images[part], labels[part], (0.4,) * channels, (0.3,) * channels)
        for part in (slice(0, n * 2 // 3), slice(n * 2 // 3, n))
    )
    return ImageData(
        "tiny", *parts, ("dark", "grey", "light"), (0.4,) * channels, (0.3,) * channels
    )


def weights_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# The loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["none", "affine"])
def test_fit_equals_a_loop_written_out(recipe):
    """The loop of chapter 7: same order of draws and operations, same losses to the last bit."""
    data = tiny_data()
    config = replace(SHORT, augment=recipe, val_fraction=0.0)
    model, twin = tiny_model(drop_rate=0.1), tiny_model(drop_rate=0.1)
    history = fit(model, data, config)

    decay = [p for n, p in twin.named_parameters() if p.ndim > 1 and n.count(".")]
    rest = [p for n, p in twin.named_parameters() if not (p.ndim > 1 and n.count("."))]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
        lr=config.lr, fused=True,
    )  # fmt: skip
    change = augment(recipe, (8, 8))
    average = [p.detach().clone() for p in twin.parameters()]
    twin.train()
    torch.manual_seed(0)
    losses, rates = [], []
    for step in range(12):
        if step % 4 == 0:
            order = torch.randperm(32)
        images, labels = data.train.batch(order[step % 4 * 8 : step % 4 * 8 + 8])
        logits = twin(data.train.normalize(change(images)))
        loss = F.cross_entropy(logits, labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        floor = 1e-5 / 5e-3
        cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * ((step - 3) / 9)))
        for group in optimizer.param_groups:
            group["lr"] = config.lr * ((step + 1) / 3 if step < 3 else cosine)
        rates.append(group["lr"])
        optimizer.step()
        keep = 0.0 if step == 0 else min(0.998, (1 + step) / (10 + step))
        average = [
            keep * a + (1 - keep) * p.detach()
            for a, p in zip(average, twin.parameters(), strict=True)
        ]
        losses.append(loss.item())

    assert history.loss == losses
    assert history.lr == pytest.approx(rates)
    torch.testing.assert_close(list(model.parameters()), [nn.Parameter(a) for a in average])


def test_fit_learns_and_leaves_everything_in_order():
    model, data = tiny_model(), tiny_data()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    handler = signal.getsignal(signal.SIGINT)
    history = fit(model, data, replace(SHORT, steps=40, ema_decay=0.9))
    assert torch.equal(torch.get_rng_state(), before)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not model.training
    assert (model.mean, model.std, model.classes) == (data.mean, data.std, data.classes)
    assert history.steps == list(range(1, 41))
    assert history.val_steps == [5, 10, 15, 20, 25, 30, 35, 40]
    assert history.val_accuracy[-1] == 1.0
    assert evaluate(model, data.test).accuracy == 1.0
    assert history.loss[-1] < 0.6 * history.loss[0]
    assert history.images_per_second == pytest.approx(40 * 8 / history.seconds)


def test_same_seed_same_run_other_seed_other_run():
    runs = [fit(tiny_model(), tiny_data(), replace(SHORT, seed=seed)).loss for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_validation_comes_from_train_and_leaves_no_trace():
    class NoTest(ImageSet):
        def batch(self, index):
            raise AssertionError("fit looked at the test images")

    data = tiny_data()
    data = replace(data, test=NoTest(data.test.images, data.test.labels, data.mean, data.std))
    seen: list[torch.Tensor] = []
    original = ImageSet.batch

    class Spy(ImageSet):
        def batch(self, index):
            seen.append(self.images[index].flatten(1).sum(1))
            return original(self, index)

        def subset(self, index):
            return Spy(*super().subset(index).__dict__.values())

    data = replace(data, train=Spy(data.train.images, data.train.labels, data.mean, data.std))
    often = fit(tiny_model(drop_rate=0.2), data, replace(SHORT, eval_every=1))
    seldom = fit(tiny_model(drop_rate=0.2), data, replace(SHORT, eval_every=100))
    assert often.loss == seldom.loss
    assert seldom.val_steps == [12]
    assert len(often.val_steps) == len(often.val_loss) == len(often.val_accuracy) == 12
    everything = fit(tiny_model(), data, replace(SHORT, val_fraction=0.0))
    assert everything.val_steps == []
    assert sum(len(batch) for batch in seen[-12:]) == 12 * 8


def test_callbacks_see_each_step_and_cannot_disturb_it():
    states = []

    def meddle(state):
        torch.rand(7)
        states.append((state.step, state.loss, state.lr, state.model.training))
        assert not state.averaged.training
        assert state.history.loss[-1] == state.loss

    quiet = fit(tiny_model(drop_rate=0.2), tiny_data(), SHORT)
    watched = fit(tiny_model(drop_rate=0.2), tiny_data(), SHORT, callbacks=[meddle])
    assert watched.loss == quiet.loss
    assert states == [
        (s, loss, lr, True) for s, loss, lr in zip(quiet.steps, quiet.loss, quiet.lr, strict=True)
    ]


def test_without_average_the_model_keeps_its_last_weights():
    seen = []
    config = replace(SHORT, ema_decay=None)
    model = tiny_model()
    fit(model, tiny_data(), config, callbacks=[lambda s: seen.append(weights_of(s.model).clone())])
    assert torch.equal(weights_of(model), seen[-1])
    averaged = tiny_model()
    fit(averaged, tiny_data(), SHORT)
    assert not torch.equal(weights_of(averaged), seen[-1])


@pytest.mark.parametrize("mix", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_mixing_changes_the_run(mix):
    assert fit(tiny_model(), tiny_data(), replace(SHORT, **mix)).loss != pytest.approx(
        fit(tiny_model(), tiny_data(), SHORT).loss
    )


def test_label_smoothing_clipping_and_bf16_reach_the_loss():
    losses = {
        name: fit(tiny_model(), tiny_data(), replace(SHORT, **change)).loss
        for name, change in {
            "plain": {}, "smooth": {"label_smoothing": 0.3}, "free": {"clip_grad": None},
            "clipped": {"clip_grad": 1e-6}, "bf16": {"amp": "bf16"}, "off": {"amp": "off"},
        }.items()
    }  # fmt: skip
    assert losses["smooth"][0] != losses["plain"][0]
    assert losses["free"][-1] != losses["clipped"][-1]
    assert losses["bf16"] != losses["plain"]
    assert losses["bf16"] == pytest.approx(losses["plain"], abs=0.05)
    if not torch.cuda.is_available():
        assert losses["off"] == losses["plain"]


def test_progress_bar_goes_to_stderr(capfd):
    fit(tiny_model(), tiny_data(), replace(SHORT, progress=True))
    out, err = capfd.readouterr()
    assert out == ""
    assert "12/12" in err
    assert "loss=" in err
    assert "val=" in err
    fit(tiny_model(), tiny_data(), SHORT)
    assert capfd.readouterr() == ("", "")


# Its parts ----------------------------------------------------------------------------------------


def test_warmup_then_cosine():
    factors = [warmup_cosine(s, steps=20, warmup_steps=4, floor=0.1) for s in range(21)]
    assert factors[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert factors[12] == pytest.approx(0.55)  # half-way
    assert factors[20] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(factors[4:]))
    assert warmup_cosine(0, steps=10, warmup_steps=0) == 1.0
    assert warmup_cosine(5, steps=5, warmup_steps=8) == 0.75  # shorter than its warm-up


def test_every_trainable_parameter_is_in_exactly_one_group():
    model = tiny_model(distilled=True, reg_tokens=2, init_values=1e-4)
    model.blocks[0].requires_grad_(False)
    model.head.weight = model.head_dist.weight  # shared
    names = {id(p): name for name, p in model.named_parameters()}
    decay, rest = ([names[id(p)] for p in g["params"]] for g in param_groups(model, 0.1))
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert sorted(decay + rest) == sorted(trainable)
    assert all(n.endswith("weight") and "norm" not in n for n in decay)
    assert {"cls_token", "dist_token", "reg_token", "pos_embed", "norm.weight"} <= set(rest)
    assert {"blocks.1.ls1.gamma", "blocks.1.attn.qkv.bias"} <= set(rest)
    assert "patch_embed.proj.weight" in decay
    assert [g["weight_decay"] for g in param_groups(model, 0.1)] == [0.1, 0.0]
    assert len(param_groups(nn.Linear(3, 2), 0.1)[0]["params"]) == 1  # no no_weight_decay()


def test_frozen_parameters_stay():
    model = tiny_model()
    model.patch_embed.requires_grad_(False)
    before = model.patch_embed.proj.weight.clone()
    fit(model, tiny_data(), SHORT)
    assert torch.equal(model.patch_embed.proj.weight, before)


def test_evaluate_by_hand():
    model, data = tiny_model(drop_rate=0.5).train(), tiny_data()
    found = evaluate(model, data.test, batch_size=5)  # 16 images: the last batch has one
    assert model.training
    images, labels = data.test.batch(torch.arange(16))
    with torch.no_grad():
        logits = model.eval()(data.test.normalize(images))
    torch.testing.assert_close(found.logits, logits)
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item())
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert torch.equal(found.predictions, logits.argmax(1))
    assert torch.equal(found.labels, labels)
    assert "tensor" not in repr(found)
    nn.init.zeros_(model.head.weight)  # the first class for every image: 5 of 15 are right
    assert evaluate(model, data.test.subset(range(15))).accuracy == 5 / 15  # to the last bit


def test_evaluate_normalises_as_the_model_expects():
    model, data = tiny_model(), tiny_data()
    as_data = evaluate(model, data.test).logits
    model.mean, model.std = (0.0,), (1.0,)
    images, _ = data.test.batch(torch.arange(16))
    with torch.no_grad():
        expected = model.eval()(images)
    torch.testing.assert_close(evaluate(model, data.test).logits, expected)
    assert not torch.allclose(as_data, expected)


def test_evaluate_restores_the_mode_after_an_error():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("broken")

    model = Broken(1, 1).train()
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(model, tiny_data().test)
    assert model.training


# Distillation -------------------------------------------------------------------------------------


class Teacher(nn.Module):
    def __init__(self, classes: int = 3):
        super().__init__()
        self.linear = nn.Linear(64, classes)
        self.drop = nn.Dropout(0.9)

    def forward(self, x):
        return self.drop(self.linear(x.flatten(1)))


@pytest.mark.parametrize("targets", ["labels", "probabilities"])
def test_distillation_loss_by_hand(targets):
    torch.manual_seed(0)
    teacher = Teacher().train()
    images, z, zd = torch.randn(4, 1, 8, 8), torch.randn(4, 3), torch.randn(4, 3)
    zd.requires_grad_()
    y = torch.tensor([0, 2, 1, 1])
    if targets == "probabilities":
        y = torch.randn(4, 3).softmax(1)
    hard = DistillationLoss(teacher, "hard", alpha=0.3)(images, (z, zd), y)
    zt = teacher.linear(images.flatten(1)).detach()
    expected = 0.7 * F.cross_entropy(z, y) + 0.3 * F.cross_entropy(zd, zt.argmax(1))
    torch.testing.assert_close(hard, expected)

    soft = DistillationLoss(teacher, "soft", alpha=0.3, tau=2.0)(images, (z, zd), y, 0.1)
    p, log_q = (zt / 2).softmax(1), (zd / 2).log_softmax(1)
    divergence = (p * (p.log() - log_q)).sum(1).mean()
    base = F.cross_entropy(z, y, label_smoothing=0.1)
    torch.testing.assert_close(soft, 0.7 * base + 0.3 * 4 * divergence)

    soft.backward()
    assert zd.grad is not None
    assert teacher.linear.weight.grad is None
    assert not teacher.training


def test_fit_with_a_teacher_trains_both_heads_and_not_the_teacher():
    student, teacher = tiny_model(distilled=True), Teacher()
    before, heads = weights_of(teacher), student.head_dist.weight.clone()
    history = fit(student, tiny_data(), SHORT, distillation=DistillationLoss(teacher))
    assert torch.equal(weights_of(teacher), before)
    assert not torch.equal(student.head_dist.weight, heads)
    alone = fit(tiny_model(distilled=True), tiny_data(), SHORT)
    assert alone.loss != history.loss


def test_distilled_without_teacher_learns_with_the_mean_of_its_heads():
    model, data = tiny_model(distilled=True), tiny_data()
    history = fit(model, data, replace(SHORT, steps=1, val_fraction=0.0, label_smoothing=0.0))
    torch.manual_seed(0)
    images, labels = data.train.batch(torch.randperm(32)[:8])
    logits, dist = tiny_model(distilled=True)(data.train.normalize(images), return_dist=True)
    assert history.loss[0] == pytest.approx(F.cross_entropy((logits + dist) / 2, labels).item())


def test_distillation_refuses_what_cannot_work():
    with pytest.raises(ValueError, match="'hard' or 'soft', got 'medium'"):
        DistillationLoss(Teacher(), "medium")
    with pytest.raises(ValueError, match=r"alpha must lie between 0 and 1, got 1\.5"):
        DistillationLoss(Teacher(), alpha=1.5)
    with pytest.raises(ValueError, match=r"tau must be above 0, got 0\.0"):
        DistillationLoss(Teacher(), tau=0.0)
    with pytest.raises(ValueError, match="distilled=True"):
        fit(tiny_model(), tiny_data(), SHORT, distillation=DistillationLoss(Teacher()))
    student = tiny_model(distilled=True)
    with pytest.raises(ValueError, match="model itself"):
        fit(student, tiny_data(), SHORT, distillation=DistillationLoss(student))
    with pytest.raises(ValueError, match=r"\(8, 5\), the student \(8, 3\)"):
        fit(student, tiny_data(), SHORT, distillation=DistillationLoss(Teacher(5)))
    with pytest.raises(ValueError, match=r"teacher does not fit the data.*3"):
        fit(student, tiny_data(), SHORT, distillation=DistillationLoss(tiny_model(in_chans=3)))
    other = tiny_model()
    other.mean, other.std = (0.5,), (0.5,)
    with pytest.raises(ValueError, match=r"teacher expects mean \(0\.5,\).*\(0\.4,\)"):
        fit(student, tiny_data(), SHORT, distillation=DistillationLoss(other))


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"lr": 0.0}, r"lr must be above 0, got 0\.0"),
        ({"lr": math.nan}, "lr must be above 0, got nan"),
        ({"lr": 1e-6}, r"min_lr must be between 0 and lr \(1e-06\), got 1e-05"),
        ({"warmup_steps": -3}, "warmup_steps must be 0 or more, got -3"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or more"),
        ({"betas": (0.9, 1.0)}, "betas must be two numbers"),
        ({"seed": 2**63}, r"seed must be below 2\*\*63, got 9223372036854775808"),
        ({"augment": "afine"}, "augment must be one of none, affine, flip_crop, randaugment, got"),
        ({"label_smoothing": 1.0}, "label_smoothing must be from 0 to below 1"),
        ({"val_fraction": 1.0}, "val_fraction must be from 0 to below 1"),
        ({"ema_decay": 1.0}, "ema_decay must be from 0 to below 1, or None"),
        ({"clip_grad": 0.0}, r"clip_grad must be above 0, or None, got 0\.0"),
        ({"amp": "fp8"}, "'auto', 'bf16' or 'off', got 'fp8'"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
    ],
)
def test_settings_that_no_run_can_use(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SHORT, **change)


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 0.99, 0.999)])
def test_betas_are_two(betas):
    settings = object.__new__(TrainConfig)
    with pytest.raises(ValueError, match="betas must be two numbers from 0 to below 1, got"):
        unwrap(TrainConfig.__init__)(settings, betas=betas)  # beartype would stop it before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, r"no head: call model\.reset_classifier\(n\), n at least 3"),
        ({"num_classes": 2}, "labels go from 0 to 2.*num_classes=2.*0 to 1"),
        ({"in_chans": 3}, "images have 1 channels, the model takes 3"),
        ({"img_size": 16}, r"images are 8×8, the model takes 16×16.*img_size=\(8, 8\)"),
    ],
)
def test_data_that_do_not_fit_the_model(options, message):
    model = tiny_model(**options)
    before = weights_of(model).clone()
    with pytest.raises(ValueError, match=message):
        fit(model, tiny_data(), SHORT)
    with pytest.raises(ValueError, match=message):
        evaluate(model, tiny_data().train)
    assert torch.equal(weights_of(model), before)


def test_a_foreign_models_size_may_be_one_number():
    model = Teacher()
    model.img_size = 8
    assert len(evaluate(model, tiny_data().test).logits) == 16
    model.img_size = 16
    with pytest.raises(ValueError, match="images are 8×8, the model takes 16×16"):
        evaluate(model, tiny_data().test)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (False, True, "mps"), (True, False, "cuda"), (False, False, "cpu")],
)
def test_auto_takes_cuda_else_mps_else_cpu(monkeypatch, cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(
        torch, "empty", lambda size, device: SimpleNamespace(device=torch.device(device))
    )
    assert unwrap(pick_device)("auto").type == chosen


def test_a_device_that_is_not_here_gets_one_sentence(monkeypatch):
    def missing(size, device):
        raise AssertionError("Torch not compiled\nwith many more words")

    monkeypatch.setattr(torch, "empty", missing)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device 'cuda:7' cannot.*Choose from auto, cpu$"):
        pick_device("cuda:7")


def test_a_compiled_model_trains_as_the_model_inside(tmp_path):
    """Same groups, same steps, same checkpoint; the statistics land on the model inside."""
    config = replace(SHORT, steps=2, checkpoint=tmp_path / "plain")
    plain, model, data = tiny_model(), tiny_model(), tiny_data()
    fit(plain, data, config)
    compiled = torch.compile(model, backend="eager")
    groups = [[len(g["params"]) for g in param_groups(m, 0.1)] for m in (plain, compiled)]
    assert groups[0] == groups[1]
    with torch.compiler.set_stance("force_eager"):  # the tests' type checks can't be compiled
        history = fit(compiled, data, replace(config, checkpoint=tmp_path / "compiled"))
    assert torch.equal(weights_of(model), weights_of(plain))
    assert vars(model)["mean"] == data.mean
    assert (model.training, compiled.training) == (False, False)
    assert torch.equal(weights_of(load_checkpoint(tmp_path / "compiled")), weights_of(model))
    again = fit(tiny_model(5), data, replace(config, checkpoint=tmp_path / "compiled"))
    assert again.loss == history.loss  # a finished run, which the plain model takes up as its own


@pytest.mark.parametrize("training", [True, False])
def test_where_fit_refuses_the_model_keeps_its_mode(tmp_path, training):
    path = tmp_path / "model.safetensors"
    save_checkpoint(tiny_model(), path)
    model = tiny_model(1).train(training)
    before = weights_of(model).clone()
    with pytest.raises(ValueError, match="holds a model but no training run"):
        fit(model, tiny_data(), replace(SHORT, checkpoint=path))
    assert model.training == training
    assert torch.equal(weights_of(model), before)
    assert model.classes is None


def test_dynamic_img_size_takes_other_sizes():
    fit(tiny_model(img_size=16, dynamic_img_size=True), tiny_data(), replace(SHORT, steps=1))


def test_other_refusals():
    with pytest.raises(ValueError, match="batch_size 25 is larger than the 24 training images"):
        fit(tiny_model(), tiny_data(), replace(SHORT, batch_size=25))
    with pytest.raises(ValueError, match="every parameter of the model is frozen"):
        fit(tiny_model().requires_grad_(False), tiny_data(), SHORT)
    with pytest.raises(ValueError, match="device 'warp' cannot be used here"):
        fit(tiny_model(), tiny_data(), replace(SHORT, device="warp"))
    with pytest.raises(ValueError, match="device 'meta' holds no numbers"):
        fit(tiny_model(), tiny_data(), replace(SHORT, device="meta"))
    with pytest.raises(ValueError, match=r"callbacks=\[f\] for a single one"):
        unwrap(fit)(tiny_model(), tiny_data(), SHORT, callbacks=print)
    with pytest.raises(ValueError, match=r"pass data\.test, not data"):
        unwrap(evaluate)(tiny_model(), tiny_data())
    train = tiny_data().train
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        evaluate(tiny_model(), train, batch_size=0)
    with pytest.raises(ValueError, match="no images"):
        evaluate(tiny_model(), train.subset([]))


def test_divergence_stops_before_the_weights(tmp_path):
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors", checkpoint_every=2)

    def poison(state):
        if state.step == 5:
            with torch.no_grad():
                state.model.head.bias[0] = math.inf

    model = tiny_model()
    with pytest.raises(
        FloatingPointError, match=r"step 6: loss (nan|inf).*learning rate .*smaller lr.*run\.safe"
    ):
        fit(model, tiny_data(), config, callbacks=[poison])
    assert weights_of(model).isfinite().all()  # the average of the last whole step
    kept = read_checkpoint(tmp_path / "run.safetensors")
    assert len(kept.training.info["history"]["loss"]) == 4
    assert all(t.isfinite().all() for t in kept.weights.values())


def test_overflowed_weights_are_not_written_over_the_last_good_checkpoint(tmp_path):
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors", checkpoint_every=1)
    step = torch.optim.AdamW.step

    def overflow(optimizer, *args, **kwargs):
        step(optimizer, *args, **kwargs)
        if len(history_lengths) == 3:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].fill_(math.inf)

    history_lengths: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", overflow)
        with pytest.raises(FloatingPointError, match="weights after step 4 are not finite"):
            fit(tiny_model(), tiny_data(), config, callbacks=[lambda s: history_lengths.append(1)])
    assert load_checkpoint(tmp_path / "run.safetensors").head.weight.isfinite().all()


# Stopping and going on ----------------------------------------------------------------------------

# Everything that draws random numbers is on; 24 images in batches of 8 are 3 steps an epoch, so
# that step 7, after the checkpoint of step 5, lies in another epoch than the checkpoint.
RANDOM = replace(
    SHORT, augment="affine", mixup=0.4, cutmix=0.4, checkpoint_every=5, ema_decay=0.9, eval_every=3
)
DROPS = {"drop_rate": 0.1, "drop_path_rate": 0.1, "attn_drop_rate": 0.1}


class Stop(Exception):
    pass


def stop_at(step):
    def stop(state):
        if state.step == step:
            raise Stop

    return stop


def compare_runs(mine: Path, other: Path) -> None:
    """Weights, average, moments, random states, order and history are equal, bit for bit."""
    a, b = read_checkpoint(mine), read_checkpoint(other)
    assert a.weights.keys() == b.weights.keys()
    assert a.training.tensors.keys() == b.training.tensors.keys()
    for name in a.weights:
        assert torch.equal(a.weights[name], b.weights[name]), name
    for name in a.training.tensors:
        assert torch.equal(a.training.tensors[name], b.training.tensors[name]), name
    records = [dict(c.training.info["history"]) for c in (a, b)]
    for record in records:
        record["seconds"] = record["config"] = None
    assert records[0] == records[1]
    assert any(name.startswith("optimizer/exp_avg_sq/") for name in a.training.tensors)


@pytest.mark.parametrize("ema", [0.9, None])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, ema):
    whole = replace(RANDOM, checkpoint=tmp_path / "whole.safetensors", ema_decay=ema)
    parts = replace(whole, checkpoint=tmp_path / "parts.safetensors")
    reference = tiny_model(**DROPS)
    fit(reference, tiny_data(), whole)
    for step in (7, 9):  # the second one goes on from step 5, whatever its first weights
        with pytest.raises(Stop):
            fit(tiny_model(seed=step - 7, **DROPS), tiny_data(), parts, callbacks=[stop_at(step)])
    model = tiny_model(8, **DROPS)
    fit(model, tiny_data(), parts)
    assert torch.equal(weights_of(model), weights_of(reference))
    compare_runs(whole.checkpoint, parts.checkpoint)


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads({threads})
sys.path.insert(0, {tests!r})
from train import test_loop as t

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if {writing}:  # in the middle of the second checkpoint, which is whole but has not its name yet
    replace, count = os.replace, []
    os.replace = lambda *a: replace(*a) if not count and not count.append(1) else die()
config = t.replace(t.RANDOM, checkpoint={path!r})
t.fit(t.tiny_model(**t.DROPS), t.tiny_data(), config,
      callbacks=[lambda state: die() if state.step == {step} else None])
"""


@pytest.mark.parametrize(("writing", "step"), [(False, 7), (True, 0)])
def test_a_killed_run_resumes_and_equals_an_uninterrupted_one(tmp_path, writing, step):
    whole = replace(RANDOM, checkpoint=tmp_path / "whole.safetensors")
    fit(tiny_model(**DROPS), tiny_data(), whole)
    path = tmp_path / "killed.safetensors"
    script = KILLED.format(
        threads=torch.get_num_threads(), tests=str(ROOT / "tests"), path=str(path),
        writing=writing, step=step,
    )  # fmt: skip
    root = str(ROOT)
    died = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": root}, timeout=120
    )
    assert died.returncode == -signal.SIGKILL
    assert len(read_checkpoint(path).training.info["history"]["loss"]) == 5
    history = fit(tiny_model(4, **DROPS), tiny_data(), replace(RANDOM, checkpoint=path))
    assert len(history.loss) == 12
    compare_runs(whole.checkpoint, path)


@pytest.fixture
def python_handles_interrupts():
    """pytest-xdist's workers may ignore SIGINT."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("python_handles_interrupts")
def test_ctrl_c_waits_for_the_step_and_keeps_it(tmp_path):
    whole = replace(RANDOM, checkpoint=tmp_path / "whole.safetensors")
    fit(tiny_model(**DROPS), tiny_data(), whole)

    class Interrupting(ImageSet):  # Ctrl-C in the middle of step 7
        calls = 0

        def batch(self, index):
            if len(index) == 8:
                Interrupting.calls += 1
                if Interrupting.calls == 7:
                    os.kill(os.getpid(), signal.SIGINT)
            return super().batch(index)

        def subset(self, index):
            return Interrupting(*super().subset(index).__dict__.values())

    data = tiny_data()
    data = replace(data, train=Interrupting(*data.train.__dict__.values()))
    config = replace(RANDOM, checkpoint=tmp_path / "parts.safetensors", eval_every=1000)
    model = tiny_model(**DROPS)
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, config)
    kept = read_checkpoint(config.checkpoint)
    assert len(kept.training.info["history"]["loss"]) == 7
    assert torch.equal(kept.weights["head.weight"], model.head.weight)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    config = replace(config, checkpoint=tmp_path / "none.safetensors", checkpoint_every=100)
    Interrupting.calls = -100
    fit(tiny_model(5, **DROPS), tiny_data(), replace(config, checkpoint=kept.path))
    a, b = (read_checkpoint(p).weights for p in (whole.checkpoint, kept.path))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.usefixtures("python_handles_interrupts")
def test_a_second_ctrl_c_stops_at_once():
    def twice(state):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        raise Stop

    with pytest.raises(Stop):
        fit(tiny_model(), tiny_data(), SHORT, callbacks=[twice])


def test_a_finished_run_returns_its_history_at_once(tmp_path):
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors")
    first = fit(tiny_model(), tiny_data(), config)
    stamp = config.checkpoint.stat().st_mtime_ns
    again = tiny_model(3)
    second = fit(again, tiny_data(), config, callbacks=[stop_at(1), stop_at(12)])
    assert second == first
    assert config.checkpoint.stat().st_mtime_ns == stamp
    loaded = load_checkpoint(config.checkpoint)
    assert torch.equal(weights_of(loaded), weights_of(again))
    assert not again.training
    assert loaded.classes == ("dark", "grey", "light")


def test_resume_refuses_another_run(tmp_path):
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors")
    fit(tiny_model(), tiny_data(), config)
    before = config.checkpoint.read_bytes()
    with pytest.raises(
        ValueError, match=r"steps 12 there, 20 here; lr 0\.005 there, 0\.1 here.*resume=False"
    ):
        fit(tiny_model(), tiny_data(), replace(config, steps=20, lr=0.1))
    with pytest.raises(ValueError, match=r"model\.embed_dim 16 there, 32 here"):
        fit(tiny_model(embed_dim=32), tiny_data(), config)
    with pytest.raises(ValueError, match="training images 32 there, 40 here"):
        fit(tiny_model(), tiny_data(60), config)
    half = tiny_model()
    half.blocks.requires_grad_(False)
    with pytest.raises(ValueError, match="trained parameters"):
        fit(half, tiny_data(), config)
    assert config.checkpoint.read_bytes() == before
    fit(tiny_model(), tiny_data(), replace(config, progress=True, eval_every=3))  # may change
    assert fit(tiny_model(), tiny_data(), replace(config, steps=2, resume=False)).steps == [1, 2]


def test_resume_refuses_what_is_no_run(tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(tiny_model(), path)
    with pytest.raises(ValueError, match="holds a model but no training run"):
        fit(tiny_model(), tiny_data(), replace(SHORT, checkpoint=path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or cut off"):
        fit(tiny_model(), tiny_data(), replace(SHORT, checkpoint=path))
    with pytest.raises(ValueError, match="is a folder; give the name of a file"):
        fit(tiny_model(), tiny_data(), replace(SHORT, checkpoint=tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a device or a pipe"):
        fit(tiny_model(), tiny_data(), replace(SHORT, checkpoint=tmp_path / "pipe", resume=False))
    with pytest.raises(OSError, match="cannot make the folder of checkpoint"):
        fit(tiny_model(), tiny_data(), replace(SHORT, checkpoint=path / "run.safetensors"))


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors", checkpoint_every=4)

    def fill_disk(state):
        if state.step == 5:

            def full(descriptor):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match=r"run\.safetensors.*No space left.*former.*untouched"):
        fit(tiny_model(), tiny_data(), config, callbacks=[fill_disk])
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    assert len(fit(tiny_model(), tiny_data(), config).loss) == 12  # goes on from step 4


# The record ---------------------------------------------------------------------------------------


def test_history_survives_json(tmp_path):
    history = fit(tiny_model(), tiny_data(), replace(SHORT, checkpoint=tmp_path / "x"))
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert again.loss == history.loss
    assert again.config == replace(history.config, checkpoint=str(tmp_path / "x"))
    assert repr(again) == repr(history)
    assert "12 steps, loss" in repr(history)
    values = history.to_dict()
    values["config"]["warp"] = 9
    with pytest.raises(ValueError, match=r"unknown training settings warp.*newer vitlib"):
        History.from_dict(values)


def test_history_draws_itself():
    history = fit(tiny_model(), tiny_data(), SHORT)
    assert history._repr_png_().startswith(b"\x89PNG")
    loss, accuracy = history.plot().axes
    assert list(loss.lines[0].get_ydata()) == history.loss
    assert list(accuracy.lines[0].get_xdata()) == [5, 10, 12]
    bare = History(SHORT, loss=[1.0], lr=[0.1])
    assert len(plot_history(bare).axes) == 1
    assert History(SHORT)._repr_png_() is None
    assert repr(History(SHORT)) == "History(no steps yet)"
    assert smooth([2.0, 2.0, 2.0], 0.9) == pytest.approx([2.0, 2.0, 2.0])
    assert smooth([1.0, 3.0], 0.5) == pytest.approx([1.0, 7 / 3])


def test_live_plot_redraws_one_display(monkeypatch):
    import IPython
    import IPython.display

    fit(tiny_model(), tiny_data(), SHORT, callbacks=[LivePlot(every=1)])  # no notebook: no harm
    shown, updates = [], []

    class Handle:
        def update(self, picture):
            updates.append(picture.data)

    def display(picture, display_id):
        shown.append(picture.data)
        return Handle()

    class Shell:
        kernel = object()

    monkeypatch.setattr(IPython, "get_ipython", Shell)
    monkeypatch.setattr(IPython.display, "display", display)
    fit(tiny_model(), tiny_data(), SHORT, callbacks=[LivePlot(every=5)])
    assert len(shown) == 1  # step 5
    assert len(updates) == 2  # steps 10 and 12
    assert updates[-1].startswith(b"\x89PNG")
    assert updates[0] != shown[0]
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        LivePlot(every=0)
