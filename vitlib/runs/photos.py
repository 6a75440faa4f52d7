"""What DINOv2-small sees in five photos: photos.npz, which record_photos.py writes.

    photos.npz + scikit-image's photos -> read_photos -> AttentionFigure.from_record, chapter 15

The photos themselves are not recorded, since scikit-image brings them along.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from vitlib.explain.pictures import size_in_patches
from vitlib.explain.recorded import AttentionRecord, RecordedPicture
from vitlib.model import VisionTransformer

LOG = Path(str(files("vitlib") / "runs" / "photos.npz"))

# Name, function of skimage.data, and licence as its docstring states it. All are in the wheel.
PHOTOS = {
    "cat": ("chelsea", "CC0 by Stefan van der Walt"),
    "astronaut": ("astronaut", "public domain, NASA"),
    "cup": ("coffee", "CC0 by Rachel Michetti"),
    "rocket": ("rocket", "public domain, SpaceX"),
    "photographer": ("camera", "CC0 by Lav Varshney"),
}
_ARRAYS = ("maps", "scales", "patch_maps", "patch_scales")


@dataclass(frozen=True)
class RecordedPhotos(AttentionRecord):
    """The attention record of the photos, and more of the same model.

    colours: for each photo (rows, columns, 3), the first three principal components of its patch
        tokens as red, green and blue, each from 0 to 255 in that photo (method "pca" of
        `vitlib.explain.attend`).
    """

    colours: tuple[UInt8[np.ndarray, "_ _ 3"], ...] = ()


def photo_pixels(name: str, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """One of `PHOTOS`, resized to `size` (height, width) as `vitlib.data.load_data` resizes."""
    from skimage import data  # takes a while to import

    image = Image.fromarray(getattr(data, PHOTOS[name][0])()).convert("RGB")
    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
    return np.array(image)


def photo_input(model: VisionTransformer, name: str, img_size: float) -> Float[Tensor, "1 3 H W"]:
    """One of `PHOTOS` as a model takes it: normalised by its mean and std, in the photo's own
    shape, and with about as many patches as a square of `img_size` pixels has."""
    size = size_in_patches(photo_pixels(name).shape[:2], img_size, model.patch_size)
    pixels = torch.from_numpy(photo_pixels(name, size)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.mean, model.std))
    return ((pixels - mean) / std)[None]


def read_photos(*names: str) -> RecordedPhotos:
    """The record of the photos with these names, or of all five: see `PHOTOS`.

    Raises ValueError for a name that is none of them.
    """
    if unknown := [name for name in names if name not in PHOTOS]:
        raise ValueError(f"the photos are {', '.join(PHOTOS)}: got {unknown[0]!r}")
    chosen = names or tuple(PHOTOS)
    with np.load(LOG) as log:
        about = json.loads(str(log["about"]))
        pictures, colours = [], []
        for name in chosen:
            size, grid = log[f"{name}/size"].tolist(), log[f"{name}/grid"].tolist()
            arrays = {key: log[f"{name}/{key}"] for key in _ARRAYS}
            pixels = photo_pixels(name, (size[0], size[1]))
            pictures.append(RecordedPicture(name, pixels, (grid[0], grid[1]), **arrays))
            colours.append(log[f"{name}/colours"])
    return RecordedPhotos(tuple(pictures), **about, colours=tuple(colours))


def write_photos(record: RecordedPhotos, path: Path = LOG) -> None:
    """Write what `read_photos` reads: the record without the photos."""
    about = {
        "depth": record.depth,
        "layers": list(record.layers),
        "prefix": list(record.prefix),
        "averages": record.averages,
        "source": record.source,
    }
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about, ensure_ascii=False))}
    for picture, colours in zip(record.pictures, record.colours, strict=True):
        arrays |= {f"{picture.name}/{key}": getattr(picture, key) for key in _ARRAYS}
        arrays[f"{picture.name}/grid"] = np.array(picture.grid)
        arrays[f"{picture.name}/size"] = np.array(picture.pixels.shape[:2])
        arrays[f"{picture.name}/colours"] = colours
    np.savez_compressed(path, **arrays)
