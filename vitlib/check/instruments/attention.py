"""What the attention weights of any model must obey: rows that sum to 1, scores of deviation 1."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.check.instruments.asking import (
    check_question,
    copied,
    evaluated,
    is_norm,
    smaller_batch,
)
from vitlib.check.instruments.weights import AttentionSeen, attention_seen
from vitlib.check.report import Finding
from vitlib.palette import BLUE, GREY
from vitlib.plots import plot_finding

SUMS = 1e-3  # a sum of weights that is further from 1 is no rounding, in half precision neither
# Deviation of the scores where queries and keys have deviation 1. On right models it lies between
# 0.99 and 1.04 (benchmarks/instruments.json); 0.71 is D^-0.5 with two heads, 2 no scale at d = 4.
LOW, HIGH = 0.8, 1.4
DRAWS = 4  # of random weights, over which the deviation is taken


def attention_rows(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether the attention weights that each query multiplies with the values sum to 1.

    Works for every model whose weights come from PyTorch's softmax, also in fused kernels.

    Args:
        model: any module from images to logits. It is looked at in eval mode, and left as it is.
        images: at least 2, normalised as in training.

    `value` is the largest distance of a sum from 1. Raises ValueError for other arguments.
    """
    inner = evaluated(check_question(model, images))
    seen = attention_seen(inner, smaller_batch(inner, images, 2))
    if not seen:
        return _unseen("attention rows")
    sums = [one.weights.sum(dim=-1).flatten() for one in seen]
    values = [(each - 1).abs().max().item() for each in sums]
    value = max(values)
    sentence, cause = "The weights of each query sum to 1.", ""
    if is_found := not value < SUMS:
        sentence = "The weights that a query multiplies with the values do not sum to 1."
        cause = (
            "the softmax runs over another axis than the keys, or the weights are changed after it."
        )
    low, high = (
        f"{edge(each).item():.3g}"
        for edge, each in ((torch.min, torch.cat(sums)), (torch.max, torch.cat(sums)))
    )
    number = f"sums from {low} to {high} in {len(seen)} layers"
    return Finding(
        "attention rows", is_found, value, number, sentence, cause,
        partial(plot_finding, partial(_draw_sums, sums)),
    )  # fmt: skip


def entropy_by_depth(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether the scores are scaled such that attention is neither saturated nor blind.

    Draws the entropy of each layer's weights, as a share of the highest one, ln T, which equal
    weights have. How low it may be depends on the weights. So what decides is measured on a copy
    whose matrices are drawn anew, with deviation 1/√(inputs) (LeCun et al., Efficient BackProp,
    1998): queries and keys then have deviation 1, and q · k / √d has it, too (Vaswani et al. 2017,
    section 3.2.1).

    Takes what `attention_rows` does. `value` is the deviation of the scores in the first layer that
    attends from all tokens to all. Raises ValueError for other arguments.
    """
    inner = evaluated(check_question(model, images))
    images = smaller_batch(inner, images, 4)
    seen = [one for one in attention_seen(inner, images) if one.is_square]
    if not seen:
        return _unseen("attention entropy")
    shares = [entropy_share(one.weights) for one in seen]
    value = score_deviation(inner, images)
    number = f"scores of deviation {value:.2f} where 1 is right"
    means = ", ".join(f"{share:.2f}" for share in (shares[0], shares[-1]))
    sentence = (
        f"The scores have the right size: entropy {means} of the highest, first and last layer."
    )
    cause = ""
    if value > HIGH:
        sentence = "The scores are too large, so that the softmax saturates."
        cause = "they are not divided by √d, d the width of a head, or multiplied by it."
    if value < LOW:
        sentence = "The scores are too small, so that attention is flatter than it should be."
        cause = "they are divided by the root of the whole width D, or divided twice."
    return Finding(
        "attention entropy", not LOW <= value <= HIGH, value, number, sentence, cause,
        partial(plot_finding, partial(_draw_entropies, seen)),
    )  # fmt: skip


def entropy_share(weights: Float[Tensor, "... T S"]) -> float:
    """Mean entropy of the rows, as a share of ln S."""
    entropies = -torch.xlogy(weights, weights).sum(dim=-1)
    return entropies.mean().item() / math.log(weights.shape[-1])


def score_deviation(model: nn.Module, images: Float[Tensor, "B C H W"]) -> float:
    """Root mean square of the first square attention's scores, with weights of known size."""
    squares = []
    for seed in range(DRAWS):
        copy = copied(model)
        draw_weights(copy, seed)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(images.shape, generator=generator).to(images)
        scores = next(one.scores for one in attention_seen(copy, noise) if one.is_square)
        squares.append(scores[scores.isfinite()].square().mean())
    return torch.stack(squares).mean().sqrt().item()


@torch.no_grad()
def draw_weights(model: nn.Module, seed: int) -> None:
    """Every matrix and kernel from a normal distribution of deviation 1/√(inputs), biases 0.

    Tokens, whose first axis is 1, get deviation 0.1: many start so small that the eps of a norm
    would hide them. PyTorch's norms get the factors 1 that they start with: trained ones would
    scale queries and keys. Factors of other norms and the like stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if is_norm(module):
            if isinstance(module, nn.LayerNorm | nn.RMSNorm):
                module.reset_parameters()
            continue
        is_layer = isinstance(module, nn.Linear | nn.Conv2d | nn.MultiheadAttention)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim >= 2:
                noise = torch.randn(parameter.shape, generator=generator)
                inputs = parameter[0].numel() if is_layer else min(parameter.shape[-2:])
                is_token = not is_layer and parameter.shape[0] == 1
                parameter.copy_(0.1 * noise if is_token else noise / math.sqrt(inputs))
            elif name.endswith("bias"):
                parameter.zero_()


def _unseen(name: str) -> Finding:
    sentence = (
        "No attention over tokens was seen: the model has none, or none by PyTorch's softmax."
    )
    return Finding(name, None, 0.0, "no softmax", sentence)


def _draw_sums(sums: Sequence[Tensor], axes: Any) -> None:
    for layer, each in enumerate(sums):
        axes.plot(
            [layer, layer], [each.min(), each.max()], color=BLUE, linewidth=4, solid_capstyle="butt"
        )
        axes.plot(layer, each.mean(), "o", color=BLUE, markersize=5)
    axes.axhline(1, color=GREY, linewidth=0.8)
    top = max(2.0, *(1.05 * each.max().item() for each in sums))
    axes.set(
        xlabel="layer", ylabel="sum of a query's weights", xticks=range(len(sums)), ylim=(0, top)
    )


def _draw_entropies(seen: Sequence[AttentionSeen], axes: Any) -> None:
    for layer, one in enumerate(seen):
        rows = -torch.xlogy(one.weights, one.weights).sum(dim=-1).flatten(0, -2)
        shares = rows.mean(dim=-1) / math.log(one.weights.shape[-1])  # of each head and image
        axes.plot([layer] * len(shares), shares, "o", color=BLUE, alpha=0.3, markersize=4)
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axes.set(
        xlabel="layer", ylabel="entropy / ln T", xticks=range(len(seen)), ylim=(0, 1.05),
        title="each dot is one head",
    )  # fmt: skip
