"""The notation in which known mistakes are written down."""

import pytest
import torch
from torch import nn

from vitlib import check
from vitlib.check.edit import edits


def half(x):
    y = x + 0
    return y / 2


@torch.no_grad()
def decorated(x):
    return x + 1


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        if x.ndim == 0:
            return x
        return x * self.factor


def by_hand(x):
    return "by hand"


def made(text, base=half):
    return {name: answer for name, (answer, _) in edits(base, text).items()}


def test_an_edit_is_a_change_of_the_source_and_leaves_the_original_alone():
    answers = made("""
doubled: / 2 → * 2
    It is doubled.
gone: y / 2 →
    Nothing comes back.
""")
    assert answers["doubled"](3.0) == 6.0
    assert answers["gone"](3.0) is None
    assert half(3.0) == 1.5
    assert answers["doubled"].__name__ == "half"


def test_several_changes_and_longer_code_at_the_indentation_of_its_place():
    answers = made("""
both: x + 0 → x + 1
and: / 2 → / 4
    Two things are wrong.
loop: y / 2 →
→ y
long: return y / 2 → for _ in range(3):
→     y = y / 2
→ return y
    It is halved three times.
""")
    assert answers["both"](3.0) == 1.0
    assert answers["loop"](3.0) == 3.0
    assert answers["long"](8.0) == 1.0


def test_a_diagnosis_is_filled_from_its_lines_and_may_serve_two_names():
    found = edits(half, """
first: / 2 → / 3
first_otherwise: / 2 → / 4
    A diagnosis over
    two lines, with an arrow (3 → 4) in it.
""")  # fmt: skip
    said = "A diagnosis over two lines, with an arrow (3 → 4) in it."
    assert [diagnosis for _, diagnosis in found.values()] == [said, said]
    assert list(found) == ["first", "first_otherwise"]
    assert len(found) == 2


def test_a_name_without_an_arrow_is_a_function_of_the_file():
    assert made("by_hand:\n    It is done by hand.")["by_hand"] is by_hand


def test_classes_and_decorated_functions_can_be_edited():
    answers = made("kept: * self.factor →\n    It is not scaled.", Scale)
    assert torch.equal(answers["kept"](3)(torch.ones(2)), torch.ones(2))
    answers = made("with_gradient: @torch.no_grad() →\n    Gradients are kept.", decorated)
    x = torch.ones(1, requires_grad=True)
    assert not decorated(x).requires_grad
    assert answers["with_gradient"](x).requires_grad


def test_mistakes_made_of_two_right_answers_are_joined():
    one = edits(half, "a: / 2 → / 3\n    A third.")
    both = one | edits(Scale, "b: * self.factor →\n    Not scaled.")
    assert list(both) == ["a", "b"]
    with pytest.raises(ValueError, match="two mistakes are called a"):
        one | edits(half, "a: / 2 → / 4\n    A quarter.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: z → y\n    Text.", r"a: 'z' stands 0 times in half, and should stand there once"),
        ("a: y → z\n    Text.", r"a: 'y' stands 2 times in half, and should stand there once"),
        ("nothing_such:\n    Text.", "nothing_such has no arrow, and .* defines no such"),
    ],
)
def test_what_cannot_be_made_is_refused_when_it_is_asked_for(text, message):
    found = edits(half, text)
    with pytest.raises(ValueError, match=message):
        found[next(iter(found))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no name at all\n    Text.", "expected `name: old → new`.*got 'no name at all'"),
        ("and: / 2 → / 3\n    Text.", "expected `name: old → new`.*got 'and: / 2"),
        ("a: / 2 → / 3", "a has no diagnosis"),
        ("a: / 2 → / 3\n    T.\nb: / 2 → / 4", "b has no diagnosis"),
        ("a: / 2\n    Text.", "a: no arrow says what becomes of '/ 2'"),
        ("a: / 2 → / 3\n    T.\na: / 2 → / 4\n    T.", "two mistakes are called a"),
    ],
)
def test_what_is_not_the_notation_is_refused_at_once(text, message):
    with pytest.raises(ValueError, match=message):
        edits(half, text)


def test_a_right_answer_needs_no_mutant(monkeypatch):
    def refuse(*_):
        raise AssertionError("compiled in vain")

    exercise = check.EXERCISES["merge_heads"]
    monkeypatch.setattr("vitlib.check.edit.Entry.make", refuse)
    assert exercise(exercise.reference).passed


def test_an_error_in_a_mutant_is_not_in_the_readers_code():
    exercise = check.EXERCISES["merge_heads"]
    mutant, _ = exercise.mutants["view_after_transpose"]
    assert "\n    " not in exercise(mutant).message  # a line of the reader's would stand there

    def mine(x):
        return x.transpose(1, 2).view(1, 3, 4)

    assert "x.transpose(1, 2).view(1, 3, 4)" in exercise(mine).message
