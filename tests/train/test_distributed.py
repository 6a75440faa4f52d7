"""Several processes: two reach what one reaches, and none is left waiting when another ends."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from building import ROOT
from train import two_processes
from train.test_resume import compare_runs
from train.tiny import SHORT, tiny_data, tiny_model, weights_of

from vitlib.checkpoints import read_checkpoint
from vitlib.cli import main
from vitlib.train import fit
from vitlib.train.distributed import Processes, join_processes
from vitlib.train.resume import CannotContinue

SCRIPT = Path(two_processes.__file__)


def torchrun(
    *arguments: object, program: tuple[object, ...] = (SCRIPT,), check: bool = True, **options: Any
) -> subprocess.CompletedProcess:
    """Start two_processes.py twice, on a free port; each process ends itself after 400 s."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        *program, *arguments,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=500,
        check=check, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where two processes trained all cases, one after the other."""
    folder = tmp_path_factory.mktemp("two")
    done = torchrun("cases", folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def ranks(folder) -> list[dict]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", two_processes.EQUAL)
def test_two_processes_reach_the_weights_and_the_history_of_one(ranks, name):
    alone = two_processes.EQUAL[name].run()
    for found in ranks:
        torch.testing.assert_close(found[name]["weights"], alone["weights"], rtol=0, atol=1e-5)
        theirs, ours = (json.loads(one["history"]) for one in (found[name], alone))
        assert theirs.keys() == ours.keys()
        for key in ours:
            assert theirs[key] == pytest.approx(ours[key], abs=1e-5), key
    assert torch.equal(ranks[0][name]["weights"], ranks[1][name]["weights"])


def test_each_process_draws_its_own_and_the_seed_fixes_the_run(folder, ranks):
    for found in ranks:
        assert torch.equal(found["again"]["weights"], ranks[0]["drawing"]["weights"])
        assert found["again"]["history"] == ranks[0]["drawing"]["history"]
    alone = two_processes.DRAWING.run()
    assert not torch.allclose(alone["weights"], ranks[0]["drawing"]["weights"], atol=1e-3)
    tensors = read_checkpoint(folder / "whole.safetensors").training.tensors
    assert not torch.equal(tensors["rng"], tensors["rng/1"])


def test_sigterm_ends_both_after_the_same_step_and_the_run_goes_on(folder, ranks):
    for found in ranks:
        assert found["terminated"]["code"] == 128 + 15
        assert torch.equal(found["continued"]["weights"], ranks[0]["drawing"]["weights"])
        assert found["continued"]["history"] == ranks[0]["drawing"]["history"]
    compare_runs(folder / "whole.safetensors", folder / "parts.safetensors")


def test_the_first_process_alone_calls_back(ranks):
    assert [found["calls"]["steps"] for found in ranks] == [list(range(1, 13)), []]


def test_what_processes_cannot_share_is_refused_by_each(ranks):
    for found in ranks:
        assert found["refusals"] == {
            "batch": "batch_size 9 cannot be divided equally among 2 processes: it must be a "
            "multiple of 2",
            "parts": "batch_size 10 cannot be divided equally among 2 processes × 2 parts "
            "(accumulate): it must be a multiple of 4",
            "device": "2 processes cannot all train on device 'cuda:1': choose auto, cpu or cuda, "
            "which gives each process a GPU of its own",
        }


def test_a_process_that_dies_ends_the_other_and_the_same_command_goes_on(folder, tmp_path):
    """As kill -9 of one rank: bit for bit as the run that nobody killed."""
    path = tmp_path / "run.safetensors"
    died = torchrun("run", path, "die", check=False)
    assert time.time() - Path(f"{path}.died").stat().st_mtime < 30  # and the other has ended, too
    assert died.returncode != 0
    assert "process 0 of 2 stops, because another process of this run has ended" in died.stderr
    assert f"{path} holds the last checkpoint" in died.stderr
    assert len(read_checkpoint(path).training.info["history"]["loss"]) == 5
    with pytest.raises(CannotContinue, match="processes 2 there, 1 here"):
        two_processes.DRAWING.run(checkpoint=path)
    torchrun("run", path)
    compare_runs(folder / "whole.safetensors", path)


def test_the_command_line_under_torchrun(tmp_path, monkeypatch):
    train = ["train", "--data", "digits", "--steps", "6", "--warmup-steps", "2", "--batch-size",
             "40", "--augment", "none", "--device", "cpu", "--quiet"]  # fmt: skip
    done = torchrun(*train, program=("-m", "vitlib"), cwd=tmp_path)
    for line in ("trained 6 steps", "validation accuracy", "test accuracy", "checkpoint runs"):
        assert done.stdout.count(line) == 1  # one process speaks for both
    again = torchrun(*train, program=("-m", "vitlib"), cwd=tmp_path)
    assert again.stdout.count("it is finished") == 1
    path = Path("runs/digits-vit_nano_patch7_28.safetensors")
    (alone := tmp_path / "alone").mkdir()
    monkeypatch.chdir(alone)
    assert main(train) == 0
    whole, parts = (read_checkpoint(place / path).training.info for place in (alone, tmp_path))
    assert parts["history"]["loss"] == pytest.approx(whole["history"]["loss"], abs=1e-4)
    refused = torchrun(*train, "--batch-size", "41", "--fresh", program=("-m", "vitlib"),
                       cwd=tmp_path, check=False)  # fmt: skip
    assert "batch_size 41 cannot be divided equally among 2 processes" in refused.stderr
    assert "vitlib/train/" not in refused.stderr  # a traceback is torchrun's own
    assert (tmp_path / path).exists()


# One process --------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_parts_of_a_batch_reach_the_weights_of_the_whole(accumulate):
    whole, parts = tiny_model(**two_processes.EXACT), tiny_model(**two_processes.EXACT)
    histories = [
        fit(model, tiny_data(), replace(SHORT, accumulate=number))
        for model, number in ((whole, 1), (parts, accumulate))
    ]
    assert_same_to_rounding(weights_of(parts), weights_of(whole))
    assert histories[0].loss == pytest.approx(histories[1].loss, abs=1e-6)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_parts_with_few_labels_reach_the_weights_of_the_whole(kind):
    """Some parts have no labelled image at all."""
    model = two_processes.EXACT | {"distilled": True}
    case = two_processes.Case(replace(SHORT, val_fraction=0.0), model, kind, partly=True)
    whole, parts = case.run(), case.run(accumulate=8)
    assert_same_to_rounding(parts["weights"], whole["weights"])


def assert_same_to_rounding(weights, expected):
    """To 1e-6; where a gradient is nearly zero, AdamW divides its rounding by its own size, so that
    one weight in a thousand may be off by 1e-5, a five-hundredth of one step's learning rate."""
    difference = (weights - expected).abs()
    assert (difference > 1e-6).sum() <= len(weights) / 1000
    assert difference.max() <= 1e-5


def test_parts_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match=r"8 cannot be .* 3 parts \(accumulate\).*multiple of 3"):
        fit(tiny_model(), tiny_data(), replace(SHORT, accumulate=3))
    with pytest.raises(ValueError, match="accumulate must be at least 1, got 0"):
        replace(SHORT, accumulate=0)


def test_seeds_of_processes_differ_in_the_bits_that_torch_reads():
    """torch's CPU generator reads the lower 32."""
    seeds = {Processes(rank, 8).seed(seed) % 2**32 for rank in range(8) for seed in range(50)}
    assert len(seeds) == 8 * 50
    assert Processes(0, 8).seed(3) == 3


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes() == Processes(rank=0, count=1)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"each process needs a GPU of its own.*machine has 1"):
        join_processes()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match=r"cannot share this GPU \(mps\): choose device cpu"):
        join_processes()
