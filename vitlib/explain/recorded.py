"""A model's attention weights in a few bytes each, to be shown without the model.

    model, pictures -> record_attention -> AttentionRecord -> figures, files

A row of weights is stored as steps of its largest weight, which stands beside it as float32: from 0
to 255 steps, or to 15, so that a weight is off by at most 1/510 or 1/30 of the row's largest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vitlib.explain.maps import attention_rollout
from vitlib.explain.recorder import AttentionRecorder
from vitlib.matching import (
    check_explainable,
    check_inputs,
    in_eval_mode,
    prefix_names,
    shown_pixels,
)
from vitlib.model import VisionTransformer
from vitlib.patch import grid_of


@dataclass(frozen=True)
class RecordedPicture:
    """The weights of one picture; L layers, H heads, T tokens, of which N are patches.

    Attributes:
        name: what the picture is called.
        pixels: the picture as the model saw it, (height, width, C).
        grid: rows and columns of patches.
        maps: (L, H + 1, Q, T), layer, head, query, key, in 255 steps; the last head is the rollout
            up to that layer. The Q queries are all T tokens, or the prefix tokens alone.
        scales: (L, H + 1, Q), the largest weight of each row of `maps`.
        patch_maps: (N, T), the patches' weights in the last of the layers, mean of its heads, in 15
            steps; (0, T) if `maps` holds all queries.
        patch_scales: (N,), the largest weight of each row of `patch_maps`.
        answer: the predicted class, "" without a head; `sureness` is its probability.
    """

    name: str
    pixels: UInt8[np.ndarray, "height width C"]
    grid: tuple[int, int]
    maps: UInt8[np.ndarray, "L heads Q T"]
    scales: Float32[np.ndarray, "L heads Q"]
    patch_maps: UInt8[np.ndarray, "N T"]
    patch_scales: Float32[np.ndarray, "N"]
    answer: str = ""
    sureness: float = 0.0


@dataclass(frozen=True)
class AttentionRecord:
    """What a model attended to in some pictures.

    Attributes:
        pictures: one `RecordedPicture` each, which may differ in size.
        depth: the number of the model's layers; `layers` are those that were recorded.
        prefix: the names of the tokens before the patches.
        averages: whether the model's head reads the mean of the patches.
        source: what model and what pictures these are, in a sentence; "" if that needs no saying.
    """

    pictures: Sequence[RecordedPicture]
    depth: int
    layers: Sequence[int]
    prefix: Sequence[str]
    averages: bool
    source: str = ""

    @property
    def heads(self) -> int:
        return self.pictures[0].maps.shape[1] - 1

    @property
    def has_all_queries(self) -> bool:
        """Whether the maps of every token are there for every layer and head."""
        return not len(self.pictures[0].patch_maps)


def record_attention(
    model: VisionTransformer,
    images: Float[Tensor, "B C H W"] | Sequence[Float[Tensor, "C _ _"]],
    layers: Sequence[int] | None = None,
    *,
    names: Sequence[str] = (),
    source: str = "",
    all_queries: bool = False,
) -> AttentionRecord:
    """Run a model on pictures, one at a time in eval mode, and keep its attention weights.

    Args:
        model: which is left as it was. It need not have a head.
        images: its input, normalised; of several sizes if it was built with dynamic_img_size=True.
        layers: which blocks to keep, as in `AttentionRecorder`; None means all. Rollouts always
            include all layers up to the one kept.
        names: of the pictures; by default their numbers. `source`: see `AttentionRecord`.
        all_queries: whether to keep all T rows of each layer and head. They take T² bytes for each,
            27 MB for DINOv2-small and 32×32 patches. Otherwise those of the prefix tokens are kept,
            and of the patches the mean over the last layer's heads.

    Raises ValueError for a model, images or layers that do not fit.
    """
    model = check_explainable(model, needs_head=False)
    if not len(images):
        raise ValueError("expected at least one image, got none")
    for batch in [images] if isinstance(images, Tensor) else [image[None] for image in images]:
        check_inputs(model, batch)
    AttentionRecorder(model, layers)  # raises an error for layers that do not exist
    depth = len(model.blocks)
    kept = list(range(depth)) if layers is None else [int(one) % depth for one in layers]
    names = names or [str(number) for number in range(len(images))]
    pictures = [
        _record_picture(model, image.to(model.cls_token), kept, name, all_queries)
        for image, name in zip(images, names, strict=True)
    ]
    averages = model.global_pool == "avg"
    return AttentionRecord(pictures, depth, kept, prefix_names(model), averages, source)


@torch.no_grad()
def _record_picture(
    model: VisionTransformer,
    image: Float[Tensor, "C H W"],
    layers: list[int],
    name: str,
    all_queries: bool,
) -> RecordedPicture:
    with in_eval_mode(model), AttentionRecorder(model) as recorder:
        logits = model(image[None])[0]
    attention = recorder.attention.float()  # (1, depth, H, T, T)
    rollouts = [attention_rollout(attention[:, : layer + 1]) for layer in layers]
    weights = torch.cat([attention[0, layers], torch.cat(rollouts)[:, None]], 1)
    prefix = model.num_prefix_tokens
    patches = weights[-1, :-1, prefix:].mean(dim=0)  # (N, T)
    maps, scales = _in_steps(weights if all_queries else weights[:, :, :prefix], 255)
    patch_maps, patch_scales = _in_steps(patches[:0] if all_queries else patches, 15)
    answer, sureness = "", 0.0
    if model.num_classes:
        probability, best = logits.float().softmax(dim=0).max(dim=0)
        answer = str((model.classes or range(model.num_classes))[int(best)])
        sureness = float(probability)
    return RecordedPicture(
        name=name,
        pixels=shown_pixels(model, image[None])[0],
        grid=grid_of(image.shape[-2:], model.patch_size),
        maps=maps,
        scales=scales,
        patch_maps=patch_maps,
        patch_scales=patch_scales,
        answer=answer,
        sureness=sureness,
    )


def _in_steps(
    weights: Float[Tensor, "*rows T"], steps: int
) -> tuple[UInt8[np.ndarray, "*rows T"], Float32[np.ndarray, "*rows"]]:
    """Each row in so many steps of its largest weight, and that weight, which is at least 1/T."""
    largest = weights.amax(dim=-1)
    stepped = (weights / largest[..., None] * steps).round().to(torch.uint8)
    return stepped.cpu().numpy(), largest.cpu().numpy()
