"""Methods that make one map per image, by name, for the command line, the explorer and the report.

`METHODS` is the table of them. Adding a row is enough: `vitlib attend --method`, the explorer's
menu and the tests read it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vitlib.explain.answers import gradient_rollout, occlusion
from vitlib.explain.maps import (
    attention_rollout,
    principal_components,
    read_by_head,
    tokens_to_grid,
)
from vitlib.explain.recorder import AttentionRecorder
from vitlib.matching import in_eval_mode
from vitlib.model import VisionTransformer
from vitlib.patch import grid_of

EACH_HEAD = "all"  # a head's number that asks for the maps of all heads


@dataclass(frozen=True)
class MapMethod:
    """A way to make a map.

    Attributes:
        name: what the user writes to choose it.
        label: what it is called in titles and menus.
        help: what it shows, in a few words.
        make: called with a model, images and the options, returns maps (B, h, w) on the grid of
            patches or a finer one; if it paints, colours (B, h, w, 3) in [0, 1].
        options: which of "layer", "head" and "target" it takes; None is the default of each.
        paints: whether it makes colours instead of values.
    """

    name: str
    label: str
    help: str
    make: Callable[..., Float[Tensor, "B h w"]]
    options: tuple[str, ...] = ()
    paints: bool = False

    @property
    def needs_class(self) -> bool:
        """Whether the map is about one class: the target, or else the predicted one."""
        return "target" in self.options


def _attention(
    model: VisionTransformer, inputs: Tensor, layer: int | None, head: int | str | None
) -> Tensor:
    layers = [-1 if layer is None else layer]
    weights = _record_attention(model, inputs, layers)[:, 0]  # (B, H, T, T)
    if isinstance(head, int):
        weights = weights[:, head]
    elif head is None:
        weights = weights.mean(dim=1)
    return _on_grid(weights, model, inputs)


def _rollout(model: VisionTransformer, inputs: Tensor) -> Tensor:
    return _on_grid(attention_rollout(_record_attention(model, inputs, None)), model, inputs)


def _gradient(model: VisionTransformer, inputs: Tensor, target: int | None) -> Tensor:
    relevance = gradient_rollout(model, inputs, target)
    # Without the identity that it started from: with average pooling, it would hide the rest.
    return _on_grid(relevance - torch.eye(relevance.shape[-1]).to(relevance), model, inputs)


def _pca(model: VisionTransformer, inputs: Tensor) -> Tensor:
    """Each image's first three components as red, green and blue, each from 0 to 1 in the image."""
    with in_eval_mode(model), torch.no_grad():
        tokens = model.forward_features(inputs)[:, model.num_prefix_tokens :]  # (B, N, D)
    components = principal_components(tokens)  # (B, N, 3)
    low, high = components.amin(dim=1, keepdim=True), components.amax(dim=1, keepdim=True)
    colours = torch.where(high > low, (components - low) / (high - low), 0.5)
    return colours.unflatten(1, grid_of(inputs.shape[-2:], model.patch_size))


_ROWS = (
    MapMethod(
        "attention", "attention", "attention weights of one layer", _attention, ("layer", "head")
    ),
    MapMethod("rollout", "attention rollout", "the weights of all layers, multiplied", _rollout),
    MapMethod(
        "gradient", "gradient rollout", "rollout of the weights that speak for a class",
        _gradient, ("target",),
    ),
    MapMethod(
        "occlusion", "occlusion", "covers each patch in turn and measures what that costs",
        occlusion, ("target",),
    ),
    MapMethod(
        "pca", "principal components",
        "paints the first three principal components of the patch tokens", _pca, paints=True,
    ),
)  # fmt: skip
METHODS: dict[str, MapMethod] = {row.name: row for row in _ROWS}


@dataclass(frozen=True)
class MapMaker:
    """A method set up for a model.

    Attributes:
        title: what the maps show, in words.
        suffix: the end of a file's name, for pictures of them.
        make: called with images, returns maps of the kind.
        kind: "values" (B, h, w), "heads" (B, heads, h, w) or "colours" (B, h, w, 3).
    """

    title: str
    suffix: str
    make: Callable[[Float[Tensor, "B C H W"]], Float[Tensor, "B *map"]]
    kind: Literal["values", "heads", "colours"] = "values"


