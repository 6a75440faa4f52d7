"""Two results side by side: are they equal, and if not, how do they differ?

`difference(yours, target)` is None, or a `Difference`, which says in words where they part.
"""

import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlib.check.relations import count_right, one_number, other_shape, pattern, same_shape

SHORT = reprlib.Repr()
SHORT.maxstring = 300  # an answer may be a text of any length
TYPE_ERRORS = (  # what they are about; the last of these in a text says most
    "positional argument|unexpected keyword|unsupported operand|slice indices|not callable"
    "|return_types|NoneType"
)


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

    def alike(self, other: "Raised") -> bool:
        """Whether two equal errors are of one mistake, too, as far as their texts tell.

        The same attribute is missing, both TypeErrors are about the same thing or about none
        that is told apart, or a RuntimeError that names no sizes has the same text.
        """
        return self == other and self._clue() == other._clue()

    def _clue(self) -> str:
        if self.kind in ("AttributeError", "NameError"):
            return " ".join(re.findall(r"'([^']*)'", self.text)[-1:])
        if self.kind == "TypeError":
            return " ".join(re.findall(TYPE_ERRORS, self.text)[-1:])
        return self.text if self.kind == "RuntimeError" and not self.reason else ""


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
        equal = type(yours) is type(target) and yours == target  # an array compares its numbers
        return None if equal else Difference(path + _compare_errors(yours, target))
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
        found = _first_found(difference(a, b, path + name) for name, a, b in pairs)
        return _with_pattern(found, yours, target)
    if isinstance(target, Tensor):
        if not isinstance(yours, Tensor):
            return Difference(f"{path}{show_type(yours)} came back instead of a tensor")
        return _compare_tensors(yours.detach(), target.detach(), path)
    if isinstance(target, np.ndarray) and isinstance(yours, np.ndarray):
        return _compare_arrays(yours, target, path)
    if isinstance(yours, Tensor | np.generic) and math.prod(yours.shape) == 1:
        yours = yours.item()
    if isinstance(target, np.generic):
        target = target.item()
    if isinstance(target, float | int) and not isinstance(target, bool):
        return _compare_scalars(yours, target, path)
    if type(yours) is type(target) and _equal(yours, target):
        return None
    return Difference(f"{path}{_show_value(yours)} came back, and {_show_value(target)} should")


def _first_found(differences: Any) -> Difference | None:
    return next((found for found in differences if found is not None), None)


def _with_pattern(found: Difference | None, yours: Any, target: Any) -> Difference | None:
    """The difference of two lists, and what all of it has in common if they hold numbers."""
    both = (*yours, *target)
    plain = [isinstance(v, int | float) and not isinstance(v, bool) for v in both]
    if found is None or len(yours) < 3 or not all(plain):
        return found
    said = pattern(*(torch.tensor(list(values), dtype=torch.float64) for values in (yours, target)))
    if not said:
        return found
    first = next((a, b) for a, b in zip(yours, target, strict=True) if difference(a, b))
    return Difference(f"{found.text.removesuffix(one_number(*first))}; {said}")


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
    return Difference(text + one_number(yours, target))


def _compare_arrays(yours: np.ndarray, target: np.ndarray, path: str) -> Difference | None:
    if all(a.dtype.kind in "biuf" and a.itemsize <= 8 for a in (yours, target)):
        mine, wanted = (torch.tensor(a.astype(a.dtype.type, order="C")) for a in (yours, target))
        return _compare_tensors(mine, wanted, path)
    if np.array_equal(yours, target):
        return None
    return Difference(f"{path}the two arrays differ")


def _equal(yours: Any, target: Any) -> bool:
    """Whether they say so of themselves; what answers otherwise than yes or no is not equal."""
    try:
        return bool(yours == target)
    except Exception:
        return False


def _compare_tensors(yours: Tensor, target: Tensor, path: str) -> Difference | None:
    shape, wanted_shape = tuple(yours.shape), tuple(target.shape)
    if shape != wanted_shape:
        text = f"{path}the shape is {shape} and should be {wanted_shape}"
        return Difference(text + other_shape(yours, target))
    if yours.dtype != target.dtype:
        mine, wanted = _dtype_name(yours.dtype), _dtype_name(target.dtype)
        text = f"{path}the dtype is {mine} and should be {wanted}"
        if yours.is_floating_point() and target.is_floating_point():
            text += ": make new tensors with the dtype of the input"
        return Difference(text)
    if same_tensors(yours, target):
        return None
    describe = same_shape if target.is_floating_point() else count_right
    return Difference(f"{path}{describe(yours, target)}", yours, target)


def same_tensors(yours: Tensor, target: Tensor) -> bool:
    """Whether two tensors are equal up to rounding; to say how they differ takes far longer."""
    if yours.shape != target.shape or yours.dtype != target.dtype:
        return False
    if not target.is_floating_point():
        return bool((yours == target).all())
    rough = 1e-9 if target.dtype == torch.float64 else 1e-4
    return torch.allclose(yours, target, rtol=rough, atol=rough, equal_nan=True)


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
