"""How large the first weights are, whether layers start alike, and which axes a norm takes in."""

import math
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.check.instruments.asking import (
    check_question,
    evaluated,
    is_norm,
    logits,
    smaller_batch,
)
from vitlib.check.report import Finding
from vitlib.palette import BLUE, GREY, ORANGE
from vitlib.plots import plot_finding
from vitlib.wording import first_few

# Right models reach 0.49 of the larger of the two (benchmarks/instruments.json).
GAIN = 2.5  # deviation · √inputs of a matrix: 1.41 is He's
TOKEN = 0.7  # deviation of tokens and positions


def init_statistics(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether matrices, tokens and positions start at a sensible size, and no two layers alike.

    The size of a matrix is its deviation times the root of its number of inputs: 1 keeps the
    deviation of what passes through (LeCun et al. 1998), 1.41 does with ReLU (He et al. 2015).
    Tokens and positions are the parameters that no layer multiplies by; ViT starts them near 0.02.

    Args:
        model: a module from images to logits. One whose norms have been trained is not judged.
        images: only asked for so that all instruments are called alike.

    `value` is the largest size over its limit; identical layers count as infinite. Raises
    ValueError for other arguments.
    """
    inner = check_question(model, images)
    if not is_fresh(inner):
        sentence = "The model has been trained, so its first weights are gone."
        return Finding("first weights", None, 0.0, "norms differ from 1", sentence)
    gains, tokens = gains_of(inner), tokens_of(inner)
    twins = twins_of(inner)
    gain, token = max(gains.values(), default=0.0), max(tokens.values(), default=0.0)
    large = [n for n, size in gains.items() if size > GAIN]
    wide = [n for n, size in tokens.items() if size > TOKEN]
    sentence, cause = "The first weights have sensible sizes, and no two layers are equal.", ""
    number = f"matrices up to {gain:.2f}/√inputs, tokens up to {token:.2f}"
    if wide:
        sentence = f"{first_few(wide, most=3)} starts with deviation {token:.2f}."
        cause = "drawn by `torch.randn` without a factor, where ViT has 0.02."
    if large:
        sentence = f"{first_few(large, most=3)} starts too large."
        cause = "drawn with deviation 1, and not with about 1/√inputs or 0.02."
    if twins:
        number = f"{len(twins)} matrices are copies of an earlier one"
        sentence = f"{first_few(twins, most=3)} starts equal to the same matrix of another layer."
        cause = "`nn.TransformerEncoder` and `deepcopy` clone one layer: initialise each anew."
    value = math.inf if twins else max(gain / GAIN, token / TOKEN)
    return Finding(
        "first weights", value > 1, value, number, sentence, cause,
        partial(plot_finding, partial(_draw, gains, tokens)),
    )  # fmt: skip


def is_fresh(model: nn.Module) -> bool:
    """Whether the factors of every norm are still all alike, as no training leaves them."""
    norms = [m for m in model.modules() if is_norm(m)]
    factors = [p for m in norms for p in m.parameters(recurse=False) if p.numel() > 1]
    return all(p.min() == p.max() for p in factors)


def gains_of(model: nn.Module) -> dict[str, float]:
    """Deviation · √inputs of every matrix and kernel of a layer, by name."""
    return {
        n: p.std().item() * math.sqrt(p[0].numel())
        for n, p, is_layer in _matrices(model)
        if is_layer
    }


def tokens_of(model: nn.Module) -> dict[str, float]:
    """Deviation of every other parameter of two axes or more: tokens and positions, by name."""
    return {n: p.std().item() for n, p, is_layer in _matrices(model) if not is_layer}


def _matrices(model: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    """Name, tensor, and whether it belongs to a layer that multiplies by it."""
    for path, module in model.named_modules():
        is_layer = isinstance(module, nn.Linear | nn.Conv2d | nn.MultiheadAttention)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim >= 2 and parameter.numel() > 1:
                yield f"{path}.{name}".removeprefix("."), parameter.detach(), is_layer


def twins_of(model: nn.Module) -> list[str]:
    """The names of matrices that equal an earlier one, number by number, and are not constant."""
    by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
    twins = []
    for name, p in model.named_parameters():
        if p.ndim < 2 or p.numel() < 2 or p.std() == 0:
            continue
        if any(torch.equal(p, other) for other in by_shape[p.shape]):
            twins.append(name)
        by_shape[p.shape].append(p)
    return twins


@torch.no_grad()
def norm_scope(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether every norm over tokens (B, T, D) takes each token for itself.

    Each such norm is asked again with its first token changed: the others must not notice.

    Args:
        model: any module from images to logits. It is looked at in eval mode, and left as it is.
        images: at least 2.

    `value` is the number of norms that mix tokens. Raises ValueError for other arguments.
    """
    inner = evaluated(check_question(model, images))
    images = smaller_batch(inner, images, 2)
    inputs: dict[str, Tensor] = {}

    def keep(name: str, _: nn.Module, given: tuple[Any, ...], __: object) -> None:
        if given and isinstance(given[0], Tensor) and given[0].ndim == 3 and given[0].shape[1] > 1:
            inputs.setdefault(name, given[0])

    norms = {n: m for n, m in inner.named_modules() if is_norm(m)}
    hooks = [module.register_forward_hook(partial(keep, name)) for name, module in norms.items()]
    try:
        logits(inner, images)
    finally:
        for hook in hooks:
            hook.remove()
    if not inputs:
        return Finding("norms", None, 0, "no norm over tokens", "There is no norm to look at.")
    mixing = []
    for name, tokens in inputs.items():
        changed = tokens.clone()
        changed[:, 0] = 1 - 2 * changed[:, 0].flip(-1)
        before, after = (norms[name](some)[:, 1:] for some in (tokens, changed))
        if (after - before).abs().max() > 1e-3 * before.abs().mean():
            mixing.append(name)
    sentence, cause = "Every norm takes each token for itself.", ""
    if mixing:
        sentence = f"{first_few(mixing, most=3)} normalises over the tokens, too."
        cause = "LayerNorm takes the last axis alone: `nn.LayerNorm(D)`, and not (N, D)."
    number = f"{len(inputs) - len(mixing)} of {len(inputs)} norms keep tokens apart"
    return Finding("norms", bool(mixing), len(mixing), number, sentence, cause)


def _draw(gains: dict[str, float], tokens: dict[str, float], axes: Any) -> None:
    axes.plot(range(len(gains)), list(gains.values()), "o", color=BLUE, markersize=4)
    places = range(len(gains), len(gains) + len(tokens))
    axes.plot(places, list(tokens.values()), "s", color=ORANGE, markersize=4)
    for limit in (GAIN, TOKEN):
        axes.axhline(limit, color=GREY, linewidth=0.8)
    axes.set(xlabel="matrices (dots), tokens (squares)", ylabel="size", ylim=(0, None))
