"""Translating names: other libraries' state dicts into timm's names, which are vitlib's.

    state dict -> out of its wrappers -> whose names? -> name by name through one table -> weights

Each whole name is looked up in the table of its dialect, where at most one row fits it. Names that
no row knows pass unchanged, so that the loader can report them. The tables are in tables.py.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitlib.checkpoints.arrays import as_tensor
from vitlib.checkpoints.known_settings import GATED
from vitlib.checkpoints.tables import (
    DIALECTS,
    VIT_PYTORCH,
    Dialect,
    Row,
    compiled,
    parts_of,
    table_of,
)
from vitlib.checkpoints.wrappers import Anchor, UnwrappedWeights, sample, unwrap_weights
from vitlib.wording import first_few

SOURCES = ("timm", "deit", "hf", "torchvision", "google_npz")
StateDict = Mapping[str, Any]  # tensors or numpy arrays, perhaps within a wrapper


@dataclass(frozen=True)
class Translation:
    """A state dict under timm's names, and what was done to get it.

    Attributes:
        source: whose names they were, one of SOURCES.
        weights: the tensors under timm's names.
        origins: timm's name -> the names in the file; three if q, k and v were joined.
        operations: timm's name -> what was done to the numbers: "" if it was only renamed,
            "joined", "transposed", "transposed, joined", "reshaped", "unstacked, ...".
        extra: names that no rule knows; their tensors are in `weights` under the same name.
        left_out: names in the file that have no place in the model -> why.
        wrappers: what was taken off: '["model"]', '"module."', '"_orig_mod."', 'prefix "vit."'.
        guesses: sentences about what the names do not tell for certain.
        odd_head: names in the file of a head that is not one linear layer on one token; `extra` has
            them, too.
    """

    source: str
    weights: dict[str, Tensor]
    origins: dict[str, tuple[str, ...]]
    operations: dict[str, str]
    extra: tuple[str, ...]
    left_out: dict[str, str]
    wrappers: tuple[str, ...]
    guesses: tuple[str, ...] = ()
    odd_head: tuple[str, ...] = ()


def convert_state_dict(state_dict: StateDict, source: str = "auto") -> dict[str, Tensor]:
    """The weights under timm's names, which are vitlib's: `translate(...).weights`.

    Raises ValueError where `translate` does.
    """
    return translate(state_dict, source).weights


def detect_source(state_dict: StateDict) -> str:
    """Whose names the weights have, one of SOURCES.

    DeiT's files use timm's names, so the answer is "deit" only if some part shows it (a
    distillation token, DeiT III's gammas, DINOv2's registers, a mask token), and else "timm".

    Raises ValueError for vit-pytorch's weights, saying why no standard ViT can hold them, for names
    that fit no dialect or several, and for anything but a state dict.
    """
    return _detect(_unwrap(state_dict).values)


def translate(state_dict: StateDict, source: str = "auto") -> Translation:
    """The weights under timm's names, with a record of what was done to each.

    Args:
        state_dict: tensors or numpy arrays by name, as the file holds them: also within other
            dictionaries, and under any prefix. Where a file holds several models, such as a student
            and a teacher, `guesses` says which one was taken.
        source: one of SOURCES; "auto" detects it by the names.

    Position embeddings stay as they are in the file: which tokens have a slot in them is for the
    loader to find out. Half precision is kept, too.
    Raises ValueError, naming the tensor, for q without k or v, for two names of one tensor, for
    values that are not tensors of real numbers, and for axes that are not the dialect's; and for
    models that a standard ViT cannot hold (attention pooling, convolutional stems).
    """
    if source not in ("auto", *SOURCES):
        raise ValueError(f'source must be "auto" or one of {SOURCES}, got {source!r}')
    # out of its wrappers
    values, wrappers, left_out, guesses = _unwrap(state_dict)
    # whose names?
    source = _detect(values) if source == "auto" else source
    dialect = DIALECTS[source]
    patterns = [*dialect.signature, *(row.pattern for row in dialect.rows)]
    prefix = _prefix(dialect, patterns, values) or ""
    if prefix:
        wrappers = [*wrappers, f'prefix "{prefix}"']
    dialect = table_of(source, [name.removeprefix(prefix) for name in values])

    # name by name through one table
    pieces: dict[str, list[_Piece]] = {}
    heads: dict[str, list[tuple[str, Tensor]]] = {}  # of other names than the table has
    extra, beside, odd_head = list[str](), list[str](), list[str]()
    for name, (origin, value) in values.items():
        if dialect.outside and not name.startswith(prefix):
            left_out[origin] = dialect.outside
        elif reason := _reason(dialect.left_out, name.removeprefix(prefix)):
            left_out[origin] = reason
        elif found := _look_up(dialect, name.removeprefix(prefix)):
            for target, piece in _pieces(*found, origin, as_tensor(origin, value)):
                pieces.setdefault(target, []).append(piece)
        elif reason := _reason(dialect.refused, name.removeprefix(prefix)):
            raise ValueError(f"VisionTransformer cannot hold this model ({origin}): {reason}")
        elif any(compiled(p).fullmatch(name.removeprefix(prefix)) for p in dialect.odd_heads):
            odd_head.append(origin)
            pieces.setdefault(origin, []).append(_Piece(origin, as_tensor(origin, value), ""))
        elif head := _head_of(dialect, name.removeprefix(prefix)):
            heads.setdefault(head, []).append((origin, as_tensor(origin, value)))
        elif prefix and not name.startswith(prefix):
            left_out[origin] = f'stands beside the model, which is under "{prefix}"'
            beside.append(origin)
        else:
            extra.append(name)
            whole = _Piece(origin, as_tensor(origin, value), operation="")
            pieces.setdefault(name, []).append(whole)
    if beside:
        guesses.append(
            f'Beside the model, which is under "{prefix}", the file holds {first_few(beside, 4)}: '
            "left out. If that is the model's head, it has to be copied by hand."
        )
    if pooler := [
        name for name in left_out if "pooler.dense." in name and "classifier" in left_out[name]
    ]:
        guesses.append(f"{pooler[0]} is left out: the classifier is taken to read the class token.")
    extra += odd_head
    for target, parts in heads.items():
        linear = None if f"{target}.weight" in pieces else _only_linear(parts)
        for origin, tensor in parts:
            kind = origin.rpartition(".")[2]
            place = f"{target}.{kind}" if linear else origin
            pieces.setdefault(place, []).append(_Piece(origin, tensor, operation=""))
        if linear:
            guesses.append(
                f"{linear} is taken for the head. What stands beside it without weights, such as "
                "an activation, the file does not tell."
            )
        else:
            extra += [origin for origin, _ in parts]
            odd_head += [origin for origin, _ in parts if f"{target}.weight" not in pieces]
    if len(extra) == len(pieces):
        raise ValueError(
            f'source="{source}" means names such as {dialect.signature[0]}, and the weights hold '
            f"none of them: {sample(values)}"
        )

    # weights
    joined = {target: _join(target, found) for target, found in pieces.items()}
    _refuse_gated(joined)
    return Translation(
        source=source,
        weights={target: whole.tensor for target, whole in joined.items()},
        origins={
            target: tuple(piece.origin for piece in sorted(found, key=lambda piece: piece.part))
            for target, found in pieces.items()
        },
        operations={target: whole.operation for target, whole in joined.items()},
        extra=tuple(extra),
        left_out=left_out,
        wrappers=tuple(wrappers),
        guesses=tuple(guesses),
        odd_head=tuple(odd_head),
    )


def _refuse_gated(found: Mapping[str, "_Piece"]) -> None:
    """Raise a ValueError if the MLP's first layer makes twice what the second takes in.

    timm's gated MLPs have an ordinary one's names.
    """
    first, second = (found.get(f"blocks.0.mlp.{layer}.weight") for layer in ("fc1", "fc2"))
    if first is None or second is None or not first.tensor.ndim == second.tensor.ndim == 2:
        return
    if first.tensor.shape[0] == 2 * second.tensor.shape[1]:
        raise ValueError(f"VisionTransformer cannot hold this model ({first.origin}): {GATED}")


def _head_of(dialect: Dialect, name: str) -> str | None:
    """timm's name of the head that `name` belongs to, if it is within one of the head's modules."""
    return next((t for module, t in dialect.heads.items() if name.startswith(f"{module}.")), None)


def _only_linear(parts: list[tuple[str, Tensor]]) -> str | None:
    """The weight of a head that consists of one linear layer and parts without weights."""
    weights = [name for name, tensor in parts if name.endswith(".weight") and tensor.ndim == 2]
    if len(weights) != 1:
        return None
    layer = weights[0].removesuffix(".weight")
    return weights[0] if {n for n, _ in parts} <= {weights[0], f"{layer}.bias"} else None


class _Piece(NamedTuple):
    """A translated tensor: a whole one, or number `part` of the `parts` that are to be joined."""

    origin: str
    tensor: Tensor
    operation: str  # what was done to it
    part: int = 0
    parts: tuple[str, ...] = ()


def _look_up(dialect: Dialect, name: str) -> tuple[Row, re.Match[str]] | None:
    for row in dialect.rows:
        if match := compiled(row.pattern).fullmatch(name):
            return row, match
    return None


def _reason(reasons: Mapping[str, str], name: str) -> str | None:
    fitting = (why for pattern, why in reasons.items() if compiled(pattern).fullmatch(name))
    return next(fitting, None)


def _pieces(
    row: Row, match: re.Match[str], origin: str, tensor: Tensor
) -> Iterator[tuple[str, _Piece]]:
    """Pairs (timm's name, piece): one, or one per block if the file stacks all blocks."""
    description, axes, apply = row.operation
    groups = match.groupdict()
    words = parts_of(row.pattern)
    part = words.index(groups["part"]) if words else 0
    stacked = "{i}" in row.target and "i" not in groups
    if not tensor.is_floating_point():
        raise ValueError(f"{origin} holds {tensor.dtype}, expected floating-point weights")
    expected = (("blocks",) if stacked else ()) + (axes or ())
    if axes is not None and tensor.ndim != len(expected):
        raise ValueError(
            f"{origin} has shape {tuple(tensor.shape)}, expected ({', '.join(expected)})"
        )
    for i, one in enumerate(tensor if stacked else [tensor]):
        moved = apply(one)
        done = ["unstacked" if stacked else "", description if moved is not one else ""]
        target = row.target.format(**{"i": i, **groups})
        yield target, _Piece(origin, moved, ", ".join(filter(None, done)), part, words)


def _join(target: str, pieces: list[_Piece]) -> _Piece:
    """Join the parts of one tensor in their order.

    Raises ValueError if a part is missing, comes twice, or has another shape than the others.
    """
    by_part = {piece.part: piece for piece in pieces}
    if len(by_part) < len(pieces):
        raise ValueError(f"{' and '.join(p.origin for p in pieces)} all give {target}")
    first = pieces[0]
    if not first.parts:
        return first._replace(tensor=first.tensor.contiguous())
    own = first.parts[first.part]
    lacking = [
        # The last such word is the module's own name, whatever comes before it.
        word.join(first.origin.rsplit(own, 1))
        for number, word in enumerate(first.parts)
        if number not in by_part
    ]
    if lacking:
        raise ValueError(
            f"{target} joins {', '.join(first.parts)}; the file has {first.origin}, but no "
            f"{' and no '.join(lacking)}"
        )
    shapes = {tuple(piece.tensor.shape) for piece in pieces}
    if len(shapes) > 1:
        each = ", ".join(f"{p.origin} {tuple(p.tensor.shape)}" for p in pieces)
        raise ValueError(f"{target} joins tensors of one shape, got {each}")
    parts = [by_part[number].tensor for number in range(len(first.parts))]
    types = sorted({str(part.dtype).removeprefix("torch.") for part in parts})
    joined = "joined" + (f" from {' and '.join(types)}" if len(types) > 1 else "")
    return first._replace(
        tensor=torch.cat(parts), operation=", ".join(filter(None, [first.operation, joined]))
    )


# --- Whose names? ---------------------------------------------------------------------------------


def _unwrap(state_dict: StateDict) -> UnwrappedWeights:
    return unwrap_weights(state_dict, (_anchors(0, 1), _anchors(1, None)))


@cache
def _anchors(start: int, end: int | None) -> tuple[Anchor, ...]:
    """Part of each signature, as the end of a name: first that of the patches, then the others."""
    dialects = [dialect for source, dialect in DIALECTS.items() if source != "deit"]
    return tuple(
        (re.compile(rf"(?:^|(?<=[./]))(?:{compiled(pattern).pattern})$"), dialect.prefixes)
        for dialect in (*dialects, VIT_PYTORCH)
        for pattern in dialect.signature[start:end]
    )


def _detect(names: Iterable[str]) -> str:
    names = list(names)
    found = [source for source in SOURCES if _is_from(DIALECTS[source], names)]
    if "deit" in found and "timm" in found:
        found.remove("timm")  # DeiT's files hold timm's names, and more
    if not found and _is_from(VIT_PYTORCH, names):
        _refuse_vit_pytorch(names)
    if len(found) == 1:
        return found[0]
    looked_for = ", ".join(
        f"{dialect.signature[0]} ({dialect.title})"
        for source, dialect in DIALECTS.items()
        if source != "deit"  # it has timm's names
    )
    known = f"the names of {' and '.join(found)} at once" if found else "no names of a known ViT"
    raise ValueError(
        f"the weights have {known}: looked for {looked_for}, and found {sample(names)}"
    )


def _is_from(dialect: Dialect, names: Iterable[str]) -> bool:
    return _prefix(dialect, dialect.signature, names) is not None


def _prefix(dialect: Dialect, patterns: Iterable[str], names: Iterable[str]) -> str | None:
    """The prefix of the names that fit one of the patterns; None if no name fits any."""
    for prefix in (*dialect.prefixes, ""):
        for pattern in patterns:
            for name in names:
                if name.startswith(prefix) and compiled(pattern).fullmatch(name, len(prefix)):
                    return prefix
    return None


def _refuse_vit_pytorch(names: list[str]) -> None:
    # Since the end of 2022 there is a norm on either side of the patches' linear layer.
    norms = any(re.fullmatch(r"to_patch_embedding\.3\.\w+", name) for name in names)
    reason = (
        "it normalises each patch before and after its projection, where a standard ViT has no "
        "norm, so no ViT in timm's manner gives its outputs"
        if norms
        else "its patches are flattened as (p1 p2 c), channels last, and its q, k and v have no "
        "bias, so its weights would have to be reordered by hand"
    )
    raise ValueError(f"these are weights of vit-pytorch, which cannot be loaded: {reason}")
