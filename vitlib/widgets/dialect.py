"""DialectFigure: one ViT's weights as five libraries store them, number by number."""

import re
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from traitlets import Bytes, Dict, Int, List, Unicode, observe, validate

from vitlib.checkpoints.dialects import SOURCES, Translation, translate
from vitlib.matching import as_vision_transformer
from vitlib.model import VisionTransformer
from vitlib.widgets.figure import Figure, check_choice, check_index

MAX_NUMBERS = 4_000  # a page contains each as a float, and its place in five files


class DialectFigure(Figure, script="dialect.js"):
    """Choose a dialect and a tensor: what is in the file, what is done to it, and what comes out.

    The figure shows the tensors of the file under their own names, in their own shapes and with
    their true numbers, next to timm's tensor, which is vitlib's. Point at a number on either side:
    its place on the other side is ringed, and both indices are given in words.

    The file is written here from the model's weights, by short rules, and `translate` reads it:
    names and words are those of its `Translation`, and places are found by translating a file in
    which every number is its own index.

    Args:
        model: a small VisionTransformer without a distillation token, registers or LayerScale,
            which not every dialect has. None makes one of width 8, with 2 heads and random weights.
            The embedding, first block, final norm and head are shown, at most 4,000 numbers.
        dialect: one of `vitlib.checkpoints.dialects.SOURCES`.
        tensor: timm's name of the tensor shown first.
        entry: which of its numbers, counted row by row; None means the one in the middle.

    Raises ValueError for a model that is too large or has parts that some dialect does not have,
    and for an unknown dialect, tensor or entry.
    """

    dialect = Unicode("hf").tag(sync=True)
    tensor = Unicode(help="timm's name").tag(sync=True)
    entry = Int(help="index in timm's tensor, flattened").tag(sync=True)
    dialects = List(Unicode(), default_value=list(SOURCES)).tag(sync=True)
    names = List(Unicode(), help="timm's names of the tensors, in order").tag(sync=True)
    shapes = List(List(Int()), help="their shapes").tag(sync=True)
    weights = Bytes(help="float32, all tensors of `names` one after the other").tag(sync=True)
    files = Dict(
        help="dialect -> wrappers that were taken off, and for each of `names` the names and "
        "shapes in the file and what was done to the numbers"
    ).tag(sync=True)
    places = Bytes(
        help="uint16, for each dialect and number of `weights`: its index in the file's tensors "
        "for that name, flattened, one after the other"
    ).tag(sync=True)

    def __init__(
        self,
        model: VisionTransformer | None = None,
        *,
        dialect: str = "hf",
        tensor: str = "blocks.0.attn.qkv.weight",
        entry: int | None = None,
    ):
        model = _small_model() if model is None else as_vision_transformer(model)
        weights = _shown_weights(model)
        written = {
            source: write_state_dict(weights, source, model.config["num_heads"])
            for source in SOURCES
        }
        read = {
            source: translate(_wrapped(file, source), source) for source, file in written.items()
        }
        places = [_places(written[source], read[source], list(weights)) for source in SOURCES]
        super().__init__(
            title="One model's weights in five dialects",
            alt=f"The {len(weights)} tensors of a small Vision Transformer, as timm, DeiT, Hugging "
            "Face, torchvision and Google write them. Choose a dialect and a tensor to see its "
            "numbers in the file and in timm's layout, and which number comes from where.",
            names=list(weights),
            shapes=[list(weight.shape) for weight in weights.values()],
            weights=b"".join(weight.numpy().tobytes() for weight in weights.values()),
            files={source: _describe_file(written[source], read[source]) for source in SOURCES},
            places=np.concatenate(places).astype("<u2").tobytes(),
        )
        self.dialect, self.tensor = dialect, tensor
        self.entry = self._count() // 2 if entry is None else entry

    def _count(self) -> int:
        return prod(self.shapes[self.names.index(self.tensor)])

    @validate("dialect")
    def _check_dialect(self, proposal: Any) -> str:
        return check_choice("dialect", proposal.value, SOURCES)

    @validate("tensor")
    def _check_tensor(self, proposal: Any) -> str:
        return check_choice("tensor", proposal.value, self.names)

    @validate("entry")
    def _check_entry(self, proposal: Any) -> int:
        if not self.tensor:  # the figure is being made
            return proposal.value
        return check_index("entry", proposal.value, self._count(), f"numbers of {self.tensor}")

    @observe("tensor")
    def _stay_inside(self, change: Any) -> None:
        if change.old and self.entry >= self._count():
            self.entry = 0


