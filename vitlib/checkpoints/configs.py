"""config.json and preprocessor_config.json of timm and Hugging Face: what they state of a model.

    a file's settings -> each looked up in known_settings.py -> used, refused by name, or named

What a file states and vitlib's models cannot do is refused, because a model that is built in
spite of it computes something else, and no tensor shows it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from vitlib.checkpoints.dialects import Translation
from vitlib.checkpoints.known_settings import (
    HUGGING_FACE,
    MODEL_TYPES,
    PREPROCESSOR,
    TIMM,
    TIMM_ARGUMENTS,
    TIMM_CFG,
    Checked,
    check_settings,
    heads_of_architecture,
    why_not_plain,
)

T = TypeVar("T", int, float, str)
Statistics = tuple[float, ...] | None
# Where training programs keep their options, beside the weights.
_OPTIONS = ("args", "hyper_parameters", "hparams", "config", "cfg", "opt")


@dataclass
class ConfigSettings:
    """What a config.json states beyond the shapes.

    Attributes:
        sizes: arguments of `VisionTransformer` that shapes tell, too.
        checked: what known_settings.py says about the others.
        is_complete: whether what it does not state is what its library has by default.
        knows_pixels: whether it states mean and std, even if they cannot be used.
        img_size, activation, pool, classes: as the file writes them.
        contradiction: a clause, if it is about a model of other sizes than the weights have.
    """

    sizes: dict[str, Any] = field(default_factory=dict)
    checked: Checked = field(default_factory=lambda: Checked([], [], []))
    is_complete: bool = False
    knows_pixels: bool = False
    num_heads: int | None = None
    img_size: Any = None
    eps: float | None = None
    activation: str | None = None
    mean: Statistics = None
    std: Statistics = None
    classes: tuple[str, ...] | None = None
    pool: str | None = None
    contradiction: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> list[str]:
        """Settings of how pictures are cut and resized, where vitlib does it otherwise."""
        return self.checked.pictures


class Pixels(NamedTuple):
    """What a preprocessor_config.json states: statistics of pixels between 0 and 1, sentences."""

    mean: Statistics
    std: Statistics
    notes: list[str]
    pictures: list[str]


def check_model_type(config: Mapping[str, Any] | None) -> str:
    """What transformers calls the model, if it is no plain ViT, as a clause; else ""."""
    kind = (config or {}).get("model_type")
    if kind in (None, "timm_wrapper", *MODEL_TYPES):
        return ""
    return (
        f"config.json calls it a {kind!r} model (model_type), and vitlib's VisionTransformer holds "
        f"{', '.join(MODEL_TYPES)}"
    )


def is_rotary(config: Mapping[str, Any] | None) -> bool:
    """Whether config.json has a setting of rotary positions, under transformers' names."""
    return any((config or {}).get(name) for name in ("rope_theta", "rope_parameters"))


def read_config(
    config: dict[str, Any], found: Translation, arguments: dict[str, Any]
) -> tuple[ConfigSettings, list[str]]:
    """What config.json states; if it belongs to other weights, nothing, and a sentence about it.

    Raises ValueError if it states something that no plain ViT has.
    """
    if not config:
        return ConfigSettings(), []
    is_hugging_face = "hidden_size" in config or config.get("model_type") in MODEL_TYPES
    if is_hugging_face != (found.source == "hf"):
        return ConfigSettings(), [
            "config.json was not used: it describes weights under other names."
        ]
    try:
        if is_hugging_face:
            has_pooler = "pre_logits.fc.weight" in found.weights
            stated = _read_hugging_face(config, has_pooler)
        else:
            stated = _read_timm(config, arguments.get("embed_dim"))
    except (TypeError, KeyError, IndexError, AttributeError, _Malformed) as error:
        return ConfigSettings(), [f"config.json was not used: {error!r}."]
    for name, value in stated.sizes.items():
        if value is not None and name in arguments and value != arguments[name]:
            what = "a width" if name == "embed_dim" else name
            why = f"it is about {what} of {value}, the weights {_have(name, arguments[name])}"
            return ConfigSettings(contradiction=why), [f"config.json was not used: {why}."]
    _refuse(stated.checked, "config.json")
    return stated, [*stated.notes, *_describe_unknown(stated.checked, "config.json")]


class _Malformed(Exception):
    """A setting of config.json has a value of the wrong kind."""

    def __repr__(self) -> str:
        return f"ValueError({str(self)!r})"


