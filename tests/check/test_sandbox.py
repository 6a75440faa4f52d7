"""Readers' code is stopped in time, and leaves no trace."""

import builtins
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import vitlib.check.exercise as engine
from vitlib.check.exercise import Exercise, call, numbers
from vitlib.check.sandbox import OutOfTime, in_time


def double_cases(answer):
    yield "five numbers", lambda: call(answer, numbers(5))


double = Exercise("double", "0", "double(x) -> 2x", lambda x: 2 * x, double_cases, {})


# --- endless loops


def endless(x):
    while True:
        x = x + 1


def swallows_everything(x):
    while True:
        try:  # noqa: SIM105
            x = x + 1
        except:  # noqa: E722
            pass


def swallows_exceptions(x):
    while True:
        with suppress(Exception):
            x = x + 1


class EndlessForward(nn.Module):
    def forward(self, x):
        while x.numel() > 0:
            x = x.relu() + 1


@pytest.mark.parametrize(
    "answer", [endless, swallows_everything, swallows_exceptions, EndlessForward]
)
def test_an_endless_loop_is_stopped(answer, monkeypatch):
    assert 2 <= engine.SECONDS <= 5
    monkeypatch.setattr(engine, "SECONDS", 0.3)
    threads = set(threading.enumerate())
    report = double(answer)
    assert not report
    assert "on five numbers. Is there a loop that never ends?" in report.message
    assert set(threading.enumerate()) <= threads  # one of another test may end meanwhile


def test_who_is_stopped_later_is_named_by_the_cases_before(monkeypatch):
    monkeypatch.setattr(engine, "SECONDS", 0.3)

    def cases(answer):
        yield "five numbers", lambda: call(answer, numbers(5))
        yield "a table", lambda: call(answer, numbers(2, 3))

    mutants = {"same": (lambda x: x + 0, "It is not doubled.")}
    report = Exercise("double", "0", "2x", lambda x: 2 * x, cases, mutants)(
        lambda x: x + 0 if x.ndim == 1 else endless(x)
    )
    assert report.mutants == ("same",)
    assert report.message.startswith("It is not doubled.\n\nSeen on five numbers")
    assert "on a table. Is there a loop that never ends?" in report.message


def test_nobody_waits_for_a_long_call_into_c(monkeypatch):
    started = time.monotonic()
    with pytest.raises(OutOfTime) as stopped:
        in_time(lambda: time.sleep(20), 0.1, longest=0.2)
    assert stopped.value.waited
    assert time.monotonic() - started < 15


def test_who_sleeps_is_told_that_nothing_comes(monkeypatch):
    monkeypatch.setattr("vitlib.check.observing.LONGEST_WAIT", 0.3)
    report = double(lambda x: time.sleep(4))
    assert not report
    assert "on five numbers: your code waits for something, such as sleep()" in report.message


def compute(seconds):
    """For so long in this thread, whatever the others do."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_busy_machine_stops_no_right_answer(monkeypatch):
    """Ten processes want the cores; the answer computes for less than its time, over far more."""
    monkeypatch.setattr(engine, "SECONDS", 1.0)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(10)]
    try:
        started = time.monotonic()
        report = double(lambda x: [compute(0.7), 2 * x][1])
        waited = time.monotonic() - started
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert report, report
    assert waited > 1.0, "the machine was not busy enough to show anything"


def test_what_torch_loads_late_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "SECONDS", 0.5)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "loaded_late.py").write_text(
        "import time\nend = time.thread_time() + 1.5\nwhile time.thread_time() < end: pass\n"
    )

    def answer(x):
        import loaded_late  # noqa: F401

        return 2 * x

    assert double(answer)


def test_importing_is_left_as_it_was(monkeypatch):
    plain = builtins.__import__
    monkeypatch.setattr(engine, "SECONDS", 0.3)
    assert double(lambda x: 2 * x)
    assert not double(endless)
    assert builtins.__import__ is plain


def test_a_system_that_has_no_clock_for_a_thread(monkeypatch):
    monkeypatch.delattr(time, "pthread_getcpuclockid")
    monkeypatch.setattr(engine, "SECONDS", 0.3)
    assert "Is there a loop that never ends?" in double(endless).message
    assert double(lambda x: 2 * x)


@pytest.fixture
def quick_switching():
    """Python changes threads more often, so that a stop comes nearly on time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


# the end of a thread that is stopped when it is over anyhow: Python is silent, pytest is not
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_late_stop_hits_nobody_else(quick_switching):
    """Work that ends just when its time does, hundreds of times: it returns, or is stopped."""
    draw, stopped = random.Random(0), 0

    def work(seconds):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return "done"

    threads = set(threading.enumerate())
    for _ in range(400):
        seconds = draw.choice([2e-4, 5e-4, 1e-3])
        try:
            assert in_time(partial(work, seconds * draw.uniform(0.8, 1.4)), seconds) == "done"
        except OutOfTime:
            stopped += 1
    work(0.2)  # a stop that was still on its way would arrive here
    assert 0 < stopped < 400
    assert set(threading.enumerate()) <= threads  # one of another test may end meanwhile


def test_an_interrupt_from_the_keyboard_is_for_the_notebook():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        double(interrupted)


# --- global state


def changes_everything(x):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    torch.set_default_dtype(torch.float16)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.autograd.set_detect_anomaly(True)
    torch.inference_mode().__enter__()
    return 2 * x


def state():
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "random": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "modes": torch._C._len_torch_function_stack(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
    }


def changes_and_crashes(x):
    changes_everything(x)
    raise RuntimeError


def changes_and_never_ends(x):
    changes_everything(x)
    endless(x)


ANSWERS = [lambda x: 2 * x, changes_everything, changes_and_crashes, changes_and_never_ends]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("surroundings", ["usual", "unusual"])
def test_global_state_is_as_before(answer, surroundings, monkeypatch, unchecked):
    monkeypatch.setattr(engine, "SECONDS", 0.3)
    if surroundings == "usual":
        before = state()
        double(answer)
        assert state() == before
        return
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        with torch.inference_mode(), torch.autograd.set_detect_anomaly(True):
            before = state()
            report = double(answer)
            assert state() == before
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert report.passed is (answer is ANSWERS[0])  # what is left behind is a mistake


def test_answers_get_gradients_and_float32_whatever_is_set_outside():
    def cases(answer):
        def gradient():
            x = torch.ones(2, requires_grad=True)
            answer(x).sum().backward()
            return x.grad

        yield "the gradient", gradient

    exercise = Exercise("double", "0", "2x", lambda x: 2 * x, cases, {})
    with torch.inference_mode():
        assert exercise(lambda x: x * torch.full((2,), 2.0))


def test_answers_draw_the_same_random_numbers_as_the_reference():
    def cases(answer):
        for n in (3, 4):
            yield f"{n} numbers", lambda n=n: call(answer, numbers(n))

    exercise = Exercise("noise", "0", "noise", lambda x: x + torch.rand(len(x)), cases, {})
    assert exercise(lambda x: torch.rand_like(x, dtype=torch.float32) + x)
    assert not exercise(lambda x: x + torch.rand(2 * len(x))[len(x) :])