def find_method(model: VisionTransformer, name: str, **options: Any) -> MapMaker:
    """Set up one of `METHODS` for a model, which then runs in eval mode.

    Options, which only some methods take:
        layer, head: negative numbers count from the last. Default: the last layer, the mean of all
            heads; head="all" makes a map for each.
        target: the number of a class; default: the predicted one.

    Raises ValueError for an unknown method, for an option that it does not take, for a layer or
    head that the model does not have, and for a method that explains an answer if the model has no
    head to give one.
    """
    if name not in METHODS:
        raise ValueError(f"the method must be one of {', '.join(METHODS)}, got {name!r}")
    method = METHODS[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in method.options:
            others = methods_with(option) or "no method; the options are layer, head and target"
            raise ValueError(f"{option} goes with {others}, not with {name}")
    if method.needs_class and not model.num_classes:
        without = ", ".join(row.name for row in METHODS.values() if not row.needs_class)
        raise ValueError(
            f"{name} explains the answer for a class, and the model has no head (num_classes=0) to "
            "give one. `vitlib train --weights ... --freeze backbone` trains a head on pictures in "
            f"class folders; without a head, choose one of {without}"
        )
    title, suffix = method.label, method.name
    kind: Literal["values", "heads", "colours"] = "colours" if method.paints else "values"
    if "layer" in method.options:
        layer = given.get("layer", -1)
        AttentionRecorder(model, [layer])  # raises an error if there is no such layer
        title += f", layer {layer % len(model.blocks)}"
        suffix += f"-layer{layer % len(model.blocks)}" if "layer" in given else ""
    if "head" in method.options:
        heads, head = model.config["num_heads"], given.get("head")
        if head == EACH_HEAD:
            kind = "heads"
            title += f", each of {heads} heads"
            suffix += "-heads"
        elif isinstance(head, str) or (head is not None and not -heads <= head < heads):
            raise ValueError(
                f"head {head} is out of range: a layer has {heads} heads, 0 to {heads - 1}, "
                f'or -{heads} to -1 counted from the last; "{EACH_HEAD}" means each of them'
            )
        else:
            title += f", mean of {heads} heads" if head is None else f", head {head % heads}"
            suffix += "" if head is None else f"-head{head % heads}"
    if "target" in given:
        names = class_names(model)
        if not 0 <= given["target"] < len(names):
            raise ValueError(
                f"target must be from 0 to {len(names) - 1}, the model's classes, got "
                f"{given['target']}"
            )
        title += f" for {names[given['target']]}"
        suffix += f"-class{given['target']}"
    chosen = {option: given.get(option) for option in method.options}
    return MapMaker(title, suffix, lambda inputs: method.make(model, inputs, **chosen), kind)


def methods_with(option: str) -> str:
    """The names of the methods that take an option: "gradient or occlusion"."""
    return " or ".join(name for name, method in METHODS.items() if option in method.options)


def class_names(model: VisionTransformer) -> Sequence[str]:
    """The model's own class names, or "class 0", "class 1", and so on."""
    return model.classes or [f"class {number}" for number in range(model.num_classes)]


def _record_attention(
    model: VisionTransformer, inputs: Tensor, layers: list[int] | None
) -> Float[Tensor, "B L H T T"]:
    with in_eval_mode(model), torch.no_grad(), AttentionRecorder(model, layers) as recorder:
        model(inputs)
    return recorder.attention


def _on_grid(
    matrix: Float[Tensor, "B *heads T T"],
    model: VisionTransformer,
    inputs: Float[Tensor, "B C H W"],
) -> Float[Tensor, "B *heads h w"]:
    """The row that the head reads, as a map on the images' grid of patches."""
    grid = grid_of(inputs.shape[-2:], model.patch_size)
    return tokens_to_grid(read_by_head(matrix, model), grid, model.num_prefix_tokens)
