"""A right answer hears which excluded function it called."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vitlib
from vitlib.check.excluded import Watch, short
from vitlib.check.exercise import Exercise, call, numbers


def by_hand(x):
    powers = x.exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def cases(answer):
    yield "a table", lambda: call(answer, numbers(3, 4).softmax(dim=0))  # the case may call it


def exercise(*excluded):
    return Exercise("rows", "0", "rows(x)", by_hand, cases, {}, excluded=excluded)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: F.softmax(x, dim=-1),
        lambda x: x.softmax(-1),
        lambda x: torch.softmax(x, -1),
        lambda x: torch.special.softmax(x, -1),
        lambda x: torch.Tensor.softmax(x, -1),
        lambda x: nn.Softmax(-1)(x),
        nn.Softmax(-1),
        lambda x: torch.stack(list(map(nn.Softmax(-1), x))),
    ],
)
@pytest.mark.parametrize("name", ["torch.softmax", "torch.nn.functional.softmax"])
def test_every_form_of_an_excluded_function_is_told(answer, name):
    report = exercise(name)(answer)
    assert report.passed
    assert report.message == (
        f"Right. By the way: the task asked you to do without `{short(name)}`.\n\n"
        "Tried on: a table."
    )
    assert (report.diagnosis, report.mutants) == ("", ())


def test_who_calls_nothing_excluded_hears_nothing():
    assert exercise("torch.softmax")(by_hand).message == "Tried on: a table."
    assert exercise()(lambda x: x.softmax(-1)).message == "Tried on: a table."
    assert "By the way" not in exercise("torch.softmax")(lambda x: x.log_softmax(-1)).message


def test_functions_of_python_and_classes_are_seen():
    def by_vitlib(x):
        vitlib.patchify(x.new_zeros(1, 1, 2, 2), 2)
        nn.Linear(2, 2)
        return by_hand(x)

    message = exercise("vitlib.patchify", "torch.nn.Linear")(by_vitlib).message
    assert "without `patchify` and `nn.Linear`." in message
    assert "By the way" not in exercise("vitlib.patchify", "torch.nn.Linear")(by_hand).message


def test_functions_that_make_tensors_are_seen():
    with Watch(["torch.linspace"]) as watch:
        torch.linspace(0, 1, 3)
    assert list(watch.called) == ["torch.linspace"]


def test_a_name_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"there is no torch\.sofmax to exclude"):
        exercise("torch.sofmax")(by_hand)


def test_builtins_of_numpy_are_seen_but_not_what_numpy_calls_itself():
    def counted(function):
        with Watch(["numpy.linspace", "numpy.arange"]) as watch:
            function()
        return list(watch.called)

    assert counted(lambda: np.arange(3)) == ["numpy.arange"]
    assert counted(lambda: np.linspace(0, 1, 3)) == ["numpy.linspace"]
    assert counted(lambda: list(range(3))) == []
