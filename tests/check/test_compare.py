"""What a checker says of a difference, and how a report shows it."""

import re

import numpy as np
import pytest
import torch

from vitlib import check
from vitlib.check.compare import Raised, difference
from vitlib.check.edit import edits
from vitlib.check.exercise import Exercise, call, numbers
from vitlib.check.report import Report

X = numbers(2, 3, 4)  # every size another, so that swapped axes show
NAN, INF = float("nan"), float("inf")


class Neither:
    """Compared with another, it says neither yes nor no."""

    def __eq__(self, other):
        return np.array([True, False])

    __hash__ = None


def with_value(value, count=2):
    x = X.clone()
    x.view(-1)[:count] = value
    return x


@pytest.mark.parametrize(
    ("yours", "target", "says"),
    [
        (X[:1], X, "the shape is (1, 3, 4) and should be (2, 3, 4)"),
        (X.reshape(6, 4), X, "(6, 4) and should be (2, 3, 4): yours.reshape(2, 3, 4) would be"),
        (X.mT.reshape(6, 4), X, "(6, 4) and should be (2, 3, 4): the same number of values, in"),
        (X[:, 1:], X, "the rest is right, along axis 1 the first is missing"),
        (X[..., :2], X, "the rest is right, along axis 2 the last 2 are missing"),
        (X[:, 1:2], X, "along axis 1 the first and the last are missing"),
        (X, X[:, :2], "the rest is right, along axis 1 the last is too many"),
        (X[:, 2], X, "yours is the right one at index 2 of axis 1 alone"),
        (X.mean(0), X, "yours is the mean of the right one along axis 0"),
        (X.sum(-1), X, "yours is the sum of the right one along axis 2"),
        (X[:, None], X, "(2, 1, 3, 4) and should be (2, 3, 4): an axis of size 1 is too many"),
        (X.transpose(1, 2), X, "should be (2, 3, 4): yours.permute(0, 2, 1) would be right"),
        (X.permute(1, 2, 0), X, "yours.permute(2, 0, 1) would be right"),
        (numbers(4, 4).T, numbers(4, 4), "should be: yours.permute(1, 0) would be right"),
        (X.float(), X, "the dtype is float32 and should be float64: make new tensors with the"),
        (X.long(), X, "the dtype is int64 and should be float64"),
        (with_value(NAN), X, "2 of 24 numbers are nan"),
        (with_value(INF, 3), X, "3 of 24 numbers are infinite"),
        (X * 0, X, "all numbers are zero"),
        (-X, X, "the numbers have the wrong sign"),
        (X * 4, X, "every number is 4 times the right one"),
        (X / 3, X, "every number is 0.3333 times the right one"),
        (X + 0.5, X, "every number is 0.5 away from the right one"),
        (X.flip(1), X, "the numbers are right, and run backwards along axis 1"),
        (X.roll(1, 1), X, "the numbers are right, and shifted by 1 along axis 1, in a circle"),
        (X.roll(-1, 2), X, "the numbers are right, and shifted by −1 along axis 2, in a circle"),
        (X[:, [1, 0, 2]], X, "another order along axis 1: index 0 holds what belongs at index 1"),
        (X.permute(0, 2, 1).reshape(2, 3, 4), X, "as target.permute(0, 2, 1).reshape(2, 3, 4)"),
        (X.flatten().roll(5).view(2, 3, 4), X, "the numbers are the right ones, in wrong places"),
        (X - X.mean(1, keepdim=True), X, "minus the right ones are the same at every index of"),
        (X * X[:, :1], X, "divided by the right ones are the same at every index of axis 1:"),
        (X + numbers(4, seed=5), X, "minus the right ones depend on axis 2 alone: "),
        (X * numbers(3, 1, seed=6), X, "divided by the right ones depend on axis 1 alone: "),
        (X.abs(), X, "every number is the absolute value of the right one"),
        (X.exp(), X, "every number is the exponential of the right one"),
        (1 - X, X, "every number is 1 minus the right one"),
        (X.abs().sqrt(), X.abs(), "every number is the square root of the right one"),
        (torch.where(torch.arange(3)[:, None] == 1, 9.0, X), X, "right, all but those at index 1"),
        (torch.tensor(6.0), torch.tensor(2.0), "it should be 2: 3 times too much"),
        (torch.tensor(0.5), torch.tensor(2.0), "it should be 2: 1/4 of it"),
        (torch.tensor(-2.0), torch.tensor(2.0), "it should be 2: the sign is wrong"),
        (with_value(7.0), X, "22 of 24 numbers are right; yours is 7 at [0, 0, 0], and it should"),
        (X.square() + 9, X, "no number is right: yours is"),
        (X + 1e-7 * X.flip(0), X, "off: right in float32, but these are float64"),
        (with_value(1.0), with_value(NAN), "22 of 24 numbers are right"),
        (torch.tensor([1, 2, 9]), torch.tensor([1, 2, 3]), "2 of 3 numbers are right; yours is 9"),
        (torch.tensor([1, 10**7]), torch.tensor([1, 10**7 + 1]), "1 of 2 numbers are right"),
        (torch.tensor([True]), torch.tensor([False]), "no number is right: yours is 1 at [0]"),
        (torch.tensor(2.0), torch.tensor(3.5), "yours is 2, and it should be 3.5"),
        (None, X, "None (is a `return` missing?) came back instead of a tensor"),
        (X.numpy(), X, "a ndarray came back instead of a tensor"),
        (24, 16, "24 came back, and 16 should"),
        (32, 16, "32 came back, and 16 should: 2 times too much"),
        (float("inf"), 16, "inf came back, and 16 should"),
        (NAN, 16.0, "nan came back, and 16 should"),
        (16.0, 16, "16.0 came back, and the whole number 16 should"),
        (1234567, 1234568, "1,234,567 came back, and 1,234,568 should"),
        (0.25, 0.5, "0.25 came back, and 0.5 should"),
        (True, 1, "True came back, and 1 should"),
        (X, 16, "a tensor of shape (2, 3, 4) came back, and 16 should"),
        ("no", "yes", "'no' came back, and 'yes' should"),
        (1, True, "1 came back, and True should"),
        (X.numpy() + 1, X.numpy(), "every number is 1 away from the right one"),
        (X.numpy()[:1], X.numpy(), "the shape is (1, 3, 4) and should be (2, 3, 4)"),
        (X.numpy(), X.numpy().astype("f4"), "the dtype is float64 and should be float32"),
        (np.array(["a"]), np.array(["b"]), "the two arrays differ"),
        (np.array(["a", None]), X.numpy(), "the two arrays differ"),
        (Neither(), Neither(), "a Neither came back"),
        ((X, 1), (X, 2), "second result: 1 came back"),
        ((X,), (X, 2), "1 results came back, and 2 should"),
        ([0, 1, 2, 3, 5], [0, 1, 2, 3, 4], "5 result: 5 came back"),
        ([0.0, 0.2, 0.4], [0.0, 0.1, 0.2], "0.1 should; every number is 2 times the"),
        ([3, 2, 1], [1, 2, 3], "3 came back, and 1 should; the numbers are right, and"),
        ([(3, 2)], [(2, 3)], "first result: first result: 3 came back, and 2 should"),
        (15, 16, "15 came back, and 16 should: 1 too few"),
        (17, 16, "17 came back, and 16 should: 1 too many"),
        (4, 16, "4 came back, and 16 should: 1/4 of it"),
        (-0.5, 0.5, "-0.5 came back, and 0.5 should: the sign is wrong"),
        (X, (X, X), "a tensor of shape (2, 3, 4) came back, and a tuple should"),
        ({"a": 1}, {"a": 2}, "a: 1 came back"),
        ({"b": 1}, {"a": 1}, "a is missing and b is extra"),
        ({"x": [X, X]}, {"x": [X, -X]}, "x: second result: the numbers have the wrong sign"),
        (Raised("Refused", "a reason"), X, "a reason"),
        (Raised("KeyError", "'x'", "line 3 of f: y"), X, "KeyError: 'x'\n    line 3 of f: y"),
        (X, Raised("ValueError"), "a ValueError should be raised, and a tensor of shape"),
        (Raised("KeyError", "x"), Raised("ValueError"), "should be raised, and a KeyError was: x"),
    ],
)  # fmt: skip
def test_a_difference_is_told_in_words(yours, target, says):
    text = difference(yours, target).text
    assert says in text, text


