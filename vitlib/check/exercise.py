"""An exercise knows the right answer, the usual wrong ones, and cases that tell them apart.

A checker runs an answer on every case and compares what came of it with the reference. If it
differs, the known wrong answers, the *mutants*, run on the same cases: the one that behaves exactly
like the reader's answer names the bug. If there is none, two of them are tried together, and then
one beside something that nobody knows.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitlib.check.calling import (
    CHANGED,
    Answer,
    Refused,
    build,
    call,
    fill,
    numbers,
    one_number,
    single,
    twin,
)
from vitlib.check.common import in_common
from vitlib.check.excluded import Watch, short
from vitlib.check.naming import explanations, joined, with_stop
from vitlib.check.observing import (
    Cases,
    NotAttempted,
    Observation,
    Stopped,
    changes_beyond,
    first_difference,
    first_left,
    observe,
)
from vitlib.check.progress import note
from vitlib.check.report import NOT_ATTEMPTED, Report
from vitlib.check.sandbox import is_stub, untouched_state

__all__ = [
    "Answer", "Cases", "Exercise", "Refused", "build", "call", "fill", "numbers", "one_number",
    "single", "twin",
]  # fmt: skip
SECONDS = 4.0  # of computing, for all cases of one answer; an honest one needs less than a tenth


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise; called with an answer, it checks it and returns a `Report`.

    name: as in `check.<name>`. chapter: the notebook. task: the call, and what it must return.
    reference: the right answer. cases: given an answer, yields pairs of a label ("two wide images,
    P = 4") and a function that runs the answer and returns what is to be compared. mutants: name ->
    (wrong answer, diagnosis). accepted: right answers that are written differently. excluded: full
    names of functions that the task asks to do without, such as "torch.nn.functional.layer_norm".
    probe: for the tests, what the task asks for on other inputs than those of the cases
    (probing.py).
    """

    name: str
    chapter: str
    task: str
    reference: Answer
    cases: Callable[[Answer], Cases]
    mutants: Mapping[str, tuple[Answer, str]]
    accepted: Sequence[Answer] = ()
    excluded: Sequence[str] = ()
    probe: Callable[[Answer], list[Callable[[], Any]]] | None = None

    def __call__(self, answer: Any) -> Report:
        """Check an answer: a function, a module or a class. Never raises on account of it."""
        if not callable(answer):
            return self._report(
                f"expected a function, a module or a class, got {answer!r}: pass the thing "
                f"itself, as in check.{self.name}(my_answer), not what it returns"
            )
        why = ""  # it was stopped; the cases before may say more
        try:
            yours = self._observe(answer, SECONDS)
        except NotAttempted:
            return self._report(f"Task: {self.task}", diagnosis=NOT_ATTEMPTED)
        except Stopped as stopped:
            yours, why = stopped.seen, str(stopped)
        target = self._observe(self.reference)[: len(yours)]
        yours = changes_beyond(yours, target)
        found, left = first_difference(yours, target), first_left(yours)
        if found is None and left is None:
            return self._report(why) if why else self._right(answer, target)
        if is_stub(answer):
            return self._report(f"Task: {self.task}", diagnosis=NOT_ATTEMPTED)

        # what PyTorch thinks of known mistakes is not the reader's concern
        with untouched_state(), warnings.catch_warnings(action="ignore"):
            named = explanations(self.cases, self.mutants, yours, target)
        if beside := next((e.beside for e in named if e.beside), ""):  # told already
            rest = [(a, b) for a, b in zip(yours, target, strict=True) if a.label != beside]
            found = first_difference([a for a, _ in rest], [b for _, b in rest]) or found
        names = tuple(dict.fromkeys(name for e in named for name in e.names))
        diagnosis, seen = joined(named), None
        if found is not None and not diagnosis:
            diagnosis = in_common(yours, target)
        if found is not None and found[1].text == CHANGED and not names:
            label, seen = found
            diagnosis, evidence = f"{CHANGED[0].upper()}{CHANGED[1:]}.", f"Seen on {label}."
        elif found is not None:
            label, seen = found
            verb = "Your code raised an error" if "\n    " in seen.text else "Seen"
            evidence = f"{verb} on {label}: {with_stop(seen.text)}"
        else:
            label, text = left or ("", "")
            evidence = f"Seen on {label}" + f": {text}" * bool(diagnosis) + "."
            diagnosis = diagnosis or f"What comes back is right, but {text}."
        parts = [diagnosis, evidence] if diagnosis else [evidence, f"Task: {self.task}"]
        parts += [why] if why else []
        return self._report("\n\n".join(parts), diagnosis=diagnosis, mutants=names, difference=seen)

    def __repr__(self) -> str:
        return f"check.{self.name}: {self.task}"

    def _observe(self, answer: Answer, seconds: float | None = None) -> list[Observation]:
        return observe(self.cases, answer, seconds)

    def _right(self, answer: Answer, target: Sequence[Observation]) -> Report:
        note(self.name, answer)
        message = f"Tried on: {'; '.join(seen.label for seen in target)}."
        if called := self._excluded_that(answer):
            without = " and ".join(f"`{short(name)}`" for name in called)
            message = f"Right. By the way: the task asked you to do without {without}.\n\n{message}"
        return self._report(message, passed=True)

    def _excluded_that(self, answer: Answer) -> list[str]:
        """Those of the excluded functions that a right answer calls.

        A case may call them, too: what counts is how often, beside the reference.
        """
        if not self.excluded:
            return []
        calls = []
        for each in (answer, self.reference):
            watch = Watch(self.excluded)
            observe(self.cases, each, watch=watch)
            calls.append(watch.called)
        return [name for name in self.excluded if calls[0][name] > calls[1][name]]

    def _report(self, message: str, passed: bool = False, **more: Any) -> Report:
        return Report(self.name, passed, message, **more)
