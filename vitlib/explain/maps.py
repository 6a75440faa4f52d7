"""From attention weights to maps and numbers: tensor arithmetic, without a forward pass.

Tokens are in VisionTransformer's order: [class, distillation, registers, patches row by row]. All
but the patches are prefix tokens, which have no place in the image; `model.num_prefix_tokens` says
how many there are.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.matching import as_vision_transformer
from vitlib.patch import Size, pair
from vitlib.wording import check_count, check_rate

_FUSIONS: dict[str, Callable[..., Tensor]] = {
    "mean": torch.mean, "max": torch.amax, "min": torch.amin,
}  # fmt: skip


def tokens_to_grid(
    values: Float[Tensor, "*batch T"], grid_size: Size, num_prefix_tokens: int = 1
) -> Float[Tensor, "*batch gh gw"]:
    """Values per token, (..., T), laid out as the patches are in the image: (..., rows, columns).

    The values of prefix tokens are dropped.
    `grid_size` is (rows, columns) of patches, as in `model.grid_size`.
    Raises ValueError if the values are not exactly the prefix tokens and the patches.
    """
    rows, columns = _check_grid(values.shape[-1:], grid_size, num_prefix_tokens, "values")
    return values[..., num_prefix_tokens:].unflatten(-1, (rows, columns))


def read_by_head(
    matrix: Float[Tensor, "*batch T T"], model: nn.Module
) -> Float[Tensor, "*batch T"]:
    """The row of a matrix (..., T, T), with one row per token, that the model's head reads.

    That is the class token's row. For a distilled model it is the mean of the class token's and the
    distillation token's rows; with global_pool="avg", whose head does not read the class token, the
    mean of the patches' rows. It works for attention weights and for both kinds of rollout.
    Raises ValueError if `model` is not a VisionTransformer, and for a matrix that is not square or
    has no rows for patches.
    """
    model = as_vision_transformer(model)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"expected a matrix (..., T, T), got shape {tuple(matrix.shape)}")
    prefix = model.num_prefix_tokens
    if matrix.shape[-1] <= prefix:
        raise ValueError(
            f"the model has {prefix} prefix tokens and patches, the matrix only "
            f"{matrix.shape[-1]} rows"
        )
    if model.global_pool == "avg":
        return matrix[..., prefix:, :].mean(dim=-2)
    return matrix[..., : 2 if model.distilled else 1, :].mean(dim=-2)


def attention_rollout(
    attention: Float[Tensor, "B L H T T"], head_fusion: str = "mean", discard_ratio: float = 0.0
) -> Float[Tensor, "B T T"]:
    """How much of each input token would arrive at each output token if attention were everything.

    In each layer, heads are fused into one matrix A by "mean", "max" or "min"; the residual
    connection is the identity I; and the rows of A + I are divided by their sums. With "mean" these
    are 2, and the step is the paper's 0.5 A + 0.5 I. The layers' matrices are multiplied, the last
    one leftmost. The rows of the result sum to 1. Values, MLPs and the head are ignored, so a
    rollout is the same for every class.

    `discard_ratio` sets that share of each fused matrix's weights to 0, the smallest first, before
    I is added. Two kinds are exempt and not counted: the weights on the class token (column 0) and
    those of a token on itself (the diagonal). Of the (T - 1)² others, floor(ratio · (T - 1)²) are
    discarded; weights equal to the smallest one that is kept are kept, too. A row that loses all of
    its other weights consists of the exempt two and I.

    `attention` holds all layers in forward order, as `AttentionRecorder` returns them.
    Raises ValueError for another shape, an unknown fusion, a ratio outside [0, 1), and weights
    that are negative or whose rows do not sum to 1: they are then scores instead of weights, or
    have been cut, and a rollout of them would mean nothing.
    Source: Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3.
    """
    if head_fusion not in _FUSIONS:
        raise ValueError(f'head_fusion must be "mean", "max" or "min", got {head_fusion!r}')
    check_rate("discard_ratio", discard_ratio)
    _check_attention(attention)
    attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
    sums = attention.sum(dim=-1)
    if (sums - 1).abs().max() > 0.01:  # half precision rounds to 0.002; dropout changes far more
        raise ValueError(
            f"rows of attention must sum to 1, got sums from {sums.min():.4g} to {sums.max():.4g}"
        )
    fuse = _FUSIONS[head_fusion]
    fused = _without_smallest(fuse(attention, dim=2), discard_ratio)  # (B, L, T, T)
    mixed = fused + torch.eye(fused.shape[-1], dtype=fused.dtype, device=fused.device)
    mixed = mixed / mixed.sum(dim=-1, keepdim=True)
    first, *later = mixed.unbind(dim=1)
    rollout = first
    for layer in later:
        rollout = layer @ rollout  # (B, T, T)
    return rollout


def principal_components(
    tokens: Float[Tensor, "*batch N D"], count: int = 3
) -> Float[Tensor, "*batch N count"]:
    """Coordinates of N tokens along the first principal components of their own variation.

    The tokens are centred, and the components sorted by variance. A component's sign, which is
    arbitrary, is chosen so that its largest magnitude is positive. Components in which the tokens
    do not differ are 0. `tokens` are usually the patch tokens of one image.

    Raises ValueError for numbers that are not finite, and for a count that is not from 1 to D.
    Source: Oquab et al. 2023, "DINOv2: Learning Robust Visual Features without Supervision",
    figure 1, there of several images together.
    """
    check_count("count", count)
    if tokens.ndim < 2 or not tokens.isfinite().all():
        what = f"shape {tuple(tokens.shape)}" if tokens.ndim < 2 else "NaN or infinity"
        raise ValueError(f"expected finite tokens (..., N, D), got {what}")
    if count > tokens.shape[-1]:
        raise ValueError(f"tokens of width {tokens.shape[-1]} have no {count} components")
    precise = tokens.double()
    centred = precise - precise.mean(dim=-2, keepdim=True)
    variances, directions = torch.linalg.eigh(centred.mT @ centred)  # from the smallest variance up
    coordinates = (centred @ directions[..., -count:]).flip(-1)  # (..., N, count)
    rounding = 1e-10 * precise.square().sum(dim=(-2, -1))  # (...)
    kept = variances[..., -count:].flip(-1) > rounding[..., None]
    largest = coordinates.gather(-2, coordinates.abs().argmax(dim=-2, keepdim=True))
    precision = torch.promote_types(tokens.dtype, torch.float32)
    return (coordinates * largest.sign() * kept[..., None, :]).to(precision)


def attention_distance(
    attention: Float[Tensor, "B L H T T"],
    grid_size: Size,
    num_prefix_tokens: int = 1,
    patch_size: Size = 1,
) -> Float[Tensor, "B L H"]:
    """How far a head looks: the mean distance from a query patch to the patches it attends to.

    Distances are between the centres of patches: in pixels if `patch_size` (a side, or height and
    width) is given, else in patches. They are weighted by the attention among patches, divided by
    its sum. The mean is over query patches; a query whose weight on patches is exactly 0 is left
    out, and a head with only such queries gets NaN.
    Raises ValueError if the shapes do not fit, or for negative weights.
    Sources: Dosovitskiy et al. 2021, figure 7 right; Raghu et al. 2021, "Do Vision Transformers
    See Like Convolutional Neural Networks?", section 4.
    """
    _check_attention(attention)
    rows, columns = _check_grid(attention.shape[-1:], grid_size, num_prefix_tokens, "tokens")
    height, width = pair(patch_size, "patch_size")
    attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
    y = torch.arange(rows, device=attention.device).repeat_interleave(columns) * height  # (N,)
    x = torch.arange(columns, device=attention.device).repeat(rows) * width
    distance = torch.hypot(
        (y[:, None] - y).to(attention.dtype), (x[:, None] - x).to(attention.dtype)
    )  # (N, N)
    patches = attention[..., num_prefix_tokens:, num_prefix_tokens:]  # (B, L, H, N, N)
    means = (patches * distance).sum(dim=-1) / patches.sum(dim=-1)  # (B, L, H, N)
    return means.nanmean(dim=-1)


def _without_smallest(fused: Tensor, ratio: float) -> Tensor:
    """Set the smallest weights of each matrix (T, T) to 0, except in column 0 and the diagonal."""
    tokens = fused.shape[-1]
    count = int(ratio * (tokens - 1) ** 2)
    if not count:
        return fused
    others = ~torch.eye(tokens, dtype=torch.bool, device=fused.device)
    others[:, 0] = False
    smallest_kept = fused[..., others].sort(dim=-1).values[..., count]  # (B, L)
    return fused.masked_fill(others & (fused < smallest_kept[..., None, None]), 0.0)


def _check_attention(attention: Tensor) -> None:
    shape = tuple(attention.shape)
    if len(shape) != 5 or shape[-1] != shape[-2] or not all(shape):
        raise ValueError(
            f"expected attention (B, L, H, T, T): image, layer, head, query, key; got shape {shape}"
        )
    if not attention.is_floating_point():
        raise ValueError(f"expected attention in floating point, got {attention.dtype}")
    if not attention.isfinite().all():
        raise ValueError("attention holds NaN or infinity")
    if attention.min() < 0:
        raise ValueError(f"attention must not be negative, got {attention.min():.4g}")


def _check_grid(
    shape: torch.Size, grid_size: Size, num_prefix_tokens: int, what: str
) -> tuple[int, int]:
    """(rows, columns); a ValueError unless these patches and the prefix tokens make up `shape`."""
    rows, columns = pair(grid_size, "grid_size")
    if num_prefix_tokens < 0:
        raise ValueError(f"num_prefix_tokens must not be negative, got {num_prefix_tokens}")
    (count,) = shape or (0,)
    expected = num_prefix_tokens + rows * columns
    if count != expected:
        raise ValueError(
            f"{num_prefix_tokens} prefix tokens and {rows}×{columns} patches make {expected} "
            f"{what}, got {count}: see model.num_prefix_tokens and model.grid_size"
        )
    return rows, columns
