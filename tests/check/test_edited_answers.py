"""Thousands of edits of right answers: what computes another function is rejected by its checker.

Whether an edit computes another function is told by the exercise's probe, on inputs of its own.
"""

import math
from dataclasses import replace

import pytest
import torch
from check.edited import edited
from torch import Tensor

import vitlib.check.exercise as engine
from vitlib import check
from vitlib.check.compare import difference
from vitlib.check.observing import NotAttempted, one
from vitlib.check.sandbox import OutOfTime, in_time, untouched_state

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch thinks of nonsense


def observed(name, answer):
    """What the probe of an exercise sees of an answer; of an error, only that there is one."""
    seen = []

    def observe():
        try:
            runs = check.EXERCISES[name].probe(answer)
        except Exception:
            seen.append("an error")
            return
        for run in runs:
            torch.manual_seed(0)
            try:
                seen.append(run())
            except Exception:
                seen.append("an error")

    with untouched_state():
        try:
            in_time(observe, 2)
        except OutOfTime:
            seen.append("an endless loop")
    return seen


def alike(a, b):
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if not a.is_floating_point():
            return a.equal(b)
        close = 1e-9 if a.dtype == torch.float64 else 1e-5
        return torch.allclose(a, b, rtol=close, atol=close, equal_nan=True)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return type(a) is type(b) and a == b


def right_answers(exercise):
    return [exercise.reference, *exercise.accepted]


def differs_early(exercise, answer, target):
    """Whether a case shows that an answer is wrong; the cases after it are not run."""

    def found():
        for (label, run), its in zip(exercise.cases(answer), target, strict=False):
            seen = one(exercise.cases, label, run)
            if difference(seen.result, its.result) is not None:
                return True
            if any(change not in its.changes for change in seen.changes):
                return True
        return False

    with untouched_state():
        try:
            return in_time(found, engine.SECONDS)
        except (OutOfTime, NotAttempted):
            return False  # the checker itself has to see it


def accepted_mistakes(exercise):
    """The edits that compute another function and pass, and how many were tried.

    The checker runs on those that no case gives away at once, and on every tenth of the others.
    """
    quick = replace(exercise, mutants={})  # which mistake it is, other tests ask
    holes, different, seen = [], 0, set()
    target = exercise._observe(exercise.reference)
    for answer in right_answers(exercise):
        wanted = observed(exercise.name, answer)
        for text, edit in edited(answer, seen):
            if alike(observed(exercise.name, edit), wanted):
                continue
            different += 1
            if differs_early(exercise, edit, target) and different % 10:
                continue
            report = quick(edit)
            assert report.message
            if report.passed:
                holes.append(text)
    return holes, different


@pytest.mark.parametrize("name", check.EXERCISES)
def test_the_probe_finds_all_right_answers_right(name, unchecked):
    for answer in right_answers(check.EXERCISES[name]):
        seen = observed(name, answer)
        assert len(seen) >= 1
        assert "an error" not in seen, (name, answer)
        assert alike(seen, observed(name, answer)), "the probe sees something else each time"


@pytest.mark.parametrize("name", check.EXERCISES)
def test_edits_that_compute_something_else_are_rejected(name, unchecked, monkeypatch):
    monkeypatch.setattr(engine, "SECONDS", 2.0)
    holes, different = accepted_mistakes(check.EXERCISES[name])
    assert not holes, "accepted:\n" + "\n".join(holes)
    assert different >= 5, "hardly any edits: is the source found?"
