"""A model by its name, with or without weights: `create_model` and `list_models`."""

import os
from typing import Any

from vitlib.checkpoints import build_pretrained, load_preset
from vitlib.model import VisionTransformer
from vitlib.presets import PRESETS
from vitlib.wording import did_you_mean


def list_models() -> list[str]:
    """Names that `create_model` knows."""
    return sorted(PRESETS)


def create_model(
    name: str | os.PathLike[str], pretrained: bool = False, **overrides: Any
) -> VisionTransformer:
    """Build a preset, with any argument of `VisionTransformer` overridden.

    `pretrained` loads weights, and the model is then in eval mode: those that come with vitlib for
    its own presets; from the Hugging Face Hub, with its cache, for those that bear timm's names.
    Where `num_classes` is not the weights', the head starts anew; to another `img_size` the
    positions are resampled. With `pretrained`, `name` may also be a file, a folder or a Hub id,
    "owner/name": the model is then built as its source was, with its eps, activation, sizes, mean,
    std and class names; see `load_pretrained`.

    Raises ValueError for an unknown name (naming the nearest), and where weights do not fit, can't
    be had, or do not say how many heads their attention has: then give num_heads.
    """
    if name in PRESETS:
        name = str(name)
        preset = PRESETS[name]
        model = VisionTransformer(**{**preset.arguments, **overrides})
        if model.in_chans == len(preset.mean or ()):
            model.mean, model.std = preset.mean, preset.std
        if pretrained:
            load_preset(preset, model, overrides)
        return model
    if pretrained and (not isinstance(name, str) or "/" in name or os.path.exists(name)):
        return build_pretrained(name, overrides)
    hint = did_you_mean(str(name), PRESETS, "See vitlib.list_models()")
    if os.path.exists(str(name)):
        hint = "To build what this file or folder holds, add pretrained=True"
    raise ValueError(f"unknown model {name!r}. {hint}")
