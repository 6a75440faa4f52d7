"""What a task leaves free: one number may be Python's, or in a tensor of any precision."""

from typing import Any

import torch
from torch import Tensor

from vitlib.check.exercise import Refused


def one_number(value: Any) -> Tensor:
    """The number that came back, in float32. Refuses a tensor with more of them, and a bool."""
    if isinstance(value, Tensor) and value.numel() != 1:
        shape = tuple(value.shape)
        raise Refused(f"a tensor of shape {shape} came back, and one number should")
    kind = str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else ""
    if isinstance(value, bool) or kind in ("bool", "int64"):
        kind = kind or "bool"
        raise Refused(f"a number of type {kind} came back, and one with a decimal point should")
    number = torch.tensor(float(value.detach() if kind else value), dtype=torch.float32)
    return number * 0 if abs(number) < 1e-6 else number  # the rest of a rounding
