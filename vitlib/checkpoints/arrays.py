"""One value of a state dict as a tensor: torch's as it is, numpy's copied, others refused."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_MANY = 2**24  # numbers; below this, a tensor that repeats its storage costs little


def is_tensor(value: Any) -> bool:
    """Whether `value` is a tensor or a numpy array."""
    return isinstance(value, Tensor | np.ndarray)


def as_tensor(name: str, value: Any) -> Tensor:
    """`value` as a tensor: a tensor as it is, a numpy array copied.

    Raises a ValueError that calls it `name` for anything else, for arrays of no numbers, and for
    tensors that are sparse or claim many more numbers than the file holds.
    """
    if isinstance(value, Tensor):
        return _check_storage(name, value.detach())
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} is not a tensor but {type(value).__name__}: {value!r:.60}")
    if value.dtype.kind == "V" and value.dtype.itemsize == 2:  # numpy has no bfloat16 of its own
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    if value.dtype.kind not in "fiubc":
        raise ValueError(f"{name} holds {value.dtype}, expected floating-point weights")
    return torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))  # a copy


def _check_storage(name: str, tensor: Tensor) -> Tensor:
    """Refuse what would only become large, or fail, once its numbers are used."""
    if tensor.layout is not torch.strided:
        raise ValueError(f"{name} is a sparse tensor: save it as a dense one, tensor.to_dense()")
    if tensor.is_meta or tensor.is_quantized or tensor.numel() <= _MANY:
        return tensor
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if stored < tensor.numel():
        raise ValueError(
            f"{name} claims {tensor.numel():,} numbers, shape {tuple(tensor.shape)}, and the file "
            f"holds {stored:,} for it: no weights are stored like this"
        )
    return tensor
