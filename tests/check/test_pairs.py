"""Two known mistakes at once are composed from their edits, and both are named."""

import random
import time

import pytest
import torch

from vitlib import check
from vitlib.check.compare import Raised, difference
from vitlib.check.edit import Edits, edits
from vitlib.check.exercise import Exercise, call, numbers
from vitlib.check.pairs import pairs_of

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch thinks of nonsense


@torch.no_grad()
def scaled(x):
    y = x.mean(dim=1)
    y = y * 3
    return y + 1


def other(x):
    return x.sum(dim=1) * 3 / x.shape[1] + 1


MUTANTS = edits(scaled, """
wrong_axis: dim=1 → dim=0
    The mean is taken over the wrong axis.
sum_for_mean: mean → sum
    It is the sum.
kept: dim=1) → dim=1, keepdim=True)
    The axis is kept.
no_factor: y * 3 → y
    The factor is missing.
no_shift:  + 1 →
    The shift is missing.
with_gradients: @torch.no_grad() →
and:  + 1 → + 2
    Gradients are recorded, and the shift is 2.
by_hand:
    It is done by hand.
""") | edits(other, """
halved: + 1 → + 0.5
    The shift is halved.
""")  # fmt: skip


def by_hand(x):
    return x * 0


def cases(answer):
    yield "4 × 4", lambda: call(answer, numbers(4, 4))
    yield "3 × 5", lambda: call(answer, numbers(3, 5))


EXERCISE = Exercise("scaled", "0", "scaled(x)", scaled, cases, MUTANTS, accepted=[other])


def sources(*names):
    return [p.source for p in pairs_of(MUTANTS) if set(p.names) == set(names)]


def test_two_edits_of_one_place_are_made_together_if_they_do_not_overlap():
    (source,) = sources("wrong_axis", "kept")
    assert "x.mean(dim=0, keepdim=True)" in source
    (source,) = sources("sum_for_mean", "no_factor")
    assert "y = x.sum(dim=1)\n    y = y\n" in source
    assert sources("no_shift", "with_gradients") == []  # both change the 1
    assert not [p for p in pairs_of(MUTANTS) if {"by_hand", "halved"} & set(p.names)]


def test_what_both_drop_is_dropped_once_and_what_both_insert_is_tried_in_both_orders():
    found = edits(scaled, """
first: @torch.no_grad() →
and: y * 3 → y * 4
    One.
second: @torch.no_grad() →
and: + 1 → + 2
    Two.
third: y * 3 → y * 3 / 2
    Three.
fourth: y * 3 → y * 3 - 2
    Four.
""")  # fmt: skip
    by_names = {}
    for pair in pairs_of(found):
        by_names.setdefault(frozenset(pair.names), []).append(pair.source)
    (source,) = by_names[frozenset({"first", "second"})]
    assert source.lstrip().startswith("def scaled")
    assert "y * 4\n    return y + 2" in source
    both = by_names[frozenset({"third", "fourth"})]
    assert {s.split("y = y * 3")[1].split("\n")[0] for s in both} == {" / 2 - 2", " - 2 / 2"}


def test_both_mistakes_are_named_in_the_order_of_the_source():
    assert EXERCISE(lambda x: x.sum(0) * 3 + 1).mutants == ("sum_for_mean", "wrong_axis")
    assert EXERCISE(lambda x: x.sum(1)).mutants == ()  # three mistakes
    report = EXERCISE(lambda x: x.mean(0) * 3)
    assert report.mutants == ("wrong_axis", "no_shift")
    said = "The mean is taken over the wrong axis.\n\nSecond: The shift is missing."
    assert report.diagnosis == f"Two things at once. First: {said}"
    assert report.message.startswith(report.diagnosis)
    assert "Seen on 4 × 4: " in report.message


def test_one_mistake_is_never_told_as_two():
    for name, (mutant, diagnosis) in MUTANTS.items():
        assert EXERCISE(mutant).diagnosis == diagnosis, name


def test_pairs_that_look_alike_are_at_most_two():
    alike = edits(scaled, """
a: y * 3 → y * 3 * 1
and: + 1 → + 2
    A.
b: dim=1 → dim=0
    B.
c: y * 3 → 3 * y
and: + 1 → + 2.0
    C.
d: y * 3 → y * 3.0
and: + 1 → + 2 * 1
    D.
""")  # fmt: skip
    exercise = Exercise("scaled", "0", "scaled(x)", scaled, cases, alike)
    report = exercise(lambda x: x.mean(0) * 3 + 2)
    said = "It may be two things at once. First: B.\n\nSecond: A.\n\nOr, second: C."
    assert report.diagnosis == said
    assert report.mutants == ("b", "a", "c")


