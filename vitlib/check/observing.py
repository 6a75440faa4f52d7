"""What comes of the cases of an exercise: results, errors, and what an answer leaves behind."""

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType
from typing import Any

import torch

from vitlib.check.aftermath import Change
from vitlib.check.calling import NOTES, Answer, Notes, Refused
from vitlib.check.compare import Difference, Raised, difference, show_type
from vitlib.check.sandbox import (
    LONGEST_WAIT,
    OutOfTime,
    in_time,
    is_unfilled,
    reseed,
    says_not_implemented,
    untouched_state,
    where,
)
from vitlib.check.shared import Shared

Cases = Iterator[tuple[str, Callable[[], Any]]]
MakeCases = Callable[[Answer], Cases]


class NotAttempted(Exception):
    """The answer is still a stub."""


class Stopped(Exception):
    """An answer that took too long; the text says so to the reader.

    seen: what came of the cases before.
    """

    def __init__(self, text: str, seen: "Sequence[Observation]" = ()):
        super().__init__(text)
        self.seen = list(seen)


@dataclass(frozen=True)
class Observation:
    """What came of one case."""

    label: str
    result: Any
    changes: tuple[Change, ...] = field(default=())


def observe(
    cases: MakeCases,
    answer: Answer,
    seconds: float | None = None,
    watch: AbstractContextManager[Any] | None = None,
) -> list[Observation]:
    """What comes of every case, errors included, in a thread and inside of `watch`.

    Raises Stopped when the answer has computed for `seconds`, and NotAttempted for a stub. What
    PyTorch loads when it is first used takes time, and not the answer's: who is stopped in a run
    that loaded something gets a second one.
    """
    for _ in range(2):
        loaded = len(sys.modules)
        try:
            return _observe(cases, answer, seconds, watch)
        except Stopped as stopped:
            if len(sys.modules) == loaded:
                raise
            last = stopped
    raise last


def _observe(
    cases: MakeCases,
    answer: Answer,
    seconds: float | None,
    watch: AbstractContextManager[Any] | None,
) -> list[Observation]:
    observations: list[Observation] = []
    label = "the first case"

    def run_all() -> None:
        nonlocal label
        with watch or nullcontext():
            for label, run in cases(answer):
                observations.append(one(cases, label, run))

    with untouched_state():
        try:
            in_time(run_all, seconds, LONGEST_WAIT)
        except OutOfTime as stop:
            why = _why_stopped(label, stop.waited, seconds or 0)
            raise Stopped(why, observations) from None
    return observations


def one(cases: MakeCases, label: str, run: Callable[[], Any]) -> Observation:
    """What comes of one case; what all code shares is put back afterwards."""
    reseed(0)
    notes, shared = Notes(), Shared()
    token = NOTES.set(notes)
    try:
        result = _outcome(cases, run, notes)
    finally:
        NOTES.reset(token)
        changes = shared.changes()
        shared.restore()
    return Observation(label, result, (*notes.changes, *changes))


def _outcome(cases: MakeCases, run: Callable[[], Any], notes: Notes) -> Any:
    """The result of one case, or the error as an observation."""
    try:
        result = run()
    except Refused as refused:
        return Raised("Refused", str(refused), reason=refused.reason)
    except (Exception, SystemExit) as error:
        if says_not_implemented(error) or is_unfilled(error):
            raise NotAttempted from None
        if _is_the_checkers(error, cases):
            return _unusable(notes.result, error)
        return Raised(type(error).__name__, str(error), where(error))
    parts = result if isinstance(result, tuple | list) else [result]
    if any(part is ... or part is NotImplemented for part in parts):
        raise NotAttempted
    return result


_STUMBLES = (AttributeError, TypeError, ValueError, LookupError)
_HERE = Path(__file__).parent
_TORCH = str(Path(torch.__file__).parent)
_MODULES = str(Path(torch.nn.__file__).parent / "modules")  # an answer may be one of these


def _is_the_checkers(error: BaseException, cases: MakeCases) -> bool:
    """Whether a case stumbled over what the answer gave, and not the answer over its input."""
    if not isinstance(error, _STUMBLES) or hasattr(error, "of_the_answer"):
        return False
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return all(_is_ours(code, cases) for code in codes)


def _is_ours(code: CodeType, cases: MakeCases) -> bool:
    """Whether it is code of the cases, of the engine, or of PyTorch's functions."""
    file = code.co_filename
    if file == cases.__code__.co_filename:
        return code.co_qualname.startswith(f"{cases.__qualname__}.<locals>.")
    if file.startswith(str(_HERE)):  # a name with an underscore: what a chapter's exercises share
        return Path(file).parent == _HERE or Path(file).name.startswith("_")
    return file.startswith(_TORCH) and not file.startswith(_MODULES)


def _unusable(result: Any, error: BaseException) -> Raised:
    came = "what came back" if result is ... else f"{show_type(result)} came back, which"
    text = f"{came} cannot be used as the task says"
    return Raised("Refused", text, reason=f"unusable: {type(error).__name__}")


def _why_stopped(label: str, waited: bool, seconds: float) -> str:
    if waited:
        return (
            f"Stopped after {LONGEST_WAIT:.0f} seconds, on {label}: your code waits for something, "
            f"such as sleep() or input(), and a checker gives it nothing to wait for."
        )
    return (
        f"Stopped after {seconds:.0f} seconds of computing, on {label}. Is there a loop that never "
        f"ends? A right answer needs a fraction of a second."
    )


# --- two lists of observations on the same cases


def changes_beyond(yours: list[Observation], target: list[Observation]) -> list[Observation]:
    """The observations without those changes that the right answer makes, too, at that place."""
    return [
        replace(mine, changes=tuple(c for c in mine.changes if c not in its.changes))
        for mine, its in zip(yours, target, strict=True)
    ]


def first_difference(
    yours: Sequence[Observation], target: Sequence[Observation]
) -> tuple[str, Difference] | None:
    """The first case whose result differs, and how; None if what came back is right."""
    for mine, its in zip(yours, target, strict=True):
        found = difference(mine.result, its.result)
        if found is not None:
            return mine.label, found
    return None


def first_left(yours: Sequence[Observation]) -> tuple[str, str] | None:
    """The first case in which something is left behind, and what."""
    return next(((seen.label, said(seen.changes)) for seen in yours if seen.changes), None)


def said(changes: Sequence[Change]) -> str:
    """What is left behind, in words: one thing of each kind."""
    first = {change.kind: change for change in reversed(changes)}
    texts = [change.text for change in changes if first[change.kind] is change]
    return "; and ".join(texts)
