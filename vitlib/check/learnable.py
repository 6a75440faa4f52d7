"""`training(model, data)`: nine things that hold for every model that can learn, each measured.

    data -> a batch, normalised -> the model as it is      -> pixels, loss at the start
                                -> a copy, trained on it   -> one batch, gradients
                                -> that copy, in eval mode -> parts, mixing, order, batch, eval

The model may be any module that maps images to logits: vitlib's, timm's, one of Hugging Face's
transformers, or your own. It is left as it is, and so are the global random numbers.

The last five ask how the answer changes when the images do. They look at the copy that has learned
the batch, since many models start with a head of zeros and answer the same to everything.
"""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd

from vitlib.check.report import Checklist, Line
from vitlib.check.responses import logits, responses
from vitlib.checkpoints import unwrapped
from vitlib.data import ImageData, ImageSet
from vitlib.data.sets import same_statistics
from vitlib.matching import check_fits
from vitlib.wording import check_count, first_few

RATES = (3e-3, 3e-4)  # the second is for large models, which the first may break


def training(
    model: Any,  # checked here, since the message is ours; so is `data`
    data: Any,
    batch_size: int = 32,
    steps: int = 150,
    seed: int = 0,
) -> Checklist:
    """Look for the mistakes that keep a model from learning, before a long run.

    Args:
        model: maps images (B, C, H, W) to logits (B, K), or to an object with `.logits`.
        data: the images that it is to learn, normalised as they will be in training.
        batch_size: images of the batch that is learned by heart, at least 2.
        steps: optimiser steps in which it has to be learned.
        seed: of the images that are drawn, and of dropout.

    Returns a Checklist: print it, or let a notebook show it.
    Raises ValueError for what is no module or no ImageData, for images that do not fit the model,
    and for answers that are not logits (B, K).
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected a model, a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(data, ImageData):
        raise ValueError(f"expected data as load_data gives them, got {type(data).__name__}")
    check_count("batch_size", batch_size, least=2)
    check_count("steps", steps)
    inner = unwrapped(model)
    check_fits(inner, data.train)
    if not any(parameter.requires_grad for parameter in inner.parameters()):
        raise ValueError("the model has no parameter that could be trained")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        index = torch.randperm(len(data.train))[:batch_size]
        images, labels = data.train.batch(index)
        device = next(inner.parameters()).device
        images, labels = data.train.normalize(images).to(device), labels.to(device)
        start = _copy(inner)
        lines = [_pixels(inner, data.train), _loss_at_start(start, images, labels)]
        learned, losses = _learn(inner, images, labels, steps)
        lines += [
            _one_batch(losses, logits(start, images).shape[1], lines[-1].passed),
            _gradients(learned, images, labels),
            *responses(learned.eval(), images),
        ]
    return Checklist(tuple(lines))


# --- the model as it is


def _pixels(model: nn.Module, train: ImageSet) -> Line:
    """Whether normalised pixels lie around 0, with a deviation of about 1."""
    some = train.normalize(train.images[:1000].float() / 255)
    mean, std = some.mean(dim=(0, 2, 3)), some.std(dim=(0, 2, 3))
    furthest = mean[mean.abs().argmax()].item()
    deviation = " to ".join(dict.fromkeys(f"{value:.2f}" for value in (std.min(), std.max())))
    number = f"mean {round(furthest, 2) + 0.0:.2f}, deviation {deviation}"
    own = tuple(getattr(model, name, None) for name in ("mean", "std"))
    if own[0] is not None and not same_statistics(own, (train.mean, train.std)):
        return Line(
            "input statistics", False, number,
            f"The model's weights expect pixels with mean {own[0]} and deviation {own[1]}, but "
            f"the data are normalised with {train.mean} and {train.std}.",
        )  # fmt: skip
    passed = abs(furthest) <= 1 and 0.4 <= std.min().item() <= std.max().item() <= 2.5
    advice = "Normalise the images with their own mean and deviation."
    about = "The pixels lie around 0, with a deviation of about 1."
    return Line("input statistics", passed, number, about if passed else advice)


def _loss_at_start(model: nn.Module, images: Tensor, labels: Tensor) -> Line:
    """Whether the model begins about as unsure as somebody who knows nothing: loss ln K."""
    answers = logits(model, images)
    loss, expected = F.cross_entropy(answers, labels).item(), math.log(answers.shape[1])
    number = f"{loss:.2f}, ln K = {expected:.2f}"
    if not loss <= expected + 0.5:
        sentence = (
            "The model is sure of wrong answers before it has learned anything: its first weights "
            "are too large, or its pixels are and no norm tames them."
        )
        return Line("loss at the start", False, number, sentence)
    sentence = "The model begins without a preference."
    if loss < expected - 0.5:
        sentence = "It is below that of a guess, so the model has been trained already."
    return Line("loss at the start", True, number, sentence)


# --- a copy that learns one batch


def _learn(
    model: nn.Module, images: Tensor, labels: Tensor, steps: int
) -> tuple[nn.Module, list[float]]:
    """A copy that was trained on one batch, and its losses; with the better of two rates."""
    tries = []
    for rate in RATES:
        copy = _without_dropout(_copy(model).train())
        parameters = [p for p in copy.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
        losses: list[float] = []
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 10)
            loss = F.cross_entropy(logits(copy, images, grad=True), labels)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]) or losses[-1] < 0.02:
                break
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        tries.append((copy, losses))
        if losses[-1] < 0.1:
            break
    return min(tries, key=lambda one: one[1][-1] if math.isfinite(one[1][-1]) else math.inf)


def _one_batch(losses: list[float], classes: int, started_well: bool) -> Line:
    """Whether a few images can be learned by heart: then the path of the gradient is whole."""
    passed = losses[-1] <= 0.25 * max(losses[0], 0.1)
    number = f"loss {losses[0]:.2f} → {losses[-1]:.2f} in {len(losses)} steps"
    sentence = "The model learns the images of one batch by heart."
    if not passed:
        sentence = (
            "The model cannot learn even one batch by heart. The answer does not depend on the "
            "image, or the gradient is cut somewhere."
        )
        # Logits between 0 and 1, the right one 1 and the others 0.
        least = math.log(math.e + classes - 1) - 1
        if abs(losses[-1] - least) < 0.05:
            sentence = (
                f"The loss stops at {least:.2f}, the least that `F.cross_entropy` can give if it "
                "gets probabilities: is there a softmax at the end of the model?"
            )
        if not started_well:
            sentence = "The model cannot learn even one batch by heart: mend its start first."
    return Line("one batch by heart", passed, number, sentence)


def _gradients(model: nn.Module, images: Tensor, labels: Tensor) -> Line:
    """Whether the loss depends on every parameter that is to be trained."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    model.zero_grad(set_to_none=True)
    F.cross_entropy(logits(model, images, grad=True), labels).backward()
    idle = [name for name, p in named if p.grad is None or not p.grad.any()]
    frozen = sum(not p.requires_grad for p in model.parameters())
    number = f"{len(named) - len(idle)} of {len(named)} tensors"
    sentence = "The loss depends on every parameter."
    if frozen:
        sentence = f"The loss depends on every parameter but the {frozen} frozen tensors."
    if idle:
        sentence = (
            f"No gradient reaches {first_few(idle, most=4)}: it is built but never used, its "
            "result is thrown away, or the path to it is cut by `detach`."
        )
    return Line("gradients", not idle, number, sentence)


# --- models of any kind


def _copy(model: nn.Module) -> nn.Module:
    return deepcopy(model).eval()


def _without_dropout(model: nn.Module) -> nn.Module:
    """The model in training mode, but for its dropout and stochastic depth."""
    for module in model.modules():
        if isinstance(module, _DropoutNd) or "drop" in type(module).__name__.lower():
            module.eval()
    return model
