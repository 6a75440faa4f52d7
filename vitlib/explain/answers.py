"""Questions put to a VisionTransformer about its own answer: it is run, and what it says counts.

All three work on models with class token, with distillation token (whose answer is the mean of
both heads), with registers, and with average pooling, because they use the model's own head. They
answer as in eval mode and leave the model as it was: its mode, its gradients, its hooks.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from vitlib.explain.recorder import AttentionRecorder
from vitlib.matching import check_explainable, check_inputs
from vitlib.model import VisionTransformer
from vitlib.patch import Size, pair

_AT_ONCE = 128  # images that occlusion sends through the model together


def gradient_rollout(
    model: nn.Module,
    images: Float[Tensor, "B C H W"],
    target: int | Int[Tensor, "B"] | None = None,
) -> Float[Tensor, "B T T"]:
    """Rollout of the weights that raise one class's logit: how much token i rests on token j.

    In each layer, weights are multiplied by the logit's gradient with respect to them; negative
    products become 0; heads are averaged: A. Starting from R = I, each layer adds A R to R.
    Unlike `attention_rollout`, it depends on the class; its rows do not sum to 1.

    `target` is the class, one for all images or one for each; None means the predicted one. The
    images do not mix in the model, so one backward pass of the sum of their logits serves all.
    The map of the answer is `tokens_to_grid(read_by_head(R, model), ...)`.

    Raises ValueError for a model, images or a target that do not fit.
    Source: Chefer, Gur and Wolf 2021 (ICCV), "Generic Attention-model Explainability", section 3,
    equations 5 and 6.
    """
    inner = _check(model, images)
    with torch.inference_mode(False), torch.enable_grad(), in_eval_mode(inner):
        # A copy that wants gradients, so that there is a graph even if all weights are frozen.
        images = images.detach().clone().requires_grad_()
        with AttentionRecorder(inner, gradients=True) as recorder:
            logits = inner(images)  # (B, K)
        scores = logits.gather(1, _targets(logits, target)[:, None])
        gradients = torch.autograd.grad(scores.sum(), recorder.layers)
    precision = torch.promote_types(logits.dtype, torch.float32)
    tokens = recorder.layers[0].shape[-1]
    relevance = torch.eye(tokens, dtype=precision, device=images.device)
    relevance = relevance.repeat(len(images), 1, 1)  # (B, T, T)
    for weights, gradient in zip(recorder.layers, gradients, strict=True):
        product = weights.detach().to(precision) * gradient.to(precision)  # (B, H, T, T)
        relevance = relevance + product.clamp(min=0).mean(dim=1) @ relevance
    return relevance


@torch.no_grad()
def occlusion(
    model: nn.Module,
    images: Float[Tensor, "B C H W"],
    target: int | Int[Tensor, "B"] | None = None,
    patch: Size | None = None,
    stride: Size | None = None,
    fill: float = 0.0,
) -> Float[Tensor, "B h w"]:
    """How much the log-probability of a class falls when a square of the image is covered.

    Positive where the covered pixels spoke for the class, negative where they spoke against it.
    Value (i, j) belongs to the square whose upper left pixel is (i · stride, j · stride).

    Args:
        target: the class, one for all images or one for each; None means the predicted one.
        patch: side of the square, or (height, width), in pixels; None means the model's patch.
        stride: from one square to the next, in pixels; None means `patch`. Default patch and
            stride give the model's own grid.
        fill: what covers it, in the units of `images`: 0 is the mean colour if they are
            normalised.

    Raises ValueError for a model, images or a target that do not fit, and for squares that would
    leave some pixels uncovered.
    Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks",
    section 4.2.
    """
    inner = _check(model, images)
    if not torch.isfinite(torch.tensor(float(fill))):
        raise ValueError(f"fill must be a finite number, got {fill}")
    squares, grid = _squares(inner, images, patch, stride)  # (n, H, W) masks
    batch = len(images)
    with in_eval_mode(inner):
        logits = inner(images)
        classes = _targets(logits, target)
        whole = _log_probability(logits, classes)  # (B,)
        drops = []
        for masks in squares.split(max(1, _AT_ONCE // batch)):
            covered = images[:, None].masked_fill(masks[:, None], fill)  # (B, m, C, H, W)
            logits = inner(covered.flatten(0, 1))  # (B * m, K)
            log_p = _log_probability(logits, classes.repeat_interleave(len(masks)))
            drops.append(whole[:, None] - log_p.reshape(batch, -1))
    return torch.cat(drops, dim=1).unflatten(1, grid)


@torch.no_grad()
def logit_lens(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L K"]:
    """Class probabilities as if the model ended after each of its L blocks.

    The tokens after a block go through the model's own final norm and head, pooled as the model
    pools. Row L - 1 is the model's answer. The head was trained on that row alone: what it reads
    in the others is a hint, and how good a one is shown by its accuracy.

    Raises ValueError for a model or images that do not fit.
    Source: nostalgebraist 2020, "interpreting GPT: the logit lens", there for words.
    """
    inner = _check(model, images)
    with in_eval_mode(inner):
        logits = [inner.forward_head(inner.norm(x)) for x in inner.forward_intermediates(images)]
    stacked = torch.stack(logits, dim=1)  # (B, L, K)
    return stacked.to(torch.promote_types(stacked.dtype, torch.float32)).softmax(dim=-1)


def _log_probability(
    logits: Float[Tensor, "B K"], classes: Int64[Tensor, "B"]
) -> Float[Tensor, "B"]:
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return precise.log_softmax(dim=-1).gather(1, classes[:, None])[:, 0]


def _squares(
    model: VisionTransformer, images: Tensor, patch: Size | None, stride: Size | None
) -> tuple[Tensor, tuple[int, int]]:
    """Masks (n, H, W), True on one square each, row by row, and how many rows and columns."""
    sides = pair(model.patch_size if patch is None else patch, "patch")
    steps = pair(sides if stride is None else stride, "stride")
    spans, counts = [], []
    for name, length, side, step in zip(
        ("high", "wide"), images.shape[-2:], sides, steps, strict=True
    ):
        if side > length:
            raise ValueError(f"patch is {side} pixels {name}, the images only {length}")
        if step > side:
            raise ValueError(
                f"a stride of {step} leaves pixels between patches that are {side} {name} uncovered"
            )
        if (length - side) % step:
            raise ValueError(
                f"patches {side} {name} with a stride of {step} leave the last "
                f"{(length - side) % step} of {length} pixels uncovered"
            )
        starts = torch.arange(0, length - side + 1, step, device=images.device)[:, None]
        pixel = torch.arange(length, device=images.device)
        spans.append((pixel >= starts) & (pixel < starts + side))  # (rows or columns, length)
        counts.append(len(starts))
    rows, columns = spans
    masks = rows[:, None, :, None] & columns[None, :, None, :]  # (h, w, H, W)
    return masks.flatten(0, 1), (counts[0], counts[1])


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Afterwards each module is in its own former mode: some may have been frozen in eval mode."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _check(model: nn.Module, images: Tensor) -> VisionTransformer:
    """The model without torch.compile's wrapper, if it can answer and the images fit it."""
    inner = check_explainable(model)
    check_inputs(inner, images)
    weight = inner.cls_token
    if (images.dtype, images.device) != (weight.dtype, weight.device):
        raise ValueError(
            f"images are {images.dtype} on {images.device}, the model's weights {weight.dtype} "
            f"on {weight.device}: bring them together with images.to(...)"
        )
    return inner


def _targets(
    logits: Float[Tensor, "B K"], target: int | Int[Tensor, "B"] | None
) -> Int64[Tensor, "B"]:
    """The class of each image: the one asked for, else the predicted one."""
    if target is None:
        return logits.argmax(dim=1)
    batch, count = logits.shape
    classes = torch.as_tensor(target, device=logits.device)
    if classes.is_floating_point() or classes.dtype == torch.bool:
        raise ValueError(f"target must be a class number, got {target!r}")
    if classes.ndim and classes.shape != (batch,):
        raise ValueError(
            f"target must be one class, or one for each of {batch} images, got shape "
            f"{tuple(classes.shape)}"
        )
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(
            f"target must lie in 0 to {count - 1}, the model's classes, got "
            f"{int(classes.min() if classes.min() < 0 else classes.max())}"
        )
    return classes.long().expand(batch)