def test_a_pair_that_only_one_case_shows_is_a_possibility():
    """Two mistakes may do together what a third, unknown one does, too."""

    def one_case(answer):
        yield "2 × 2", lambda: call(answer, numbers(2, 2))
        yield "nothing", lambda: call(answer, numbers(4, 4) * 0).isnan()

    exercise = Exercise("scaled", "0", "scaled(x)", scaled, one_case, MUTANTS)
    said = "The mean is taken over the wrong axis.\n\nSecond: The shift is missing."
    report = exercise(lambda x: x.mean(0) * 3)
    assert report.diagnosis == f"It may be two things at once. First: {said}"


def test_a_pair_is_a_possibility_while_not_all_are_tried(monkeypatch):
    seconds = iter([0.0] + 5 * [0.1] + 99 * [9.0])
    monkeypatch.setattr("vitlib.check.naming.time.process_time", lambda: next(seconds))
    monkeypatch.setattr("vitlib.check.naming.TOGETHER", 2)
    monkeypatch.setattr("vitlib.check.naming.in_time", lambda run, seconds=None: run())
    report = EXERCISE(lambda x: x.mean(0) * 3)
    assert report.mutants == ("wrong_axis", "no_shift")
    assert report.diagnosis.startswith("It may be two things at once. First: ")


def test_two_pairs_that_have_nothing_in_common_are_both_told():
    alike = edits(scaled, """
a: y * 3 → y * 4
    A.
b:  + 1 →  + 2
    B.
c: y * 3 → y * 5
and: + 1 → + 2
    C.
d: mean(dim=1) → mean(dim=1) * 0.8
    D.
""")  # fmt: skip
    exercise = Exercise("scaled", "0", "scaled(x)", scaled, cases, alike)
    report = exercise(lambda x: x.mean(1) * 4 + 2)
    said = "It may be two things at once. First: A.\n\nSecond: B.\n\n"
    assert report.diagnosis == f"{said}Or: two others. First: D.\n\nSecond: C."
    assert report.mutants == ("a", "b", "d", "c")


def test_two_forms_of_one_mistake_are_told_once():
    forms = edits(scaled, """
no_factor: y * 3 → y
no_shift:  + 1 →
    The last two lines do too little.
""")  # fmt: skip

    def both_cases(answer):
        yield from cases(answer)

    exercise = Exercise("scaled", "0", "scaled(x)", scaled, both_cases, forms)
    assert exercise(lambda x: x.mean(1)).diagnosis == "The last two lines do too little."

    def one_case(answer):
        yield next(cases(answer))

    exercise = Exercise("scaled", "0", "scaled(x)", scaled, one_case, forms)
    said = "It may be this. The last two lines do too little."
    assert exercise(lambda x: x.mean(1)).diagnosis == said


def test_pairs_end_in_time(monkeypatch):
    endless = edits(scaled, """
grows: y * 3 → y
→ while y.abs().sum() > 0:
→     y = y
    It never ends.
wrong_axis: dim=1 → dim=0
    The wrong axis.
no_shift:  + 1 →
    No shift.
""")  # fmt: skip
    monkeypatch.setattr("vitlib.check.naming.LONGEST", 0.2)
    never = endless._entries.pop("grows")
    mutants = Edits(endless._entries)
    mutants._entries["grows"] = never
    mutants._made["grows"] = by_hand  # alone, it would never end either
    exercise = Exercise("scaled", "0", "scaled(x)", scaled, cases, mutants)
    started = time.process_time()
    assert exercise(lambda x: x.mean(0) * 3).mutants == ("wrong_axis", "no_shift")
    assert time.process_time() - started < 4
    monkeypatch.setattr("vitlib.check.naming.PAIR_SECONDS", 0.0)
    assert exercise(lambda x: x.mean(0) * 3).mutants == ()


def test_a_right_answer_composes_nothing(monkeypatch):
    def refuse(*_):
        raise AssertionError("composed in vain")

    monkeypatch.setattr("vitlib.check.naming.pairs_of", refuse)
    assert EXERCISE(other)
    assert EXERCISE(MUTANTS["wrong_axis"][0]).mutants == ("wrong_axis",)


# --- one mistake, and something that is not known


def many_cases(answer):
    yield from cases(answer)
    yield "2 × 7", lambda: call(answer, numbers(2, 7))
    yield "zeros", lambda: call(answer, numbers(2, 6) * 0)


MANY = Exercise("scaled", "0", "scaled(x)", scaled, many_cases, MUTANTS, accepted=[other])


