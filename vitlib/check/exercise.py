"""An exercise knows the right answer, the usual wrong ones, and cases that tell them apart.

A checker runs an answer on every case and compares what came of it with the reference. If it
differs, the known wrong answers, the *mutants*, run on the same cases: the one that behaves exactly
like the reader's answer names the bug.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitlib.check.compare import Difference, Raised, difference
from vitlib.check.report import NOT_ATTEMPTED, Report
from vitlib.check.sandbox import (
    LONGEST_WAIT,
    OutOfTime,
    in_time,
    is_stub,
    is_unfilled,
    reseed,
    says_not_implemented,
    untouched_state,
    where,
)

Answer = Callable[..., Any]  # a function, a module, or a class of either
Cases = Iterator[tuple[str, Callable[[], Any]]]
SECONDS = 4.0  # of computing, for all cases of one answer; an honest one needs less than a tenth


class NotAttempted(Exception):
    """The answer is still a stub."""


class Refused(Exception):
    """An answer that cannot be compared; the text says why, in the reader's words.

    Two answers are refused for the same reason if `reason` is the same; it is the text by default.
    """

    def __init__(self, text: str, reason: str = ""):
        super().__init__(text)
        self.reason = reason or text


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
        try:
            yours = self._observe(answer, SECONDS)
        except NotAttempted:
            return self._report(f"Task: {self.task}", diagnosis=NOT_ATTEMPTED)
        except _Stopped as stopped:
            return self._report(str(stopped))
        target = self._observe(self.reference)
        found = _first_difference(yours, target)
        if found is None:
            labels = "; ".join(label for label, _ in target)
            return self._report(f"Tried on: {labels}.", passed=True)

        if is_stub(answer):
            return self._report(f"Task: {self.task}", diagnosis=NOT_ATTEMPTED)
        label, seen = found
        same = tuple(
            name for name, (mutant, _) in self.mutants.items() if self._behaves_like(mutant, yours)
        )
        diagnosis = "\n\nOr: ".join(self.mutants[name][1] for name in same)
        verb = "Your code raised an error" if "\n    " in seen.text else "Seen"
        evidence = f"{verb} on {label}: {seen.text}{_stop(seen.text)}"
        message = f"{diagnosis}\n\n{evidence}" if same else f"{evidence}\n\nTask: {self.task}"
        return self._report(message, diagnosis=diagnosis, mutants=same, difference=seen)

    def __repr__(self) -> str:
        return f"check.{self.name}: {self.task}"

    def _observe(self, answer: Answer, seconds: float | None = None) -> list[tuple[str, Any]]:
        """What comes of every case, errors included; a reader's answer gets `seconds` for it."""
        observations: list[tuple[str, Any]] = []
        label = "the first case"

        def observe() -> None:
            nonlocal label
            for label, run in self.cases(answer):
                reseed(0)
                observations.append((label, _outcome(run)))

        with untouched_state():
            try:
                in_time(observe, seconds, LONGEST_WAIT)
            except OutOfTime as stop:
                raise _Stopped(_why_stopped(label, stop.waited)) from None
        return observations

    def _behaves_like(self, mutant: Answer, yours: list[tuple[str, Any]]) -> bool:
        """Whether a mutant gives what was observed, case for case; most differ on the first."""
        with untouched_state():
            for (_, run), (_, seen) in zip(self.cases(mutant), yours, strict=True):
                reseed(0)
                if difference(seen, _outcome(run)) is not None:
                    return False
        return True

    def _report(self, message: str, passed: bool = False, **more: Any) -> Report:
        return Report(self.name, passed, message, **more)


class _Stopped(Exception):
    """An answer that took too long; the text says so to the reader."""


def _why_stopped(label: str, waited: bool) -> str:
    if waited:
        return (
            f"Stopped after {LONGEST_WAIT:.0f} seconds, on {label}: your code waits for something, "
            f"such as sleep() or input(), and a checker gives it nothing to wait for."
        )
    return (
        f"Stopped after {SECONDS:.0f} seconds of computing, on {label}. Is there a loop that never "
        f"ends? A right answer needs a fraction of a second."
    )


def _outcome(run: Callable[[], Any]) -> Any:
    """The result of one case, or the error as an observation."""
    try:
        result = run()
    except Refused as refused:
        return Raised("Refused", str(refused), reason=refused.reason)
    except (Exception, SystemExit) as error:
        if says_not_implemented(error) or is_unfilled(error):
            raise NotAttempted from None
        return Raised(type(error).__name__, str(error), where(error))
    parts = result if isinstance(result, tuple | list) else [result]
    if any(part is ... or part is NotImplemented for part in parts):
        raise NotAttempted
    return result


