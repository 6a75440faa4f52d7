"""`training(model, data)`: nine things that hold for every model that can learn, each measured.

    data -> a batch, normalised -> the model as it is      -> pixels, loss at the start
                                -> a copy, trained on it   -> one batch, gradients
                                -> that copy, in eval mode -> parts, mixing, order, batch, eval

The model may be any module that maps images to logits: vitlib's, timm's, one of Hugging Face's
transformers, or your own. It is left as it is, and so are the global random numbers.

The last five ask how the answer changes when the images do. They look at the copy that has learned
the batch, since many models start with a head of zeros and answer the same to everything.
"""

from typing import Any

import torch
from torch import nn

from vitlib.check.instruments import RESPONSES
from vitlib.check.instruments.asking import logits
from vitlib.check.instruments.learning import (
    gradient_coverage,
    learn_batch,
    one_batch,
    start_loss,
)
from vitlib.check.report import Checklist, Finding
from vitlib.checkpoints import unwrapped
from vitlib.data import ImageData, ImageSet
from vitlib.data.sets import same_statistics
from vitlib.matching import check_fits
from vitlib.wording import check_count


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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        index = torch.randperm(len(data.train))[:batch_size]
        images, labels = data.train.batch(index)
        device = next(inner.parameters(), images).device
        images, labels = data.train.normalize(images).to(device), labels.to(device)
        start = start_loss(inner, images, labels)
        learned = learn_batch(inner, images, labels, steps)
        classes = logits(learned.model, images).shape[1]
        lines = (
            pixel_statistics(inner, data.train),
            start,
            one_batch(learned.losses, classes, start.passed),
            gradient_coverage(learned.model, images, labels),
            *(instrument(learned.model, images) for instrument in RESPONSES),
        )
    return Checklist(lines)


def pixel_statistics(model: nn.Module, train: ImageSet) -> Finding:
    """Whether pixels lie around 0 with a deviation of about 1, or as the model states."""
    some = train.normalize(train.images[:1000].float() / 255)
    mean, std = some.mean(dim=(0, 2, 3)), some.std(dim=(0, 2, 3))
    furthest = mean[mean.abs().argmax()].item()
    deviation = " to ".join(dict.fromkeys(f"{value:.2f}" for value in (std.min(), std.max())))
    number = f"mean {round(furthest, 2) + 0.0:.2f}, deviation {deviation}"
    is_found = abs(furthest) > 1 or not 0.4 <= std.min().item() <= std.max().item() <= 2.5
    sentence = "The pixels lie around 0, with a deviation of about 1."
    if is_found:
        sentence = "Normalise the images with their own mean and deviation."
    own = tuple(getattr(model, name, None) for name in ("mean", "std"))
    if own[0] is not None and not same_statistics(own, (train.mean, train.std)):
        is_found = True
        sentence = (
            f"The model's weights expect pixels with mean {own[0]} and deviation {own[1]}, but "
            f"the data are normalised with {train.mean} and {train.std}."
        )
    return Finding("input statistics", is_found, furthest, number, sentence)
