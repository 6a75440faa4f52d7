"""Which functions an answer calls though its task asks to do without them.

Calls are observed, not the text of the answer: a module such as nn.LayerNorm ends in the function
F.layer_norm, and a Tensor has methods of the same name. Calls of PyTorch pass through a mode of
PyTorch's own; those of others, such as a method of vitlib or numpy.arange, through a profiler.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Sequence
from pydoc import locate
from types import CodeType, FrameType
from typing import Any

from torch.overrides import TorchFunctionMode


class Watch:
    """Inside of it, `called` counts how often each of the excluded functions is called.

    excluded: full names, such as "torch.nn.functional.layer_norm". A function of PyTorch stands for
    all that bear its name: torch.softmax, F.softmax and Tensor.softmax are one. Raises ValueError
    for a name that there is not.
    """

    def __init__(self, excluded: Sequence[str]):
        self.called: Counter[str] = Counter()
        codes = {_code(name): name for name in excluded}
        self._builtins = {id(locate(n)): n for n in excluded if not n.startswith("torch.")}
        torchs = {_plain(n.rpartition(".")[2]): n for n in excluded if n.startswith("torch.")}
        self._codes = {code: name for code, name in codes.items() if code is not None}
        self._mode = _Calls(torchs, self.called)

    def __enter__(self) -> "Watch":
        self._before = sys.getprofile()
        sys.setprofile(self._look if self._codes or self._builtins else self._before)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)
        sys.setprofile(self._before)

    def _look(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code in self._codes:
            self.called[self._codes[frame.f_code]] += 1
        if event == "c_call" and (name := self._builtins.get(id(argument))):
            package = name.partition(".")[0]  # a function may call another of its package
            if not frame.f_globals.get("__name__", "").startswith(f"{package}."):
                self.called[name] += 1


class _Calls(TorchFunctionMode):
    """Notes which functions of PyTorch are called from Python, by their bare names."""

    def __init__(self, functions: dict[str, str], called: Counter[str]):
        super().__init__()
        self._functions, self._called = functions, called

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = self._functions.get(_plain(getattr(function, "__name__", "")))
        if name is not None:
            self._called[name] += 1
        return function(*args, **(kwargs or {}))


def _plain(name: str) -> str:
    return name.removeprefix("special_").strip("_")


def _code(name: str) -> CodeType | None:
    """The code of a function or class that is written in Python; None for one in C."""
    found: Any = locate(name)
    if found is None:
        raise ValueError(f"there is no {name} to exclude")
    found = getattr(found, "__init__", found) if isinstance(found, type) else found
    return getattr(inspect.unwrap(found), "__code__", None)


def short(name: str) -> str:
    """As a reader would write it: F.layer_norm, torch.linspace, Tensor.softmax."""
    for long, brief in [
        ("torch.nn.functional.", "F."),
        ("torch.nn.", "nn."),
        ("torch.Tensor.", "Tensor."),
        ("vitlib.", ""),
    ]:
        name = name.replace(long, brief) if name.startswith(long) else name
    return name
