"""What travels with weights beside the numbers: eps, GELU, pixel statistics, sizes, class names.

Shapes tell most of it, and are believed first; config.json and preprocessor_config.json tell what
shapes cannot; each library's habits tell the rest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from vitlib.checkpoints.dialects import Translation
from vitlib.checkpoints.native import stored_arguments
from vitlib.checkpoints.positions import layout_of
from vitlib.checkpoints.reading import Foreign
from vitlib.patch import pair
from vitlib.presets import PRESETS

Statistics = tuple[float, ...] | None
_HALF, _IMAGENET = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_UNKNOWN = (None, None)
# source -> (eps, activation, (mean, std)), where no file says otherwise. timm trains with either
# pair of statistics, Hugging Face's folders say theirs.
_HABITS: Mapping[str, tuple[float, str, tuple[Statistics, Statistics]]] = {
    "timm": (1e-6, "gelu", _UNKNOWN),
    "deit": (1e-6, "gelu", _IMAGENET),
    "hf": (1e-12, "gelu", _UNKNOWN),
    "torchvision": (1e-6, "gelu", _IMAGENET),
    "google_npz": (1e-6, "gelu_tanh", _HALF),
}
_ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_tanh": "gelu_tanh",
}  # fmt: skip
# The width of every published model of this name tells its number of heads.
_HEADS = {
    preset.arguments["embed_dim"]: preset.arguments["num_heads"]
    for preset in PRESETS.values()
    if preset.hub_id
}


@dataclass(frozen=True)
class SourceSettings:
    """The settings that the weights were trained with; None where nothing tells.

    Attributes:
        eps, activation: of LayerNorm, and "gelu" or "gelu_tanh".
        mean, std: of the pixels, one number a channel.
        classes: class names.
        arguments: `VisionTransformer`'s, as far as they are known.
        grid: rows and columns of patches, where the source says its image size.
        heads_are_a_guess: num_heads is what models of this width have; nothing in the file says it.
        notes: sentences on settings that were not believed, or that vitlib has no name for.
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


@dataclass
class _Said:
    """What a config.json says beyond the shapes."""

    width: int | None = None
    num_heads: int | None = None
    img_size: Any = None
    eps: float | None = None
    activation: str | None = None
    mean: Statistics = None
    std: Statistics = None
    classes: tuple[str, ...] | None = None
    pool: str | None = None


def settings_of(found: Translation, foreign: Foreign) -> SourceSettings:
    """The settings of the weights `found`, which were read as `foreign`."""
    arguments = arguments_of(found.weights)
    if foreign.native is not None:
        return _native_settings(foreign, arguments)
    said, notes = _read_config(foreign.config or {}, found.source, arguments)
    eps, activation, (mean, std) = _HABITS[found.source]
    named = said.activation
    if named is not None and named not in _ACTIVATIONS:
        notes.append(f"The source's activation is {named!r}, which vitlib does not have.")
    if said.pool == "avg" and arguments["global_pool"] == "token":
        notes.append(
            "The source averages its patch tokens after the final norm, vitlib's models before it "
            "(fc_norm): no vitlib model gives its logits."
        )
    mean, std = (said.mean, said.std) if said.mean else (mean, std)
    if foreign.preprocessor:
        mean, std = _pixel_statistics(foreign.preprocessor)
    grid = _grid(said.img_size, arguments)
    arguments |= _img_size(found.weights, arguments, grid)
    heads = said.num_heads or _heads_of_kernels(found, foreign)
    width = arguments.get("embed_dim")
    if heads or width in _HEADS:
        arguments["num_heads"] = heads or _HEADS[width]
    count = arguments.get("num_classes")
    return SourceSettings(
        eps=eps if said.eps is None else said.eps,
        activation=activation if named is None else _ACTIVATIONS.get(named),
        mean=mean,
        std=std,
        classes=said.classes if said.classes and len(said.classes) == count else None,
        arguments=arguments,
        grid=grid,
        heads_are_a_guess=heads is None,
        notes=tuple(notes),
    )


def arguments_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """`VisionTransformer`'s arguments, as far as the shapes of weights under timm's names tell."""
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
        # Block rounds width × ratio down, so a quotient that is a hair too small gets half a row.
        exact = int(width * (rows / width)) == rows
        found["mlp_ratio"] = rows / width if exact else (rows + 0.5) / width
    found["representation_size"] = length_of(weights, "pre_logits.fc.weight")
    return found


def length_of(weights: Mapping[str, Tensor], name: str, axis: int = 0) -> int | None:
    """The size of an axis; None where the tensor, or its axis, is not there."""
    return weights[name].shape[axis] if name in weights and weights[name].ndim > axis else None


def layers_of(settings: SourceSettings) -> dict[str, Any]:
    """The arguments norm_layer and act_layer; only those that are not `VisionTransformer`'s own."""
    layers: dict[str, Any] = {}
    if settings.eps not in (None, 1e-6):
        layers["norm_layer"] = partial(nn.LayerNorm, eps=settings.eps)
    if settings.activation == "gelu_tanh":
        layers["act_layer"] = partial(nn.GELU, approximate="tanh")
    return layers


