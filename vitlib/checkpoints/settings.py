"""What belongs to weights besides the numbers: eps, GELU, pixel statistics, sizes, class names.

    shapes -> config.json and preprocessor_config.json -> the library's defaults

Shapes tell most of it, and take precedence; the two files tell what shapes cannot; the defaults of
each library tell the rest. configs.py reads the two files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from vitlib.checkpoints.configs import (
    Statistics,
    describe_pooling,
    read_config,
    read_embedded_architecture,
    read_preprocessor,
)
from vitlib.checkpoints.dialects import Translation
from vitlib.checkpoints.known_settings import heads_of_architecture
from vitlib.checkpoints.native import stored_arguments
from vitlib.checkpoints.positions import layout_of
from vitlib.checkpoints.reading import Foreign
from vitlib.patch import pair
from vitlib.presets import PRESETS

_HALF, _IMAGENET = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_UNKNOWN = (None, None)
# source -> (eps, activation, (mean, std)), unless a file says otherwise. timm trains with either
# pair of statistics, and Hugging Face's folders state theirs.
_DEFAULTS: Mapping[str, tuple[float, str, tuple[Statistics, Statistics]]] = {
    "timm": (1e-6, "gelu", _UNKNOWN),
    "deit": (1e-6, "gelu", _IMAGENET),
    "hf": (1e-12, "gelu", _UNKNOWN),
    "torchvision": (1e-6, "gelu", _IMAGENET),
    "google_npz": (1e-6, "gelu_tanh", _HALF),
}
_EPS_OF_DINOV2 = 1e-6
_ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_tanh": "gelu_tanh", "gelu_erf": "gelu",
    "gelu_python_tanh": "gelu_tanh", "gelu_accurate": "gelu_tanh",
}  # fmt: skip
# In published models, the width tells the number of heads.
_HEADS = {
    preset.arguments["embed_dim"]: preset.arguments["num_heads"]
    for preset in PRESETS.values()
    if preset.hub_id
}


@dataclass(frozen=True)
class SourceSettings:
    """The settings that the weights were trained with; None for what nothing tells.

    Attributes:
        eps: of LayerNorm.
        activation: "gelu" or "gelu_tanh".
        mean, std: of the pixels, one number per channel.
        classes: class names.
        arguments: those of `VisionTransformer`, as far as they are known.
        grid: rows and columns of patches, if the source states its image size.
        heads_are_a_guess: whether num_heads is not stated anywhere; it is then the number that
            published models of this width have, or not known at all.
        notes: sentences about settings that were not used, or that vitlib does not have.
        unlike: argument of `VisionTransformer` -> a sentence: what the source has there, and no
            vitlib model.
        assumed: which of eps, activation, pooling, mean and std, and the grid of patches no file
            states; they are then those that models of this library usually have.
        pictures: settings of how pictures are cut and resized, where vitlib does it otherwise.
        contradiction: a clause, if config.json is about a model of other sizes than the weights
            have; "" if it is not.
    """

    eps: float | None
    activation: str | None
    mean: Statistics
    std: Statistics
    classes: tuple[str, ...] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    grid: tuple[int, int] | None = None
    heads_are_a_guess: bool = False
    notes: tuple[str, ...] = ()
    unlike: dict[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    contradiction: str = ""


def settings_of(found: Translation, foreign: Foreign) -> SourceSettings:
    """The settings of the weights `found`, which were read as `foreign`."""
    # shapes
    arguments = arguments_of(found.weights)
    if foreign.native is not None:
        return _native_settings(foreign, arguments)
    # config.json and preprocessor_config.json, and the library's defaults where they say nothing
    stated, notes = read_config(foreign.config or {}, found, arguments)
    pixels = read_preprocessor(foreign.preprocessor or {}, arguments.get("in_chans", 3))
    notes += pixels.notes
    eps, activation, (mean, std) = _DEFAULTS[found.source]
    is_dinov2 = _is_dinov2(found)
    eps = _EPS_OF_DINOV2 if is_dinov2 else eps
    assumed = [] if stated.is_complete else ["eps", "activation", "pooling"]
    if stated.mean is not None or stated.knows_pixels:
        mean, std = stated.mean, stated.std
    elif foreign.preprocessor:
        mean, std = pixels.mean, pixels.std
    elif mean is not None:
        assumed.append("mean and std")
    unlike: dict[str, str] = {}
    named = stated.activation
    if named is not None and named not in _ACTIVATIONS:
        unlike["act_layer"] = f"The source's activation is {named!r}, which vitlib does not have."
    if stated.pool is not None and stated.pool != arguments["global_pool"]:
        unlike["global_pool"] = describe_pooling(stated.pool)
    grid = _grid(stated.img_size, arguments)
    if grid is None and "pos_embed" in found.weights:
        assumed.append("the grid of patches")
    arguments |= _arguments_of_positions(found.weights, arguments, grid)
    # transformers resamples DINOv2's positions without anti-aliasing, and with it if there are
    # registers; so do DINOv2's authors, who in the first case also stretch the grid by 0.1 patches.
    # timm always does it with anti-aliasing; what others do is not known.
    arguments["pos_antialias"] = not is_dinov2 or "reg_token" in found.weights
    contradiction = stated.contradiction
    if found.source == "hf" and (why := _contradicts_grid(arguments, grid, stated.img_size)):
        contradiction = why
        notes.append(f"config.json's image_size was not used: {why}.")
    width = arguments.get("embed_dim")
    embedded = heads_of_architecture(read_embedded_architecture(foreign.tensors), width)
    heads = stated.num_heads or _heads_of_kernels(found, foreign) or embedded
    if heads or width in _HEADS:
        arguments["num_heads"] = heads or _HEADS[width]
    count = arguments.get("num_classes")
    if count and stated.classes and len(stated.classes) != count:
        notes.append(
            f"config.json names {len(stated.classes)} classes, and the head has {count}: the names "
            "were not used."
        )
    return SourceSettings(
        eps=eps if stated.eps is None else stated.eps,
        activation=activation if named is None else _ACTIVATIONS.get(named),
        mean=mean,
        std=std,
        classes=stated.classes if stated.classes and len(stated.classes) == count else None,
        arguments=arguments,
        grid=grid,
        heads_are_a_guess=heads is None,
        notes=(*unlike.values(), *notes),
        unlike=unlike,
        assumed=tuple(assumed),
        pictures=(*stated.pictures, *pixels.pictures),
        contradiction=contradiction,
    )


def arguments_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `VisionTransformer`, as far as the shapes of weights tell them.

    The weights are under timm's names.
    """
    found: dict[str, Any] = {
        "distilled": "dist_token" in weights,
        "reg_tokens": length_of(weights, "reg_token", axis=1) or 0,
        "num_classes": length_of(weights, "head.weight") or 0,
        "pos_embed": "learned" if "pos_embed" in weights else "none",
        "global_pool": "avg" if "fc_norm.weight" in weights else "token",
        "init_values": 1e-5 if "blocks.0.ls1.gamma" in weights else None,
    }
    patches = weights.get("patch_embed.proj.weight")
    if patches is not None and patches.ndim == 4:
        width, channels, rows, columns = patches.shape
        found |= {"embed_dim": width, "in_chans": channels}
        found["patch_size"] = rows if rows == columns else (rows, columns)
    numbers = [int(match[1]) for name in weights if (match := re.match(r"blocks\.(\d+)\.", name))]
    found["depth"] = max(numbers, default=-1) + 1
    if numbers:
        found["qkv_bias"] = any(name.endswith(".attn.qkv.bias") for name in weights)
    hidden = weights.get("blocks.0.mlp.fc1.weight")
    if hidden is not None and hidden.ndim == 2:
        rows, width = hidden.shape
        # Block rounds width × ratio down: a quotient that is a hair too small gets half a row more.
        exact = int(width * (rows / width)) == rows
        found["mlp_ratio"] = rows / width if exact else (rows + 0.5) / width
    found["representation_size"] = length_of(weights, "pre_logits.fc.weight")
    return found


