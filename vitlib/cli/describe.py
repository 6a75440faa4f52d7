"""Lines about data, model, run and result, which commands print and reports contain."""

import math

from vitlib.data import ImageData
from vitlib.model import VisionTransformer
from vitlib.train import Evaluation, History


def describe_data(data: ImageData) -> str:
    """Its name, numbers of images, size, channels and classes."""
    return data.summary().partition("\n")[0]


def describe_model(name: str, model: VisionTransformer) -> str:
    """Its name, number of parameters and patches."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{name}: {parameters:,} parameters, patches of {model.patch_size[0]}×"
        f"{model.patch_size[1]}, {math.prod(model.grid_size)} of them"
    )


def describe_pixels(data: ImageData) -> str:
    """The mean and std that its pixels are normalised by."""
    mean, std = (" ".join(f"{x:.4g}" for x in values) for values in (data.mean, data.std))
    return f"pixels normalised by mean {mean} and std {std}"


def describe_freezing(model: VisionTransformer, how: str) -> str:
    """How many of its parameters are trained, after `freeze(model, how)`."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    trained, total = sum(n for n, t in counts if t), sum(n for n, _ in counts)
    return f"{trained:,} of {total:,} parameters are trained (--freeze {how})"


def describe_run(history: History) -> dict[str, str]:
    """The settings that matter for a run, and how long it took, as rows for the report."""
    config = history.config
    names = (
        "batch_size", "lr", "warmup_steps", "weight_decay", "label_smoothing", "ema_decay",
        "augment", "mixup", "cutmix", "val_fraction", "seed",
    )  # fmt: skip
    settings = ((name, getattr(config, name)) for name in names)
    return {
        "run": f"{len(history.loss):,} steps in {history.seconds:.0f} s, "
        f"{history.images_per_second:.0f} images per second",
        "settings": ", ".join(f"{name} {value}" for name, value in settings),
    }


def describe_result(result: Evaluation) -> str:
    """Test accuracy and loss."""
    right = int((result.predictions == result.labels).sum())
    return (
        f"test accuracy {result.accuracy:.2%} ({right:,} of {len(result.labels):,}), "
        f"loss {result.loss:.4f}"
    )
