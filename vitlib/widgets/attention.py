"""AttentionFigure: how much each token takes from every other, in each layer and head."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from traitlets import Bool, Bytes, Int, List, Unicode, Union, observe, validate
from traitlets import Float as Number

from vitlib.explain import AttentionRecord, AttentionRecorder, record_attention
from vitlib.matching import check_explainable, check_inputs
from vitlib.model import VisionTransformer
from vitlib.patch import grid_of
from vitlib.widgets.figure import BadValue, Figure, check_choice, check_index, middle_patch

METHODS = ("attention", "rollout")  # those of vitlib.explain.methods that weights alone give
MANY_HEADS = ("mean", "max", "all")  # what `head` may be instead of a number
STRENGTHS = range(0, 101, 10)  # percent
MAX_BYTES = 2_000_000
_PHOTO = 128  # pixels a side, from which single ones are not seen


class AttentionFigure(Figure, script="attention.js"):
    """Choose a token of a picture: how its weights spread over the patches, as numbers and a map.

    Layers are blocks, counted from 0. `method` "attention" shows one layer's weights: of one head,
    of the "mean" or "max" over heads, or of "all" heads side by side. "rollout" shows
    `attention_rollout` from the input to that layer, averaged over the heads. The query is a token,
    counted as in the model: class, distillation, registers, patches row by row. With
    global_pool="avg" the head reads no single token's row, and the figure starts at the patch in
    the middle.

    The model runs in eval mode and is left as it was. Pictures need not be square, nor of the
    model's own size if it was built with dynamic_img_size=True. Without a head, it has no answer.

    Args:
        model: a VisionTransformer.
        images: the model's input, normalised: (B, C, H, W), or one image (C, H, W).
        layers: which blocks to keep, as in `AttentionRecorder`; None means all. Rollouts always
            include all layers up to the one shown.
        image, layer, head, method, query, strength: what is shown first. None means the last
            layer, and the first token that the head reads.
        max_bytes: limit for the weights; in a page, as base64, they take a third more.

    Every token's weights are embedded, for each layer and head, in 255 steps of the row's largest
    (`vitlib.explain.recorded`). For photos of many patches that is too much for a page, and
    `from_record` embeds less. Raises ValueError for a model or images that do not fit, and for too
    many bytes; it then names a subset that fits.
    """

    image = Int(0, help="which picture").tag(sync=True)
    layer = Int(help="which block, one of `layers`").tag(sync=True)
    head = Union([Int(), Unicode()], help='a number, "mean", "max" or "all"').tag(sync=True)
    method = Unicode("attention").tag(sync=True)
    query = Int(help="which token's row, prefix tokens first").tag(sync=True)
    strength = Int(80, help="of the map over the picture, in percent").tag(sync=True)
    names = List(Unicode(), help="of the pictures").tag(sync=True)
    layers = List(Int()).tag(sync=True)
    heads = Int(help="H").tag(sync=True)
    prefix = List(Unicode(), help="names of the tokens before the patches").tag(sync=True)
    grids = List(List(Int()), help="each picture's rows and columns of patches").tag(sync=True)
    sizes = List(List(Int()), help="each picture's height and width in pixels").tag(sync=True)
    averages = Bool(help="whether the head reads the mean of the patches").tag(sync=True)
    pictures = List(Unicode(), help="as data URLs").tag(sync=True)
    answers = List(Unicode(), help="the predicted class of each picture, or empty").tag(sync=True)
    sureness = List(Number(), help="its probability").tag(sync=True)
    source = Unicode(help="what model and what pictures these are").tag(sync=True)
    all_queries = Bool(help="whether `maps` holds more than the prefix tokens").tag(sync=True)
    maps = Bytes(
        help="uint8, picture after picture (L, H + 1, Q, T): layer, head, query, key; the last "
        "head is the rollout up to that layer; 255 is the row's largest weight, see `scales`"
    ).tag(sync=True)
    scales = Bytes(help="float32 (L, H + 1, Q): each row's largest weight").tag(sync=True)
    patch_maps = Bytes(
        help="picture after picture (N, T), the patches' weights in the last layer, mean of heads; "
        "4 bits each, the first of a byte on top; 15 is the row's largest weight"
    ).tag(sync=True)
    patch_scales = Bytes(help="float32 (N,): each row's largest weight").tag(sync=True)

    def __init__(
        self,
        model: VisionTransformer,
        images: Float[Tensor, "*B C H W"],
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
        model = check_explainable(model, needs_head=False)
        batch = images[None] if isinstance(images, Tensor) and images.ndim == 3 else images
        check_inputs(model, batch)
        AttentionRecorder(model, layers)  # raises an error for layers that do not exist
        _check_bytes(model, batch, layers, max_bytes)
        record = record_attention(model, batch, layers, all_queries=True)
        self._start(record, image, layer, head, method, query, strength)

    @classmethod
    def from_record(
        cls,
        record: AttentionRecord,
        *,
        image: int = 0,
        layer: int | None = None,
        head: int | str = "mean",
        method: str = "attention",
        query: int | None = None,
        strength: int = 80,
    ) -> "AttentionFigure":
        """The same figure of weights that were recorded, which needs no model.

        `record` is what `vitlib.explain.record_attention` makes of a model and pictures, or what
        `vitlib.runs.photos.read_photos()` reads. Unless it was made with all_queries=True, the page
        embeds the weights of the class token and of the other prefix tokens for each layer and
        head; and for each patch, those of the last layer, averaged over its heads, in 15 steps of
        the row's largest. Five photos of 400 patches in 12 layers of 6 heads then take 280 kB of a
        compressed page.
        """
        figure = cls.__new__(cls)
        figure._start(record, image, layer, head, method, query, strength)
        return figure

    def _start(
        self,
        record: AttentionRecord,
        image: int,
        layer: int | None,
        head: int | str,
        method: str,
        query: int | None,
        strength: int,
    ) -> None:
        seen = record.pictures
        Figure.__init__(
            self,
            title="Attention of a Vision Transformer",
            alt=_describe(record),
            names=[one.name for one in seen],
            layers=list(record.layers),
            heads=record.heads,
            prefix=list(record.prefix),
            grids=[list(one.grid) for one in seen],
            sizes=[list(one.pixels.shape[:2]) for one in seen],
            averages=record.averages,
            pictures=[_data_url(one.pixels) for one in seen],
            answers=[one.answer for one in seen],
            sureness=[round(one.sureness, 4) for one in seen],
            source=record.source,
            all_queries=record.has_all_queries,
            maps=b"".join(one.maps.tobytes() for one in seen),
            scales=b"".join(one.scales.tobytes() for one in seen),
            patch_maps=_in_halves(np.concatenate([one.patch_maps.ravel() for one in seen])),
            patch_scales=b"".join(one.patch_scales.tobytes() for one in seen),
        )
        self.image, self.method, self.strength = image, method, strength
        self.layer = record.layers[-1] if layer is None else layer
        if query is None:
            prefix = len(record.prefix)
            query = middle_patch(prefix, seen[image].grid) if record.averages else 0
        self.head, self.query = head, query

    @validate("image")
    def _check_image(self, proposal: Any) -> int:
        return check_index("image", proposal.value, len(self.names), "pictures")

    @observe("image")
    def _keep_query(self, change: Any) -> None:
        """Of a picture of fewer patches, the last one instead of one that it does not have."""
        self.query = min(self.query, self._count_tokens() - 1)

    def _count_tokens(self) -> int:
        rows, columns = self.grids[self.image]
        return len(self.prefix) + rows * columns

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
        return check_index("query", proposal.value, self._count_tokens(), "tokens")

    @validate("strength")
    def _check_strength(self, proposal: Any) -> int:
        if proposal.value not in STRENGTHS:
            raise BadValue(
                f"strength must be a multiple of 10 percent, from 0 to 100: got {proposal.value}"
            )
        return proposal.value


def _in_halves(steps: UInt8[np.ndarray, "n"]) -> bytes:
    """Numbers from 0 to 15, two in a byte."""
    even = np.append(steps, np.zeros(len(steps) % 2, np.uint8))
    return (even[::2] << 4 | even[1::2]).tobytes()


def _data_url(pixels: UInt8[np.ndarray, "H W C"]) -> str:
    """The picture for a page: exact where single pixels are seen, otherwise in fewer bytes."""
    buffer, is_photo = BytesIO(), max(pixels.shape[:2]) > _PHOTO
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] != 3 else pixels)
    image.save(buffer, "webp" if is_photo else "png", quality=75)
    kind = "webp" if is_photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _describe(record: AttentionRecord) -> str:
    count = len(record.pictures)
    grids = dict.fromkeys("{}×{}".format(*one.grid) for one in record.pictures)
    text = (
        f"{count} picture{'s' * (count > 1)} of {' or '.join(grids)} patches, and how a model with "
        f"{record.depth} layers of {record.heads} heads spreads attention over them. "
        "Choose a layer, a head and a token to see how much that token takes from every patch."
    )
    if len(record.layers) < record.depth:
        text += f" Kept here: layer {', '.join(map(str, record.layers))}."
    if record.averages:
        text += " This model answers from the mean of its patches, not from the class token."
    return text


def _check_bytes(
    model: VisionTransformer, images: Tensor, layers: Sequence[int] | None, max_bytes: int
) -> None:
    """Raise a ValueError if the maps take more than `max_bytes`, with a call that takes less."""
    rows, columns = grid_of(images.shape[-2:], model.patch_size)
    tokens, depth = model.num_prefix_tokens + rows * columns, len(model.blocks)
    kept = list(range(depth)) if layers is None else [int(one) % depth for one in layers]
    heads = model.config["num_heads"]
    # One byte per weight, and four for the largest of each row.
    layer = (heads + 1) * tokens * (tokens + 4)
    count = len(images)
    needed = count * len(kept) * layer
    if needed <= max_bytes:
        return
    # As many layers as fit, spread over the depth; if none does, then of the first image only.
    pictures = count if count * layer <= max_bytes else 1
    fit = min(max_bytes // pictures // layer, len(kept))
    if fit > 0:
        spread = [kept[round(i)] for i in np.linspace(len(kept) - 1, 0, fit)][::-1]
        chosen = f"images{'[:1]' * (pictures < count)}, layers={tuple(spread)}"
        chosen += f", max_bytes={max_bytes}" * (max_bytes != MAX_BYTES)
        advice = f"AttentionFigure(model, {chosen}) embeds {pictures * fit * layer:,}"
    else:
        advice = (
            f"even one layer of one image embeds {layer:,}, so that a larger max_bytes is needed, "
            "or a model of fewer tokens"
        )
    raise ValueError(
        f"the figure would embed {needed:,} bytes, more than max_bytes={max_bytes:,}: "
        f"{count} image{'s' * (count > 1)} × {len(kept)} layer{'s' * (len(kept) > 1)} × "
        f"({heads} heads + the rollout) × {tokens}×{tokens} weights. "
        f"Show less: {advice}. To keep all layers, "
        "AttentionFigure.from_record(record_attention(model, images)) leaves out most of the "
        "patches' rows"
    )
