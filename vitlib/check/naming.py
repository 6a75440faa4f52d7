"""Which known mistake, or which two of them, an answer makes: those that behave exactly like it.

If there are none, one that behaves like it in all cases but one or two, where more is wrong.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from vitlib.check.aftermath import same_changes
from vitlib.check.compare import Raised, difference, same_tensors
from vitlib.check.edit import Edits
from vitlib.check.observing import MakeCases, Observation, one, said
from vitlib.check.pairs import Pair, pairs_of
from vitlib.check.sandbox import OutOfTime, in_time

PAIR_SECONDS = 5.0  # of computing, for all pairs
LONGEST = 1.0  # of computing, for one pair: two mistakes may make an endless loop
TOGETHER = 25  # pairs that are tried in one thread: to start one takes longer than a pair
MOST = 2  # explanations by pairs that are told
APART = 2  # cases, at most, in which an answer does something else than its nearest mistake
NEAR_SECONDS = 2.0  # of computing, to look for that
TWO, MAYBE_TWO = "Two things at once. ", "It may be two things at once. "

Mutants = Mapping[str, tuple[Any, str]]


@dataclass(frozen=True)
class Explanation:
    """One or two known mistakes that behave like an answer, and what the reader is told."""

    names: tuple[str, ...]
    text: str
    joint: str = "Or: "  # what comes before it, if it is not the first
    beside: str = ""  # the label of a case of which it says that more is wrong there


def explanations(
    cases: MakeCases, mutants: Mutants, yours: Sequence[Observation], target: Sequence[Observation]
) -> list[Explanation]:
    """The known mistakes that behave like the answer; if there are none, the pairs of them.

    yours and target: what was observed of the answer and of the reference. The changes that the
    reference makes, too, are not in yours.
    """

    def like(answer: Any, changes: bool = True) -> bool:
        return _behaves_like(cases, answer, yours, target, changes)

    def matching(changes: bool = True) -> list[str]:
        return [name for name, (mutant, _) in mutants.items() if like(mutant, changes)]

    if names := in_time(matching):
        return [Explanation((name,), mutants[name][1]) for name in names]
    wrong = [a for a, b in zip(yours, target, strict=True) if difference(a.result, b.result)]
    left = [change for seen in yours for change in seen.changes]
    # an error says little: many a pair of edits is no program, and raises one of the same kind
    if isinstance(mutants, Edits) and (left or not all(_is_error(a.result) for a in wrong)):
        pairs, all_tried = _matching_pairs(mutants, like)
        cases_that_differ = {a.label for a in [*wrong, *(b for b in yours if b.changes)]}
        if pairs:
            sure = all_tried and len(pairs) == 1 and len(cases_that_differ) > 1
            return _told(pairs, mutants, sure)
    if left and wrong:
        names = in_time(lambda: matching(changes=False))
        if names:
            both = [(n, _both(mutants[n][1], _sentence(said(left)))) for n in names]
            return [Explanation((n,), text) for n, text in both]
    return in_time(lambda: _nearest(cases, mutants, yours, target))


def _behaves_like(
    cases: MakeCases,
    answer: Any,
    yours: Sequence[Observation],
    target: Sequence[Observation],
    changes: bool,
) -> bool:
    """Whether an answer gives what was observed, case for case; most differ on the first."""
    runs = islice(cases(answer), len(yours))  # an answer may have been stopped
    for (label, run), mine, its in zip(runs, yours, target, strict=True):
        seen = one(cases, label, run)
        if not _same(mine.result, seen.result, its.result):
            return False
        left = [change for change in seen.changes if change not in its.changes]
        if changes and not same_changes(mine.changes, left):
            return False
    return True


def _is_error(result: Any) -> bool:
    return isinstance(result, Raised) and result.kind != "Refused"


def _same(mine: Any, seen: Any, right: Any) -> bool:
    """Whether an answer and a mistake give the same; of errors, also the text has to fit."""
    if isinstance(mine, Raised) and isinstance(seen, Raised) and not isinstance(right, Raised):
        return mine.alike(seen)
    if isinstance(mine, Tensor) and isinstance(seen, Tensor):
        return same_tensors(mine.detach(), seen.detach())
    return difference(mine, seen) is None


# --- one, and something else


@dataclass(frozen=True)
class _Near:
    """A known mistake that behaves like an answer in most cases."""

    name: str
    agree: int  # in how many cases that differ from the right answer
    label: str  # of the first case in which the two do not agree
    text: str  # what is wrong there, beside the mistake


def _nearest(
    cases: MakeCases, mutants: Mutants, yours: Sequence[Observation], target: Sequence[Observation]
) -> list[Explanation]:
    """The known mistake that an answer makes in all cases but one or two, where more is wrong.

    Only numbers with a fractional part are taken for proof, as two mistakes hardly share them by
    chance, and more cases must speak for it than against it. If two mistakes do equally well,
    nothing is said.
    """
    end = time.process_time() + NEAR_SECONDS
    found: list[_Near] = []
    for name, (mutant, _) in mutants.items():
        if time.process_time() > end:
            break
        if near := _near(name, cases, mutant, yours, target):
            found.append(near)
    most = max((near.agree for near in found), default=0)
    best = [near for near in found if near.agree == most]
    if len({mutants[near.name][1] for near in best}) != 1:
        return []
    near = best[0]
    beside = with_stop(f"On {near.label}, something else is wrong beside it: {near.text}")
    text = f"{mutants[near.name][1]}\n\n{beside}"
    return [Explanation((near.name,), text, beside=near.label)]


def _near(
    name: str,
    cases: MakeCases,
    mutant: Any,
    yours: Sequence[Observation],
    target: Sequence[Observation],
) -> _Near | None:
    agree, apart = 0, []
    for (label, run), mine, its in zip(cases(mutant), yours, target, strict=False):
        seen = one(cases, label, run)
        left = [change for change in seen.changes if change not in its.changes]
        if not (_same(mine.result, seen.result, its.result) and same_changes(mine.changes, left)):
            apart.append((label, mine.result, its.result))
        elif _is_proof(mine.result) and difference(mine.result, its.result) is not None:
            agree += 1
        if len(apart) > APART:
            return None
    if not apart or agree < 2 or agree <= len(apart):
        return None
    beside = [(label, difference(mine, right)) for label, mine, right in apart]
    label, first = beside[0]
    # where the answer is right, it does not make this mistake
    return _Near(name, agree, label, first.text) if first and all(d for _, d in beside) else None


def _is_proof(result: Any) -> bool:
    if isinstance(result, Tensor):
        return result.is_floating_point() and bool(result.isfinite().all() and result.frac().any())
    if isinstance(result, Mapping):
        return any(map(_is_proof, result.values()))
    if isinstance(result, list | tuple):
        return any(map(_is_proof, result))
    return isinstance(result, float) and not result.is_integer()


# --- two at once


def _matching_pairs(mutants: Edits, like: Callable[[Any], bool]) -> tuple[list[Pair], bool]:
    """The pairs that behave like the answer, the smallest first, one for each two diagnoses.

    And whether these are all, since the search ends with two, or when its time is over.
    """
    end = time.process_time() + PAIR_SECONDS
    found: dict[frozenset[str], Pair] = {}
    pairs = pairs_of(mutants)
    for start in range(0, len(pairs), TOGETHER):
        if time.process_time() > end or len(found) >= MOST:
            return list(found.values()), False
        for pair in _fitting(pairs[start : start + TOGETHER], like):
            found.setdefault(frozenset(mutants.diagnosis(name) for name in pair.names), pair)
    return list(found.values()), True


def _fitting(pairs: Sequence[Pair], like: Callable[[Any], bool]) -> list[Pair]:
    """Those that behave like the answer: tried in one thread, or each in one if time runs out."""

    def fits(pair: Pair) -> bool:
        try:
            return like(pair.make())
        except Exception:  # two edits need not make a program
            return False

    def fitting(some: Sequence[Pair]) -> list[Pair]:
        try:
            return in_time(lambda: [pair for pair in some if fits(pair)], LONGEST)
        except OutOfTime:
            return [] if len(some) == 1 else [fit for pair in some for fit in fitting([pair])]

    return fitting(pairs)


def _told(pairs: Sequence[Pair], mutants: Edits, sure: bool) -> list[Explanation]:
    """At most two pairs; what they have in common is said once.

    Two mistakes may do together what a third does alone: told as a fact is only the one pair of
    all that fits, on at least two cases (`sure`). Two forms of one mistake have one diagnosis.
    """

    def whole(pair: Pair, two: str, one: str = "") -> Explanation:
        said = [mutants.diagnosis(name) for name in pair.names]
        text = _both(said[0], said[1], two) if said[0] != said[1] else one + said[0]
        return Explanation(pair.names, text)

    first, *others = pairs[:MOST]
    told = [whole(first, TWO) if sure else whole(first, MAYBE_TWO, "It may be this. ")]
    for other in others:
        new = [name for name in other.names if name not in first.names]
        if len(new) == 2:
            told.append(whole(other, "two others. "))
        else:
            place = "second" if first.names[0] in other.names else "first"
            told.append(Explanation(other.names, mutants.diagnosis(new[0]), f"Or, {place}: "))
    return told


def joined(explanations: Sequence[Explanation]) -> str:
    """What the reader is told of all of them."""
    later = "".join(f"\n\n{e.joint}{e.text}" for e in explanations[1:])
    return explanations[0].text + later if explanations else ""


def _both(first: str, second: str, head: str = TWO) -> str:
    return f"{head}First: {first}\n\nSecond: {second}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def with_stop(text: str) -> str:
    """The text with a full stop, unless it ends in one, or in a line of the reader's code."""
    return text if text.endswith((".", "?", "!")) or "\n    " in text else f"{text}."
