"""`vitlib probe`: how well a model's features tell classes apart that it was not trained on."""

import argparse
import sys
import time
from pathlib import Path

from vitlib.checkpoints import save_checkpoint
from vitlib.cli.describe import describe_data, describe_model, describe_pixels, describe_result
from vitlib.cli.options import (
    Opened,
    add_data,
    add_device,
    add_model,
    open_model,
    warn_of_statistics,
)
from vitlib.data import load_data
from vitlib.files import check_output_path
from vitlib.matching import match_model
from vitlib.report import Report, write_report
from vitlib.train import fit_probe, pick_device
from vitlib.train.features import cache_folder
from vitlib.train.probe import NEIGHBOURS
from vitlib.wording import check_count

_USUAL_SIDE = 224  # pixels; DINOv2's own 518 are five times as many patches


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `vitlib probe` and its options."""
    p = commands.add_parser(
        "probe", help="classify by a model's features, without training it",
        description=probe.__doc__,
    )  # fmt: skip
    p.set_defaults(run=probe)
    add_data(p)
    add_model(p)
    p.add_argument(
        "--img-size", type=int, metavar="PIXELS", help="resize the pictures to this side, and the "
        f"model's positions with it (default: that of the weights, but at most {_USUAL_SIDE})",
    )  # fmt: skip
    p.add_argument(
        "--neighbours", type=int, default=NEIGHBOURS, metavar="NUMBER",
        help="nearest neighbours that vote (default: %(default)s)",
    )  # fmt: skip
    p.add_argument("--batch-size", type=int, default=50, help="(default: %(default)s)")
    p.add_argument(
        "--seed", type=int, default=0, help="of the pictures kept back to choose the penalty "
        "(default: %(default)s)",
    )  # fmt: skip
    add_device(p)
    p.add_argument(
        "--cache", type=Path, default=cache_folder(), metavar="FOLDER", help="where features are "
        "kept, for the same pictures and the same weights (default: %(default)s)",
    )  # fmt: skip
    p.add_argument(
        "--out", type=Path, metavar="FILE", help="a checkpoint of the model with logistic "
        "regression as its head, for eval, attend and export (default: none)",
    )  # fmt: skip
    p.add_argument(
        "--report", type=Path, metavar="FILE", help="an HTML page about the mistakes of logistic "
        "regression (default: none)",
    )  # fmt: skip
    p.add_argument("--quiet", action="store_true", help="no progress bar")


def probe(args: argparse.Namespace) -> None:
    """Compute a model's features for each picture of a data set once, and classify the test
    pictures by them in two ways: by their nearest neighbours among the training pictures, and by
    logistic regression. The model itself is not trained.
    """
    check_count("--neighbours", args.neighbours)
    check_count("--batch-size", args.batch_size)
    device = pick_device(args.device)
    sources = {"weights": args.weights, "model": args.checkpoint}
    if args.out is not None:
        check_output_path(args.out, **sources)
    if args.report is not None:
        check_output_path(args.report, **sources, checkpoint=args.out)
    opened = _open_at_size(args)
    model = opened.model
    if model.mean is None:
        warn_of_statistics(opened.name, args.data)
    data = match_model(load_data(args.data, img_size=model.img_size, white=opened.white), model)
    print(data.summary(warned=False), describe_model(opened.name, model), sep="\n")
    print(f"{describe_pixels(data)}, {model.img_size[0]}×{model.img_size[1]}", flush=True)
    model.to(device)
    started = time.perf_counter()
    found = fit_probe(
        model, data, neighbours=args.neighbours, seed=args.seed, batch_size=args.batch_size,
        cache=args.cache, progress=not args.quiet,
    )  # fmt: skip
    print(
        f"{found.head.in_features} features per picture, in {time.perf_counter() - started:.0f} s "
        f"(kept in {args.cache})"
    )
    nearest = min(args.neighbours, len(data.train))
    logistic = f"logistic regression, C = {found.strength:g}"
    print(f"{nearest} nearest neighbours: {describe_result(found.neighbours)}")
    print(f"{logistic}: {describe_result(found.logistic)}")
    if args.out is None and args.report is None:
        return
    found.give_head(model)
    model.mean, model.std = data.mean, data.std
    if args.out is not None:
        save_checkpoint(model.cpu(), args.out, notes={"probe": {"C": found.strength}})
        print(f"checkpoint {args.out}")
    if args.report is not None:
        sys.stdout.flush()
        settings = {
            "data": describe_data(data), "model": describe_model(opened.name, model),
            "input": describe_pixels(data), "head": f"{logistic}; the model was not trained",
            "neighbours": f"{nearest} nearest neighbours: {describe_result(found.neighbours)}",
            "command": args.command_line,
        }  # fmt: skip
        page = Report(
            title=f"{data.name}: probe of {opened.name}", classes=data.classes, images=data.test,
            result=found.logistic, settings=settings,
        )  # fmt: skip
        write_report(args.report, page, model, not args.quiet)
        print(f"report {args.report}")


def _open_at_size(args: argparse.Namespace) -> Opened:
    """The model, built for --img-size, or for a size at which many pictures do not take hours."""
    if args.img_size is not None:
        return open_model(args, img_size=args.img_size)
    opened = open_model(args)
    if max(opened.model.img_size) <= _USUAL_SIDE:
        return opened
    side = _USUAL_SIDE // max(opened.model.patch_size) * max(opened.model.patch_size)
    print(f"pictures of {side}×{side}: the weights' own size takes longer (--img-size)")
    return open_model(args, img_size=side)