# --- A file in each dialect -----------------------------------------------------------------------

_HF, _TV = "vit.encoder.layer.{i}.", "encoder.layers.encoder_layer_{i}."
_FLAX = "Transformer/encoderblock_{i}/"
_FLAX_ATTENTION = _FLAX + "MultiHeadDotProductAttention_1/"

# timm's name -> Hugging Face's, torchvision's and Google's. {i} is the number of a block; {p} is
# weight or bias (Google: kernel, scale in a norm, and bias); {part} is query, key or value
# where these are kept apart.
_NAMES = {
    "cls_token": ("vit.embeddings.cls_token", "class_token", "cls"),
    "pos_embed": ("vit.embeddings.position_embeddings", "encoder.pos_embedding",
                  "Transformer/posembed_input/pos_embedding"),
    "patch_embed.proj.{p}": ("vit.embeddings.patch_embeddings.projection.{p}", "conv_proj.{p}",
                             "embedding/{p}"),
    "blocks.{i}.norm1.{p}": (_HF + "layernorm_before.{p}", _TV + "ln_1.{p}",
                             _FLAX + "LayerNorm_0/{p}"),
    "blocks.{i}.attn.qkv.{p}": (_HF + "attention.attention.{part}.{p}",
                                _TV + "self_attention.in_proj_{p}", _FLAX_ATTENTION + "{part}/{p}"),
    "blocks.{i}.attn.proj.{p}": (_HF + "attention.output.dense.{p}",
                                 _TV + "self_attention.out_proj.{p}", _FLAX_ATTENTION + "out/{p}"),
    "blocks.{i}.norm2.{p}": (_HF + "layernorm_after.{p}", _TV + "ln_2.{p}",
                             _FLAX + "LayerNorm_2/{p}"),
    "blocks.{i}.mlp.fc1.{p}": (_HF + "intermediate.dense.{p}", _TV + "mlp.0.{p}",
                               _FLAX + "MlpBlock_3/Dense_0/{p}"),
    "blocks.{i}.mlp.fc2.{p}": (_HF + "output.dense.{p}", _TV + "mlp.3.{p}",
                               _FLAX + "MlpBlock_3/Dense_1/{p}"),
    "norm.{p}": ("vit.layernorm.{p}", "encoder.ln.{p}", "Transformer/encoder_norm/{p}"),
    "head.{p}": ("classifier.{p}", "heads.head.{p}", "head/{p}"),
}  # fmt: skip


def write_state_dict(
    weights: Mapping[str, Tensor], source: str, num_heads: int
) -> dict[str, Tensor]:
    """The weights of a plain ViT, given under timm's names, as `source` would store them.

    This is the inverse of `translate` for such a model, by the published layouts: Google's Flax
    code stores a convolution as (P, P, C, D), a matrix as (in, out), and those of attention by
    heads, (D, H, d) before and (H, d, D) after it.
    """
    if source in ("timm", "deit"):
        return dict(weights)
    column = ("hf", "torchvision", "google_npz").index(source)
    file = {}
    for name, weight in weights.items():
        parameter = name.rsplit(".", 1)[-1]
        block = name.split(".")[1] if name.startswith("blocks.") else ""
        pattern = _NAMES[_pattern(name)][column]
        parts = ("query", "key", "value") if "{part}" in pattern else ("",)
        word = parameter
        if source == "google_npz" and parameter == "weight":
            word = "scale" if weight.ndim == 1 else "kernel"
        for part, tensor in zip(parts, weight.chunk(len(parts)), strict=True):
            if source == "google_npz":
                tensor = _as_flax(name, tensor, num_heads)
            file[pattern.format(i=block, p=word, part=part)] = tensor.contiguous()
    return file


