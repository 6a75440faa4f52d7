"""Two results side by side: are they equal, and if not, how do they differ?

`difference(yours, target)` is None, or a `Difference`, which says in words where they part.
"""

import itertools
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

SHORT = reprlib.Repr()
SHORT.maxstring = 300  # an answer may be a text of any length


@dataclass(frozen=True)
class Raised:
    """An error as an observation. Two of them are equal if they are of the same kind.

    RuntimeErrors must also name the same sizes, because torch raises one for almost everything.
    """

    kind: str
    text: str = field(default="", compare=False)
    line: str = field(default="", compare=False)  # where in the reader's code
    reason: str = ""

    def __post_init__(self) -> None:
        if self.kind == "RuntimeError" and not self.reason:
            object.__setattr__(self, "reason", " ".join(re.findall(r"\d+", self.text)))


@dataclass(frozen=True)
class Difference:
    """How `yours` differs from `target`, in words; and the two tensors, if they can be drawn."""

    text: str
    yours: Tensor | None = None
    target: Tensor | None = None


def difference(yours: Any, target: Any, path: str = "") -> Difference | None:
    """The first difference between two observations, or None if they are equal.

    Tensors need the same shape and dtype, and values equal up to rounding: 1e-9 in float64, 1e-4 in
    float32. Lists, tuples and dictionaries are compared entry by entry.
    """
    if isinstance(target, Raised) or isinstance(yours, Raised):
        return None if yours == target else Difference(path + _compare_errors(yours, target))
    if isinstance(target, Mapping) and isinstance(yours, Mapping):
        if set(yours) != set(target):
            missing = ", ".join(map(str, sorted(set(target) - set(yours), key=str)))
            extra = ", ".join(map(str, sorted(set(yours) - set(target), key=str)))
            parts = [f"{missing} is missing"] * bool(missing) + [f"{extra} is extra"] * bool(extra)
            return Difference(path + " and ".join(parts))
        pairs = [(f"{key}: ", yours[key], target[key]) for key in target]
        return _first_found(difference(a, b, path + name) for name, a, b in pairs)
    if isinstance(target, list | tuple) and isinstance(yours, list | tuple):
        if len(yours) != len(target):
            return Difference(f"{path}{len(yours)} results came back, and {len(target)} should")
        names = ["first", "second", "third", "fourth"]
        pairs = [
            (f"{names[i] if i < 4 else i + 1} result: ", a, b)
            for i, (a, b) in enumerate(zip(yours, target, strict=True))
        ]
        return _first_found(difference(a, b, path + name) for name, a, b in pairs)
    if isinstance(target, Tensor):
        if not isinstance(yours, Tensor):
            return Difference(f"{path}{show_type(yours)} came back instead of a tensor")
        return _compare_tensors(yours.detach(), target.detach(), path)
    if isinstance(yours, Tensor | np.generic) and math.prod(yours.shape) == 1:
        yours = yours.item()
    if isinstance(target, float | int) and not isinstance(target, bool):
        return _compare_scalars(yours, target, path)
    if type(yours) is type(target) and yours == target:
        return None
    return Difference(f"{path}{_show_value(yours)} came back, and {_show_value(target)} should")


def _first_found(differences: Any) -> Difference | None:
    return next((found for found in differences if found is not None), None)


def _compare_errors(yours: Any, target: Any) -> str:
    """In words: an error that should not be raised, or one that should, and what came instead."""
    if not isinstance(target, Raised):
        at = f"\n    {yours.line}" if yours.line else ""
        return f"{yours.kind}: {yours.text}{at}" if yours.kind != "Refused" else yours.text
    expected = f"{_with_article(target.kind)} should be raised"
    if isinstance(yours, Raised):
        return f"{expected}, and {_with_article(yours.kind)} was: {yours.text}"
    return f"{expected}, and {show_type(yours)} came back"


def _compare_scalars(yours: Any, target: float, path: str) -> Difference | None:
    if isinstance(yours, bool) or not isinstance(yours, float | int):
        return Difference(f"{path}{_show_value(yours)} came back, and {_show_value(target)} should")
    if yours == target and isinstance(target, int) and isinstance(yours, float):
        return Difference(f"{path}{yours} came back, and the whole number {target:,} should")
    if yours == target:
        return None
    if isinstance(target, float) and math.isclose(yours, target, rel_tol=1e-6, abs_tol=1e-9):
        return None
    text = f"{path}{_show_value(yours)} came back, and {_show_value(target)} should"
    ratio = yours / target if target else math.nan
    if math.isfinite(ratio) and ratio >= 2 and abs(ratio - round(ratio)) < 1e-9:
        text += f": {ratio:.0f} times too much"
    return Difference(text)


