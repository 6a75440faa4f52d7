"""The models that vitlib is compared with: of timm, torchvision and transformers, and Flax's ViT.

`from peers import timm, torchvision, transformers`: each is imported when it is first used.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn


class _Lazy(ModuleType):
    """Stands for a module that is imported when a name is first taken from it."""

    def __getattr__(self, name: str) -> Any:
        _import_torchvision()  # the others import it, too
        return getattr(importlib.import_module(self.__name__), name)


def _import_torchvision() -> None:
    """Import torchvision, also where its compiled part does not fit the installed torch.

    Its import then stops for want of two operators, which no model compared here uses: so they
    are declared, without code, and it is imported again.
    """
    global _operators
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _operators = torch.library.Library("torchvision", "DEF")
        _operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")


_operators: torch.library.Library | None = None  # what it declares lives as long as it does
timm = _Lazy("timm")
torchvision = _Lazy("torchvision")
transformers = _Lazy("transformers")


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random numbers in every parameter, biases, norms, tokens and positions too; in eval mode.

    The factors of norms and LayerScale lie around 1: none is idle, none wipes a signal out.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            is_factor = parameter.ndim == 1 and not name.endswith("bias")
            parameter.copy_(1 + noise if is_factor else noise)
    return model.eval()


def random_images(in_chans: int, height: int, width: int, count: int = 4) -> torch.Tensor:
    """Random images (count, C, H, W), the same on each call."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, in_chans, height, width, generator=generator)


class FlaxViT:
    """Google's ViT in numpy: weights in Flax's names and layout, and Flax's computation, float64.

    Written from the published code of vit_jax and big_vision, without a line of vitlib: attention's
    kernels are (D, H, d) and (H, d, D), GELU is the tanh approximation, LayerNorm's eps is 1e-6.

    Attributes:
        arrays: name -> float32 array, as the npz file holds them.

    Args:
        style: "vit_jax" (positions for the class token, too), "big_vision" (the class token joins
            after the positions), or "scanned", which is big_vision with all blocks stacked.
    """

    def __init__(
        self,
        style: str,
        *,
        in_chans: int,
        img_size: tuple[int, int],
        patch_size: int,
        classes: int,
        width: int,
        heads: int,
        hidden: int,
        depth: int,
        representation: int | None = None,
    ):
        self.style = style
        rng = np.random.default_rng(0)
        self.jax = style == "vit_jax"
        attention, norm2, mlp = (1, 2, 3) if self.jax else (0, 1, 0)
        self.modules = (
            f"MultiHeadDotProductAttention_{attention}",
            f"LayerNorm_{norm2}",
            f"MlpBlock_{mlp}",
        )
        tokens = (img_size[0] // patch_size) * (img_size[1] // patch_size) + int(self.jax)
        self.position = ("Transformer/posembed_input/" if self.jax else "") + "pos_embedding"
        shapes = {
            "cls": (1, 1, width),
            self.position: (1, tokens, width),
            "embedding/kernel": (patch_size, patch_size, in_chans, width),
            "embedding/bias": (width,),
            **_norm("Transformer/encoder_norm", width),
            **_dense("head", representation or width, classes),
        }
        if representation:
            shapes |= _dense("pre_logits", width, representation)
        block = self._block_shapes(width, heads, hidden)
        if style == "scanned":
            shapes |= {f"Transformer/encoderblock/{n}": (depth, *s) for n, s in block.items()}
        else:
            for i in range(depth):
                shapes |= {f"Transformer/encoderblock_{i}/{n}": s for n, s in block.items()}
        self.depth = depth
        self.prefix = "" if self.jax else "params/"
        self.arrays = {
            self.prefix + name: np.float32(
                0.3 * rng.standard_normal(shape) + float(name.endswith("scale"))
            )
            for name, shape in shapes.items()
        }

    def _block_shapes(self, width: int, heads: int, hidden: int) -> dict[str, tuple[int, ...]]:
        attention, norm2, mlp = self.modules
        d = width // heads
        shapes: dict[str, tuple[int, ...]] = {
            **_norm("LayerNorm_0", width),
            **_norm(norm2, width),
            **_dense(f"{mlp}/Dense_0", width, hidden),
            **_dense(f"{mlp}/Dense_1", hidden, width),
            f"{attention}/out/kernel": (heads, d, width),
            f"{attention}/out/bias": (width,),
        }
        for name in ("query", "key", "value"):
            shapes |= {f"{attention}/{name}/kernel": (width, heads, d)}
            shapes |= {f"{attention}/{name}/bias": (heads, d)}
        return shapes

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        w = {name.removeprefix(self.prefix): np.float64(a) for name, a in self.arrays.items()}
        x = np.float64(images.numpy()).transpose(0, 2, 3, 1)  # channels last, as Flax has them
        batch, height, width, channels = x.shape
        p = w["embedding/kernel"].shape[0]
        patches = x.reshape(batch, height // p, p, width // p, p, channels)
        x = np.einsum("bhpwqc,pqcD->bhwD", patches, w["embedding/kernel"]) + w["embedding/bias"]
        x = x.reshape(batch, -1, x.shape[-1])
        token = np.tile(w["cls"], (batch, 1, 1))
        if self.jax:
            x = np.concatenate([token, x], axis=1) + w[self.position]
        else:
            x = np.concatenate([token, x + w[self.position]], axis=1)
        for i in range(self.depth):
            stacked = self.style == "scanned"
            start = "Transformer/encoderblock/" if stacked else f"Transformer/encoderblock_{i}/"
            own = {n.removeprefix(start): a for n, a in w.items() if n.startswith(start)}
            x = self._block(x, {n: a[i] for n, a in own.items()} if stacked else own)
        x = _normalised(x, w, "Transformer/encoder_norm")[:, 0]
        if "pre_logits/kernel" in w:
            x = np.tanh(_linear(x, w, "pre_logits"))
        return torch.from_numpy(_linear(x, w, "head"))

    def _block(self, x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
        attention, norm2, mlp = self.modules
        y = _normalised(x, w, "LayerNorm_0")
        q, k, v = (
            np.einsum("btD,DHd->btHd", y, w[f"{attention}/{n}/kernel"]) + w[f"{attention}/{n}/bias"]
            for n in ("query", "key", "value")
        )
        scores = np.einsum("bqHd,bkHd->bHqk", q / np.sqrt(q.shape[-1]), k)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = scores / scores.sum(axis=-1, keepdims=True)
        y = np.einsum("bHqk,bkHd->bqHd", weights, v)
        out, bias = w[f"{attention}/out/kernel"], w[f"{attention}/out/bias"]
        x = x + np.einsum("bqHd,HdD->bqD", y, out) + bias
        y = _linear(_normalised(x, w, norm2), w, f"{mlp}/Dense_0")
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        return x + _linear(y, w, f"{mlp}/Dense_1")


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/scale": (width,), f"{name}/bias": (width,)}


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def _linear(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def _normalised(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(centred.var(axis=-1, keepdims=True) + 1e-6)
    return scaled * w[f"{name}/scale"] + w[f"{name}/bias"]
