"""`vitlib eval`: the accuracy and loss of a checkpoint on a data set."""

import argparse
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from vitlib.checkpoints import TrainingState, restore_model
from vitlib.cli.describe import describe_data, describe_model, describe_pixels, describe_result
from vitlib.cli.options import add_data, add_device, add_stream, open_checkpoint
from vitlib.data import ImageData, LabelledImages, load_data
from vitlib.data.contents import among
from vitlib.data.depth import describe_greater_white
from vitlib.files import check_output_path
from vitlib.matching import as_vision_transformer, match_model
from vitlib.report import Report, write_report
from vitlib.train import evaluate, pick_device
from vitlib.wording import first_few


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `vitlib eval` and its options."""
    p = commands.add_parser(
        "eval", help="evaluate a checkpoint", description=evaluate_checkpoint.__doc__
    )
    p.set_defaults(run=evaluate_checkpoint)
    p.add_argument("--checkpoint", required=True, type=Path, metavar="FILE")
    add_data(p)
    add_stream(p)
    p.add_argument("--batch-size", type=int, default=500, help="(default: %(default)s)")
    add_device(p)
    p.add_argument(
        "--report", type=Path, metavar="FILE", help="write an HTML page about its mistakes"
    )


def evaluate_checkpoint(args: argparse.Namespace) -> None:
    """Print a checkpoint's accuracy and loss on the test images of a data set; if it is not divided
    into training and test images, on all of them that the checkpoint was not trained on.
    """
    device = pick_device(args.device)
    if args.report is not None:
        check_output_path(args.report, checkpoint=args.checkpoint)
    checkpoint = open_checkpoint(args.checkpoint, "vitlib train --weights fine-tunes such weights")
    model = as_vision_transformer(restore_model(checkpoint))
    training = checkpoint.training or TrainingState()
    white = training.info.get("white", 0)
    data = load_data(
        args.data, img_size=model.img_size, whole=True, white=white, stream=args.stream
    )
    if 0 < white < data.white:
        warnings.warn(describe_greater_white(white, data.white), stacklevel=1)
    _check_classes(model.classes, data)
    print(data.summary(warned=False))
    is_whole = data.train is data.test
    data = match_model(data, model)
    images = _choose_images(data, is_whole, training.tensors)
    sys.stdout.flush()
    model.to(device)
    result = evaluate(model, images, args.batch_size)
    print(describe_result(result))
    if args.report is not None:
        name = args.checkpoint.name
        settings = {"data": describe_data(data), "model": describe_model(name, model)}
        settings |= {"input": describe_pixels(data), "command": args.command_line}
        page = Report(
            title=f"{data.name}: {name}", classes=data.classes, images=images.readable(),
            result=result, settings=settings,
        )  # fmt: skip
        write_report(args.report, page, model)
        print(f"report {args.report}")


def _check_classes(classes: tuple[str, ...] | None, data: ImageData) -> None:
    if classes is None or classes == data.classes:
        return
    only = [
        f"only {who} has {first_few(names)}"
        for who, names in (
            ("the model", [name for name in classes if name not in data.classes]),
            (data.name, [name for name in data.classes if name not in classes]),
        )
        if names
    ]
    raise ValueError(
        f"the model has the classes {first_few(classes)}, but {data.name} has "
        f"{first_few(data.classes)}: {'; '.join(only) or 'the order differs'}"
    )


def _choose_images(
    data: ImageData, is_whole: bool, known_by: Mapping[str, torch.Tensor]
) -> LabelledImages:
    """The images to evaluate on; prints which they are, and warns if they were trained on.

    `known_by` has the fingerprints of the training images, if the checkpoint has them.
    """
    known = known_by.get(data.test.fingerprinted)
    images, count = data.test, f"{len(data.test):,}"
    seen = torch.zeros(len(images), dtype=torch.bool)
    if known is not None:
        seen = among(images.fingerprints(), known)
    trained = f"{int(seen.sum()):,} of {count} images"
    if is_whole and seen.any() and not seen.all():
        rest = images.subset((~seen).nonzero()[:, 0])
        print(
            f"{trained} were training images of this checkpoint: evaluating the other {len(rest):,}"
        )
        return rest
    if seen.any():
        warnings.warn(f"{trained} were training images of this checkpoint", stacklevel=1)
    print(f"evaluating all {count} images" if is_whole else f"evaluating the {count} test images")
    if known is None and known_by.keys() & {"images", "files"}:
        print(
            "whether it was trained on some of them is not known: it was trained "
            + ("without --stream" if "images" in known_by else "with --stream")
        )
    elif known is None and is_whole:
        print("the checkpoint does not say on which images it was trained")
    return images
