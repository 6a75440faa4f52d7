"""What comes of a case: errors that are the answer's, and those that are not."""

import pytest
import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Exercise, build, call, numbers
from vitlib.check.observing import Stopped, observe


def total(x):
    return x.sum(dim=0), x.mean()


def cases(answer):
    def run():
        result = call(answer, numbers(3, 4))
        return {"rows": result[0].shape[0], "mean": result[1].item()}

    yield "a table", run


MUTANTS = edits(total, """
nothing: return x.sum → x.sum
    Nothing comes back.
""")  # fmt: skip
EXERCISE = Exercise("total", "0", "total(x) -> sums, mean", total, cases, MUTANTS)


@pytest.mark.parametrize(
    ("answer", "came"),
    [
        (lambda x: None, "None (is a `return` missing?) came back, which cannot be used"),
        (lambda x: (1, 2), "a tuple came back, which cannot be used as the task says"),
        (lambda x: x.tolist(), "a list came back, which cannot be used as the task says"),
        (lambda x: 3.0, "a float came back, which cannot be used as the task says"),
    ],
)
def test_what_a_case_stumbles_over_is_told_as_what_came_back(answer, came):
    def wordy(x):  # a stub would not be told so
        y = x + 0
        return answer(y)

    report = EXERCISE(wordy)
    assert came in report.message
    assert "Error" not in report.message


def test_a_mutant_is_recognised_by_what_the_case_stumbles_over():
    def forgotten(x):
        y = x.sum(dim=0)
        y = y, x.mean()

    report = EXERCISE(forgotten)
    assert report.mutants == ("nothing",)
    assert "Error" not in report.message


def test_errors_of_the_answer_are_shown_as_they_are():
    def attribute(x):
        return x.summe(dim=0), x.mean()

    assert "AttributeError: 'Tensor' object has no attribute 'summe'" in EXERCISE(attribute).message
    assert "TypeError: " in EXERCISE(torch.cat).message
    assert "(it was called as " in EXERCISE(lambda: 1).message


def test_errors_of_a_module_that_a_case_calls_are_the_answers():
    def module_cases(answer):
        yield "five numbers", lambda: build(answer, 3)(numbers(5, dtype=torch.float32))

    class Wrong(nn.Linear):
        def forward(self, x):
            return x.missing

    right = Exercise("layer", "0", "layer", lambda n: nn.Linear(5, n), module_cases, {})
    assert (
        "AttributeError: 'Tensor' object has no attribute 'missing'"
        in right(lambda n: Wrong(5, n)).message
    )
    assert "RuntimeError: " in right(lambda n: nn.Linear(4, n)).message
    assert "should make an nn.Module" in right(lambda n: n).message


# --- time


def compute(seconds):
    import time

    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_who_is_stopped_while_something_was_loaded_gets_a_second_run(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kernels_of_a_test.py").write_text("")
    cold = [True]

    def first_use(x):
        import kernels_of_a_test  # noqa: F401

        if cold:
            cold.pop()
            compute(1.0)
        return total(x)

    assert len(observe(cases, first_use, 0.5)) == 1
    cold.append(True)
    with pytest.raises(Stopped, match="after 0 seconds of computing, on a table"):
        observe(cases, first_use, 0.4)  # nothing new is loaded this time
