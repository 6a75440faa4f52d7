"""Explorer: a VisionTransformer in one small file, which static/vit.js runs in a page.

    model -> what vit.js does not compute is refused -> weights in float16 -> a file with a checksum
    the file, examples and what torch computes of the first -> a page -> static/explorer.js

The file holds, numbers little-endian: the four bytes "ViT1"; the CRC-32 of all that follows, in
four bytes; the length of the header in bytes, again in four; the header, as JSON; and the tensors,
float16, in the order in which the header lists their names and shapes, with nothing in between.
"""

import json
import zlib
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from traitlets import Bool, Bytes, Int, List, Unicode
from traitlets import Float as Number

from vitlib.attention import Attention
from vitlib.checkpoints.native import FilePath
from vitlib.explain import AttentionRecorder
from vitlib.files import atomic_write, refuse_non_file
from vitlib.matching import (
    as_vision_transformer,
    check_explainable,
    picture_channels,
    prefix_names,
    shown_pixels,
)
from vitlib.model import VisionTransformer
from vitlib.patch import PatchEmbed
from vitlib.widgets.figure import Figure, check_model_images

SCRIPTS = ("vit.js", "picture.js", "engine.js", "views.js", "states.js", "tour.js", "explorer.js")
_MAGIC = b"ViT1"  # another number whenever an older vit.js could not read what is written
_MAX_BYTES = 8_000_000  # of a file: it travels inside a page
_MAX_NUMBERS = 500_000  # of the examples


class Explorer(Figure, script=SCRIPTS, style="explorer.css"):
    """A model that runs in the page: a reader sees what it does with a picture, and interferes.

    The page shows patches, tokens, attention, the residual stream, the logit lens and the class
    probabilities, for the examples and for pictures of the reader's own, and computes them anew
    with static/vit.js whenever something is hidden, shuffled or switched off. The weights travel
    inside, as `save_weights` writes them; they are those of the moment when the Explorer was made.
    Until they are loaded, the page shows what torch computed of the first picture.

    Args:
        model: a VisionTransformer, on any device and in any precision; it is not changed.
        images: examples, the model's input, normalised: (B, C, H, W), or one image (C, H, W).
            Without any, the page begins with a black picture.
        classes: names of the K classes; None means `model.classes`, or numbers.

    A model without a head or without blocks, or of pictures that are neither grey nor RGB, has
    nothing to show, and the page says so.

    Raises ValueError for anything but a VisionTransformer, for images or classes that do not fit,
    for images of more than 500,000 numbers in all, and for what `save_weights` refuses.
    """

    weights = Bytes(help="the file that `save_weights` writes").tag(sync=True)
    obstacle = Unicode(help="why there is nothing to show; empty if there is").tag(sync=True)
    classes = List(Unicode(), help="names of the K classes").tag(sync=True)
    prefix = List(Unicode(), help="names of the tokens before the patches").tag(sync=True)
    grid = List(Int(), help="rows and columns of patches").tag(sync=True)
    shape = List(Int(), help="height, width and channels of a picture").tag(sync=True)
    sizes = List(Int(), help="blocks, heads and the width of a token: L, H, D").tag(sync=True)
    mean = List(Number(), help="per channel").tag(sync=True)
    std = List(Number(), help="per channel").tag(sync=True)
    has_positions = Bool().tag(sync=True)
    images = Bytes(help="float32 (B, C, H, W), normalised").tag(sync=True)
    pixels = Bytes(help="uint8 (B, H, W, C), for display").tag(sync=True)
    first = Bytes(
        help="float16, of the first picture: tokens (L + 1, T, D) before the first block and after "
        "each, attention (L, H, T, T), and the logit lens (L + 1, K)"
    ).tag(sync=True)

    def __init__(
        self,
        model: nn.Module,
        images: Tensor | None = None,
        classes: Sequence[str] | None = None,
    ):
        inner = as_vision_transformer(model)
        weights = _packed(inner)
        rounded = deepcopy(inner).cpu().half().float().eval()  # what the page computes with
        batch = _examples(rounded, images)
        names = [str(name) for name in classes or inner.classes or range(inner.num_classes)]
        if len(names) != inner.num_classes:
            raise ValueError(
                f"expected {inner.num_classes} names, one for each class, got {len(names)}"
            )
        obstacle = _obstacle(rounded)
        channels = inner.in_chans
        super().__init__(
            title="A Vision Transformer that runs in this page",
            alt=obstacle or _describe(rounded, batch, names),
            weights=weights,
            obstacle=obstacle,
            classes=names,
            prefix=prefix_names(inner),
            grid=list(inner.grid_size),
            shape=[*inner.img_size, channels],
            sizes=[len(inner.blocks), inner.config["num_heads"], inner.embed_dim],
            mean=[float(value) for value in inner.mean or [0.0] * channels],
            std=[float(value) for value in inner.std or [1.0] * channels],
            has_positions=inner.pos_embed is not None,
            images=batch.numpy().astype("<f4").tobytes(),
            pixels=shown_pixels(inner, batch).tobytes(),
            first=b"" if obstacle else _first(rounded, batch[:1]),
        )
        self._model = inner

    def save_weights(self, path: FilePath) -> Path:
        """Write the model's weights in half precision, with its settings, to `path`; return it.

        The file also says `model.classes`, `model.mean` and `model.std`, as far as they are known.
        vit.js takes images of the model's own `img_size`, also with dynamic_img_size=True. Missing
        folders are created; an older file at `path` stays until the new one is complete.

        Raises ValueError, and writes nothing, for a model that vit.js does not compute: with
        another `embed_layer` than PatchEmbed, with a norm inside it, another `norm_layer` than
        LayerNorm, another `act_layer` than the exact GELU, or with modules that were exchanged for
        others; for weights that are not finite in half precision (up to 65,504); for a file above
        8 MB; and for a `path` that is not a file.
        """
        path = Path(path)
        refuse_non_file(path)
        content = _packed(self._model)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return path


