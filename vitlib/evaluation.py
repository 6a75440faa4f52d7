"""What a model is worth: loss, accuracy and answers on a set of images."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vitlib.data import ImageData, ImageSet
from vitlib.patch import pair


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy (no label smoothing), share of right answers, and what led to them."""

    loss: float
    accuracy: float
    logits: Float[Tensor, "n K"] = field(repr=False)
    labels: Int64[Tensor, "n"] = field(repr=False)

    @property
    def predictions(self) -> Int64[Tensor, "n"]:
        """The class with the largest logit, for each image."""
        return self.logits.argmax(dim=1)


def evaluate(model: nn.Module, image_set: ImageSet, batch_size: int = 500) -> Evaluation:
    """Loss and accuracy of `model` on all images, in eval mode, on the device where the model is.

    Images are normalised by the model's own `mean` and `std` where it has them, else by the set's.
    The model's mode is afterwards what it was. A distilled model answers with the mean of both
    heads.
    Raises ValueError for an empty set, for images or labels that do not fit the model, and for a
    model without a head.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(image_set, ImageData):
        raise ValueError("evaluate takes one set of images: pass data.test, not data")
    check_fits(model, image_set)
    image_set = as_model_takes(model, image_set)
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


def as_model_takes(model: nn.Module, image_set: ImageSet) -> ImageSet:
    """The same images, normalised by the model's own `mean` and `std` where it has them."""
    mean, std = getattr(model, "mean", None), getattr(model, "std", None)
    if mean is None or std is None:
        return image_set
    return ImageSet(image_set.images, image_set.labels, mean, std)


def check_fits(model: nn.Module, image_set: ImageSet) -> None:
    """Raise a ValueError where images or labels cannot go through `model`."""
    count, channels, height, width = image_set.images.shape
    if not count:
        raise ValueError("the data hold no images")
    in_chans = getattr(model, "in_chans", channels)
    if channels != in_chans:
        raise ValueError(f"the images have {channels} channels, the model takes {in_chans}")
    size = pair(getattr(model, "img_size", None) or (height, width), "the model's img_size")
    if size != (height, width) and not getattr(model, "dynamic_img_size", False):
        raise ValueError(
            f"the images are {height}×{width}, the model takes {size[0]}×{size[1]}: build it with "
            f"img_size={(height, width)}, or load the data with img_size={size}"
        )
    low, high = int(image_set.labels.min()), int(image_set.labels.max())
    num_classes = getattr(model, "num_classes", high + 1)
    if num_classes == 0:
        raise ValueError(
            f"the model has no head: call model.reset_classifier(n), n at least {high + 1} here"
        )
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"the labels go from {low} to {high}, but the model has num_classes={num_classes}, "
            f"for labels from 0 to {num_classes - 1}"
        )
