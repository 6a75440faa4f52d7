"""Position embeddings: vectors that tell the model where each patch was.

    tokens (B, prefix + N, D) + positions (1, prefix + N, D) -> tokens

Attention treats its tokens as a set, so the only sign of where a patch was is a vector that is
added to its token. The vector is learned (a parameter of the model) or fixed (`sincos_2d`), and
`resample_pos_embed` fits either kind to another grid of patches.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitlib.patch import Size, pair


def sincos_2d(
    embed_dim: int, grid_size: Size, temperature: float = 10_000.0
) -> Float[Tensor, "N D"]:
    """Fixed sine and cosine position vectors for a grid of patches, (N, D), row by row.

    A quarter of the width goes to each of sin(x·ω), cos(x·ω), sin(y·ω) and cos(y·ω), where x is the
    column, y is the row, and ω falls geometrically from 1 towards 1/temperature.

    Raises ValueError if embed_dim is not a multiple of 4.
    Source: Vaswani et al. 2017, section 3.5, in the two-dimensional form of Chen et al. 2021
    (MoCo v3), section 5.
    """
    if embed_dim % 4:
        raise ValueError(f"sin-cos positions need an embed_dim divisible by 4, got {embed_dim}")
    rows, columns = pair(grid_size, "grid_size")
    quarter = embed_dim // 4
    omega = temperature ** (-torch.arange(quarter, dtype=torch.float64) / quarter)  # (D/4,)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    x_angles = x.reshape(-1, 1) * omega  # (N, D/4)
    y_angles = y.reshape(-1, 1) * omega
    angles = [x_angles.sin(), x_angles.cos(), y_angles.sin(), y_angles.cos()]
    return torch.cat(angles, dim=1).to(torch.get_default_dtype())


def resample_pos_embed(
    pos_embed: Float[Tensor, "1 old D"],
    new_size: Size,
    old_size: Size | None = None,
    num_prefix_tokens: int = 1,
    antialias: bool = True,
) -> Float[Tensor, "1 new D"]:
    """Fit position embeddings to another grid of patches by bicubic interpolation.

    The first `num_prefix_tokens` vectors have no place in the image and are kept as they are.
    `old_size` is the (rows, columns) grid that `pos_embed` was made for; None assumes a square.
    `antialias` says whether a smaller grid averages over the vectors that it leaves out, as in
    timm. DINOv2 without registers does not, and its weights give other features if this is on.

    Raises ValueError if the vectors do not fill the old grid.
    Source: Dosovitskiy et al. 2021, section 3.2 (fine-tuning at higher resolution).
    """
    new_rows, new_columns = pair(new_size, "new_size")
    prefix, patches = pos_embed[:, :num_prefix_tokens], pos_embed[:, num_prefix_tokens:]
    side = math.isqrt(patches.shape[1])
    old_rows, old_columns = (side, side) if old_size is None else pair(old_size, "old_size")
    if old_rows * old_columns != patches.shape[1]:
        raise ValueError(
            f"{pos_embed.shape[1]} position vectors, {num_prefix_tokens} of them for prefix, "
            f"do not fill a grid of {old_rows}×{old_columns}: give old_size=(rows, columns)"
        )
    if (old_rows, old_columns) == (new_rows, new_columns):
        return pos_embed
    dim = patches.shape[-1]
    grid = patches.reshape(1, old_rows, old_columns, dim).permute(0, 3, 1, 2)  # (1, D, rows, cols)
    # PyTorch has no half-precision kernel for this on the CPU.
    grid = grid.to(torch.promote_types(grid.dtype, torch.float32))
    size = (new_rows, new_columns)
    grid = F.interpolate(grid, size, mode="bicubic", antialias=antialias, align_corners=False)
    resampled = grid.flatten(2).transpose(1, 2).to(pos_embed.dtype)  # (1, new N, D)
    return torch.cat([prefix, resampled], dim=1)
