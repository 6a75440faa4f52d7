"""How a VisionTransformer's weights are initialised: four schemes, under the names timm gave them.

    scheme       tokens, positions         Linear           patch conv   head
    ""           normal 0.02               normal 0.02      PyTorch's    as Linear
    "nlhb"       as ""                     as ""            as ""        0, bias −ln K
    "jax"        normal 0.02, but class 0  Xavier uniform   LeCun        0, bias 0
    "jax_nlhb"   as "jax"                  as "jax"         as "jax"     0, bias −ln K

The tokens are the class token, the distillation token and the registers. "normal 0.02" is a
normal distribution with standard deviation 0.02, truncated (at ±2, which is far away, as in timm
and DeiT). Linear biases are 0, except in the MLPs of the "jax" schemes, where they are normal with
standard deviation 1e-6. In every scheme LayerNorm starts as the identity, LayerScale at its
`init_values`, and the representation layer is LeCun normal.

A head bias of −ln K ("negative log head bias") makes each sigmoid 1/(K + 1) at the start, and
leaves softmax cross-entropy at ln K. Sources: timm's `_init_vit_weights` of 2021 (commit bfc72f75,
which forgot to pass the bias on for "nlhb") and, for "jax", Google's Flax code for Dosovitskiy et
al. 2021, which has separate matrices for queries, keys and values where timm and vitlib fuse them.
"""

import math

import torch
from torch import Tensor, nn

from vitlib.blocks import LayerScale
from vitlib.wording import did_you_mean

SCHEMES = ("", "jax", "jax_nlhb", "nlhb")


def lecun_normal(weight: Tensor) -> None:
    """Fill `weight` in place from a normal distribution of variance 1/fan_in, cut off at ±2 std.

    Cutting leaves 0.8796 of the standard deviation, so the distribution starts out wider.
    """
    std = weight[0].numel() ** -0.5 / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


@torch.no_grad()
def init_weights(model: nn.Module, scheme: str = "") -> None:
    """Initialise every parameter of a VisionTransformer in place, by one of `SCHEMES`.

    Raises ValueError for an unknown scheme.
    """
    if scheme not in SCHEMES:
        hint = did_you_mean(str(scheme), SCHEMES)
        message = f"unknown weight_init {scheme!r}: expected one of {SCHEMES}. {hint}"
        raise ValueError(message.rstrip(". "))
    jax = scheme.startswith("jax")

    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm | LayerScale):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            _init_linear(module, name, scheme)
        elif isinstance(module, nn.Conv2d):
            module.reset_parameters()
            if jax:
                lecun_normal(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    for name, parameter in model.named_parameters():
        if name in ("cls_token", "dist_token", "reg_token", "pos_embed"):
            nn.init.trunc_normal_(parameter, std=0.02)
            if jax and name == "cls_token":
                nn.init.zeros_(parameter)


def _init_linear(linear: nn.Linear, name: str, scheme: str) -> None:
    jax = scheme.startswith("jax")
    is_head = name in ("head", "head_dist")
    if name.startswith("pre_logits"):
        lecun_normal(linear.weight)
    elif is_head and scheme:
        nn.init.zeros_(linear.weight)
    elif jax:
        nn.init.xavier_uniform_(linear.weight)
    else:
        nn.init.trunc_normal_(linear.weight, std=0.02)

    if linear.bias is not None:
        if is_head and scheme.endswith("nlhb"):
            nn.init.constant_(linear.bias, -math.log(linear.out_features))
        elif jax and ".mlp." in f".{name}":
            nn.init.normal_(linear.bias, std=1e-6)
        else:
            nn.init.zeros_(linear.bias)
