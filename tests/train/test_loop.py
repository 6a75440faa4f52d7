"""fit: against a loop written out, its parts, and what it refuses."""

import itertools
import math
import signal
from dataclasses import replace
from inspect import unwrap
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from train.tiny import SHORT, tiny_data, tiny_model, weights_of

from vitlib.checkpoints import load_checkpoint, read_checkpoint, save_checkpoint
from vitlib.data import ImageSet, augment
from vitlib.train import evaluate, fit, param_groups, pick_device, warmup_cosine

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


# Distillation -------------------------------------------------------------------------------------


def test_distilled_without_teacher_learns_with_the_mean_of_its_heads():
    model, data = tiny_model(distilled=True), tiny_data()
    history = fit(model, data, replace(SHORT, steps=1, val_fraction=0.0, label_smoothing=0.0))
    torch.manual_seed(0)
    images, labels = data.train.batch(torch.randperm(32)[:8])
    logits, dist = tiny_model(distilled=True)(data.train.normalize(images), return_dist=True)
    assert history.loss[0] == pytest.approx(F.cross_entropy((logits + dist) / 2, labels).item())


# Bad input ----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("amp", "fused"), [("bf16", False), ("off", True), ("auto", True)])
def test_the_slow_kernel_is_avoided_while_fit_runs_on_a_cpu_in_bf16(amp, fused):
    """The backward pass of the fused attention is slow there: benchmarks/attention.py."""
    model, seen = tiny_model(), []
    note = lambda state: seen.extend(block.attn.fused for block in state.model.blocks)  # noqa: E731
    fit(model, tiny_data(), replace(SHORT, steps=2, amp=amp, device="cpu"), callbacks=[note])
    assert set(seen) == {fused}
    assert all(block.attn.fused for block in model.blocks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_refused_with_advice_that_works(dtype):
    model = tiny_model().to(dtype)
    before = weights_of(model)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"the model has weights in {name}: call its .float()"):
        fit(model, tiny_data(), SHORT)
    assert torch.equal(weights_of(model), before)
    assert not hasattr(model, "classes") or model.classes is None
    config = replace(SHORT, steps=4, amp="bf16")
    assert len(fit(model.float(), tiny_data(), config).loss) == 4


@pytest.mark.parametrize("channels", range(1, 7))
@pytest.mark.parametrize("recipe", ["flip_crop", "randaugment"])
def test_any_number_of_channels_is_trained_on_or_refused_before_the_first_step(recipe, channels):
    config = replace(SHORT, steps=4, augment=recipe)
    model, data = tiny_model(in_chans=channels), tiny_data(channels=channels)
    if recipe == "randaugment" and channels not in (1, 3):
        before = weights_of(model)
        with pytest.raises(ValueError, match="'flip_crop', 'affine' and 'none' take any number"):
            fit(model, data, config)
        assert torch.equal(weights_of(model), before)
        assert model.training
        config = replace(config, augment="affine")  # as the message advises
    assert len(fit(model, data, config).loss) == 4