def _compare_tensors(yours: Tensor, target: Tensor, path: str) -> Difference | None:
    shape, wanted_shape = tuple(yours.shape), tuple(target.shape)
    if shape != wanted_shape:
        text = f"{path}the shape is {shape} and should be {wanted_shape}"
        if sorted(shape) == sorted(wanted_shape):
            text += _as_permuted(yours, target)
        elif yours.numel() == target.numel():
            text += ": the same number of values, in other axes"
        return Difference(text)
    if yours.dtype != target.dtype:
        mine, wanted = _dtype_name(yours.dtype), _dtype_name(target.dtype)
        text = f"{path}the dtype is {mine} and should be {wanted}"
        if yours.is_floating_point() and target.is_floating_point():
            text += ": make new tensors with the dtype of the input"
        return Difference(text)
    if not target.is_floating_point():
        equal = bool((yours == target).all())
        return None if equal else Difference(f"{path}{_count_right(yours, target)}", yours, target)
    rough = 1e-9 if target.dtype == torch.float64 else 1e-4
    if torch.allclose(yours, target, rtol=rough, atol=rough, equal_nan=True):
        return None
    return Difference(f"{path}{_relation(yours, target)}", yours, target)


def _relation(yours: Tensor, target: Tensor) -> str:
    """How wrong numbers relate to the right ones, where that says more than how far they are."""
    if torch.allclose(yours, target, rtol=1e-6, atol=1e-6, equal_nan=True):
        far = (yours - target).abs().nan_to_num().max()
        return f"the numbers are up to {far:.1g} off: right in float32, but these are float64"
    if yours.isnan().any() and not target.isnan().any():
        return f"{int(yours.isnan().sum())} of {yours.numel()} numbers are nan"
    if yours.isinf().any() and not target.isinf().any():
        return f"{int(yours.isinf().sum())} of {yours.numel()} numbers are infinite"
    if (yours == 0).all():
        return "all numbers are zero"
    if _close(yours, -target):
        return "the numbers have the wrong sign"
    ratio = (yours / target)[target.abs() > 1e-6]
    if ratio.numel() > 1 and _close(yours, ratio[0] * target):
        return f"every number is {ratio[0]:.4g} times the right one"
    offset = yours - target
    if offset.numel() > 1 and _close(offset, offset.flatten()[0].expand_as(offset)):
        return f"every number is {offset.flatten()[0]:.4g} away from the right one"
    swapped = _as_permuted(yours, target)
    if swapped:
        return "the axes are not where they should be" + swapped
    for axis in range(yours.ndim):
        if yours.shape[axis] > 1 and _close(yours.flip(axis), target):
            return f"the numbers are right, and run backwards along axis {axis}"
    if yours.numel() > 1 and _close(*(t.flatten().sort().values for t in (yours, target))):
        return "the numbers are the right ones, in wrong places"
    return _count_right(yours, target)


def _count_right(yours: Tensor, target: Tensor) -> str:
    """How many numbers are right, and the first that is wrong."""
    a, b = yours.double(), target.double()
    whole = not target.is_floating_point()
    same = a == b if whole else torch.isclose(a, b, rtol=1e-6, atol=1e-6, equal_nan=True)
    place = (~same).nonzero()[0].tolist() if yours.ndim else []
    at = f" at {place}" if place else ""
    values = f"yours is {a[tuple(place)]:.4g}{at}, and it should be {b[tuple(place)]:.4g}"
    if not same.any():
        return f"no number is right: {values}"
    return f"{int(same.sum())} of {same.numel()} numbers are right; {values}"


def _as_permuted(yours: Tensor, target: Tensor) -> str:
    """Which axes to swap so that yours becomes the target; empty if none do."""
    if not 2 <= yours.ndim <= 4 or yours.dtype != target.dtype:
        return ""
    for order in itertools.permutations(range(yours.ndim)):
        moved = yours.permute(order)
        unmoved = order == tuple(range(yours.ndim))
        if not unmoved and moved.shape == target.shape and _close(moved, target):
            return f": yours.permute{order} would be right"
    return ""


def _close(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    return torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def show_type(value: Any) -> str:
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return _with_article(type(value).__name__)


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeioAEIO" else f"a {name}"


def _show_value(value: Any) -> str:
    if isinstance(value, bool | str):
        return SHORT.repr(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else show_type(value)
