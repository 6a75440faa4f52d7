"""What the cases of an exercise are written with: inputs, and ways to run an answer on them."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitlib.check.aftermath import (
    Change,
    Contents,
    Modules,
    check_kinds,
    modules_in,
    same_bits,
)
from vitlib.check.sandbox import where
from vitlib.check.shared import Seed

Answer = Callable[..., Any]  # a function, a module, or a class of either


@dataclass
class Notes:
    """What `call` sees while one case runs: what is changed, and what came back last."""

    changes: list[Change] = field(default_factory=list)
    result: Any = ...


CHANGED = (
    "your code changes the tensor that it is given, and the caller's numbers with it: "
    "write x = x + y instead of x += y, and copy before you assign into a tensor"
)
NOTES: ContextVar[Notes | None] = ContextVar("NOTES", default=None)  # None: nobody asks


class Refused(Exception):
    """An answer that cannot be compared; the text says why, in the reader's words.

    Two answers are refused for the same reason if `reason` is the same; it is the text by default.
    """

    def __init__(self, text: str, reason: str = ""):
        super().__init__(text)
        self.reason = reason or text


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal random numbers from a generator of their own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def call(answer: Answer, *inputs: Any, may_change: Sequence[str] = (), **options: Any) -> Any:
    """What the answer returns for clones of these inputs; a class is built first, from nothing.

    Refuses an answer that changes a tensor it was given. What it leaves behind in modules, lists
    and dictionaries is noted. may_change: kinds of change (aftermath.py) that the task allows, such
    as ["mode"], beside what the reference changes.
    """
    check_kinds(may_change)
    given = [value.clone() if isinstance(value, Tensor) else value for value in inputs]
    function = answer() if isinstance(answer, type) else answer
    handed = [*given, *options.values()]
    if isinstance(function, partial):
        handed += [*function.args, *function.keywords.values()]
    own = [function] if isinstance(function, nn.Module) else []
    watched: list[Any] = [
        Modules(modules_in(handed)),
        Modules(own, own=True),
        Contents(handed),
        Seed(),
    ]
    try:
        result = _run(function, given, options)
    finally:
        changes = [change for part in watched for change in part.changes()]
    if (notes := NOTES.get()) is not None:
        notes.changes += [change for change in changes if change.kind not in may_change]
        notes.result = result
    for before, after in zip(inputs, given, strict=True):
        if isinstance(before, Tensor) and not same_bits(before, after):
            raise Refused(CHANGED)
    return result


def single(value: Any) -> Any:
    """A tensor in float32, for tasks that leave the precision free; anything else as it is."""
    return value.float() if isinstance(value, Tensor) else value


def one_number(value: Any) -> Tensor:
    """The number that came back, Python's or in a tensor of any precision, in float32.

    Refuses a tensor with more of them, and a bool.
    """
    if isinstance(value, Tensor) and value.numel() != 1:
        shape = tuple(value.shape)
        raise Refused(f"a tensor of shape {shape} came back, and one number should")
    kind = str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else ""
    if isinstance(value, bool) or kind in ("bool", "int64"):
        kind = kind or "bool"
        raise Refused(f"a number of type {kind} came back, and one with a decimal point should")
    number = torch.tensor(float(value.detach() if kind else value), dtype=torch.float32)
    return number * 0 if abs(number) < 1e-6 else number  # the rest of a rounding


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
        said = f"{error} (it was called as {_as_call(function, inputs, options)})"
        raise _marked(TypeError(said)) from error
    except Exception as error:
        raise _marked(error)  # noqa: B904


def _marked(error: Exception) -> Exception:
    error.of_the_answer = True  # type: ignore[attr-defined]
    return error


def _as_call(function: Answer, inputs: Sequence[Any], options: Mapping[str, Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    said = [_brief(value) for value in inputs]
    said += [f"{key}={_brief(value)}" for key, value in options.items()]
    return f"{name}({', '.join(said)})"


def _brief(value: Any) -> str:
    return f"tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _parameters_differ(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    def listed(parameters: Mapping[str, Tensor]) -> str:
        return ", ".join(f"{k} {tuple(p.shape)}" for k, p in parameters.items()) or "none"

    return (
        f"the learned parameters (nn.Parameter) should be {listed(ours)}; yours are "
        f"{listed(theirs)}"
    )