def _as_flax(name: str, tensor: Tensor, heads: int) -> Tensor:
    if name.endswith("attn.qkv.bias"):
        return tensor.unflatten(0, (heads, -1))
    if name.endswith("attn.qkv.weight"):
        return tensor.T.unflatten(1, (heads, -1))
    if name.endswith("attn.proj.weight"):
        return tensor.T.unflatten(0, (heads, -1))
    if tensor.ndim == 4:
        return tensor.permute(2, 3, 1, 0)
    return tensor.T if tensor.ndim == 2 else tensor


def _pattern(name: str) -> str:
    """The key of `_NAMES` for one of timm's names: blocks.{i}.norm1.{p} for blocks.0.norm1.bias."""
    name = re.sub(r"^blocks\.\d+\.", "blocks.{i}.", name)
    module, _, parameter = name.rpartition(".")
    return f"{module}.{{p}}" if parameter in ("weight", "bias") else name


def _wrapped(file: dict[str, Tensor], source: str) -> dict[str, Any]:
    return {"model": file} if source == "deit" else file  # as facebookresearch saves them


# --- What the figure needs of it ------------------------------------------------------------------


def _small_model() -> VisionTransformer:
    model = VisionTransformer(
        img_size=4, patch_size=2, num_classes=3, embed_dim=8, depth=1, num_heads=2, mlp_ratio=2
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms, too, so that all tensors differ
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def _shown_weights(model: VisionTransformer) -> dict[str, Tensor]:
    """The embedding, first block, final norm and head, in float32 on the CPU.

    Raises ValueError if there are too many numbers, or some that are not finite, or if a tensor has
    no name in one of the dialects.
    """
    weights = {
        name: weight.detach().float().cpu().contiguous()
        for name, weight in model.state_dict().items()
        if not name.startswith("blocks.") or name.startswith("blocks.0.")
    }
    foreign = [name for name in weights if _pattern(name) not in _NAMES]
    if foreign:
        raise ValueError(
            "the figure takes a plain ViT, whose tensors have a name in all five dialects: "
            f"{', '.join(foreign)} has none in some"
        )
    count = sum(weight.numel() for weight in weights.values())
    if count > MAX_NUMBERS:
        raise ValueError(
            f"front end, one block and head hold {count:,} numbers, at most {MAX_NUMBERS:,} fit "
            "in the figure: pass a smaller model, such as one of embed_dim=8 with mlp_ratio=2"
        )
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite (NaN or infinity)")
    return weights


def _describe_file(file: Mapping[str, Tensor], read: Translation) -> dict[str, Any]:
    """What `translate` says about a file, by timm's names, as JSON values."""
    return {
        "wrappers": list(read.wrappers),
        "tensors": {
            target: {
                "names": list(origins),
                "shapes": [list(file[origin].shape) for origin in origins],
                "done": read.operations[target],
            }
            for target, origins in read.origins.items()
        },
    }


def _places(file: Mapping[str, Tensor], read: Translation, names: list[str]) -> np.ndarray:
    """For each number of the tensors `names`, its index among the numbers that it is made from.

    Every number in the file is replaced by its index, and `translate` shows where that ends up.
    """
    sizes = {name: tensor.numel() for name, tensor in file.items()}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()])[:-1].tolist(), strict=True))
    numbered = {
        name: torch.arange(starts[name], starts[name] + size, dtype=torch.float64).view(
            file[name].shape
        )
        for name, size in sizes.items()
    }
    translated = translate(_wrapped(numbered, read.source), read.source).weights
    places = []
    for target in names:
        number = translated[target].flatten().long().numpy()
        index = np.full(len(number), -1)
        before = 0
        for origin in read.origins[target]:
            inside = (number >= starts[origin]) & (number < starts[origin] + sizes[origin])
            index[inside] = number[inside] - starts[origin] + before
            before += sizes[origin]
        places.append(index)
    return np.concatenate(places)
