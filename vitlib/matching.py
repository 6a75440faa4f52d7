"""Checks that a model and pictures fit each other, and functions that make pictures fit.

    as_vision_transformer(model)          the model without torch.compile's wrapper
    check_explainable(model)              it has blocks, and a head after them
    check_explains_pictures(model)        the same, and it says how to prepare picture files for it
    picture_channels(model)               the number of channels, 1 or 3
    check_inputs(model, images)           a batch of tensors can go through it
    check_images_fit(model, image_set)    so can a whole set of images
    check_fits(model, image_set)          and its labels are among the model's classes
    normalised_for(model, image_set)      the set, normalised with the model's mean and std
    match_model(data, model)              a data set in the model's channels, and normalised so
    shown_pixels(model, images)           the way back: a model's input as pixels to be shown
    prefix_names(model)                   what its tokens before the patches are called
    in_eval_mode(model)                   it answers as after training; then it is as it was

Whatever does not fit raises a ValueError that names both sides.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from vitlib.checkpoints import unwrapped
from vitlib.data import ImageData, LabelledImages
from vitlib.data.sets import Images
from vitlib.model import VisionTransformer
from vitlib.patch import check_images, grid_of, pair


def as_vision_transformer(model: nn.Module) -> VisionTransformer:
    """The model itself, without `torch.compile`'s wrapper.

    Raises ValueError for anything but a VisionTransformer.
    """
    inner = unwrapped(model)
    if not isinstance(inner, VisionTransformer):
        is_class = isinstance(inner, type)
        what = f"the class {inner.__name__} itself" if is_class else type(inner).__name__
        raise ValueError(f"expected a vitlib.VisionTransformer, got {what}")
    return inner


def check_explains_pictures(
    model: nn.Module, name: str = "the model", needs_head: bool = True
) -> VisionTransformer:
    """Return `model` if it can be explained and picture files can be prepared for it.

    Raises a ValueError that calls it `name` if it has no blocks, no mean or no std, takes neither 1
    nor 3 channels, or, with `needs_head`, has no head.
    """
    inner = check_explainable(model, name, needs_head)
    if inner.mean is None or inner.std is None:
        raise ValueError(
            f"{name} does not say by what mean and std its images were normalised: set model.mean "
            "and model.std"
        )
    picture_channels(inner, name)
    return inner


def check_explainable(
    model: nn.Module, name: str = "the model", needs_head: bool = True
) -> VisionTransformer:
    """Return `model`, without `torch.compile`'s wrapper, if it has at least one block and a head.

    Raises a ValueError that calls it `name` otherwise. Without `needs_head`, it may lack the head:
    it then has no answer, but still attention to show.
    """
    inner = as_vision_transformer(model)
    if needs_head and not inner.num_classes:
        raise ValueError(f"{name} has no head (num_classes=0), so it has no answer to explain")
    if not len(inner.blocks):
        raise ValueError(f"{name} has no blocks (depth=0)")
    return inner


def picture_channels(model: VisionTransformer, name: str = "the model") -> int:
    """The number of channels the model takes, 1 or 3.

    Raises a ValueError that calls it `name` if it takes another number, since no picture has that.
    """
    if model.in_chans not in (1, 3):
        raise ValueError(f"{name} takes images of {model.in_chans} channels, pictures have 1 or 3")
    return model.in_chans


def check_inputs(model: VisionTransformer, images: Tensor, own_size: bool = False) -> None:
    """Raise a ValueError unless `images` are a batch (B, C, H, W) that can go through `model`.

    They must be floats, finite, at least one, and of the model's channels and size: of its own size
    with `own_size`, otherwise of any that a model with dynamic_img_size takes.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"expected a tensor of images (B, C, H, W), got {type(images).__name__}")
    any_size = model.dynamic_img_size and not own_size
    check_images(images, model.in_chans, None if any_size else model.img_size)
    grid_of(images.shape[-2:], model.patch_size)
    if not len(images):
        raise ValueError("expected at least one image, got none")
    broken = (~images.isfinite()).flatten(1).any(dim=1)
    if broken.any():
        raise ValueError(
            f"images hold NaN or infinity: {int(broken.sum())} of {len(images)}, first number "
            f"{int(broken.nonzero()[0])}"
        )


def check_fits(model: nn.Module, image_set: LabelledImages) -> None:
    """Raise a ValueError unless the images fit `model` and the labels are among its classes.

    `model` may be any module. What it does not state (`in_chans`, `img_size`,
    `num_classes`) is not checked.
    """
    check_images_fit(model, image_set)
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


def check_images_fit(model: nn.Module, image_set: LabelledImages) -> None:
    """The same for the images alone, whatever their labels are."""
    count, channels, height, width = image_set.shape
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


def normalised_for(model: nn.Module, image_set: Images) -> Images:
    """The same images, but normalised by the model's own `mean` and `std`, if it has them."""
    mean, std = getattr(model, "mean", None), getattr(model, "std", None)
    if mean is None or std is None:
        return image_set
    return image_set.normalised_by(mean, std)


def match_model(data: ImageData, model: VisionTransformer) -> ImageData:
    """`data` with the model's number of channels, normalised by the model's mean and std.

    A model answers worse on pixels of another scale than it was trained on, and no error shows it.
    If the model has no mean and std, those of the training images are used.
    Raises ValueError for a model that takes neither 1 nor 3 channels.
    """
    channels = picture_channels(model)
    train, test = (part.with_channels(channels) for part in (data.train, data.test))
    mean, std = model.mean, model.std
    if mean is None or std is None:
        mean, std = train.mean, train.std
    train, test = (part.normalised_by(mean, std) for part in (train, test))
    return replace(data, train=train, test=test, mean=mean, std=std)


def shown_pixels(model: VisionTransformer, images: Tensor) -> np.ndarray:
    """A model's input (B, C, H, W) as uint8 pixels (B, H, W, C) for display.

    The normalisation is undone with the model's own mean and std. If these are unknown, each image
    is stretched to the full range.
    """
    images = images.detach().float().cpu()
    if model.mean is not None and model.std is not None:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.mean, model.std))
        images = images * std + mean
    else:
        low = images.amin(dim=(1, 2, 3), keepdim=True)
        high = images.amax(dim=(1, 2, 3), keepdim=True)
        images = (images - low) / (high - low).clamp_min(1e-12)
    array = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return np.ascontiguousarray(array.numpy())


def prefix_names(model: VisionTransformer) -> list[str]:
    """The names of the tokens before the patches, in their order."""
    names = ["class token"] + ["distillation token"] * model.distilled
    return names + [f"register {i}" for i in range(model.num_prefix_tokens - len(names))]


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode inside the with block.

    Afterwards each module is back in its own mode, since some may have been in eval mode before.
    """
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
