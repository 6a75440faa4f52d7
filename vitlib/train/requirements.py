"""What `fit` requires of model, data, settings and teacher; whatever lacks it is a ValueError."""

import torch
from torch import nn

from vitlib.checkpoints import unwrapped
from vitlib.data import LabelledImages
from vitlib.data.sets import same_statistics
from vitlib.matching import check_fits
from vitlib.train.distillation import DistillationLoss
from vitlib.train.history import TrainConfig


def check_fit_arguments(
    model: nn.Module,
    train: LabelledImages,
    config: TrainConfig,
    distillation: DistillationLoss | None,
) -> None:
    check_fits(model, train)
    _check_float32(model, "the model")
    if len(train) < config.batch_size:
        raise ValueError(
            f"batch_size {config.batch_size} is larger than the {len(train)} training images"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("every parameter of the model is frozen: there is nothing to train")
    if distillation is None:
        return
    if not getattr(model, "distilled", False):
        raise ValueError("distillation needs a model built with distilled=True")
    if unwrapped(distillation.teacher) is model:
        raise ValueError("the teacher is the model itself: distillation needs another one")
    try:
        check_fits(distillation.teacher, train)
    except ValueError as error:
        raise ValueError(f"the teacher does not fit the data: {error}") from error
    _check_float32(distillation.teacher, "the teacher")
    mean, std = (getattr(distillation.teacher, name, None) for name in ("mean", "std"))
    if mean is not None and not same_statistics((mean, std), (train.mean, train.std)):
        raise ValueError(
            f"the teacher expects mean {mean} and std {std}, the data have {train.mean} and "
            f"{train.std}: teacher and student see the same images"
        )


def check_partly_labelled(config: TrainConfig, distillation: DistillationLoss | None) -> None:
    if distillation is None:
        raise ValueError("some images have no label: give fit a teacher, distillation=...")
    if config.mixup or config.cutmix:
        raise ValueError("mixup and cutmix mix labels, and some images have none")
    if config.val_fraction:
        raise ValueError(
            "some images have no label to validate by: set val_fraction=0.0, and keep labelled "
            "images back yourself"
        )


def _check_float32(model: nn.Module, who: str) -> None:
    """Small steps of AdamW would be lost in half precision; amp keeps the weights in float32."""
    tensors = [*model.parameters(), *model.buffers()]
    found = {t.dtype for t in tensors if t.is_floating_point()} - {torch.float32}
    if found:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
        raise ValueError(
            f"fit trains in float32, but {who} has weights in {names}: call its .float() first. "
            f'For speed, TrainConfig(amp="bf16") computes in half precision with such weights'
        )
