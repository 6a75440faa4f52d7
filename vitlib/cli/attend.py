"""`vitlib attend`: pictures of where a model looked, with its answers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vitlib.cli.options import Opened, add_model, open_model
from vitlib.explain.methods import EACH_HEAD, METHODS, class_names, find_method, methods_with
from vitlib.explain.pictures import attend_to, describe_img_size, read_pictures
from vitlib.files import atomic_write
from vitlib.matching import check_explainable, check_explains_pictures
from vitlib.model import VisionTransformer
from vitlib.presets import PRESETS
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
        "--head", type=_parse_head, metavar="N", help=f"of {methods_with('head')}: the head, "
        f"counted the same way, or {EACH_HEAD} for a map of each (default: the mean of all)",
    )  # fmt: skip
    p.add_argument(
        "--target", metavar="CLASS", help=f"of {methods_with('target')}: the class asked about, "
        "by name or number (default: the predicted one)",
    )  # fmt: skip
    p.add_argument(
        "--img-size", type=int, metavar="PIXELS", help="give each picture, in its own shape, as "
        "many pixels as a square of this side has (default: for weights from elsewhere, their own "
        "size, or less where that is slow; vitlib's own models see the centre of a picture, at "
        "their size)",
    )  # fmt: skip
    p.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER",
        help="where IMAGE-METHOD.png goes (default: the current folder)",
    )  # fmt: skip


def attend(args: argparse.Namespace) -> None:
    """Write a PNG for each image: the image with the model's answer, if it has a head to give one,
    the map, and the map over the image; with --head all, the map of each head over the image.

    Everything is read and checked first: if one image can't be read, no picture is written.
    All 16-bit images have one white, that of the model's training images if its file tells it.
    """
    for option in ("layer", "head", "target"):
        if getattr(args, option) is not None and option not in METHODS[args.method].options:
            fitting = methods_with(option)
            raise ValueError(f"--{option} goes with --method {fitting}, not with {args.method}")
    build = {"dynamic_img_size": True} if _sees_whole_pictures(args) else {}
    opened = open_model(args, _DEFAULT_MODEL, **build)
    model = _check_model(opened)
    target = None if args.target is None else _find_class(args.target, class_names(model))
    maps = find_method(model, args.method, layer=args.layer, head=args.head, target=target)
    paths = name_pictures(args.images, args.out, maps.suffix)
    if args.img_size is not None and args.img_size < max(model.patch_size):
        raise ValueError(
            f"--img-size {args.img_size} is less than one patch, {max(model.patch_size)} pixels"
        )
    pictures = read_pictures(args.images, model, args.img_size, opened.white)
    if model.dynamic_img_size and args.img_size is None:
        print(describe_img_size(model), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for path, (image, pixels) in zip(paths, pictures, strict=True):
        seen = attend_to(model, image, pixels, maps)
        figure = seen.plot()
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=300)
        told = seen.answer or "{}×{} pixels".format(*seen.pixels.shape[-2:])
        print(f"{path}: {told}", flush=True)


def _sees_whole_pictures(args: argparse.Namespace) -> bool:
    """Whether pictures keep their shape: vitlib's own models were trained on the centre of each."""
    from_hub = args.model in PRESETS and PRESETS[args.model].hub_id is not None
    return args.img_size is not None or args.weights is not None or from_hub


def _check_model(opened: Opened) -> VisionTransformer:
    model = check_explainable(opened.model, opened.name, needs_head=False)
    if model.mean is None or model.std is None:
        raise ValueError(
            f"{opened.name} does not say by what mean and std its images were normalised: give "
            "--mean and --std; --mean 0.5 --std 0.5, for instance, if its pixels were from -1 to 1"
        )
    return check_explains_pictures(model, opened.name, needs_head=False)


def _parse_head(text: str) -> int | str:
    if text == EACH_HEAD:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a head's number or {EACH_HEAD}, got {text!r}"
        ) from None


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
