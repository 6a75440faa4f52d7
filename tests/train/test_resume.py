"""Stopping and going on: a resumed run equals an uninterrupted one, bit for bit."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from building import ROOT
from train.tiny import DROPS, RANDOM, SHORT, Teacher, tiny_data, tiny_model, weights_of

from vitlib.checkpoints import (
    TrainingState,
    load_checkpoint,
    native,
    read_checkpoint,
    save_checkpoint,
)
from vitlib.data import ImageSet
from vitlib.train import DistillationLoss, TrainConfig, fit
from vitlib.train.resume import CannotContinue


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
from train import test_resume as t

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


OFTEN = """
import os, random, shutil, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import kornia.augmentation  # before the processes are forked, so that they start at once
import torch
from train import test_resume as t
from vitlib.checkpoints import native

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def die_half_way(tensors, path, **_):
    path.write_bytes(b"half a file")
    die()

def start(sabotage=lambda: None):
    if process := os.fork():
        return process
    torch.set_num_threads({threads})
    sabotage()
    t.fit(t.tiny_model(**t.DROPS), t.tiny_data(), t.OFTEN_SAVED(path))
    os._exit(0)

def sabotaged(place, name, action):  # from the third checkpoint on
    def sabotage():
        count, true = [], getattr(place, name)
        def call(*a, **k):
            count.append(1)
            return true(*a, **k) if len(count) < 3 else action(*a, **k)
        setattr(place, name, call)
    return sabotage