def length_of(weights: Mapping[str, Tensor], name: str, axis: int = 0) -> int | None:
    """The size of an axis; None if there is no such tensor, or it has no such axis."""
    return weights[name].shape[axis] if name in weights and weights[name].ndim > axis else None


def layers_of(settings: SourceSettings) -> dict[str, Any]:
    """The arguments norm_layer and act_layer, as far as `VisionTransformer` needs other ones."""
    layers: dict[str, Any] = {}
    if settings.eps not in (None, 1e-6):
        layers["norm_layer"] = partial(nn.LayerNorm, eps=settings.eps)
    if settings.activation == "gelu_tanh":
        layers["act_layer"] = partial(nn.GELU, approximate="tanh")
    return layers


def heads_of(model: nn.Module) -> int | None:
    """The model's number of attention heads; None if its modules do not all have the same."""
    heads = {getattr(module, "num_heads", None) for module in model.modules()} - {None}
    return heads.pop() if len(heads) == 1 else None


def _native_settings(foreign: Foreign, arguments: dict[str, Any]) -> SourceSettings:
    """The settings in vitlib's own checkpoint, which states all but custom layers."""
    assert foreign.native is not None
    info = foreign.native.info
    mean, std, classes = (
        None if info[name] is None else tuple(info[name]) for name in ("mean", "std", "classes")
    )
    try:
        arguments = stored_arguments(foreign.native)
    except ValueError:  # another class of model, or custom layers: only shapes are known
        return SourceSettings(
            eps=None, activation=None, mean=mean, std=std, classes=classes, arguments=arguments,
            heads_are_a_guess=True,
        )  # fmt: skip
    norm, act = arguments["norm_layer"], arguments["act_layer"]
    eps = 1e-6 if norm is None else norm.keywords.get("eps", 1e-5)  # 1e-5 is PyTorch's default
    tanh = act is not None and act.keywords.get("approximate") == "tanh"
    activation = "gelu_tanh" if tanh else "gelu"
    return SourceSettings(
        eps=eps, activation=activation, mean=mean, std=std, classes=classes, arguments=arguments,
        grid=_grid(arguments["img_size"], arguments),
    )  # fmt: skip


