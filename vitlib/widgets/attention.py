"""AttentionFigure: how much each token takes from every other, in each layer and head."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from traitlets import Bool, Bytes, Int, List, Unicode, Union, validate
from traitlets import Float as Number

from vitlib.explain import AttentionRecorder, attention_rollout, logit_lens
from vitlib.matching import as_vision_transformer
from vitlib.model import VisionTransformer
from vitlib.widgets.figure import (
    BadValue,
    Figure,
    check_choice,
    check_index,
    check_model_images,
    middle_patch,
    prefix_names,
    shown_pixels,
)

METHODS = ("attention", "rollout")  # those of vitlib.explain.methods that weights alone give
MANY_HEADS = ("mean", "max", "all")  # what `head` may be instead of a number
STRENGTHS = range(0, 101, 10)  # percent
MAX_BYTES = 2_000_000


class AttentionFigure(Figure, script="attention.js"):
    """Choose a token of a picture: how its weights spread over the patches, as numbers and a map.

    Layers are blocks, counted from 0. `method` "attention" shows one layer's weights: of one head,
    of the "mean" or "max" over heads, or of "all" heads side by side. "rollout" shows
    `attention_rollout` from the input to that layer, averaged over the heads. The query is a token,
    counted as in the model: class, distillation, registers, patches row by row. With
    global_pool="avg" the head reads no single token's row, and the figure starts at the patch in
    the middle.

    The model runs in eval mode and is left as it was.

    Args:
        model: a VisionTransformer with a head.
        images: the model's input, normalised: (B, C, H, W), or one image (C, H, W).
        layers: which blocks to keep, as in `AttentionRecorder`; None means all. Rollouts always
            include all layers up to the one shown.
        image, layer, head, method, query, strength: what is shown first. None means the last
            layer, and the first token that the head reads.
        max_bytes: limit for maps and pictures; in a page, as base64, they take a third more.

    A row of weights is stored as bytes, in which 255 is the row's largest weight, and that weight
    as float32. So the weights shown, of one head or a rollout, are within 1/510 of the largest.
    Raises ValueError for a model or images that do not fit, and for too many bytes; it then names
    a subset that fits.
    """

    image = Int(0, help="which picture").tag(sync=True)
    layer = Int(help="which block, one of `layers`").tag(sync=True)
    head = Union([Int(), Unicode()], help='a number, "mean", "max" or "all"').tag(sync=True)
    method = Unicode("attention").tag(sync=True)
    query = Int(help="which token's row, prefix tokens first").tag(sync=True)
    strength = Int(80, help="of the map over the picture, in percent").tag(sync=True)
    count = Int(help="number of pictures, B").tag(sync=True)
    layers = List(Int()).tag(sync=True)
    heads = Int(help="H").tag(sync=True)
    prefix = List(Unicode(), help="names of the tokens before the patches").tag(sync=True)
    grid = List(Int(), help="rows and columns of patches").tag(sync=True)
    averages = Bool(help="whether the head reads the mean of the patches").tag(sync=True)
    pixels = Bytes(help="uint8 (B, H, W, C)").tag(sync=True)
    shape = List(Int(), help="height, width and channels of a picture").tag(sync=True)
    answers = List(Unicode(), help="the predicted class of each picture").tag(sync=True)
    sureness = List(Number(), help="its probability").tag(sync=True)
    maps = Bytes(
        help="uint8 (B, L, H + 1, T, T): image, layer, head, query, key; the last head is the "
        "rollout up to that layer; 255 is the row's largest weight, see `scales`"
    ).tag(sync=True)
    scales = Bytes(help="float32 (B, L, H + 1, T): each row's largest weight").tag(sync=True)

    def __init__(
        self,
        model: VisionTransformer,
        images: Tensor,
        layers: Sequence[int] | None = None,
        *,
        image: int = 0,
        layer: int | None = None,
        head: int | str = "mean",
        method: str = "attention",
        query: int | None = None,
        strength: int = 80,
        max_bytes: int = MAX_BYTES,
    ):
        model = as_vision_transformer(model)
        images = check_model_images(model, images)
        AttentionRecorder(model, layers)  # raises an error for layers that do not exist
        depth = len(model.blocks)
        kept = list(range(depth)) if layers is None else [int(one) % depth for one in layers]
        _check_bytes(model, len(images), kept, max_bytes)
        probabilities, maps, scales = _record_maps(model, images, kept)
        highest, answers = probabilities.max(dim=1)
        names = model.classes or [str(k) for k in range(model.num_classes)]
        averages = model.global_pool == "avg"
        super().__init__(
            title="Attention of a Vision Transformer",
            alt=_describe(model, len(images), kept),
            count=len(images),
            layers=kept,
            heads=_num_heads(model),
            prefix=prefix_names(model),
            grid=list(model.grid_size),
            averages=averages,
            pixels=shown_pixels(model, images).tobytes(),
            shape=[*model.img_size, model.in_chans],
            answers=[str(names[k]) for k in answers.tolist()],
            sureness=[round(p, 4) for p in highest.tolist()],
            maps=maps.tobytes(),
            scales=scales.tobytes(),
        )
        if query is None:
            query = middle_patch(model.num_prefix_tokens, model.grid_size) if averages else 0
        self.image, self.method, self.strength = image, method, strength
        self.layer = kept[-1] if layer is None else layer
        self.head, self.query = head, query

    @validate("image")
    def _check_image(self, proposal: Any) -> int:
        return check_index("image", proposal.value, self.count, "pictures")

    @validate("layer")
    def _check_layer(self, proposal: Any) -> int:
        return check_choice("layer", proposal.value, self.layers)

    @validate("head")
    def _check_head(self, proposal: Any) -> int | str:
        if isinstance(proposal.value, int):
            return check_index("head", proposal.value, self.heads, "heads")
        if proposal.value not in MANY_HEADS:
            raise BadValue(
                f"head must be from 0 to {self.heads - 1}, or one of {', '.join(MANY_HEADS)}: "
                f"got {proposal.value!r}"
            )
        return proposal.value

    @validate("method")
    def _check_method(self, proposal: Any) -> str:
        return check_choice("method", proposal.value, METHODS)

    @validate("query")
    def _check_query(self, proposal: Any) -> int:
        tokens = len(self.prefix) + self.grid[0] * self.grid[1]
        return check_index("query", proposal.value, tokens, "tokens")

    @validate("strength")
    def _check_strength(self, proposal: Any) -> int:
        if proposal.value not in STRENGTHS:
            raise BadValue(
                f"strength must be a multiple of 10 percent, from 0 to 100: got {proposal.value}"
            )
        return proposal.value


def _record_maps(
    model: VisionTransformer, images: Tensor, layers: list[int]
) -> tuple[Float[Tensor, "B K"], np.ndarray, np.ndarray]:
    """Class probabilities, and maps and scales as the traits hold them; one image at a time."""
    probabilities, maps, scales = [], [], []
    for image in images.to(model.cls_token):
        with AttentionRecorder(model) as recorder:
            # Runs the model once, in eval mode; its last row is the model's own answer.
            probabilities.append(logit_lens(model, image[None])[0, -1])
        attention = recorder.attention.float()  # (1, L, H, T, T)
        rollouts = [attention_rollout(attention[:, : layer + 1]) for layer in layers]
        shown = torch.cat([attention[0, layers], torch.cat(rollouts)[:, None]], 1)
        largest = shown.amax(dim=-1)  # (L, H + 1, T), at least 1/T: rows sum to 1
        maps.append((shown / largest[..., None] * 255).round().to(torch.uint8).cpu())
        scales.append(largest.cpu())
    return torch.stack(probabilities).cpu(), torch.stack(maps).numpy(), torch.stack(scales).numpy()


def _num_heads(model: VisionTransformer) -> int:
    return model.config["num_heads"]


def _describe(model: VisionTransformer, images: int, layers: list[int]) -> str:
    rows, columns = model.grid_size
    text = (
        f"{images} picture{'s' * (images > 1)} of {rows}×{columns} patches, and how a model with "
        f"{len(model.blocks)} layers of {_num_heads(model)} heads spreads attention over them. "
        "Choose a layer, a head and a token to see how much that token takes from every patch."
    )
    if len(layers) < len(model.blocks):
        text += f" Kept here: layer {', '.join(map(str, layers))}."
    if model.global_pool == "avg":
        text += " This model answers from the mean of its patches, not from the class token."
    return text


def _check_bytes(model: VisionTransformer, images: int, layers: list[int], max_bytes: int) -> None:
    """Raise a ValueError if the maps take more than `max_bytes`, with a call that takes less."""
    rows, columns = model.grid_size
    tokens = model.num_prefix_tokens + rows * columns
    # One byte per weight, and four for the largest of each row.
    layer = (_num_heads(model) + 1) * tokens * (tokens + 4)
    picture = model.img_size[0] * model.img_size[1] * model.in_chans
    needed = images * (len(layers) * layer + picture)
    if needed <= max_bytes:
        return
    # As many layers as fit, spread over the depth; if none does, then of the first image only.
    pictures = images if images * (layer + picture) <= max_bytes else 1
    fit = min((max_bytes // pictures - picture) // layer, len(layers))
    if fit > 0:
        spread = [layers[round(i)] for i in np.linspace(len(layers) - 1, 0, fit)][::-1]
        chosen = f"images{'[:1]' * (pictures < images)}, layers={tuple(spread)}"
        chosen += f", max_bytes={max_bytes}" * (max_bytes != MAX_BYTES)
        bytes_then = pictures * (fit * layer + picture)
        advice = f"AttentionFigure(model, {chosen}) embeds {bytes_then:,}"
    else:
        advice = (
            f"even one layer of one image embeds {layer + picture:,}, so that only a larger "
            "max_bytes or a model of fewer tokens helps"
        )
    raise ValueError(
        f"the figure would embed {needed:,} bytes, more than max_bytes={max_bytes:,}: "
        f"{images} image{'s' * (images > 1)} × {len(layers)} layer{'s' * (len(layers) > 1)} × "
        f"({_num_heads(model)} heads + the rollout) × {tokens}×{tokens} weights. "
        f"Show less: {advice}"
    )