def _read(settings: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    """A setting that must be a word, or a number above zero, if it is there."""
    value = settings.get(name)
    if value is None or (kind is str and isinstance(value, str)):
        return value
    is_number = isinstance(value, int | kind) and not isinstance(value, bool)
    if kind is str or not is_number or not 0 < value < math.inf:
        raise _Malformed(f"{name} is {value!r}")
    return kind(value)


def _have(name: str, value: Any) -> str:
    return f"are {value} wide" if name == "embed_dim" else f"have {value}"


def _refuse(checked: Checked, file: str) -> None:
    """Raise a ValueError for settings that change what the model computes, and vitlib lacks."""
    if checked.refused:
        raise ValueError(
            f"{file} says {', '.join(checked.refused)}, which vitlib does not have: its models "
            "would compute something else. If that does not concern these weights, take it out of "
            f"{file}"
        )


def _describe_unknown(checked: Checked, file: str) -> list[str]:
    if not checked.unknown:
        return []
    return [f"{file} says {', '.join(checked.unknown)}, which vitlib does not know: not used."]


def _cannot_hold(where: str, reason: str) -> ValueError:
    return ValueError(f"VisionTransformer cannot hold this model ({where}): {reason}")


def _read_hugging_face(config: dict[str, Any], has_pooler: bool) -> ConfigSettings:
    names = config.get("id2label") or {}
    try:
        classes = tuple(str(names[key]) for key in sorted(names, key=int))
    except ValueError as error:
        raise _Malformed(str(error)) from error
    meaningless = all(name == f"LABEL_{i}" for i, name in enumerate(classes))
    patch = config.get("patch_size")
    not_asked = () if has_pooler else ("pooler_act",)
    return ConfigSettings(
        sizes={
            "embed_dim": config["hidden_size"],
            "depth": config.get("num_hidden_layers"),
            "in_chans": config.get("num_channels"),
            "patch_size": tuple(patch) if isinstance(patch, list) else patch,
            "reg_tokens": config.get("num_register_tokens"),
        },
        checked=check_settings(
            {k: v for k, v in config.items() if k not in not_asked},
            MODEL_TYPES.get(str(config.get("model_type")), HUGGING_FACE),
        ),
        is_complete=True,
        num_heads=_read(config, "num_attention_heads", int),
        img_size=config.get("image_size"),
        eps=_read(config, "layer_norm_eps", float),
        activation=_read(config, "hidden_act", str),
        classes=None if meaningless else classes,
    )


def _read_timm(config: dict[str, Any], width: int | None) -> ConfigSettings:
    data, given = config.get("pretrained_cfg", config), config.get("model_args") or {}
    architecture = str(config.get("architecture") or data.get("architecture") or "").split(".")[0]
    if architecture and (reason := why_not_plain(architecture)) != "":
        unknown = (
            "vitlib does not know it. If it is a plain ViT, write the name of one there, such as "
            'vit_base_patch16_224, and its number of heads, "model_args": {"num_heads": ...}'
        )
        raise _cannot_hold(f"architecture {architecture!r} in config.json", reason or unknown)
    size = data.get("input_size")
    names = config.get("label_names") or data.get("label_names") or config.get("labels")
    knows_pixels = bool(data.get("mean") and data.get("std"))
    mean, std, why = None, None, list[str]()
    if knows_pixels:
        mean, std, why = _plausible(tuple(data["mean"]), tuple(data["std"]))
    tables = ((config, TIMM), (given, TIMM_ARGUMENTS), *([(data, TIMM_CFG)] * (data is not config)))
    each = [check_settings(settings, table) for settings, table in tables]
    each[1] = each[1]._replace(refused=each[1].refused + each[1].unknown, unknown=[])
    return ConfigSettings(
        sizes={
            "embed_dim": given.get("embed_dim") or config.get("num_features"),
            "depth": given.get("depth"),
            "in_chans": given.get("in_chans") or (size and size[0]),
        },
        checked=Checked(*(list(chain(*lists)) for lists in zip(*each, strict=True))),
        is_complete=bool(architecture),
        knows_pixels=knows_pixels,
        num_heads=_read(given, "num_heads", int) or heads_of_architecture(architecture, width),
        img_size=given.get("img_size") or (size and size[1:]),
        activation=_read(given, "act_layer", str) or None,
        mean=mean,
        std=std,
        notes=why,
        classes=tuple(map(str, names)) if isinstance(names, list) else None,
        pool=given["global_pool"] if "global_pool" in given else config.get("global_pool"),
    )


def read_embedded_architecture(content: Mapping[str, Any]) -> str:
    """timm's name for the model, if a training checkpoint has it: "arch", or in its options.

    Raises ValueError if that is known to be no plain ViT.
    """
    options = [content, *(content.get(name) for name in _OPTIONS)]
    for one in options:
        named = one if isinstance(one, Mapping) else getattr(one, "__dict__", {})
        for key in ("arch", "model", "architecture", "model_name", "backbone"):
            name = named.get(key)
            if isinstance(name, str) and (why := why_not_plain(name.split(".")[0])) is not None:
                if why:
                    raise _cannot_hold(f"the file calls it {name!r}", why)
                return name.split(".")[0]
    return ""


def describe_pooling(pool: str) -> str:
    if pool == "token":
        return (
            "The source normalises the class token after it is read (fc_norm), vitlib's models "
            "before that: the numbers are the same, but the weights would have to be renamed, from "
            "fc_norm to norm."
        )
    if pool == "avg":
        return (
            "The source averages its patch tokens after the final norm, vitlib's models before it "
            "(fc_norm): no vitlib model gives its logits."
        )
    return (
        f"The source pools its tokens by {pool!r}, vitlib's models read the class token after the "
        "final norm, or average the patch tokens before it: no vitlib model gives its logits."
    )


def read_preprocessor(preprocessor: dict[str, Any], channels: int) -> Pixels:
    """What preprocessor_config.json states.

    Raises ValueError if pictures are prepared in a way that vitlib does not have.
    """
    checked = check_settings(preprocessor, PREPROCESSOR)
    _refuse(checked, "preprocessor_config.json")
    mean, std, why = _pixel_statistics(preprocessor, channels) if preprocessor else (None, None, [])
    notes = [*_describe_unknown(checked, "preprocessor_config.json"), *why]
    return Pixels(mean, std, notes, checked.pictures)


def _pixel_statistics(
    preprocessor: dict[str, Any], channels: int
) -> tuple[Statistics, Statistics, list[str]]:
    """Mean and std of pixels between 0 and 1 that do what the file says to pixels from 0 to 255.

    A processor computes (rescale_factor · pixel - mean) / std. If its numbers leave open whether
    the pixels were divided by 255 before, there are none, and a sentence says why.
    """
    is_rescaled = preprocessor.get("do_rescale", True) is not False
    is_normalised = preprocessor.get("do_normalize", True) is not False
    mean, std = preprocessor.get("image_mean"), preprocessor.get("image_std")
    if is_normalised and (mean is None or std is None):
        return None, None, []
    try:
        factor = 255 * float(preprocessor.get("rescale_factor", 1 / 255)) if is_rescaled else 255.0
        offset = 1.0 if preprocessor.get("rescale_offset") or preprocessor.get("offset") else 0.0
        mean, std = (_per_channel(x, channels) for x in ((mean, std) if is_normalised else (0, 1)))
        if not factor > 0:
            raise ValueError(f"rescale_factor is {factor / 255}")
    except (TypeError, ValueError) as error:
        return None, None, [f"preprocessor_config.json's mean and std were not used: {error}."]
    if not is_rescaled and max(mean) <= 1 and max(std) <= 1:
        return None, None, [
            "preprocessor_config.json says do_rescale=False, but its mean and std are those of "
            "pixels from 0 to 1: it is not clear what the weights were trained with, so neither is "
            "used."
        ]  # fmt: skip
    if not is_rescaled or factor != 1.0 or offset:
        mean = tuple((m + offset) / factor for m in mean)
        std = tuple(s / factor for s in std)
    return _plausible(mean, std)


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    return (
        (float(value),) * channels if isinstance(value, int | float) else tuple(map(float, value))
    )


def _plausible(mean: Statistics, std: Statistics) -> tuple[Statistics, Statistics, list[str]]:
    """Both, if they can be those of pixels between 0 and 1; else None, and a sentence."""
    assert mean is not None
    if (
        std
        and len(mean) == len(std)
        and all(-1 <= m <= 2 for m in mean)
        and all(0 < s <= 4 for s in std)
    ):
        return mean, std, []
    return None, None, [
        f"The source's mean {mean} and std {std} cannot be those of pixels between 0 and 1: they "
        "were not used."
    ]  # fmt: skip
