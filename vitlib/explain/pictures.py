"""Maps of picture files: `attend`, of which `vitlib attend` is the command.

    files -> pixels of the model's size, or of whole patches in the picture's own shape
          -> the model's answer, if it has a head, and a map -> AttendedPicture

A model built with dynamic_img_size sees whole pictures; any other sees their centre at its own
size, as pictures are cut when such a model is trained.
"""

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitlib.data.decode import decode_fully, list_broken, read_size, to_channels
from vitlib.data.depth import WHITES, describe_depth, describe_greater_white, share_white
from vitlib.explain.methods import MapMaker, class_names, find_method
from vitlib.matching import check_explains_pictures, in_eval_mode
from vitlib.model import VisionTransformer
from vitlib.plots import plot_heads, plot_maps
from vitlib.wording import check_count, first_few

_MOST = 32e9  # multiplications per picture, some two seconds on one processor core


@dataclass(frozen=True)
class AttendedPicture:
    """A picture as a model saw it, what the model answered, and a map of where it looked.

    Attributes:
        path: the picture's file.
        pixels: (1, C, H, W) in [0, 1], before they were normalised.
        map: one number per patch (h, w), a map per head (heads, h, w), or colours (h, w, 3).
        kind: which of these, "values", "heads" or "colours".
        title: what the map shows, in words.
        answer: the predicted class with its probability, "cat (91.3%)"; None without a head.
    """

    path: Path
    pixels: Float[Tensor, "1 C H W"]
    map: Float[Tensor, "*map"]
    kind: Literal["values", "heads", "colours"]
    title: str
    answer: str | None

    def plot(self) -> Any:
        """A matplotlib figure: the picture, the map, and the map over the picture; with the maps of
        several heads, the picture and each map over it."""
        answer = "" if self.answer is None else f"prediction: {self.answer}"
        if self.kind == "heads":
            return plot_heads(self.pixels[0], self.map, self.title, answer)
        return plot_maps(self.pixels, {self.title: self.map[None]}, [answer], alone=True)


def attend(
    model: VisionTransformer,
    pictures: Sequence[str | os.PathLike[str]],
    method: str = "attention",
    *,
    img_size: int | None = None,
    **options: Any,
) -> Iterator[AttendedPicture]:
    """Maps of where a model looks in picture files, one after the other.

        model = create_model("facebook/dinov2-small", pretrained=True, dynamic_img_size=True)
        for seen in attend(model, ["cat.jpg", "rocket.jpg"], head="all"):
            seen.plot().savefig(f"{seen.path.stem}.png")

    Args:
        model: with `mean` and `std`. If it was built with dynamic_img_size=True, pictures keep
            their shape; otherwise their centre is cut out at the model's size.
        method: one of `vitlib.explain.methods.METHODS`: "attention", "rollout", "gradient",
            "occlusion" or "pca".
        img_size: pixels. A picture gets as many patches as a square of this side has, in its own
            shape. Default: see `choose_img_size`.
        options: layer and head (a number, or "all" for each) of "attention", target (the number of
            a class) of "gradient" and "occlusion".

    All pictures are read before the first goes through the model.
    Raises ValueError for a model, an option or a picture that can't be used.
    """
    model = check_explains_pictures(model, needs_head=False)
    maps = find_method(model, method, **options)
    read = read_pictures([Path(picture) for picture in pictures], model, img_size)
    return (attend_to(model, path, pixels, maps) for path, pixels in read)


def attend_to(
    model: VisionTransformer, path: Path, image: UInt8[Tensor, "C H W"], maps: MapMaker
) -> AttendedPicture:
    """One picture of `read_pictures` through the model."""
    pixels = image[None].float() / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.mean, model.std))
    inputs = ((pixels - mean) / std).to(model.cls_token)
    answer = None
    if model.num_classes:
        with in_eval_mode(model), torch.no_grad():
            probability, best = model(inputs)[0].float().softmax(dim=0).max(dim=0)
        answer = f"{class_names(model)[int(best)]} ({probability:.1%})"
    made = maps.make(inputs)[0].cpu()
    return AttendedPicture(path, pixels, made, maps.kind, maps.title, answer)


# Sizes