@pytest.mark.parametrize(
    ("yours", "target"),
    [
        (X, X),
        (X + 1e-11, X),
        (X.float() + 1e-5, X.float()),
        (X.clone().requires_grad_(), X),
        (with_value(NAN), with_value(NAN)),
        (with_value(-INF), with_value(-INF)),
        (X[:0], X[:0]),
        (0.1 + 0.2, 0.3),
        (np.float64(0.5), 0.5),
        (np.int64(16), 16),
        (torch.tensor(16), 16),
        (torch.tensor(True), True),
        (16, 16.0),
        ([X, {"a": "b"}], (X, {"a": "b"})),
        (torch.Size([2, 3]), (2, 3)),
        (X.numpy(), X.numpy() + 1e-12),
        (X.numpy()[::-1], X.numpy()[::-1].astype(">f8")),
        ([X.numpy(), 1], (X.numpy(), 1)),
        (np.array(["a"]), np.array(["a"])),
        (np.float32(0.5), np.float32(0.5)),
        (np.bool_(True), np.bool_(True)),
        (None, None),
        (Raised("ValueError", "in my words"), Raised("ValueError", "in others")),
    ],
)
def test_what_is_equal_up_to_rounding_is_equal(yours, target):
    assert difference(yours, target) is None


def test_an_answer_in_numpy_is_compared_with_mistakes_in_numpy():
    def total(x):
        return x.sum(0)

    def cases(answer):
        yield "2 × 3 × 4", lambda: call(answer, X)

    mutants = edits(total, """
numpy: .sum(0) → .sum(0).numpy()
    NumPy comes back.
two: .sum(0) → .sum(0).numpy() + 1, x.numpy()
    Two arrays come back.
""")  # fmt: skip
    exercise = Exercise("total", "0", "total(x)", total, cases, mutants)
    assert exercise(lambda x: np.add.reduce(x.numpy())).mutants == ("numpy",)
    assert exercise(lambda x: x.numpy().sum(1)).mutants == ()
    assert exercise(lambda x: (x.numpy().sum(0) + 1, x.numpy())).mutants == ("two",)
    assert exercise(lambda x: (x.numpy().sum(0) + 2, x.numpy())).mutants == ()


