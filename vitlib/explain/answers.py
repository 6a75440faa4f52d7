"""Explanations of a VisionTransformer's own answer, for which the model itself is run.

They work for models with a class token, with a distillation token (whose answer is the mean of
both heads), with registers, and with average pooling, because they use the model's own head. They
run the model in eval mode and leave it as it was: its mode, its gradients and its hooks.
"""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from vitlib.explain.recorder import AttentionRecorder
from vitlib.matching import check_explainable, check_inputs, in_eval_mode
from vitlib.model import VisionTransformer
from vitlib.patch import Size, pair

_AT_ONCE = 128  # covered images that occlusion sends through the model in one batch


def gradient_rollout(
    model: nn.Module,
    images: Float[Tensor, "B C H W"],
    target: int | Int[Tensor, "B"] | None = None,
) -> Float[Tensor, "B T T"]:
    """Rollout of the weights that raise one class's logit: how much token i rests on token j.

    In each layer, the weights are multiplied by the logit's gradient with respect to them, negative
    products become 0, and the mean over the heads is A. Starting from R = I, each layer adds A R to
    R. Unlike `attention_rollout`, the result depends on the class, and its rows do not sum to 1.

    `target` is the class, one for all images or one per image; None means the predicted one. Images
    do not mix in the model, so one backward pass from the sum of their logits is enough for all.
    The map of the answer is `tokens_to_grid(read_by_head(R, model), ...)`.

    Raises ValueError for a model, images or a target that do not fit.
    Source: Chefer, Gur and Wolf 2021 (ICCV), "Generic Attention-model Explainability", section 3,
    equations 5 and 6.
    """
    inner = _check_model_and_images(model, images)
    with torch.inference_mode(False), torch.enable_grad(), in_eval_mode(inner):
        # A copy that requires gradients, so that there is a graph even if all weights are frozen.
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

    It is positive where the covered pixels are evidence for the class, negative where they are
    evidence against it. Value (i, j) belongs to the square whose upper left pixel is
    (i · stride, j · stride).

    Args:
        target: the class, one for all images or one per image; None means the predicted one.
        patch: side of the square, or (height, width), in pixels; None means the model's patch size.
        stride: from one square to the next, in pixels; None means `patch`. The default patch and
            stride give the model's own grid.
        fill: the value that covers it, in the units of `images`: 0 is the mean colour if they are
            normalised.

    Raises ValueError for a model, images or a target that do not fit, and for squares that would
    leave some pixels uncovered.
    Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks",
    section 4.2.
    """
    inner = _check_model_and_images(model, images)
    if not torch.isfinite(torch.tensor(float(fill))):
        raise ValueError(f"fill must be a finite number, got {fill}")
    squares, grid = _square_masks(inner, images, patch, stride)  # (n, H, W)
    batch = len(images)
    with in_eval_mode(inner):
        logits = inner(images)
        classes = _targets(logits, target)
        uncovered = _log_probability(logits, classes)  # (B,)
        drops = []
        for masks in squares.split(max(1, _AT_ONCE // batch)):
            covered = images[:, None].masked_fill(masks[:, None], fill)  # (B, m, C, H, W)
            logits = inner(covered.flatten(0, 1))  # (B * m, K)
            log_p = _log_probability(logits, classes.repeat_interleave(len(masks)))
            drops.append(uncovered[:, None] - log_p.reshape(batch, -1))
    return torch.cat(drops, dim=1).unflatten(1, grid)


@torch.no_grad()
def logit_lens(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L K"]:
    """Class probabilities (B, L, K) as if the model ended after each of its L blocks.

    The tokens after each block go through the model's own final norm, pooling and head. Row L - 1
    is the model's answer. The head was trained on that row alone, so the others are only a hint;
    their accuracy shows how good a one.

    Raises ValueError for a model or images that do not fit.
    Source: nostalgebraist 2020, "interpreting GPT: the logit lens", there for words.
    """
    inner = _check_model_and_images(model, images)
    with in_eval_mode(inner):
        logits = [inner.forward_head(inner.norm(x)) for x in inner.forward_intermediates(images)]
    stacked = torch.stack(logits, dim=1)  # (B, L, K)
    return stacked.to(torch.promote_types(stacked.dtype, torch.float32)).softmax(dim=-1)


def _log_probability(
    logits: Float[Tensor, "B K"], classes: Int64[Tensor, "B"]
) -> Float[Tensor, "B"]:
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return precise.log_softmax(dim=-1).gather(1, classes[:, None])[:, 0]


def _square_masks(
    model: VisionTransformer, images: Tensor, patch: Size | None, stride: Size | None
) -> tuple[Tensor, tuple[int, int]]:
    """Masks (n, H, W), each True on one square, row by row; and the numbers of rows and columns."""
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


def _check_model_and_images(model: nn.Module, images: Tensor) -> VisionTransformer:
    """The model without torch.compile's wrapper; a ValueError unless the images fit it."""
    inner = check_explainable(model)
    weight = inner.cls_token
    is_elsewhere = isinstance(images, Tensor) and images.device != weight.device
    if not is_elsewhere:  # on "meta" there would be no numbers to check
        check_inputs(inner, images)
    if is_elsewhere or images.dtype != weight.dtype:
        raise ValueError(
            f"images are {images.dtype} on {images.device}, the model's weights {weight.dtype} "
            f"on {weight.device}: bring them together with images.to(...)"
        )
    return inner


def _targets(
    logits: Float[Tensor, "B K"], target: int | Int[Tensor, "B"] | None
) -> Int64[Tensor, "B"]:
    """The class for each image: the one asked for, or else the predicted one."""
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
            f"target must be from 0 to {count - 1}, the model's classes, got "
            f"{int(classes.min() if classes.min() < 0 else classes.max())}"
        )
    return classes.long().expand(batch)