def _examples(model: VisionTransformer, images: Tensor | None) -> Float[Tensor, "B C H W"]:
    """The examples, in float32 on the CPU; a black picture if there are none."""
    if images is None:
        black = torch.zeros(1, model.in_chans, *model.img_size)
        if model.mean is None or model.std is None:
            return black
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.mean, model.std))
        return (black - mean) / std
    batch = check_model_images(model, images).detach().float().cpu()
    if batch.numel() > _MAX_NUMBERS:
        raise ValueError(
            f"the examples are {batch.numel():,} numbers, at most {_MAX_NUMBERS:,} fit in the "
            f"page: pass fewer, such as images[:{_MAX_NUMBERS // batch[0].numel()}]"
        )
    return batch


def _obstacle(model: VisionTransformer) -> str:
    """Why a page has nothing to show of this model, in a sentence; empty if it has."""
    try:
        check_explainable(model)
        picture_channels(model)
    except ValueError as error:
        return f"There is nothing to explore: {error}."
    return ""


@torch.no_grad()
def _first(model: VisionTransformer, image: Float[Tensor, "1 C H W"]) -> bytes:
    """What vit.js will compute of the first picture: see the trait `first`."""
    tokens = [torch.empty(0)]

    def hear(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        tokens[0] = inputs[0]

    handle = model.blocks.register_forward_pre_hook(hear)
    with AttentionRecorder(model) as recorder:
        model(image)
    handle.remove()
    tokens += model.forward_intermediates(image)
    lens = [model.forward_head(model.norm(x)).softmax(dim=-1) for x in tokens]
    parts = [*tokens, *recorder.layers, *lens]
    return b"".join(part.numpy().astype("<f2").tobytes() for part in parts)


def _describe(model: VisionTransformer, images: Tensor, classes: list[str]) -> str:
    with torch.no_grad():
        probability, answer = model(images[:1])[0].softmax(dim=-1).max(dim=-1)
    rows, columns = model.grid_size
    heads, count = model.config["num_heads"], len(images)
    return (
        f"A Vision Transformer of {len(model.blocks)} blocks with {heads} heads each, which runs "
        f"in this page, and {count} example{'s' * (count > 1)} of {rows}×{columns} patches. It "
        f"answers {classes[int(answer)]} for the first one, with probability "
        f"{float(probability):.3f}. Hide or shuffle patches, switch off heads or blocks, and see "
        "how the answer changes."
    )


def _packed(model: VisionTransformer) -> bytes:
    """The whole file."""
    _check_size(2 * sum(tensor.numel() for tensor in model.state_dict().values()))
    _check_computable(model)
    tensors = {name: tensor.detach().cpu().half() for name, tensor in model.state_dict().items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{name} holds numbers that half precision does not: NaN, infinity, or beyond "
                f"±65,504"
            )
    header = _settings(model) | {"tensors": [[n, list(t.shape)] for n, t in tensors.items()]}
    text = json.dumps(header, ensure_ascii=False).encode()
    numbers = b"".join(tensor.numpy().astype("<f2").tobytes() for tensor in tensors.values())
    body = len(text).to_bytes(4, "little") + text + numbers
    content = _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body
    _check_size(len(content))
    return content


def _settings(model: VisionTransformer) -> dict[str, Any]:
    """What vit.js needs besides the tensors and cannot read off their names and shapes."""
    scales = {float(module.scale) for module in model.modules() if isinstance(module, Attention)}
    epsilons = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}
    for name, values in (("qk_scale", scales), ("eps of LayerNorm", epsilons)):
        if len(values) > 1:
            raise ValueError(f"{name} must be the same everywhere, got {sorted(values)}")
    return {
        "img_size": model.img_size,
        "num_heads": model.config["num_heads"],
        "depth": len(model.blocks),
        "scale": next(iter(scales), None),  # none without blocks
        "eps": next(iter(epsilons), None),  # none if norm_layer is nn.Identity
        "global_pool": model.global_pool,
        "classes": None if model.classes is None else [str(name) for name in model.classes],
        "mean": None if model.mean is None else [float(value) for value in model.mean],
        "std": None if model.std is None else [float(value) for value in model.std],
    }