def test_a_difference_of_single_precision_in_double_is_seen():
    assert difference(X + 1e-8, X) is not None


# --- reports


def test_a_report_is_true_when_right_and_says_all_as_text():
    assert Report("x", True, "fine")
    wrong = Report("x", False, "not fine")
    assert not wrong
    assert str(wrong) == repr(wrong) == "✗ x: not yet\nnot fine"
    assert str(Report("x", True, "fine")).startswith("✓ x: right")


def test_html_is_escaped():
    def crash(images, patch_size):
        raise ValueError("<script>alert('&')</script>")

    html = check.patchify(crash)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_report_is_the_same_every_time():
    wrong = check.patchify.mutants["no_permute"][0]
    first, second = check.patchify(wrong), check.patchify(wrong)
    assert str(first) == str(second)
    assert first._repr_html_() == second._repr_html_()


def test_a_mistake_is_drawn_beside_the_target():
    html = check.patchify(check.patchify.mutants["no_permute"][0])._repr_html_()
    assert html.count('<svg role="img"') == 2
    assert re.findall(r'aria-label="(\w+): 6 by 4 numbers"', html) == ["yours", "target"]


def test_what_is_left_out_of_a_drawing_is_said():
    html = Report("x", False, "", difference=difference(numbers(9, 5), numbers(9, 5, seed=1)))
    assert html._repr_html_().count("the first 8 of 9 rows</div>") == 2
    whole = Report("x", False, "", difference=difference(numbers(8, 8), numbers(8, 8, seed=1)))
    assert "the first" not in whole._repr_html_()
    large = Report("x", False, "", difference=difference(numbers(9, 10), numbers(9, 10, seed=1)))
    assert "target, the first 8 of 9 rows and 8 of 10 columns</div>" in large._repr_html_()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.2"), (-0.01, "0.0"), (-12.34, "−12.3"), (3.0, "3"), (-4321.7, "−4322"),
     (123456.0, "1e5"), (-1e20, "−1e20")],
)  # fmt: skip
def test_a_number_fits_into_its_cell(value, text):
    yours = torch.tensor([value, 1.0], dtype=X.dtype)
    html = Report("x", False, "", difference=difference(yours, X[0, 0, :2]))
    assert f">{text}</text>" in html._repr_html_()
    assert len(text) <= 5


def test_what_cannot_be_drawn_is_not():
    assert "<svg" not in check.patchify(check.patchify.reference)._repr_html_()
    assert "<svg" not in check.count_patches(lambda *sizes: 3)._repr_html_()
    assert "<svg" not in check.patchify(lambda *given: None)._repr_html_()


@pytest.mark.parametrize(
    ("yours", "target"),
    [
        (with_value(NAN), X),
        (with_value(INF), X),
        (X, X * NAN),
        (X, with_value(-INF)),
        (X, X * 0),
        (numbers(30), numbers(30, seed=1)),
        (numbers(30, 40), numbers(30, 40, seed=1)),
        (torch.tensor([1, 2]), torch.tensor([2, 1])),
        (torch.tensor([True, False]), torch.tensor([True, True])),
    ],
)
def test_every_tensor_can_be_drawn(yours, target):
    html = Report("x", False, "", difference=difference(yours, target))._repr_html_()
    assert html.count("<svg") == 2
    assert "rgb(-" not in html


# --- the names of the exercises


def test_an_exercise_that_is_not_there_names_the_nearest():
    with pytest.raises(AttributeError, match=r"no exercise 'patchfy'\. Did you mean 'patchify'"):
        check.patchfy  # noqa: B018
    with pytest.raises(AttributeError, match=r"no exercise 'zzz'\. See vitlib\.check\.EXERCISES"):
        check.zzz  # noqa: B018
    assert {"patchify", "EXERCISES"} <= set(dir(check))


def test_a_long_text_is_cut():
    found = difference("ha" * 10**6, 3)
    assert found is not None
    assert "haha" in found.text
    assert len(found.text) < 400
