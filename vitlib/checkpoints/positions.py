"""Position embeddings of a file in a model: tokens are matched by name, patches by their grid.

    pos_embed (1, slots + N, D):  [class | distillation | registers | N patches, row by row]

Not every file has a slot for every token: DeiT III and timm's no_embed_class have positions for
patches only, DINOv2 for the class token and patches but not for registers. A token without a slot
gets a position of zeros, which is exact, since the source adds nothing to it; and where the model
has positions for patches only, the token's position is added to the token.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitlib.pos_embed import resample_pos_embed

Grid = tuple[int, int]
_LAYOUTS = (("cls_token", "dist_token", "reg_token"), ("cls_token", "dist_token"), ())


@dataclass(frozen=True)
class Layout:
    """Which vectors of a pos_embed belong to which token, and the grid of the patches' vectors."""

    slots: dict[str, slice]
    grid: Grid


def layout_of(weights: Mapping[str, Tensor], grids: Sequence[Grid] = ()) -> Layout:
    """The layout of weights["pos_embed"], by the first of `grids` that fits, or else a square grid.

    Raises ValueError if the number of vectors fits none of them.
    """
    stored = weights["pos_embed"]
    if stored.ndim != 3:
        raise ValueError(f"pos_embed has shape {tuple(stored.shape)}, expected (1, T, D)")
    length = stored.shape[1]
    tokens = {name: weights[name] for name in _LAYOUTS[0] if name in weights}
    counts = {name: token.shape[1] for name, token in tokens.items() if token.ndim == 3}
    slots = []
    for names in _LAYOUTS:
        taken = {name: counts[name] for name in names if name in counts}
        if taken not in slots:
            slots.append(taken)
    left = {i: length - sum(taken.values()) for i, taken in enumerate(slots)}
    known = [(i, grid) for grid in grids for i in left if math.prod(grid) == left[i]]
    sides = {i: math.isqrt(max(n, 0)) for i, n in left.items()}
    square = [(i, (side, side)) for i, side in sides.items() if side and side**2 == left[i]]
    for i, grid in (*known, *square):
        ends = torch.tensor([0, *slots[i].values()]).cumsum(0).tolist()
        places = dict(zip(slots[i], map(slice, ends, ends[1:]), strict=False))
        return Layout(places, (grid[0], grid[1]))
    tried = " or ".join(f"{rows}×{columns}" for rows, columns in grids)
    raise ValueError(
        f"pos_embed has {length} vectors, which fill no square grid of patches besides the tokens "
        f"{', '.join(counts) or '(none)'}" + (f", nor one of {tried}" if tried else "") + ": the "
        "grid of an image that is not square must be known, from config.json or the model's "
        "img_size"
    )


def fit_positions(
    theirs: Mapping[str, Tensor],
    source: Layout,
    ours: Mapping[str, Tensor],
    target: Layout,
    antialias: bool = True,
) -> Float[Tensor, "1 T D"]:
    """The file's pos_embed in the model's layout, (1, T, D), resampled if the grids differ.

    A token that the model has and the file does not keeps the model's position. What is resampled
    is first brought to the model's precision, if the file's is lower, as transformers does it.
    """
    stored, own = theirs["pos_embed"], ours["pos_embed"]
    if source.grid != target.grid:
        stored = stored.to(torch.promote_types(stored.dtype, own.dtype))
    vectors = []
    for name, place in target.slots.items():
        vector = own[:, place].to(stored)
        if name in theirs and theirs[name].shape == ours[name].shape:
            has_slot = name in source.slots
            vector = stored[:, source.slots[name]] if has_slot else torch.zeros_like(vector)
        vectors.append(vector)
    patches = stored[:, _first_patch(source) :]
    patches = resample_pos_embed(patches, target.grid, source.grid, 0, antialias)
    return torch.cat([*vectors, patches], dim=1)


def fold_positions(
    theirs: Mapping[str, Tensor], source: Layout, ours: Mapping[str, Tensor], target: Layout
) -> dict[str, Tensor]:
    """Tokens that have a position in the file and none in the model, with that position added.

    They have the model's precision, if the file's is lower.
    """
    precision = torch.promote_types(theirs["pos_embed"].dtype, ours["pos_embed"].dtype)
    stored = theirs["pos_embed"].to(precision)
    return {
        name: theirs[name].to(precision) + stored[:, place]
        for name, place in source.slots.items()
        if name not in target.slots and name in ours and theirs[name].shape == ours[name].shape
    }


def _first_patch(layout: Layout) -> int:
    return max((place.stop for place in layout.slots.values()), default=0)