def test_a_mistake_is_named_although_something_else_is_wrong_on_one_case():
    def answer(x):
        y = x.sum(dim=1) * 3 + 1
        return y.float() if x.shape == (2, 7) else y

    report = MANY(answer)
    assert report.mutants == ("sum_for_mean",)
    beside = (
        "On 2 × 7, something else is wrong beside it: the dtype is float32 and should be float64: "
        "make new tensors with the dtype of the input."
    )
    assert report.diagnosis == f"It is the sum.\n\n{beside}"


def test_no_mistake_is_named_that_the_answer_does_not_make_everywhere():
    """Where it is right the answer does not make it; two cases must speak for it, with numbers."""
    right_once = MANY(lambda x: scaled(x) if x.shape == (2, 7) else x.sum(dim=1) * 3 + 1)
    half = MANY(lambda x: x.sum(1) * 3 + 1 if x.shape[0] > 2 else x.sum(1) * 5)
    unknown = MANY(lambda x: x.amax(1))
    assert [r.mutants for r in (right_once, half, unknown)] == [(), (), ()]


def test_two_mistakes_of_which_one_is_an_edit_of_another_right_answer_are_named_in_part():
    def by_repeat(images, down, right, fill):
        B, _, H, W = images.shape
        out = fill.view(1, -1, 1, 1).repeat(B, 1, H, W)  # in the dtype of the fill
        for y in range(H):
            for x in range(W):
                if 0 <= y + down < H and 0 <= x + right < W:
                    out[:, :, y, x] = images[:, :, y + down, x + right]
        return out

    report = check.shift_images(by_repeat)
    assert report.mutants == ("against_the_numbers",)
    assert "beside it: the dtype is float64 and should be float32" in report.diagnosis

    def with_log_of_softmax(dist_logits, teacher_logits, tau):
        t = (teacher_logits / tau).softmax(1)
        return tau * (t * (t.log() - (dist_logits / tau).log_softmax(1))).sum(1).mean()

    report = check.soft_loss(with_log_of_softmax)
    assert report.mutants == ("times_tau",)
    assert "On logits in the thousands, something else is wrong beside it" in report.diagnosis


# --- all exercises

WITH_EDITS = [name for name, e in check.EXERCISES.items() if isinstance(e.mutants, Edits)]


def only_fails(exercise, answer):
    """Whether all that is seen of an answer is errors, which say too little to name two edits."""
    both = zip(exercise._observe(answer), exercise._observe(exercise.reference), strict=True)
    wrong = [yours.result for yours, right in both if difference(yours.result, right.result)]
    return all(isinstance(result, Raised) and result.kind != "Refused" for result in wrong)


@pytest.mark.parametrize("name", WITH_EDITS)
def test_two_mistakes_are_both_named(name, unchecked, monkeypatch):
    """Or what behaves as the two do: one that hides the other, or others that look alike."""
    monkeypatch.setattr("vitlib.check.naming.PAIR_SECONDS", float("inf"))  # time: see above
    exercise = check.EXERCISES[name]
    pairs, draw = pairs_of(exercise.mutants), random.Random(name)
    for pair in draw.sample(pairs, min(3, len(pairs))):
        # among 60 others: to find it among thousands takes longer and shows no more
        among = sorted([pair, *draw.sample(pairs, min(60, len(pairs)))], key=lambda p: p.size)
        monkeypatch.setattr("vitlib.check.naming.pairs_of", lambda _, among=among: among)
        try:
            answer = pair.make()
        except Exception:  # no program at all
            continue
        report = exercise(answer)
        named = report.passed or report.mutants or only_fails(exercise, answer)
        assert named, f"{pair.names} are not named: {report}"
        if report.diagnosis.partition(" at once. ")[0] in ("Two things", "It may be two things"):
            assert "\n\nSecond: " in report.diagnosis
            assert 2 <= len(report.mutants) <= 4


# --- errors


def test_an_error_is_not_explained_by_two_edits_that_make_one():
    broken = edits(scaled, """
typo: mean → meen
    The name is misspelled.
kept: dim=1) → dim=1, keep=True)
    The axis is kept.
no_shift:  + 1 →
    The shift is missing.
""")  # fmt: skip
    exercise = Exercise("scaled", "0", "scaled(x)", scaled, cases, broken)
    assert exercise(lambda x: x.meen(1)).mutants == ("typo",)
    assert exercise(lambda x: x.averaged(1)).mutants == ()
    assert exercise(lambda x: x.mean(axis=1, keeps=True)).mutants == ("kept",)
    assert exercise(lambda x: torch.relu("x")).mutants == ()
    assert exercise(lambda x, y: x).mutants == ()
