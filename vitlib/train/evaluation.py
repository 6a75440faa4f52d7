"""Evaluation: a model's loss, accuracy and answers on a set of images."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vitlib.data import ImageData, ImageSet
from vitlib.matching import check_fits, normalised_for
from vitlib.wording import check_count


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy (without label smoothing), share of right answers, logits and labels."""

    loss: float
    accuracy: float
    logits: Float[Tensor, "n K"] = field(repr=False)
    labels: Int64[Tensor, "n"] = field(repr=False)

    @property
    def predictions(self) -> Int64[Tensor, "n"]:
        """The class with the largest logit, for each image."""
        return self.logits.argmax(dim=1)


def evaluate(model: nn.Module, image_set: ImageSet, batch_size: int = 500) -> Evaluation:
    """Loss and accuracy of `model` on all images, in eval mode, on the device of the model.

    Images are normalised by the model's own `mean` and `std` if it has them, else by the set's.
    Afterwards the model is back in the mode it was in. A distilled model answers with the mean of
    both heads.
    Raises ValueError for an empty set, for images or labels that do not fit the model, for a model
    without a head, and for a batch size below 1.
    """
    check_count("batch_size", batch_size)
    if isinstance(image_set, ImageData):
        raise ValueError("evaluate takes one set of images: pass data.test, not data")
    check_fits(model, image_set)
    image_set = normalised_for(model, image_set)
    weight = next(model.parameters())
    was_training = model.training
    model.eval()
    try:
        logits = []
        with torch.inference_mode():
            for index in torch.arange(len(image_set)).split(batch_size):
                images, _ = image_set.batch(index)
                images = image_set.normalize(images.to(weight.device)).to(weight.dtype)
                logits.append(model(images).float().cpu())
    finally:
        model.train(was_training)
    answers, labels = torch.cat(logits), image_set.labels
    return Evaluation(
        loss=F.cross_entropy(answers, labels).item(),
        accuracy=int((answers.argmax(dim=1) == labels).sum()) / len(labels),
        logits=answers,
        labels=labels,
    )