def choose_img_size(model: VisionTransformer) -> float:
    """The side in pixels of the square that gives a picture's number of patches by default.

    That is the size of the weights. For a model without a head it is less, if a picture would
    otherwise take more than a few seconds on two processor cores; with a head, another size would
    change the answers.
    """
    own = math.sqrt(math.prod(model.img_size))
    if model.num_classes or count_multiplications(model, own) <= _MOST:
        return own
    step = max(model.patch_size)
    sides = range(int(own) // step * step, 0, -step)
    return next((s for s in sides if count_multiplications(model, s) <= _MOST), step)


def count_multiplications(model: VisionTransformer, img_size: float) -> float:
    """Multiplications of one forward pass for a square picture, those of the blocks' matrices."""
    patches = math.prod(max(1, round(img_size / side)) for side in model.patch_size)
    tokens, width = patches + model.num_prefix_tokens, model.embed_dim
    linear = (4 + 2 * model.config["mlp_ratio"]) * tokens * width**2  # q, k, v, projection, MLP
    return len(model.blocks) * (linear + 2 * tokens**2 * width)


def describe_img_size(model: VisionTransformer) -> str:
    """A line that says which size is taken by default, and why."""
    own, chosen = math.sqrt(math.prod(model.img_size)), choose_img_size(model)
    line = f"each picture gets about as many pixels as a square of {chosen:.0f}×{chosen:.0f}"
    if chosen == own:
        return f"{line}, the size of the weights; --img-size takes another"
    counts = (count_multiplications(model, side) / 1e9 for side in (own, chosen))
    more, less = (f"{count:.0f} billion multiplications" for count in counts)
    return (
        f"{line}, which takes {less}: at {own:.0f}×{own:.0f}, the size of the weights, it would be "
        f"{more}; --img-size takes another"
    )


def size_in_patches(
    size: tuple[int, int], img_size: float, patch_size: tuple[int, int]
) -> tuple[int, int]:
    """(height, width) in pixels that are whole patches, in the shape of a picture of `size`, and
    about as many as a square of `img_size` has.

    Raises ValueError for a picture that is smaller than a patch.
    """
    height, width = size
    if height < patch_size[0] or width < patch_size[1]:
        raise ValueError(
            f"{height}×{width} pixels (height × width), less than one patch of "
            f"{patch_size[0]}×{patch_size[1]}"
        )
    scale = img_size / math.sqrt(height * width)
    rows, columns = (
        max(1, round(side * scale / patch)) for side, patch in zip(size, patch_size, strict=True)
    )
    return rows * patch_size[0], columns * patch_size[1]


# Files


def read_pictures(
    paths: Sequence[Path], model: VisionTransformer, img_size: int | None = None, white: int = 0
) -> list[tuple[Path, UInt8[Tensor, "C H W"]]]:
    """Each file's pixels, in the model's channels and in whole patches; all 16-bit ones with one
    white.

    white: of the training images, in 16 bits; 0 if unknown. Raises a ValueError that names the
    pictures that can't be read, and for an `img_size` that does not fit the model.
    """
    if img_size is not None:
        check_count("img_size", img_size, least=max(model.patch_size))
        if not model.dynamic_img_size:
            raise ValueError(
                f"img_size={img_size} needs a model built with dynamic_img_size=True; this one "
                f"takes {model.img_size[0]}×{model.img_size[1]} pixels only"
            )
    side = img_size or choose_img_size(model)
    read, whites, broken = [], [], []
    for path in paths:
        try:
            size = model.img_size
            if model.dynamic_img_size:
                size = size_in_patches(read_size(path), side, model.patch_size)
            decoded = decode_fully(path, size)
            read.append(to_channels(decoded.pixels, model.in_chans))
            whites.append(decoded.white)
        except MemoryError:
            raise
        except FileNotFoundError:
            broken.append((str(path), "no such file"))
        except IsADirectoryError:
            broken.append((str(path), "a folder, not an image"))
        except Exception as error:  # a broken file can raise nearly anything in a decoder
            broken.append((str(path), str(error).split(" '")[0] or type(error).__name__))
    if broken:
        raise ValueError(
            f"nothing is written, as not all images can be read: {list_broken(broken)}"
        )
    parts = [(pixels[None], np.array([its])) for pixels, its in zip(read, whites, strict=True)]
    shared = share_white(parts, white)
    if 0 < white < shared:
        warnings.warn(describe_greater_white(white, shared), stacklevel=2)
    elif white < shared < WHITES[-1]:
        deep = [str(path) for path, its in zip(paths, whites, strict=True) if its]
        who = f"{first_few(deep, 3)} {'has' if len(deep) == 1 else 'have'}"
        warnings.warn(describe_depth(who, shared), stacklevel=2)
    return [
        (path, torch.from_numpy(pixels[0].copy()))
        for path, (pixels, _) in zip(paths, parts, strict=True)
    ]
