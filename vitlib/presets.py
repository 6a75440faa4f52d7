"""The models that `create_model` knows by name: one row each. Adding a row is enough.

Names and sizes are timm's (timm 1.0, vision_transformer.py and deit.py); nano and micro are the
book's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Statistics = tuple[float, ...] | None


@dataclass(frozen=True)
class Preset:
    """A named model, and what is known about the weights published under that name.

    Attributes:
        arguments: arguments of VisionTransformer.
        mean, std: of the pixels that the weights were trained with, one number per channel.
        hub_id: the repository on the Hub with the weights that timm uses under this name.
        native_size: the side that pictures are resized to for this model, in pixels; None if the
            model takes the size of the data.
        headless: whether the published weights have no head.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    mean: Statistics = None
    std: Statistics = None
    hub_id: str | None = None
    native_size: int | None = None
    headless: bool = False


_IMAGENET: Any = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_TINY = {"embed_dim": 192, "depth": 12, "num_heads": 3}
_SMALL = {"embed_dim": 384, "depth": 12, "num_heads": 6}
_BASE = {"embed_dim": 768, "depth": 12, "num_heads": 12}
_LARGE = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
_HUGE = {"embed_dim": 1280, "depth": 32, "num_heads": 16}
_REGISTERS = {"reg_tokens": 4, "no_embed_class": True}
# At these widths, weights of standard deviation 0.02 are too small to start with; the scheme "jax"
# scales them with the width.
_NANO = {
    "img_size": 28, "in_chans": 1, "num_classes": 10, "embed_dim": 64, "depth": 4, "num_heads": 4,
    "weight_init": "jax",
}  # fmt: skip
_MICRO = {
    "img_size": 32, "num_classes": 10, "embed_dim": 128, "depth": 8, "num_heads": 4,
    "weight_init": "jax",
}  # fmt: skip


def _vit(name: str, size: dict[str, Any], recipe: str, img_size: int = 224, **more: Any) -> Preset:
    """A ViT trained on pixels from -1 to 1, as Google's were."""
    half = (0.5, 0.5, 0.5)
    return Preset(
        name, size | {"img_size": img_size}, mean=half, std=half, hub_id=f"timm/{name}.{recipe}",
        native_size=img_size, **more,
    )  # fmt: skip


def _deit(name: str, size: dict[str, Any], img_size: int = 224) -> Preset:
    """A DeiT trained by Facebook's recipe, with ImageNet's mean and std."""
    return Preset(
        name, size | {"img_size": img_size}, **_IMAGENET, hub_id=f"timm/{name}.fb_in1k",
        native_size=img_size,
    )  # fmt: skip


def _dinov2(name: str, size: dict[str, Any], **more: Any) -> Preset:
    """Facebook's DINOv2, which was trained without labels: features, and no head."""
    arguments = size | {"img_size": 518, "patch_size": 14, "num_classes": 0, "init_values": 1e-5}
    return Preset(
        name, arguments | more, **_IMAGENET, hub_id=f"timm/{name}.lvd142m", native_size=518,
        headless=True,
    )  # fmt: skip


_ROWS = (
    _vit("vit_tiny_patch16_224", _TINY, "augreg_in21k_ft_in1k"),
    _vit("vit_small_patch16_224", _SMALL, "augreg_in21k_ft_in1k"),
    _vit("vit_base_patch16_224", _BASE, "augreg2_in21k_ft_in1k"),
    _vit("vit_base_patch32_224", _BASE | {"patch_size": 32}, "augreg_in21k_ft_in1k"),
    _vit("vit_large_patch16_224", _LARGE, "augreg_in21k_ft_in1k"),
    _vit("vit_huge_patch14_224", _HUGE | {"patch_size": 14}, "orig_in21k", headless=True),
    _deit("deit_tiny_patch16_224", _TINY),
    _deit("deit_small_patch16_224", _SMALL),
    _deit("deit_base_patch16_224", _BASE),
    _deit("deit_tiny_distilled_patch16_224", _TINY | {"distilled": True}),
    _deit("deit_small_distilled_patch16_224", _SMALL | {"distilled": True}),
    _deit("deit_base_distilled_patch16_224", _BASE | {"distilled": True}),
    _dinov2("vit_small_patch14_dinov2", _SMALL),
    _dinov2("vit_base_patch14_dinov2", _BASE),
    _dinov2("vit_small_patch14_reg4_dinov2", _SMALL, **_REGISTERS),
    _dinov2("vit_base_patch14_reg4_dinov2", _BASE, **_REGISTERS),
    Preset("vit_nano_patch4_28", _NANO | {"patch_size": 4}),
    Preset("vit_nano_patch7_28", _NANO | {"patch_size": 7}),
    Preset("vit_micro_patch4_32", _MICRO | {"patch_size": 4}),
)
PRESETS: dict[str, Preset] = {row.name: row for row in _ROWS}
