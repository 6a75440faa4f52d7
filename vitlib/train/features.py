"""What a model makes of each picture before its head answers, computed once: `extract_features`.

images -> batches -> the head's input -> a file in the cache for every 1,000 images
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from vitlib.checkpoints import digest_weights, unwrapped
from vitlib.checkpoints.native import FilePath
from vitlib.data import ImageData, ImageSet, LabelledImages
from vitlib.files import atomic_write
from vitlib.matching import check_images_fit, in_eval_mode, normalised_for
from vitlib.train.evaluation import inputs_of
from vitlib.wording import check_count

_CHUNK = 1000  # images per file of the cache: what an interruption loses


def extract_features(
    model: nn.Module,
    image_set: LabelledImages,
    *,
    batch_size: int = 100,
    cache: FilePath | bool = True,
    progress: bool = False,
) -> Float[Tensor, "n D"]:
    """What the head of `model` gets for each image, (n, D) in float32, on the CPU.

    That is `forward_head(forward_features(images), pre_logits=True)`, in eval mode, on the device
    and in the precision of the model. Images are normalised by the model's own `mean` and `std` if
    it has them, else by the set's. Afterwards the model is back in the mode it was in.

    Args:
        model: vitlib's or timm's, with or without a head.
        cache: a folder; True means `cache_folder()`. Features of images that this model has seen
            before, with the same weights and settings, are read from there, and new ones are kept,
            1,000 images at a time. So an interrupted call goes on where it stopped. False neither
            reads nor keeps any.
        progress: whether to show a bar on stderr.

    Raises ValueError for an empty set, for images that do not fit the model, for a model without
    these two functions, for streamed images, for a batch size below 1, and for a `cache` that is a
    file.
    """
    check_count("batch_size", batch_size)
    if isinstance(image_set, ImageData):
        raise ValueError("extract_features takes one set of images: pass data.train, not data")
    model = unwrapped(model)
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        raise ValueError(
            "expected a model with forward_features and forward_head, as vitlib's and timm's have, "
            f"got {type(model).__name__}"
        )
    if not isinstance(image_set, ImageSet):
        raise ValueError("extract_features takes images in memory: load the data without stream")
    check_images_fit(model, image_set)
    image_set = normalised_for(model, image_set)
    folder = _folder(cache)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ValueError(f"the cache {folder} is a file: give the name of a folder")
    known = "" if folder is None else _fingerprint(model, image_set)
    features = []
    bar = tqdm(
        total=len(image_set), unit="image", dynamic_ncols=True, disable=not progress, leave=False
    )
    with in_eval_mode(model), bar:
        for index in torch.arange(len(image_set)).split(_CHUNK):
            chunk = image_set.subset(index)
            path = None if folder is None else folder / f"{_name(known, chunk)}.safetensors"
            found = None if path is None else _read(path)
            if found is None:
                found = torch.cat(list(_compute(model, chunk, batch_size, bar)))
                if path is not None:
                    with atomic_write(path) as temporary:
                        save_file({"features": found}, temporary)
            else:
                bar.update(len(chunk))
            features.append(found)
    return torch.cat(features)


def cache_folder() -> Path:
    """Where features are kept by default: VITLIB_CACHE/features, ~/.cache/vitlib/features without
    that environment variable. All of it can be deleted at any time."""
    chosen = os.environ.get("VITLIB_CACHE")
    return (Path(chosen) if chosen else Path.home() / ".cache" / "vitlib") / "features"


def _folder(cache: FilePath | bool) -> Path | None:
    if isinstance(cache, bool):
        return cache_folder() if cache else None
    return Path(cache)


def _compute(
    model: Any, image_set: ImageSet, batch_size: int, bar: tqdm
) -> Iterator[Float[Tensor, "b D"]]:
    for images, _ in inputs_of(model, image_set, batch_size):
        with torch.inference_mode():
            pooled = model.forward_head(model.forward_features(images), pre_logits=True)
        yield pooled.float().cpu()
        bar.update(len(images))


def _fingerprint(model: nn.Module, image_set: ImageSet) -> str:
    """The same for the same numbers under the same names, in modules with the same settings."""
    plain = (int, float, str, bool, tuple, type(None), torch.dtype)
    settings = [
        (name, type(module).__qualname__, key, value)
        for name, module in model.named_modules()
        for key, value in sorted(vars(module).items())
        if isinstance(value, plain) and key not in ("training", "classes", "started_from")
    ]
    statistics = (image_set.mean, image_set.std)
    return f"{digest_weights(model.state_dict())} {settings!r} {statistics}"


def _name(known: str, chunk: ImageSet) -> str:
    digest = hashlib.sha256(f"{known} {tuple(chunk.images.shape)}".encode())
    digest.update(chunk.images.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def _read(path: Path) -> Float[Tensor, "n D"] | None:
    """Features of the cache; None if there are none, or if the file is damaged."""
    try:
        return load_file(path)["features"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
