"""A model by its name, with or without weights: `create_model` and `list_models`.

    a preset's name -> its row of PRESETS -> model -> weights that come with vitlib or from the Hub
    a file, folder or Hub id -> a model built as its source was, with its weights

Both end in eval mode if weights were loaded.
"""

import os
from typing import Any

from vitlib.checkpoints import build_pretrained, load_preset
from vitlib.model import VisionTransformer
from vitlib.presets import PRESETS
from vitlib.wording import did_you_mean


def list_models() -> list[str]:
    """The names that `create_model` knows, sorted."""
    return sorted(PRESETS)


def create_model(
    name: str | os.PathLike[str], pretrained: bool = False, **overrides: Any
) -> VisionTransformer:
    """Build a preset, with any argument of `VisionTransformer` overridden.

    `pretrained` loads weights and puts the model in eval mode. For vitlib's own presets the weights
    come with vitlib; for presets with timm's names they come from the Hugging Face Hub or its
    cache. If `num_classes` differs from that of the weights, the head is newly initialised; for
    another `img_size`, the positions are resampled.

    With `pretrained`, `name` may also be a file, a folder or a Hub id, "owner/name". The model is
    then built like its source, with its eps, activation, sizes, mean, std and class names; see
    `load_pretrained`. What had to be guessed, such as the number of attention heads by the width,
    or was left out of the file, is said in a warning.

    Raises ValueError for an unknown name (and names the nearest), and for weights that do not fit,
    cannot be found, belong to a model that computes otherwise (and says which setting shows it),
    lack the config.json of their folder or have that of others, or do not tell what to build: then
    give num_heads, in_chans, patch_size or num_classes.
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
