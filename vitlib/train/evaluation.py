"""Evaluation: a model's loss, accuracy and answers on a set of images."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vitlib.data import ImageData, LabelledImages
from vitlib.matching import check_fits, in_eval_mode, normalised_for
from vitlib.wording import check_count


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy (without label smoothing), share of right answers, logits and labels."""

    loss: float
    accuracy: float
    logits: Float[Tensor, "n K"] = field(repr=False)
    labels: Int64[Tensor, "n"] = field(repr=False)

    @classmethod
    def of(cls, logits: Float[Tensor, "n K"], labels: Int64[Tensor, "n"]) -> "Evaluation":
        """Loss and accuracy of these answers."""
        return cls(
            loss=F.cross_entropy(logits, labels).item(),
            accuracy=int((logits.argmax(dim=1) == labels).sum()) / len(labels),
            logits=logits,
            labels=labels,
        )

    @property
    def predictions(self) -> Int64[Tensor, "n"]:
        """The class with the largest logit, for each image."""
        return self.logits.argmax(dim=1)


def evaluate(model: nn.Module, image_set: LabelledImages, batch_size: int = 500) -> Evaluation:
    """Loss and accuracy of `model` on all images, in eval mode, on the device of the model.

    Images are normalised by the model's own `mean` and `std` if it has them, else by the set's.
    Afterwards the model is back in the mode it was in. A distilled model answers with the mean of
    both heads. Images of a stream that cannot be read are left out.
    Raises ValueError for an empty set, for images or labels that do not fit the model, for a model
    without a head, and for a batch size below 1.
    """
    check_count("batch_size", batch_size)
    if isinstance(image_set, ImageData):
        raise ValueError("evaluate takes one set of images: pass data.test, not data")
    check_fits(model, image_set)
    image_set = normalised_for(model, image_set)
    with in_eval_mode(model), torch.inference_mode():
        batches = inputs_of(model, image_set, batch_size)
        answers = [(model(images).float().cpu(), labels) for images, labels in batches]
    logits, labels = (torch.cat(part) for part in zip(*answers, strict=True))
    return Evaluation.of(logits, labels)


def inputs_of(
    model: nn.Module, image_set: LabelledImages, batch_size: int
) -> Iterator[tuple[Float[Tensor, "b C H W"], Int64[Tensor, "b"]]]:
    """The images as `model` takes them, and their labels, batch by batch: images normalised by the
    set's mean and std, on the model's device and in its precision."""
    weight = next(model.parameters())
    with closing(image_set.batches(torch.arange(len(image_set)).split(batch_size))) as batches:
        for images, labels in batches:
            yield image_set.normalize(images.to(weight.device)).to(weight.dtype), labels
