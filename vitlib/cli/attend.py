"""`vitlib attend`: pictures of where a model looked, with its answers."""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vitlib.cli.options import Opened, add_model, open_model
from vitlib.data import ImageSet
from vitlib.data.decode import decode_fully, list_broken, to_channels
from vitlib.data.depth import WHITES, describe_depth, describe_greater_white, share_white
from vitlib.explain.methods import METHODS, class_names, find_method, methods_with
from vitlib.files import atomic_write
from vitlib.matching import check_explainable, check_explains_pictures
from vitlib.model import VisionTransformer
from vitlib.plots import plot_maps
from vitlib.wording import first_few

_DEFAULT_MODEL = "vit_nano_patch4_28"


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `vitlib attend` and its options."""
    p = commands.add_parser(
        "attend", help="draw maps of where a model looked", description=attend.__doc__
    )
    p.set_defaults(run=attend)
    p.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")
    add_model(p, _DEFAULT_MODEL)
    p.add_argument(
        "--method", choices=METHODS, default="attention",
        help="the map. "
        + "; ".join(f"{row.name}: {row.help}" for row in METHODS.values())
        + " (default: %(default)s)",
    )  # fmt: skip
    p.add_argument(
        "--layer", type=int, metavar="N", help=f"of {methods_with('layer')}: the block, counted "
        "from 0, or from -1 backwards (default: the last)",
    )  # fmt: skip
    p.add_argument(
        "--head", type=int, metavar="N", help=f"of {methods_with('head')}: the head, counted "
        "the same way (default: the mean of all)",
    )  # fmt: skip
    p.add_argument(
        "--target", metavar="CLASS", help=f"of {methods_with('target')}: the class asked about, "
        "by name or number (default: the predicted one)",
    )  # fmt: skip
    p.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER",
        help="where IMAGE-METHOD.png goes (default: the current folder)",
    )  # fmt: skip


def attend(args: argparse.Namespace) -> None:
    """Write a PNG for each image: the image with the model's answer, the map, and the map over
    the image.

    Everything is read and checked first: if one image can't be read, no picture is written.
    All 16-bit images have one white, that of the model's training images if its file tells it.
    """
    for option in ("layer", "head", "target"):
        if getattr(args, option) is not None and option not in METHODS[args.method].options:
            fitting = methods_with(option)
            raise ValueError(f"--{option} goes with --method {fitting}, not with {args.method}")
    opened = open_model(args, _DEFAULT_MODEL)
    model = _check_model(opened)
    target = None if args.target is None else _find_class(args.target, class_names(model))
    maps = find_method(model, args.method, layer=args.layer, head=args.head, target=target)
    paths = name_pictures(args.images, args.out, maps.suffix)
    images = _read_images(args.images, model, opened.white)
    args.out.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        pixels, _ = images.batch(torch.tensor([number]))  # (1, C, H, W) in [0, 1]
        inputs = images.normalize(pixels).to(model.cls_token.dtype)
        with torch.no_grad():
            probability, answer = model(inputs)[0].float().softmax(dim=0).max(dim=0)
        prediction = f"{class_names(model)[int(answer)]} ({probability:.1%})"
        titled_map = {maps.title: maps.make(inputs)}
        figure = plot_maps(pixels, titled_map, [f"prediction: {prediction}"], alone=True)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=200)
        print(f"{path}: {prediction}", flush=True)


def _check_model(opened: Opened) -> VisionTransformer:
    model = check_explainable(opened.model, opened.name)
    if model.mean is None or model.std is None:
        raise ValueError(
            f"{opened.name} does not say by what mean and std its images were normalised: give "
            "--mean and --std; --mean 0.5 --std 0.5, for instance, if its pixels were from -1 to 1"
        )
    return check_explains_pictures(model, opened.name)


def _find_class(text: str, names: Sequence[str]) -> int:
    """The number of a class that is given by its name, or else by its number."""
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise ValueError(
        f"--target {text} is not a class of the model, whose classes are {first_few(names, 10)}; "
        f"or give a number, 0 to {len(names) - 1}"
    )


# Files


def _read_images(paths: Sequence[Path], model: VisionTransformer, white: int) -> ImageSet:
    """All images with the model's size, channels, mean and std; their labels mean nothing.

    white: of the training images, in 16 bits. Raises a ValueError that names the images that can't
    be read.
    """
    read, whites, broken = [], [], []
    for path in paths:
        try:
            decoded = decode_fully(path, model.img_size)
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
    assert model.mean is not None
    assert model.std is not None
    pixels = np.stack(read)
    shared = share_white([(pixels, np.array(whites))], white)
    if 0 < white < shared:
        warnings.warn(describe_greater_white(white, shared), stacklevel=2)
    elif white < shared < WHITES[-1]:
        deep = [str(path) for path, its in zip(paths, whites, strict=True) if its]
        who = f"{first_few(deep, 3)} {'has' if len(deep) == 1 else 'have'}"
        warnings.warn(describe_depth(who, shared), stacklevel=2)
    images = torch.from_numpy(pixels)  # uint8 (n, C, H, W)
    return ImageSet(images, torch.zeros(len(images), dtype=torch.int64), model.mean, model.std)


def name_pictures(images: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    """Where each picture is written: out/STEM-SUFFIX.png, and out/STEM-2-SUFFIX.png if STEM recurs.

    Raises ValueError if `out` is not a folder, and if a picture would replace one of the images.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is not a folder")
    stems = {image.stem.casefold() for image in images}  # to some systems, "A" is "a"
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
