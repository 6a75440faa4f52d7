"""The encoder block: attention mixes tokens, the MLP mixes channels, each added to its input.

    x (B, N, D) -> x + attention(norm1(x)) -> x + mlp(norm2(x))

Sources: Dosovitskiy et al. 2021, section 3.1, equations 2 and 3; stochastic depth: Huang et al.
2016; LayerScale: Touvron et al. 2021, "Going deeper with Image Transformers", section 2.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.attention import Attention
from vitlib.wording import check_count, check_rate

Layer = Callable[..., nn.Module]  # a module class, or a partial of one


class Mlp(nn.Module):
    """Two linear layers with an activation in between, applied to each token on its own.

    Args:
        in_features, hidden_features, out_features: widths; None means `in_features`.
        act_layer: class of the activation.
        drop: dropout after each of the two linear layers.

    Raises ValueError for a width below 1.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Layer = nn.GELU,
        drop: float = 0.0,
    ):
        super().__init__()
        hidden_features = in_features if hidden_features is None else hidden_features
        out_features = in_features if out_features is None else out_features
        check_count("in_features", in_features)
        check_count("hidden_features", hidden_features)
        check_count("out_features", out_features)
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_features, out_features)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch out"]:
        x = self.drop1(self.act(self.fc1(x)))  # (..., hidden)
        return self.drop2(self.fc2(x))


class DropPath(nn.Module):
    """Stochastic depth: in training, set a sample's whole branch to 0 with probability `drop_prob`.

    The branches that are kept are divided by 1 − drop_prob, so that the expected value stays the
    same. In eval mode nothing happens. Raises ValueError unless 0 ≤ drop_prob < 1.
    """

    def __init__(self, drop_prob: float = 0.0):
        super().__init__()
        check_rate("drop_prob", drop_prob)
        self.drop_prob = drop_prob

    def forward(self, x: Float[Tensor, "B *rest"]) -> Float[Tensor, "B *rest"]:
        if self.drop_prob == 0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        mask = torch.empty(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x * mask.bernoulli_(keep) / keep

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:.3f}"


class LayerScale(nn.Module):
    """Multiplies each channel by a learned factor.

    The factors all start at `init_values`; a small value keeps a new block close to the identity.
    """

    def __init__(self, dim: int, init_values: float = 1e-5):
        super().__init__()
        self.init_values = init_values
        self.gamma = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.gamma, self.init_values)

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        return x * self.gamma


class Block(nn.Module):
    """A pre-norm encoder block on tokens (B, N, D): x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        dim: width D.
        num_heads: number of attention heads, a divisor of D.
        mlp_ratio: hidden width of the MLP, as a multiple of D, rounded down.
        qkv_bias, qk_scale: as in `Attention`.
        drop: dropout after the projections; attn_drop: on the attention weights.
        drop_path: probability that a sample skips a branch in training.
        init_values: initial value of LayerScale; None leaves it out, as in ViT and DeiT.
        act_layer, norm_layer: classes (or partials of one), not instances.

    Raises ValueError where `Attention`, `Mlp` or `DropPath` does, and for an mlp_ratio that leaves
    no hidden channel.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        init_values: float | None = None,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = nn.LayerNorm,
    ):
        super().__init__()
        hidden_features = int(dim * mlp_ratio)
        if hidden_features < 1:
            raise ValueError(f"mlp_ratio {mlp_ratio} leaves no hidden channel at width {dim}")

        def scale() -> nn.Module:
            return nn.Identity() if init_values is None else LayerScale(dim, init_values)

        def skip() -> nn.Module:
            return DropPath(drop_path) if drop_path else nn.Identity()

        self.norm1 = norm_layer(dim)
        self.attn = Attention(
            dim, num_heads, qkv_bias=qkv_bias, qk_scale=qk_scale, attn_drop=attn_drop,
            proj_drop=drop,
        )  # fmt: skip
        self.ls1, self.drop_path1 = scale(), skip()
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, hidden_features, act_layer=act_layer, drop=drop)
        self.ls2, self.drop_path2 = scale(), skip()

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x))))
        x = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return x
