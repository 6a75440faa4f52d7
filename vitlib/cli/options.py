"""Options that several commands share, and the model that they ask for."""

import argparse
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlib.checkpoints import (
    Checkpoint,
    ForeignWeights,
    TrainingState,
    read_checkpoint,
    restore_model,
)
from vitlib.checkpoints.hub import is_hub_id
from vitlib.create import create_model
from vitlib.data import DATA_SOURCES
from vitlib.matching import as_vision_transformer
from vitlib.model import VisionTransformer


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data: anything that `load_data` reads."""
    kinds = "; ".join(f"{kind.name}: {kind.help}" for kind in DATA_SOURCES)
    parser.add_argument("--data", required=True, help=kinds.replace("%", "%%"))


def add_stream(parser: argparse.ArgumentParser) -> None:
    """Add --stream."""
    parser.add_argument(
        "--stream", action="store_true", help="leave the pictures where they are, and read each of "
        "them when it is needed: for folders, parquet files and Hub data sets that do not fit into "
        "memory",
    )  # fmt: skip


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument("--device", default="auto", help="auto or a device that torch knows")


def add_model(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add --checkpoint, --model and --weights, of which one is required if there is no default.

    And what files from elsewhere often do not tell: --num-heads, --mean and --std.
    """
    source = parser.add_mutually_exclusive_group(required=default is None)
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="a model that was trained")
    source.add_argument(
        "--model", metavar="NAME", help="a model whose weights come with vitlib or from the Hub"
        + (f" (default: {default}, which reads digits, white on black)" if default else ""),
    )  # fmt: skip
    source.add_argument(
        "--weights", metavar="FROM", help="weights from elsewhere: a file or folder (safetensors, "
        ".bin, .pth, .npz), or on the Hub, owner/name",
    )  # fmt: skip
    parser.add_argument(
        "--num-heads", type=int, metavar="NUMBER", help="attention heads of --weights, which most "
        "files do not tell (default: as published ViTs of this width have)",
    )  # fmt: skip
    for name in ("mean", "std"):
        parser.add_argument(
            f"--{name}", type=_parse_numbers, metavar="R,G,B", help=f"the {name} by which the "
            "model's pixels, from 0 to 1, were normalised, one number or one per channel "
            "(default: as the file says)",
        )  # fmt: skip


def _parse_numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between them, such as 0.5,0.5,0.5, got {text!r}"
        ) from None


@dataclass(frozen=True)
class Opened:
    """A trained model, the name or path that it is from, and the white of its 16-bit pictures.

    white: 0 if there were none, or if nothing tells.
    """

    model: VisionTransformer
    name: str
    white: int = 0


def open_model(args: argparse.Namespace, default: str | None = None, **build: Any) -> Opened:
    """The trained model that the options of `add_model` ask for.

    build: arguments of VisionTransformer that are to differ from the file's, such as
        dynamic_img_size.
    Raises whatever reading it raises, and ValueError for options that do not fit it.
    """
    if args.num_heads is not None and args.weights is None:
        raise ValueError("--num-heads needs --weights: without them, the heads are known")
    white = 0
    if args.checkpoint is not None:
        checkpoint = open_checkpoint(args.checkpoint, "--weights reads such weights")
        model, name = as_vision_transformer(restore_model(checkpoint)), str(args.checkpoint)
        if build:
            model = create_model(args.checkpoint, pretrained=True, **build)
        white = (checkpoint.training or TrainingState()).info.get("white", 0)
    elif args.weights is not None:
        heads = {} if args.num_heads is None else {"num_heads": args.num_heads}
        model, name = _open_weights(args.weights, build | heads), args.weights
    else:
        name = str(args.model or default)
        model = create_model(name, pretrained=True, **build)
    for which in ("mean", "std"):
        if (numbers := getattr(args, which)) is not None:
            _set_statistics(model, which, numbers)
    return Opened(model, name, white)


def open_checkpoint(path: Path, advice: str) -> Checkpoint:
    """`read_checkpoint`; the advice says what to do with weights from elsewhere."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and a checkpoint of vitlib's is a file: {advice}")
    if not path.exists() and is_hub_id(str(path)):
        advice = f"there is no file {path}. If it is a model on the Hub: {advice}"
        raise FileNotFoundError(advice)
    try:
        return read_checkpoint(path)
    except ForeignWeights as error:
        raise ValueError(f"{error.reason}: {advice}") from error


def _open_weights(place: str, build: dict[str, Any]) -> VisionTransformer:
    """A model that is built as its source was, but for the arguments `build`; what had to be
    guessed is said by options' names."""
    source = place if "/" in place else Path(place)
    try:
        with warnings.catch_warnings(record=True, action="always") as said:
            model = create_model(source, pretrained=True, **build)
    except ValueError as error:
        raise ValueError(_in_options(str(error))) from error
    for warning in said:
        if model.mean is not None or "with which mean and std" not in str(warning.message):
            warnings.warn(_in_options(str(warning.message)), stacklevel=2)
    return model


_AS_OPTIONS = {  # what Python's messages advise
    r"give it, create_model\(\.\.\., num_heads=\.\.\.\)": "give --num-heads",
    r"\bnum_heads=\.\.\.": "--num-heads",
    r"\bnum_heads=(\d+)": r"--num-heads \1",
    r"set model\.mean and model\.std, if yours are others": "--mean and --std say otherwise",
    r"\s*load_pretrained\(\.\.\., strict=False\)[^.]*\.": "",  # part of a model has no maps
}


def _in_options(text: str) -> str:
    for python, option in _AS_OPTIONS.items():
        text = re.sub(python, option, text)
    if re.search(r"\b\w+=(\.\.\.|K\b|\d)", text):
        text = f"{text.rstrip('.')}. These are arguments of vitlib.create_model, in Python"
    return text


def warn_of_statistics(name: str, data: str) -> None:
    """Warn that the mean and std of the data stand in for those of a model's training."""
    warnings.warn(
        f"{name} does not say by which mean and std its pixels were normalised: those of {data} "
        "are taken, with which the weights may do worse",
        stacklevel=2,
    )


def _set_statistics(model: VisionTransformer, which: str, numbers: tuple[float, ...]) -> None:
    """Set its mean or std; one number is meant for each channel."""
    if len(numbers) not in (1, model.in_chans):
        raise ValueError(
            f"--{which} has {len(numbers)} numbers, and the model takes {model.in_chans} channels"
        )
    if which == "std" and min(numbers) <= 0:
        raise ValueError(f"--std must be above zero, got {min(numbers):g}")
    setattr(model, which, numbers * (model.in_chans if len(numbers) == 1 else 1))
