"""Do tokens hear of each other? The Jacobian of the last tokens with respect to the patches.

images -> model -> the last tokens (B, T, D) -> the gradient of each -> its size in every patch
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.check.instruments.asking import (
    VISIBLE,
    check_question,
    evaluated,
    logits,
    negative,
    patch_size,
    smaller_batch,
)
from vitlib.check.report import Finding
from vitlib.plots import plot_finding

MOST = 64  # tokens whose gradient is computed: one backward pass each


def token_mixing(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether what is in one patch reaches the other tokens.

    Where no path leads from a patch to a token, the token's gradient in that patch is exactly 0, so
    no threshold is needed. Looks at the last tokens (B, T, D), T > 1, that any layer gives. A model
    without such tokens is asked whether the effects of two changes, far apart, are more than their
    sum.

    Args:
        model: any module from images to logits. It is looked at in eval mode, and left as it is.
        images: at least 2, normalised as in training.

    `value` is the share of tokens that notice the patch in the middle, of at most 64.
    Raises ValueError for other arguments.
    """
    inner = evaluated(check_question(model, images))
    patch = patch_size(inner, images)
    jacobian = token_jacobian(inner, smaller_batch(inner, images, 2), patch)
    if jacobian is None:
        return _interplay(inner, images)
    columns = images.shape[3] // patch[1]
    middle = images.shape[2] // patch[0] // 2 * columns + columns // 2
    count, total = int((jacobian[:, middle] > 0).sum()), len(jacobian)
    is_found = count <= total / 2
    sentence, cause = "What is in one patch reaches the other tokens.", ""
    if is_found:
        sentence = "What is in one patch does not reach the other tokens."
        cause = "attention over them is missing, or runs along another axis."
    return Finding(
        "tokens mix", is_found, count / total, f"{count} of {total} tokens notice one patch",
        sentence, cause, partial(plot_finding, partial(_draw, jacobian), square=True),
    )  # fmt: skip


def token_jacobian(
    model: nn.Module, images: Float[Tensor, "B C H W"], patch: tuple[int, int]
) -> Float[Tensor, "T N"] | None:
    """How much each of the last tokens depends on each patch, row by row; None without tokens.

    A row is the gradient of a random combination of the token's channels, summed over the images,
    as its norm in every patch. Of more than 64 tokens, 64 are taken at equal distances.
    """
    images = images.detach().requires_grad_()
    tokens = _last_tokens(model, images)
    if tokens is None:
        return None
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(tokens.shape[2], generator=generator).to(tokens)
    scores = (tokens @ direction).sum(dim=0)  # (T,)
    chosen = torch.linspace(0, len(scores) - 1, min(MOST, len(scores))).round().long().tolist()
    rows = []
    for number in chosen:
        (gradient,) = torch.autograd.grad(
            scores[number], images, retain_graph=True, allow_unused=True
        )
        gradient = torch.zeros_like(images) if gradient is None else gradient
        parts = gradient.double().unfold(2, patch[0], patch[0]).unfold(3, patch[1], patch[1])
        rows.append(parts.square().sum(dim=(0, 1, 4, 5)).sqrt().flatten())  # (N,)
    return torch.stack(rows)


def _last_tokens(
    model: nn.Module, images: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B T D"] | None:
    """The last result of a layer that is a sequence of vectors per image, with its graph."""
    found: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != 3 or not output.requires_grad:
            return
        if len(output) == len(images) and output.shape[1] > 1:
            found[:] = [output]

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        logits(model, images, grad=True)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


@torch.no_grad()
def _interplay(model: nn.Module, images: Tensor) -> Finding:
    """Whether the effects of changes to the left and the right third are more than their sum."""
    third = images.shape[3] // 3
    left, right, everywhere = slice(third), slice(-third, None), slice(None)
    changed = [
        negative(images, everywhere, left),
        negative(images, everywhere, right),
        negative(negative(images, everywhere, left), everywhere, right),
    ]
    answers = logits(model, images)
    first, second, together = (logits(model, one) - answers for one in changed)
    size = (first.abs().mean() + second.abs().mean()).item()
    share = (together - first - second).abs().mean().item() / size if size else 0.0
    sentence, cause = "What one part of the image means depends on the others.", ""
    if share < VISIBLE:
        sentence = "The two sides of the image never meet."
        cause = "their effects on the answer add up."
    number = f"{share:.0%} of the effect"
    return Finding("parts mix", share < VISIBLE, share, number, sentence, cause)


def _draw(jacobian: Tensor, axes: Any) -> None:
    relative = jacobian / jacobian.amax(dim=1, keepdim=True).clamp_min(1e-300)
    axes.imshow(relative.sqrt().cpu().numpy(), vmin=0, vmax=1, cmap="vitlib", aspect="auto")
    axes.set(xlabel="patch", ylabel="token", title="which patches a token hears of")
