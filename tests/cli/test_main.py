"""The command line's entry: help, usage, and how errors are told."""

import pytest
import torch
from cli.running import QUICK, refused, run

import vitlib
from vitlib.cli import main


def test_without_a_command_it_prints_help(capsys):
    code, out, err = run(capsys)
    assert code == 0
    assert "usage: vitlib" in out
    assert "train" in out
    assert err == ""


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"vitlib {vitlib.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["train"], ["eval", "--data", "digits"], ["fly"], ["train", "--steps", "x"]]
)
def test_usage_errors_exit_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_one_line(capsys, monkeypatch, error):
    def fit(*args, **options):
        raise error

    monkeypatch.setattr("vitlib.cli.train.fit", fit)
    message = refused(capsys, "train", "--data", "digits", *QUICK)
    assert "not enough memory: try a smaller --batch-size or --img-size" in message


def test_a_defect_of_ours_keeps_its_traceback(capsys, monkeypatch):
    def fit(*args, **options):
        raise RuntimeError("a defect")

    monkeypatch.setattr("vitlib.cli.train.fit", fit)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["train", "--data", "digits", *QUICK])


def test_ctrl_c_before_training(capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("vitlib.cli.train.load_data", interrupt)
    assert run(capsys, "train", "--data", "digits") == (130, "", "vitlib: interrupted\n")