def heads_of(model: nn.Module) -> int | None:
    """The number of attention heads, where its modules agree on it."""
    heads = {getattr(module, "num_heads", None) for module in model.modules()} - {None}
    return heads.pop() if len(heads) == 1 else None


def _native_settings(foreign: Foreign, arguments: dict[str, Any]) -> SourceSettings:
    """vitlib's own checkpoint says all; of custom layers nothing is known."""
    assert foreign.native is not None
    info = foreign.native.info
    mean, std, classes = (
        None if info[name] is None else tuple(info[name]) for name in ("mean", "std", "classes")
    )
    try:
        arguments = stored_arguments(foreign.native)
    except ValueError:  # another class of model, or custom layers: only shapes are known
        return SourceSettings(None, None, mean, std, classes, arguments, heads_are_a_guess=True)
    norm, act = arguments["norm_layer"], arguments["act_layer"]
    eps = 1e-6 if norm is None else norm.keywords.get("eps", 1e-5)  # 1e-5 is PyTorch's default
    tanh = act is not None and act.keywords.get("approximate") == "tanh"
    activation = "gelu_tanh" if tanh else "gelu"
    grid = _grid(arguments["img_size"], arguments)
    return SourceSettings(eps, activation, mean, std, classes, arguments, grid)


def _read_config(
    config: dict[str, Any], source: str, arguments: dict[str, Any]
) -> tuple[_Said, list[str]]:
    """What config.json says, unless it belongs to other weights; then a sentence on that."""
    is_theirs = "hidden_size" in config
    if not config or is_theirs != (source == "hf"):
        why = "it describes weights under other names"
        return _Said(), [f"config.json was not used: {why}."] if config else []
    try:
        said = _of_hugging_face(config) if is_theirs else _of_timm(config)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        return _Said(), [f"config.json was not used: {error!r}."]
    if said.width is not None and said.width != arguments.get("embed_dim", said.width):
        why = f"it is about a width of {said.width}, the weights are {arguments['embed_dim']} wide"
        return _Said(), [f"config.json was not used: {why}."]
    return said, []


def _of_hugging_face(config: dict[str, Any]) -> _Said:
    names = config.get("id2label") or {}
    classes = tuple(str(names[key]) for key in sorted(names, key=int))
    meaningless = all(name == f"LABEL_{i}" for i, name in enumerate(classes))
    return _Said(
        width=config["hidden_size"],
        num_heads=config.get("num_attention_heads"),
        img_size=config.get("image_size"),
        eps=config.get("layer_norm_eps"),
        activation=config.get("hidden_act"),
        classes=None if meaningless else classes,
    )


def _of_timm(config: dict[str, Any]) -> _Said:
    data, given = config.get("pretrained_cfg", config), config.get("model_args") or {}
    architecture = str(config.get("architecture", "")).split(".")[0]
    known = architecture in PRESETS and "embed_dim" not in given
    preset = PRESETS[architecture].arguments if known else {}
    size = data.get("input_size")
    names = config.get("label_names")
    mean, std = data.get("mean"), data.get("std")
    return _Said(
        width=given.get("embed_dim") or config.get("num_features"),
        num_heads=given.get("num_heads") or preset.get("num_heads"),
        img_size=given.get("img_size") or (size and size[1:]),
        activation=given.get("act_layer"),
        mean=tuple(mean) if mean and std else None,
        std=tuple(std) if mean and std else None,
        classes=tuple(map(str, names)) if isinstance(names, list) else None,
        pool=given.get("global_pool") or config.get("global_pool"),
    )


def _pixel_statistics(preprocessor: dict[str, Any]) -> tuple[Statistics, Statistics]:
    mean, std = preprocessor.get("image_mean"), preprocessor.get("image_std")
    if preprocessor.get("do_normalize") is False:  # pixels stay between 0 and 1
        return (0.0,) * 3, (1.0,) * 3
    return (tuple(mean), tuple(std)) if mean and std else _UNKNOWN


def _grid(img_size: Any, arguments: Mapping[str, Any]) -> tuple[int, int] | None:
    if img_size is None or "patch_size" not in arguments:
        return None
    (height, width), (ph, pw) = pair(img_size), pair(arguments["patch_size"])
    return height // ph, width // pw


def _img_size(
    weights: Mapping[str, Tensor], arguments: Mapping[str, Any], grid: tuple[int, int] | None
) -> dict[str, Any]:
    """The image size: that of the stored positions, else what config.json says."""
    if "patch_size" not in arguments:
        return {}
    if "pos_embed" in weights:
        try:
            grid = layout_of(weights, [grid] if grid else []).grid
        except ValueError:  # the model that they go into may know
            return {}
    if grid is None:
        return {}
    height, width = (n * side for n, side in zip(grid, pair(arguments["patch_size"]), strict=True))
    return {"img_size": height if height == width else (height, width)}


def _heads_of_kernels(found: Translation, foreign: Foreign) -> int | None:
    """Flax's kernels are (D, H, d), stacked or not, and so show the heads."""
    names = found.origins.get("blocks.0.attn.qkv.weight", ())
    if found.source != "google_npz" or not names or names[0] not in foreign.tensors:
        return None
    return int(foreign.tensors[names[0]].shape[-2])
