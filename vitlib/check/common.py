"""What the cases in which an answer is wrong have in common, where no known mistake is found."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vitlib.check.compare import difference, same_tensors
from vitlib.check.observing import Observation
from vitlib.check.relations import kinds


def in_common(yours: Sequence[Observation], target: Sequence[Observation]) -> str:
    """What all cases that differ have in common, where that says what is wrong; else nothing."""
    both = [
        (mine.result, difference(mine.result, r.result))
        for mine, r in zip(yours, target, strict=True)
    ]
    wrong = [(result, found.text) for result, found in both if found is not None]
    if not wrong:
        return ""
    if all(result is None for result, _ in wrong):
        return "Nothing comes back: a `return` is missing."
    if all(text.startswith("the shape is") and "would be right" in text for _, text in wrong):
        return "The numbers are right, and their axes are not."
    if all(_is_listed(m.result, r.result) for m, r in zip(yours, target, strict=True)):
        return "The numbers are right, but they come back in a list, and a tensor is asked for."
    factors = {next(iter(re.findall(r"^every number is (\S+) times", t)), "") for _, t in wrong}
    if len(wrong) > 1 and len(factors) == 1 and (factor := factors.pop()):
        return f"In every case, all numbers are {factor} times what they should be."
    results = [(mine.result, r.result) for mine, r in zip(yours, target, strict=True)]
    right = [found is None for _, found in both]
    if _only_square([t for _, t in results], right):
        return (
            "It is right where height and width are equal, and nowhere else: one of the two stands "
            "where the other should, or for both."
        )
    return _kind([pair for pair, is_right in zip(results, right, strict=True) if not is_right])


def _is_listed(yours: Any, target: Any) -> bool:
    """Whether a list holds what should be a tensor; the dtype of plain numbers does not count."""
    if not (isinstance(yours, list | tuple) and isinstance(target, Tensor)):
        return False
    try:
        parts = [torch.as_tensor(part, dtype=target.dtype) for part in yours]
        return same_tensors(torch.stack(parts), target.detach())
    except (TypeError, ValueError, RuntimeError):
        return False


def _only_square(target: Sequence[Any], right: Sequence[bool]) -> bool:
    """Whether just those cases are right in which the last two axes are of one length."""
    if not all(isinstance(t, Tensor) and t.ndim > 2 for t in target):
        return False
    square = [t.shape[-1] == t.shape[-2] for t in target]
    return square == list(right) and 0 < sum(right) < len(right) - 1


def _kind(wrong: Sequence[tuple[Any, Any]]) -> str:
    """The first kind of difference that all wrong results show; one case says too little."""
    if len(wrong) < 2 or not all(isinstance(t, Tensor) for pair in wrong for t in pair):
        return ""
    first, *others = [list(kinds(mine.detach(), right.detach())) for mine, right in wrong]
    shared = [kind for kind in first if all(kind in other for other in others)]
    return f"In every case that differs, {shared[0]}." if shared else ""