def _check_size(size: int) -> None:
    if size > _MAX_BYTES:
        raise ValueError(
            f"the weights take {size / 1e6:.1f} MB in half precision, and a page holds up to "
            f"{_MAX_BYTES / 1e6:.0f}: use a smaller model, for example vit_micro_patch4_32 (3.2 MB)"
        )


def _check_computable(model: VisionTransformer) -> None:
    """Raise a ValueError that names the option, or the module, that vit.js does not compute."""
    problem: str | None
    if type(model) is not VisionTransformer:
        problem = f"it is a {type(model).__name__}, expected VisionTransformer itself"
    else:
        problem = _unknown_layer(model) or _exchanged_part(model)
    if problem:
        raise ValueError(f"a page cannot compute this model: {problem}")


def _unknown_layer(model: VisionTransformer) -> str | None:
    """The option with a layer that vit.js lacks, in words; None if there is no such option."""
    embed = model.patch_embed
    if type(embed) is not PatchEmbed:
        return f"embed_layer makes a {type(embed).__name__}, expected a PatchEmbed"
    if type(embed.norm) is not nn.Identity:
        return f"embed_layer has norm_layer={type(embed.norm).__name__}, expected None"
    for name, module in model.named_modules():
        kind, place = type(module), name.rpartition(".")[2]
        if place in ("norm", "norm1", "norm2", "fc_norm") and kind is not nn.Identity:
            if kind is not nn.LayerNorm:
                return f"norm_layer={kind.__name__}, expected LayerNorm"
            if module.weight is None or module.bias is None:
                return "norm_layer has no weight or no bias, expected both"
        if place == "act" and name.startswith("blocks."):
            if kind is not nn.GELU:
                return f"act_layer={kind.__name__}, expected GELU"
            if module.approximate != "none":
                return f"act_layer=GELU with approximate={module.approximate!r}, expected 'none'"
    return None


def _exchanged_part(model: VisionTransformer) -> str | None:
    """What is not as the model's arguments make it, in words; None if all of it is."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        built = VisionTransformer(**model.config)
    types, expected = (dict(map(_named_type, m.named_modules())) for m in (model, built))
    for name in types | expected:
        own, other = types.get(name, "missing"), expected.get(name, "missing")
        if own != other:
            return f"{name} is {own}, by the model's arguments it is {other}"
    shapes, fitting = (
        {n: tuple(t.shape) for n, t in m.state_dict().items()} for m in (model, built)
    )
    for name in shapes | fitting:
        if shapes.get(name) != fitting.get(name):
            return f"{name} is {shapes.get(name)}, by the model's arguments {fitting.get(name)}"
    return None


def _named_type(named: tuple[str, nn.Module]) -> tuple[str, str]:
    name, module = named
    heads = f" with {module.num_heads} heads" if isinstance(module, Attention) else ""
    return name, f"{type(module).__qualname__}{heads}"
