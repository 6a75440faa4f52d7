"""Fine-tuning: a model that starts from given weights, for the reader's own pictures.

    weights -> their settings -> a model with a head for the new classes -> weights loaded
    pictures -> the model's channels and size -> normalised as in the weights' training

`vitlib train --weights` is made of these parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitlib.checkpoints import LoadReport, digest_weights
from vitlib.checkpoints.pretrained import (
    NO_POSITIONS,
    Pretrained,
    lacks_positions,
    load_into,
    read_pretrained,
)
from vitlib.checkpoints.settings import SourceSettings, layers_of
from vitlib.create import create_model
from vitlib.data import ImageData
from vitlib.model import VisionTransformer
from vitlib.patch import Size
from vitlib.presets import PRESETS
from vitlib.wording import first_few

# TrainConfig's settings for fine-tuning: a few short epochs, a rate that changes trained weights
# only a little, and no smoothing, so that the report's probabilities are the model's own.
SETTINGS: Mapping[str, Any] = {
    "steps": 300, "batch_size": 32, "lr": 2e-4, "warmup_steps": 30, "label_smoothing": 0.0,
    "augment": "flip_crop", "eval_every": 50, "checkpoint_every": 50,
}  # fmt: skip
HEAD_LR = 3e-3  # with a frozen backbone: the new head starts from nothing
_NEEDED = ("embed_dim", "depth", "num_heads", "patch_size", "img_size")  # to build the model


@dataclass(frozen=True)
class StartingWeights:
    """The weights that fine-tuning starts from.

    Attributes:
        place: the file, folder or Hub id.
        pretrained: what was read there.
        digest: a fingerprint of the numbers.
    """

    place: str
    pretrained: Pretrained
    digest: str

    @property
    def settings(self) -> SourceSettings:
        """What is known about the weights besides their numbers."""
        return self.pretrained.settings

    @property
    def name(self) -> str:
        """A short name, to be part of a file's name."""
        path = Path(self.place).absolute()  # "." has no name
        is_file = path.suffix in (".safetensors", ".bin", ".pth", ".pt", ".npz")
        return path.stem if is_file else path.name


def read_starting_weights(place: str) -> StartingWeights:
    """Read the weights in a file, a folder or on the Hub; raises what `load_pretrained` raises."""
    pretrained = read_pretrained(place)
    return StartingWeights(place, pretrained, digest_weights(pretrained.found.weights))


def settings_for(how: str) -> dict[str, Any]:
    """TrainConfig's settings for fine-tuning after `freeze(model, how)`."""
    return {**SETTINGS, "lr": HEAD_LR} if how == "backbone" else dict(SETTINGS)


def choose_img_size(start: StartingWeights, preset: str | None) -> Size | None:
    """The image size of the preset, else of the weights; None if these do not tell it."""
    if preset is not None:
        size: Size = PRESETS[preset].arguments["img_size"]
        return size
    return start.settings.arguments.get("img_size")


def build(
    start: StartingWeights, data: ImageData, preset: str | None, resize: bool, **overrides: Any
) -> tuple[VisionTransformer, LoadReport]:
    """A model for the classes and the image size of `data`, with the weights loaded.

    It is the preset, or the model that the weights' settings describe; eps, activation and channels
    are those of the weights in any case. So are mean and std if they are known; else they are the
    preset's, or None. The head is new, unless the weights have the same classes in the same order.
    With `resize`, positions of another grid are resampled. `overrides` are arguments of
    VisionTransformer.

    Raises ValueError for weights that do not fit, and if they do not tell what to build.
    """
    known = start.settings.arguments
    if start.pretrained.foreign.native is None and lacks_positions(start.pretrained.found):
        raise ValueError(f"{start.place} {NO_POSITIONS}")
    given = {"img_size": tuple(data.train.shape[-2:]), "num_classes": len(data.classes)}
    given |= overrides | layers_of(start.settings)
    if preset is not None:
        model = create_model(preset, **{"in_chans": known.get("in_chans", 3)} | given)
    else:
        missing = [name for name in _NEEDED if name not in known | given]
        if missing:
            how = "give --num-heads" if missing == ["num_heads"] else "choose --model"
            raise ValueError(f"{start.place} does not tell its model's {', '.join(missing)}: {how}")
        model = VisionTransformer(**known | given)
    if len(start.settings.mean or ()) == model.in_chans:
        model.mean, model.std = start.settings.mean, start.settings.std
    new_head = start.settings.classes != data.classes
    report = load_into(
        model, start.pretrained, strict=False, resize_pos_embed=resize, new_head=new_head
    )
    _refuse_misfit(report, model, start, preset)
    return model, report


def freeze(model: VisionTransformer, how: str) -> None:
    """Freeze part of the weights: "none", "backbone" (all but the head), or a number.

    A number N freezes everything before block N: the patch embedding, the tokens, the positions and
    the first N blocks. Raises ValueError for anything else.
    """
    if how == "none":
        return
    heads = ("head", "head_dist")
    if how == "backbone":
        frozen = [p for name, p in model.named_parameters() if name.split(".")[0] not in heads]
    elif how.isdecimal() and int(how) <= len(model.blocks):
        first = [f"blocks.{number}." for number in range(int(how))]
        starts = ("patch_embed.", "cls_token", "dist_token", "reg_token", "pos_embed", *first)
        frozen = [p for name, p in model.named_parameters() if name.startswith(starts)]
    else:
        raise ValueError(
            f"--freeze must be none, backbone, or a number of blocks from 0 to "
            f"{len(model.blocks)}, got {how!r}"
        )
    for parameter in frozen:
        parameter.requires_grad_(False)


def check_classes(data: ImageData, val_fraction: float) -> None:
    """Raise a ValueError if a validation set is wanted and a class has only one picture."""
    counts = torch.bincount(data.train.labels, minlength=len(data.classes))
    if val_fraction and (counts == 1).any():
        lonely = data.classes[int((counts == 1).nonzero()[0])]
        raise ValueError(
            f"class {lonely!r} has 1 training picture, too few to keep one back for validation: "
            f"add pictures, or choose --val-fraction 0"
        )


def choose_batch_size(data: ImageData, val_fraction: float) -> int:
    """The usual batch size, or the number of training images if that is smaller."""
    train = data.split(val_fraction)[0] if val_fraction else data.train
    return min(int(SETTINGS["batch_size"]), len(train))


def _refuse_misfit(
    report: LoadReport, model: VisionTransformer, start: StartingWeights, preset: str | None
) -> None:
    """Raise a ValueError for what does not fit, with advice for the command line."""
    if report.ok:
        return
    misfits = [f"{title}: {first_few(names, 2)}" for title, names in report.misfits.items()]
    advice = " Without --model, it is built as they need it" if preset else ""
    if not preset and any(entry.startswith("patch_embed.") for entry in report.mismatched):
        advice = " Leave out --patch-size: the weights tell the size of patches"
    if not (preset or report.missing or report.mismatched):
        advice = " If the model does without them, save the weights again without these names"
    rest = [entry for entry in report.mismatched if not entry.startswith("pos_embed ")]
    if not (report.missing or report.extra or rest):
        advice = f" --img-size {model.img_size[0]} resamples the positions"
    name = f"the model {preset}" if preset else "the model"
    raise ValueError(f"{start.place} does not fit {name}: {'; '.join(misfits)}.{advice}")