def _first_difference(
    yours: list[tuple[str, Any]], target: list[tuple[str, Any]]
) -> tuple[str, Difference] | None:
    """Of two lists of observations on the same cases: the first case that differs, and how."""
    for (label, a), (_, b) in zip(yours, target, strict=True):
        found = difference(a, b)
        if found is not None:
            return label, found
    return None


def _stop(text: str) -> str:
    """A full stop, unless the text ends in one, or in a line of the reader's code."""
    return "" if text.endswith((".", "?", "!")) or "\n    " in text else "."


# --- what cases are written with


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal random numbers from a generator of their own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def call(answer: Answer, *inputs: Any, may_change: Sequence[str] = (), **options: Any) -> Any:
    """What the answer returns for clones of these inputs; a class is built first, from nothing.

    Refuses an answer that changes a tensor it was given. may_change: what the task lets an answer
    leave changed in a module that it is given, such as ["mode"], beside what the reference changes.
    """
    given = [value.clone() if isinstance(value, Tensor) else value for value in inputs]
    function = answer() if isinstance(answer, type) else answer
    result = _run(function, given, options)
    for before, after in zip(inputs, given, strict=True):
        if isinstance(before, Tensor) and not _same_bits(before, after):
            raise Refused(
                "your code changes the tensor that it is given, and the caller's numbers with it: "
                "write x = x + y instead of x += y, and copy before you assign into a tensor"
            )
    return result


def single(value: Any) -> Any:
    """A tensor in float32, for tasks that leave the precision free; anything else as it is."""
    return value.float() if isinstance(value, Tensor) else value


def build(answer: Answer, *arguments: Any, **options: Any) -> nn.Module:
    """A module made by the answer: a class, a function that returns one, or an instance's class."""
    make = type(answer) if isinstance(answer, nn.Module) else answer
    module = _run(make, arguments, options)
    if not isinstance(module, nn.Module):
        raise Refused(f"{_as_call(make, arguments, options)} should make an nn.Module", "module")
    return module


def twin(answer: Answer, reference: Answer, *arguments: Any, **options: Any) -> nn.Module:
    """build(answer, ...) in float64, with the random weights that the reference would get, too.

    Weights are matched by name; where the names differ, by their order among those of equal shape.
    Refuses an answer whose parameters cannot be matched so.
    """
    model = fill(build(reference, *arguments, **options))
    module = build(answer, *arguments, **options).double()
    theirs, ours = dict(module.named_parameters()), dict(model.named_parameters())
    if theirs.keys() == ours.keys() and all(theirs[k].shape == ours[k].shape for k in ours):
        pairs = [(theirs[name], ours[name]) for name in ours]
    else:
        by_shape = [sorted(d.values(), key=lambda p: tuple(p.shape)) for d in (theirs, ours)]
        pairs = list(zip(*by_shape, strict=False))
        if len(theirs) != len(ours) or any(a.shape != b.shape for a, b in pairs):
            shapes = sorted(tuple(p.shape) for p in theirs.values())
            raise Refused(_parameters_differ(theirs, ours), f"parameters {shapes}")
    with torch.no_grad():
        for mine, wanted in pairs:
            mine.copy_(wanted)
    return module


def fill(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64, with random parameters: no bias is 0, no norm is the identity."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            parameter.mul_(0.5)
    return module


def _run(function: Answer, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
    try:
        return function(*inputs, **options)
    except TypeError as error:
        if where(error):  # it is about the reader's code, not about how we call it
            raise
        raise TypeError(
            f"{error} (it was called as {_as_call(function, inputs, options)})"
        ) from error


def _as_call(function: Answer, inputs: Sequence[Any], options: Mapping[str, Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    said = [_brief(value) for value in inputs]
    said += [f"{key}={_brief(value)}" for key, value in options.items()]
    return f"{name}({', '.join(said)})"


def _brief(value: Any) -> str:
    return f"tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a != a)).all())


def _parameters_differ(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    def listed(parameters: Mapping[str, Tensor]) -> str:
        return ", ".join(f"{k} {tuple(p.shape)}" for k, p in parameters.items()) or "none"

    return (
        f"the learned parameters (nn.Parameter) should be {listed(ours)}; yours are "
        f"{listed(theirs)}"
    )
