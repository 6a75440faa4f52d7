"""`fit` on streams: as in memory, and stopped anywhere and continued, bit for bit."""

import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from building import ROOT
from data.pictures import make_folder
from data.test_stream import parquet
from train.test_distributed import torchrun
from train.test_resume import Stop, compare_runs, stop_at
from train.tiny import DROPS, RANDOM, SHORT, tiny_model, weights_of

from vitlib import fit, load_data
from vitlib.checkpoints import read_checkpoint
from vitlib.data import shards
from vitlib.train.resume import CannotContinue

SCRIPT = Path(__file__).with_name("streamed_run.py")


def model(seed: int = 0, **options):
    return tiny_model(seed, img_size=12, in_chans=3, **DROPS | options)


def folder(root: Path) -> Path:
    return make_folder(root, {"a": 14, "b": 14, "c": 14})


def table(root: Path) -> Path:
    return parquet(root, shards=2, rows=16, group=4)  # 32 training rows


@pytest.fixture(autouse=True)
def small_buffer(monkeypatch):
    """About 12 pictures: windows end in the middle of an epoch."""
    monkeypatch.setattr(shards, "_BUFFER", 12 * 530)


def test_a_folder_trains_as_it_does_in_memory_bit_for_bit(tmp_path):
    place = folder(tmp_path / "pets")
    found = []
    for stream in (False, True):
        trained = model()
        history = fit(trained, load_data(place, stream=stream), RANDOM)
        found.append((weights_of(trained), history.loss, history.val_loss))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]


@pytest.mark.parametrize("make", [folder, table])
def test_a_stopped_run_continues_at_the_exact_picture(tmp_path, make):
    data = load_data(make(tmp_path / "data"), stream=True)
    whole = replace(RANDOM, checkpoint=tmp_path / "whole.safetensors", accumulate=2)
    parts = replace(whole, checkpoint=tmp_path / "parts.safetensors")
    fit(model(), data, whole)
    with pytest.raises(Stop):
        fit(model(), data, parts, callbacks=[stop_at(7)])  # saved after step 5
    fit(model(9), data, parts)
    compare_runs(whole.checkpoint, parts.checkpoint)


def run(
    place: Path, checkpoint: Path, die_at: int = 0, *signals: int
) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, place, checkpoint, die_at, *signals]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = list(map(str, command))
    return subprocess.run(command, env=environment, timeout=300, start_new_session=True)


def test_a_killed_run_continues_bit_for_bit(tmp_path):
    place = table(tmp_path / "data")
    torch.set_num_threads(1)
    fit(model(), load_data(place, stream=True), replace(RANDOM, checkpoint=tmp_path / "whole"))
    for step in (4, 8):  # before the first checkpoint, and between two
        assert run(place, tmp_path / "killed", step).returncode == -signal.SIGKILL
    assert len(read_checkpoint(tmp_path / "killed").training.info["history"]["loss"]) == 5
    assert run(place, tmp_path / "killed").returncode == 0
    compare_runs(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_workers_too_loses_no_step(tmp_path, signum):
    place = folder(tmp_path / "data")
    assert run(place, tmp_path / "run", 8, signum).returncode != 0
    assert len(read_checkpoint(tmp_path / "run").training.info["history"]["loss"]) == 8


def test_two_processes_killed_and_started_again_end_as_if_never_stopped(tmp_path):
    place = table(tmp_path / "data")
    program = (SCRIPT,)
    assert torchrun(place, tmp_path / "whole", 0, program=program).returncode == 0
    died = torchrun(place, tmp_path / "killed", 8, program=program, check=False)
    assert died.returncode != 0
    assert "stops, because another process of this run has ended" in died.stderr
    assert len(read_checkpoint(tmp_path / "killed").training.info["history"]["loss"]) == 5
    assert torchrun(place, tmp_path / "killed", 0, program=program).returncode == 0
    compare_runs(tmp_path / "whole", tmp_path / "killed")


def test_a_run_continues_on_the_same_stream_only(tmp_path):
    place = folder(tmp_path / "pets")
    config = replace(SHORT, checkpoint=tmp_path / "run", steps=2)
    fit(model(), load_data(place, stream=True), config)
    longer = replace(config, steps=2)
    assert len(fit(model(), load_data(place, stream=True), longer).loss) == 2
    with pytest.raises(CannotContinue, match="streamed True there, False here"):
        fit(model(), load_data(place), longer)
    make_folder(tmp_path / "more", {"a": 1}, size=(14, 14))
    (tmp_path / "more" / "a" / "0.png").rename(place / "a" / "0.png")  # another picture
    with pytest.raises(CannotContinue, match=r"training images have changed: 1 gone \(a\), 1 new"):
        fit(model(), load_data(place, 12, stream=True), longer)


def test_a_broken_picture_makes_its_batch_smaller(tmp_path):
    place = folder(tmp_path / "pets")
    data = load_data(place, stream=True)
    torch.manual_seed(SHORT.seed)
    path = place / "b" / "5.png"
    path.write_bytes(bytes(path.stat().st_size))
    with warnings.catch_warnings(record=True, action="always") as record:
        history = fit(model(), data, replace(SHORT, val_fraction=0.0))
    told = [str(warning.message) for warning in record if "skipped" in str(warning.message)]
    assert len(history.loss) == 12
    assert len(told) <= 1
    assert all(text.startswith("b/5.png can't be read and is skipped (") for text in told)


def test_fewer_pictures_than_a_batch_are_refused(tmp_path):
    data = load_data(folder(tmp_path / "pets"), stream=True)
    with pytest.raises(ValueError, match="batch_size 40 is larger than the 34 training images"):
        fit(model(), data, replace(SHORT, batch_size=40, val_fraction=0.0))


def test_a_frozen_backbone_is_computed_at_every_step_and_a_warning_says_so(tmp_path):
    place = folder(tmp_path / "pets")
    found = []
    for stream in (False, True):
        frozen = tiny_model(img_size=12, in_chans=3)
        frozen.requires_grad_(False)
        frozen.head.requires_grad_(True)
        data = load_data(place, stream=stream)
        with warnings.catch_warnings(record=True, action="always") as record:
            fit(frozen, data, SHORT)
        told = ["frozen backbone is computed at every step" in str(w.message) for w in record]
        assert any(told) == stream
        found.append(weights_of(frozen))
    assert torch.allclose(*found, atol=1e-6)


def test_no_worker_is_left_when_fit_ends_or_fails(tmp_path):
    data = load_data(folder(tmp_path / "pets"), stream=True)
    fit(model(), data, SHORT)
    with pytest.raises(Stop):
        fit(model(), data, SHORT, callbacks=[stop_at(2)])
    here = psutil.Process()
    assert not [child for child in here.children() if child.status() != psutil.STATUS_ZOMBIE]


def test_memory_stays_flat(tmp_path):
    """A small form of benchmarks/streaming.py."""
    script = ROOT / "benchmarks" / "streaming.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, 3000, 100, tmp_path / "pictures"]
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=500,
        check=True,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1]
    apart = float(last.rsplit(", ", 1)[1].removesuffix("% apart"))
    assert apart < 5, last
