"""One map per image, by the name of a method: what the command line, explorer and report draw.

`METHODS` is the table of them. Adding a row is enough: `vitlib attend --method`, the explorer's
menu and the tests read it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitlib.explain.answers import gradient_rollout, in_eval_mode, occlusion
from vitlib.explain.maps import attention_rollout, read_by_head, tokens_to_grid
from vitlib.explain.recorder import AttentionRecorder
from vitlib.model import VisionTransformer


@dataclass(frozen=True)
class MapMethod:
    """A way to make a map.

    name: what to write for it. label: what it is called. help: what it shows, in few words.
    make: given a model, images and the options, the maps (B, h, w) on the model's grid, or finer.
    options: those of "layer", "head" and "target" that go with it; None is each one's default.
    """

    name: str
    label: str
    help: str
    make: Callable[..., Float[Tensor, "B h w"]]
    options: tuple[str, ...] = ()

    @property
    def needs_class(self) -> bool:
        """Whether the map is about one class: the target, else the predicted one."""
        return "target" in self.options


def _attention(
    model: VisionTransformer, inputs: Tensor, layer: int | None, head: int | None
) -> Tensor:
    weights = _recorded(model, inputs, [-1 if layer is None else layer])[:, 0]  # (B, H, T, T)
    return _on_grid(weights.mean(dim=1) if head is None else weights[:, head], model)


def _rollout(model: VisionTransformer, inputs: Tensor) -> Tensor:
    return _on_grid(attention_rollout(_recorded(model, inputs, None)), model)


def _gradient(model: VisionTransformer, inputs: Tensor, target: int | None) -> Tensor:
    relevance = gradient_rollout(model, inputs, target)
    # Less the identity that it started from: with average pooling, that would veil the rest.
    return _on_grid(relevance - torch.eye(relevance.shape[-1]).to(relevance), model)


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
)  # fmt: skip
METHODS: dict[str, MapMethod] = {row.name: row for row in _ROWS}


@dataclass(frozen=True)
class MapMaker:
    """A method that is set up for a model: a title, an ending for a file's name, and the maps."""

    title: str
    suffix: str
    make: Callable[[Float[Tensor, "B C H W"]], Float[Tensor, "B h w"]]


def find_method(model: VisionTransformer, name: str, **options: int | None) -> MapMaker:
    """One of `METHODS`, set up for a model, which answers as in eval mode.

    Options, each of some methods only:
        layer, head: negative ones count from the last. Default: the last layer, the mean of all
            heads.
        target: a class; default: the predicted one.

    Raises ValueError for an unknown method, for an option that does not go with it, and for a layer
    or head that the model lacks.
    """
    if name not in METHODS:
        raise ValueError(f"the method must be one of {', '.join(METHODS)}, got {name!r}")
    method = METHODS[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in method.options:
            raise ValueError(f"{option} goes with {methods_with(option)}, not with {name}")
    title, suffix = method.label, method.name
    if "layer" in method.options:
        layer = given.get("layer", -1)
        AttentionRecorder(model, [layer])  # refuses unknown ones
        title += f", layer {layer % len(model.blocks)}"
        suffix += f"-layer{layer % len(model.blocks)}" if "layer" in given else ""
    if "head" in method.options:
        heads: int = model.config["num_heads"]
        head = given.get("head")
        if head is not None and not -heads <= head < heads:
            raise ValueError(
                f"head {head} is out of range: a layer has {heads} heads, 0 to {heads - 1}, "
                f"or -{heads} to -1 counted from the last"
            )
        title += f", mean of {heads} heads" if head is None else f", head {head % heads}"
        suffix += "" if head is None else f"-head{head % heads}"
    if "target" in given:
        title += f" for {class_names(model)[given['target']]}"
        suffix += f"-class{given['target']}"
    chosen = {option: given.get(option) for option in method.options}
    return MapMaker(title, suffix, lambda inputs: method.make(model, inputs, **chosen))


def methods_with(option: str) -> str:
    """The names of the methods with which an option goes: "gradient or occlusion"."""
    return " or ".join(name for name, method in METHODS.items() if option in method.options)


def class_names(model: VisionTransformer) -> Sequence[str]:
    """The model's own, or "class 0", "class 1", ..."""
    return model.classes or [f"class {number}" for number in range(model.num_classes)]


def _recorded(
    model: VisionTransformer, inputs: Tensor, layers: list[int] | None
) -> Float[Tensor, "B L H T T"]:
    with in_eval_mode(model), torch.no_grad(), AttentionRecorder(model, layers) as recorder:
        model(inputs)
    return recorder.attention


def _on_grid(matrix: Float[Tensor, "B T T"], model: VisionTransformer) -> Float[Tensor, "B h w"]:
    return tokens_to_grid(read_by_head(matrix, model), model.grid_size, model.num_prefix_tokens)
