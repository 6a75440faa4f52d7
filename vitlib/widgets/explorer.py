"""The explorer's model: a VisionTransformer in one small file, which static/vit.js runs in a page.

    model -> what vit.js does not compute is refused -> weights in float16 -> a file with a checksum

The file holds, numbers little-endian: the four bytes "ViT1"; the CRC-32 of all that follows, in
four bytes; the length of the header in bytes, again in four; the header, as JSON; and the tensors,
float16, in the order in which the header lists their names and shapes, with nothing in between.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitlib.attention import Attention
from vitlib.checkpoints.native import FilePath
from vitlib.files import atomic_write, refuse_non_file
from vitlib.matching import as_vision_transformer
from vitlib.model import VisionTransformer
from vitlib.patch import PatchEmbed

_MAGIC = b"ViT1"  # another number whenever an older vit.js could not read what is written
_MAX_BYTES = 8_000_000  # of a file: it travels inside a page


class Explorer:
    """A model for a page: `save_weights` writes the file that static/vit.js loads and computes.

    Args:
        model: a VisionTransformer, on any device and in any precision; it is not changed.

    Raises ValueError for anything else.
    """

    def __init__(self, model: nn.Module):
        self.model = as_vision_transformer(model)

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
        content = _packed(self.model)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return path


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
