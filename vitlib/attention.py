"""Multi-head self-attention: each token takes in a weighted mean of all tokens' values.

The better a token's query matches another token's key, the more weight that token gets.

    tokens (B, N, D) -> q, k, v (B, H, N, d) -> weights (B, H, N, N) -> weights · v -> tokens

Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.wording import check_count


def attention_weights(
    q: Float[Tensor, "*batch N d"], k: Float[Tensor, "*batch M d"], scale: float | None = None
) -> Float[Tensor, "*batch N M"]:
    """softmax(q kᵀ · scale) over the keys: row i says how much token i takes from each token.

    `scale` None means 1/√d, which keeps the scores' variance near 1 whatever d is.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return ((q * scale) @ k.transpose(-2, -1)).softmax(dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention on tokens (B, N, D).

    One linear layer makes q, k and v for all heads: its 3D outputs are ordered (3, H, D/H).

    Args:
        dim: width D of a token.
        num_heads: H, a divisor of D.
        qkv_bias: whether q, k and v have a bias; ViT's do.
        qk_scale: factor on the scores; None means 1/√(D/H).
        attn_drop: dropout on the attention weights.
        proj_drop: dropout on the output.

    With `fused` True (the default) PyTorch's own kernel computes the attention, and the weights
    are never stored; with False they pass through `attn_drop`, where a hook can read them.
    Raises ValueError for a width or a number of heads below 1, and if num_heads does not divide
    dim.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ):
        super().__init__()
        check_count("dim", dim)
        check_count("num_heads", num_heads)
        if dim % num_heads:
            raise ValueError(f"num_heads must divide the width {dim}, got {num_heads}")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.scale = self.head_dim**-0.5 if qk_scale is None else qk_scale
        self.fused = True
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        q, k, v = rearrange(
            self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.num_heads
        )  # each (B, H, N, d)
        if self.fused:
            dropout = self.attn_drop.p if self.training else 0.0
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=self.scale)
        else:
            weights = attention_weights(q, k, self.scale)  # (B, H, N, N)
            out = self.attn_drop(weights) @ v  # (B, H, N, d)
        out = rearrange(out, "b h n d -> b n (h d)")
        return self.proj_drop(self.proj(out))


@contextmanager
def unfused(*models: nn.Module) -> Iterator[None]:
    """Inside the with block, the models compute attention step by step, not by the fused kernel.

    The weights are then tensors in the graph, which pass through `attn_drop` and have gradients.
    """
    modules = [m for model in models for m in model.modules() if hasattr(m, "fused")]
    before = [m.fused for m in modules]
    try:
        for module in modules:
            module.fused = False  # type: ignore[assignment]
        yield
    finally:
        for module, fused in zip(modules, before, strict=True):
            module.fused = fused
