"""`vitlib attend`: images, a model's answers, and maps of where it looked.

In a file of its own, so that cli.py stays a list of what can be asked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vitlib.checkpoints import load_checkpoint
from vitlib.data import ImageSet
from vitlib.explain.methods import METHODS, class_names, find_method
from vitlib.model import VisionTransformer, create_model
from vitlib.plots import plot_maps
from vitlib.read_images import decode, in_channels, list_broken
from vitlib.whole_file import whole_file

DEFAULT_MODEL = "vit_nano_patch4_28"


def attend(args: argparse.Namespace) -> None:
    """Write a PNG for each image: the image with the model's answer, the map, and the map over
    the image.

    Everything is read and checked first: if one image can't be read, no picture is written.
    """
    model = _model(args)
    _refuse_idle_options(args)
    target = None if args.target is None else _find_class(args.target, class_names(model))
    title, suffix, make_map = find_method(model, args.method, args.layer, args.head, target)
    paths = name_pictures(args.images, args.out, suffix)
    images = _read(args.images, model)
    args.out.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        pixels, _ = images.batch(torch.tensor([number]))  # (1, C, H, W) in [0, 1]
        inputs = images.normalize(pixels).to(model.cls_token.dtype)
        with torch.no_grad():
            probability, answer = model(inputs)[0].float().softmax(dim=0).max(dim=0)
        said = f"{class_names(model)[int(answer)]} ({probability:.1%})"
        figure = plot_maps(pixels, {title: make_map(inputs)}, [f"prediction: {said}"], alone=True)
        with whole_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
        print(f"{path}: {said}", flush=True)


def _refuse_idle_options(args: argparse.Namespace) -> None:
    for option in ("layer", "head", "target"):
        if getattr(args, option) is not None and option not in METHODS[args.method]:
            fitting = " or ".join(name for name, options in METHODS.items() if option in options)
            raise ValueError(f"--{option} goes with --method {fitting}, not with {args.method}")


def _model(args: argparse.Namespace) -> VisionTransformer:
    place = args.checkpoint or args.model or DEFAULT_MODEL
    model: nn.Module
    model = load_checkpoint(place) if args.checkpoint else create_model(place, pretrained=True)
    assert isinstance(model, VisionTransformer)
    if not model.num_classes:
        raise ValueError(f"{place} holds a model without a head, which gives no answer")
    if model.mean is None or model.std is None:
        raise ValueError(f"{place} does not say by what mean and std its images were normalised")
    return model


def _find_class(text: str, names: Sequence[str]) -> int:
    """A class by its name, or else by its number."""
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    raise ValueError(
        f"--target {text} is no class: the model knows {listed}, or by number 0 to {len(names) - 1}"
    )


# Files


def _read(paths: Sequence[Path], model: VisionTransformer) -> ImageSet:
    """All images in the model's size and colour; a ValueError that names those that can't be read.

    The labels are of no meaning.
    """
    if model.in_chans not in (1, 3):
        raise ValueError(f"the model takes images of {model.in_chans} channels, files have 1 or 3")
    read, broken = [], []
    for path in paths:
        try:
            read.append(in_channels(decode(path, model.img_size), model.in_chans))
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
    assert model.mean is not None
    assert model.std is not None
    images = torch.from_numpy(np.stack(read))  # uint8 (n, C, H, W)
    return ImageSet(images, torch.zeros(len(images), dtype=torch.int64), model.mean, model.std)


def name_pictures(images: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    """Where each picture goes: out/STEM-SUFFIX.png, or out/STEM-2-SUFFIX.png if STEM comes again.

    Raises ValueError if `out` is no folder, and if a picture would replace one of the images.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is not a folder")
    stems = {image.stem.casefold() for image in images}  # some systems hold "A" and "a" for one
    used: set[str] = set()
    paths = []
    for image in images:
        name, count = image.stem, 1
        while name.casefold() in used or (count > 1 and name.casefold() in stems):
            count += 1
            name = f"{image.stem}-{count}"
        used.add(name.casefold())
        paths.append(out / f"{name}-{suffix}.png")
    inputs = {image.resolve() for image in images}
    for path in paths:
        if path.resolve() in inputs:
            raise ValueError(f"the picture {path} would replace an image: choose another --out")
    return paths