def end_of(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

folder = Path({folder!r})
path, done = folder / "run.safetensors", []
started = time.monotonic()
assert end_of(start()) == 0
whole = time.monotonic() - started
path.rename(folder / "whole.safetensors")

draw, kills = random.Random(0), 0  # kill -9 at any moment
while kills < 10:
    process = start()
    time.sleep(draw.uniform(0.2, 0.7) * whole)
    os.kill(process, signal.SIGKILL)
    if end_of(process) == 0:  # it was faster
        path.rename(folder / f"done{{kills}}.safetensors")
    else:
        kills += 1

for place, name, action in [  # kill -9 at each line of the writer
    (native, "save_file", die_half_way), (os, "chmod", die), (os, "fsync", die),
    (os, "replace", die),
]:
    before = len(t.read_checkpoint(path).training.info["history"]["loss"]) if path.exists() else 0
    if before > 14:
        path.unlink()
        before = 0
    assert end_of(start(sabotaged(place, name, action))) == -signal.SIGKILL
    assert len(t.read_checkpoint(path).training.info["history"]["loss"]) == before + 2
    assert len(list(folder.glob(".run*.tmp"))) == 1  # what was being written
assert end_of(start()) == 0
path.rename(folder / "done.safetensors")
print(*sorted(p.name for p in folder.iterdir()))
"""


def OFTEN_SAVED(path: Path) -> TrainConfig:
    return replace(RANDOM, steps=24, checkpoint=path, checkpoint_every=1)


def test_ten_kills_at_random_and_four_in_the_writer_change_nothing(tmp_path):
    """Each process goes on where the last one was killed; the last removes what they left."""
    script = OFTEN.format(
        tests=str(ROOT / "tests"), threads=torch.get_num_threads(), folder=str(tmp_path)
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, timeout=400, check=True)
    files = {path.name for path in tmp_path.iterdir()}
    assert {"whole.safetensors", "done.safetensors"} <= files
    assert not [name for name in files if name.endswith(".tmp")]
    for name in files - {"whole.safetensors"}:
        compare_runs(tmp_path / "whole.safetensors", tmp_path / name)


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


def test_sigterm_waits_for_the_step_saves_and_exits_with_143(tmp_path):
    def terminated(state):
        if state.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # as from a cluster and from torchrun

    former = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    config = replace(RANDOM, checkpoint=tmp_path / "run.safetensors")
    try:
        with pytest.raises(SystemExit) as stop:
            fit(tiny_model(**DROPS), tiny_data(), config, callbacks=[terminated])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.signal(signal.SIGTERM, lambda *_: None)  # who has a handler keeps it
        fit(tiny_model(), tiny_data(), SHORT, callbacks=[terminated])
    finally:
        signal.signal(signal.SIGTERM, former)
    assert stop.value.code == 143
    assert len(read_checkpoint(config.checkpoint).training.info["history"]["loss"]) == 7


def test_a_folder_that_became_read_only_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors", checkpoint_every=4)

    def protect(state):
        if state.step == 5:
            monkeypatch.setattr(native, "save_file", refuse)

    def refuse(tensors, path, **_):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(OSError, match=r"run\.safetensors.*Permission denied.*older.*untouched"):
        fit(tiny_model(), tiny_data(), config, callbacks=[protect])
    monkeypatch.undo()
    assert len(read_checkpoint(config.checkpoint).training.info["history"]["loss"]) == 4
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = weights_of(tiny_model(3))
    with pytest.raises(ValueError, match=r"cannot be written: .* is write-protected"):
        fit(model := tiny_model(3), tiny_data(), replace(config, resume=False))
    assert torch.equal(weights_of(model), before)
    monkeypatch.undo()
    fit(tiny_model(), tiny_data(), config)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert len(fit(tiny_model(), tiny_data(), config).loss) == 12  # finished: nothing to write


def test_resume_refuses_a_run_with_a_teacher_that_is_now_without(tmp_path):
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors")
    model = tiny_model(distilled=True)
    fit(model, tiny_data(), config, distillation=DistillationLoss(Teacher()))
    with pytest.raises(CannotContinue, match=r"distillation \['hard', 0.5, 1.0\] there, None here"):
        fit(model, tiny_data(), config)


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("pixel", r"its training images have changed: 1 gone \(dark\), 1 new \(dark\)"),
        ("label", "its training images have changed: 1 with another label"),
        ("order", "its training images are in another order"),
        ("mean", r"mean and std of the images \[\[0"),
    ],
)
def test_resume_refuses_changed_data_by_the_difference(tmp_path, change, said):
    """Their number, size, name and classes are the same."""
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors")
    data = tiny_data()
    fit(tiny_model(), data, config)
    before = config.checkpoint.read_bytes()
    images, labels = data.train.images.clone(), data.train.labels.clone()
    mean = data.mean
    if change == "pixel":
        images[3, 0, 0, 0] ^= 1
    elif change == "label":
        labels[3] = (labels[3] + 1) % len(data.classes)
    elif change == "order":
        images, labels = images.flip(0), labels.flip(0)
    else:
        mean = tuple(x + 0.25 for x in mean)
    sets = (ImageSet(images, labels, mean, data.std),
            ImageSet(data.test.images, data.test.labels, mean, data.std))  # fmt: skip
    changed = replace(data, train=sets[0], test=sets[1], mean=mean)
    with pytest.raises(CannotContinue, match=f"belongs to another run: {said}.*resume=False"):
        fit(tiny_model(), changed, config)
    assert config.checkpoint.read_bytes() == before
    fit(tiny_model(), changed, replace(config, resume=False))  # the advice
    fit(tiny_model(), changed, config)


def test_another_processor_may_round_mean_and_std_differently(tmp_path):
    """The order in which it adds changes their last digits."""
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors")
    data = tiny_data()
    history = fit(tiny_model(), data, config)
    std = tuple(math.nextafter(x, 1) for x in data.std)
    sets = (ImageSet(one.images, one.labels, data.mean, std) for one in (data.train, data.test))
    rounded = replace(data, **dict(zip(("train", "test"), sets, strict=True)), std=std)
    assert fit(tiny_model(), rounded, config).loss == history.loss


def test_test_images_may_change(tmp_path):
    """`fit` does not see them."""
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors")
    data = tiny_data()
    history = fit(tiny_model(), data, config)
    other = replace(data, test=data.test.subset([0, 1]))
    assert fit(tiny_model(), other, config).loss == history.loss


def test_a_run_of_an_earlier_version_is_continued_with_a_warning(tmp_path):
    """Its file does not say on which images it was trained."""
    config = replace(SHORT, checkpoint=tmp_path / "run.safetensors")
    history = fit(tiny_model(), tiny_data(), config)
    found = read_checkpoint(config.checkpoint)
    tensors = {k: t for k, t in found.training.tensors.items() if k not in ("images", "labels")}
    info = {k: v for k, v in found.training.info.items() if k != "mean and std"}
    model = load_checkpoint(config.checkpoint)
    save_checkpoint(model, config.checkpoint, training=TrainingState(tensors, info))
    with pytest.warns(
        UserWarning, match="from an earlier version and does not say on which images"
    ):
        assert fit(tiny_model(), tiny_data(), config).loss == history.loss


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

    with pytest.raises(OSError, match=r"run\.safetensors.*No space left.*older.*untouched"):
        fit(tiny_model(), tiny_data(), config, callbacks=[fill_disk])
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    assert len(fit(tiny_model(), tiny_data(), config).loss) == 12  # goes on from step 4


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


@pytest.mark.parametrize("channels", [2, 3, 6])
@pytest.mark.parametrize("ema", [0.9, None])
def test_a_channels_last_model_is_resumed_bit_for_bit(tmp_path, ema, channels):
    whole = replace(
        SHORT, checkpoint=tmp_path / "whole.safetensors", ema_decay=ema, checkpoint_every=5
    )
    parts = replace(whole, checkpoint=tmp_path / "parts.safetensors")

    def model():
        return tiny_model(in_chans=channels).to(memory_format=torch.channels_last)

    fit(model(), tiny_data(channels=channels), whole)
    with pytest.raises(Stop):
        fit(model(), tiny_data(channels=channels), parts, callbacks=[stop_at(7)])
    fit(model(), tiny_data(channels=channels), parts)
    compare_runs(whole.checkpoint, parts.checkpoint)
