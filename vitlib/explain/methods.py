"""One map an image, by the name of a method: what `vitlib attend` and the explorer draw."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vitlib.explain.answers import gradient_rollout, in_eval_mode, occlusion
from vitlib.explain.maps import attention_rollout, read_by_head, tokens_to_grid
from vitlib.explain.recorder import AttentionRecorder
from vitlib.model import VisionTransformer

# The methods, and which options go with each.
METHODS: dict[str, tuple[str, ...]] = {
    "attention": ("layer", "head"),
    "rollout": (),
    "gradient": ("target",),
    "occlusion": ("target",),
}

# A title, an ending for the name of a file, and the function that makes a map an image.
Method = tuple[str, str, Callable[[Float[Tensor, "B C H W"]], Float[Tensor, "B h w"]]]


def find_method(
    model: VisionTransformer,
    name: str,
    layer: int | None = None,
    head: int | None = None,
    target: int | None = None,
) -> Method:
    """One of `METHODS`, set up for a model, which answers as in eval mode.

    Args:
        layer, head: of "attention"; negative ones count from the last. Default: the last layer,
            the mean of all heads.
        target: class of "gradient" and "occlusion"; default: the predicted one.

    Raises ValueError for an unknown method, and for a layer or head that the model lacks.
    """
    if name not in METHODS:
        raise ValueError(f"the method must be one of {', '.join(METHODS)}, got {name!r}")
    if name == "attention":
        return _attention(model, -1 if layer is None else layer, head, layer is not None)
    if name == "rollout":
        return _rollout(model)
    return _answer(model, name, target)


def class_names(model: VisionTransformer) -> Sequence[str]:
    """The model's own, or "class 0", "class 1", ..."""
    return model.classes or [f"class {number}" for number in range(model.num_classes)]


def _attention(model: VisionTransformer, layer: int, head: int | None, named: bool) -> Method:
    """The row that the head of the model reads, in one layer, of one head or the mean of all."""
    recorder = AttentionRecorder(model, [layer])  # refuses unknown ones
    number = layer % len(model.blocks)
    heads: int = model.config["num_heads"]
    if head is not None and not -heads <= head < heads:
        raise ValueError(
            f"head {head} is out of range: a layer has {heads} heads, 0 to {heads - 1}, "
            f"or -{heads} to -1 counted from the last"
        )
    which = f"mean of {heads} heads" if head is None else f"head {head % heads}"
    suffix = "attention" + (f"-layer{number}" if named else "")
    suffix += "" if head is None else f"-head{head % heads}"

    def make_map(inputs: Tensor) -> Tensor:
        with in_eval_mode(model), torch.no_grad(), recorder:
            model(inputs)
        weights = recorder.attention[:, 0]  # (B, H, T, T)
        return _on_grid(weights.mean(dim=1) if head is None else weights[:, head], model)

    return f"attention, layer {number}, {which}", suffix, make_map


def _rollout(model: VisionTransformer) -> Method:
    recorder = AttentionRecorder(model)

    def make_map(inputs: Tensor) -> Tensor:
        with in_eval_mode(model), torch.no_grad(), recorder:
            model(inputs)
        return _on_grid(attention_rollout(recorder.attention), model)

    return "attention rollout", "rollout", make_map


def _answer(model: VisionTransformer, method: str, target: int | None) -> Method:
    """The methods that ask about one class: the predicted one, if `target` is None."""
    title = {"gradient": "gradient rollout", "occlusion": "occlusion"}[method]
    suffix = method
    if target is not None:
        title, suffix = f"{title} for {class_names(model)[target]}", f"{method}-class{target}"

    def make_map(inputs: Tensor) -> Tensor:
        if method == "occlusion":
            return occlusion(model, inputs, target)
        relevance = gradient_rollout(model, inputs, target)
        # Less the identity that it started from: with average pooling, that would veil the rest.
        return _on_grid(relevance - torch.eye(relevance.shape[-1]).to(relevance), model)

    return title, suffix, make_map


def _on_grid(matrix: Float[Tensor, "B T T"], model: VisionTransformer) -> Float[Tensor, "B h w"]:
    return tokens_to_grid(read_by_head(matrix, model), model.grid_size, model.num_prefix_tokens)
