"""Unwrapping a file's weights: from training checkpoints, DataParallel, Lightning, compile.

A nested, prefixed state dict becomes a flat one, with a record of what was taken off.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # the first one found is taken
_PREFIXES = ("module.", "model.", "_orig_mod.")  # DataParallel, Lightning, torch.compile


class UnwrappedWeights(NamedTuple):
    """The weights without their wrappers, and a record of what was taken off and left out."""

    values: dict[str, tuple[str, Any]]  # name without wrappers -> (name in the file, value)
    wrappers: list[str]  # what was taken off, from the outside in
    left_out: dict[str, str]  # what else the file holds -> why it is left out


def unwrap_weights(state_dict: Mapping[str, Any]) -> UnwrappedWeights:
    """Find the weights in a state dict, however they are nested and prefixed.

    Raises ValueError for something that holds no weights, or those of several models.
    """
    wrappers: list[str] = []
    left_out: dict[str, str] = {}
    while key := _wrapper(state_dict):
        for other, value in state_dict.items():
            if other != key:
                left_out[str(other)] = (
                    f'another model\'s weights: ["{key}"] was taken'
                    if _holds_tensors(value)
                    else "no weights"
                )
        wrappers.append(f'["{key}"]')
        state_dict = state_dict[key]
    _check_state_dict(state_dict)

    names = {name: name for name in state_dict}  # name without prefixes -> name in the file
    while prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in names)), None):
        wrappers.append(f'"{prefix}"')
        names = {name.removeprefix(prefix): origin for name, origin in names.items()}
    if any("_orig_mod." in name for name in names):  # blocks compiled one by one
        wrappers.append('"_orig_mod."')
        names = {name.replace("_orig_mod.", ""): origin for name, origin in names.items()}
    return UnwrappedWeights({n: (o, state_dict[o]) for n, o in names.items()}, wrappers, left_out)


def _wrapper(state_dict: Any) -> str | None:
    """The key under which the weights are nested; None if they are not."""
    _check_state_dict(state_dict)
    inner = [key for key, value in state_dict.items() if _holds_tensors(value)]
    known = [key for key in _WRAPPERS if key in inner]
    if known or not inner or any(_is_tensor(value) for value in state_dict.values()):
        return known[0] if known else None
    if len(inner) > 1:
        raise ValueError(
            f"the file holds several models, {', '.join(map(repr, inner))}: give one of them, "
            f"state_dict[{inner[0]!r}]"
        )
    return inner[0]


def _check_state_dict(state_dict: Any) -> None:
    if not isinstance(state_dict, Mapping):
        hint = ": give its state_dict()" if hasattr(state_dict, "state_dict") else ""
        raise ValueError(
            f"expected weights by name, a state dict, got {type(state_dict).__name__}{hint}"
        )
    if not state_dict:
        raise ValueError("expected weights by name, a state dict, got an empty one")
    if strange := [key for key in state_dict if not isinstance(key, str)]:
        raise ValueError(f"weights are stored by name, got the key {strange[0]!r}")


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(key, str) and (_is_tensor(inner) or _holds_tensors(inner))
        for key, inner in value.items()
    )


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def as_tensor(name: str, value: Any) -> Tensor:
    """`value` as a tensor: a tensor as it is, a numpy array copied.

    Raises a ValueError that calls it `name` for anything else, and for arrays of no numbers.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} is not a tensor but {type(value).__name__}: {value!r:.60}")
    if value.dtype.kind == "V" and value.dtype.itemsize == 2:  # numpy has no bfloat16 of its own
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    if value.dtype.kind not in "fiubc":
        raise ValueError(f"{name} holds {value.dtype}, expected floating-point weights")
    return torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))  # a copy


def sample(names: Iterable[str]) -> str:
    """The first three names, and how many there are, for a message."""
    names = list(names)
    more = f", ... ({len(names)} names)" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