def _grid(img_size: Any, arguments: Mapping[str, Any]) -> tuple[int, int] | None:
    if img_size is None or "patch_size" not in arguments:
        return None
    (height, width), (ph, pw) = pair(img_size), pair(arguments["patch_size"])
    return height // ph, width // pw


def _is_dinov2(found: Translation) -> bool:
    """Whether the weights are DINOv2's, under Hugging Face's names or its authors'.

    timm's copies are not told from other ViTs with LayerScale, and need not be.
    """
    has_mask = any(name.endswith("mask_token") for name in found.left_out)
    return "blocks.0.ls1.gamma" in found.weights and (found.source == "hf" or has_mask)


def _arguments_of_positions(
    weights: Mapping[str, Tensor], arguments: Mapping[str, Any], grid: tuple[int, int] | None
) -> dict[str, Any]:
    """img_size: that of the stored positions, else what config.json states; and no_embed_class."""
    if "patch_size" not in arguments:
        return {}
    found: dict[str, Any] = {}
    if "pos_embed" in weights:
        try:
            layout = layout_of(weights, [grid] if grid else [])
        except ValueError:  # the model that they are loaded into may tell
            return {}
        grid, found["no_embed_class"] = layout.grid, not layout.slots
    if grid is None:
        return {}
    height, width = (n * side for n, side in zip(grid, pair(arguments["patch_size"]), strict=True))
    return found | {"img_size": height if height == width else (height, width)}


def _contradicts_grid(
    arguments: Mapping[str, Any], grid: tuple[int, int] | None, img_size: Any
) -> str:
    """A clause, if the stored positions are of another grid than that of config.json's size."""
    stored = _grid(arguments.get("img_size"), arguments)
    if grid is None or stored is None or grid == stored:
        return ""
    theirs, ours = ("×".join(map(str, sides)) for sides in (grid, stored))
    return (
        f"it is about an image_size of {img_size}, {theirs} patches, the weights have positions "
        f"for {ours}"
    )


def _heads_of_kernels(found: Translation, foreign: Foreign) -> int | None:
    """The number of heads, if the file shows it: Flax's kernels are (D, H, d), stacked or not."""
    names = found.origins.get("blocks.0.attn.qkv.weight", ())
    if found.source != "google_npz" or not names or names[0] not in foreign.tensors:
        return None
    return int(foreign.tensors[names[0]].shape[-2])
