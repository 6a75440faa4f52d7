"""`vitlib eval`: the accuracy and loss of a checkpoint on a data set."""

import argparse
from pathlib import Path

from vitlib.checkpoints import load_checkpoint
from vitlib.cli.describe import describe_data, describe_model, describe_pixels, describe_result
from vitlib.cli.options import add_data, add_device
from vitlib.data import load_data
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
    p.add_argument("--batch-size", type=int, default=500, help="(default: %(default)s)")
    add_device(p)
    p.add_argument(
        "--report", type=Path, metavar="FILE", help="write an HTML page about its mistakes"
    )


def evaluate_checkpoint(args: argparse.Namespace) -> None:
    """Print a checkpoint's accuracy and loss on the test images of a data set."""
    device = pick_device(args.device)
    if args.report is not None:
        check_output_path(args.report, checkpoint=args.checkpoint)
    model = as_vision_transformer(load_checkpoint(args.checkpoint))
    data = load_data(args.data, img_size=model.img_size)
    if model.classes is not None and model.classes != data.classes:
        raise ValueError(
            f"the model has the classes {first_few(model.classes)}, but {data.name} has "
            f"{first_few(data.classes)}"
        )
    data = match_model(data, model)
    model.to(device)
    result = evaluate(model, data.test, args.batch_size)
    print(describe_result(result))
    if args.report is not None:
        name = args.checkpoint.name
        settings = {"data": describe_data(data), "model": describe_model(name, model)}
        settings |= {"input": describe_pixels(data), "command": args.command_line}
        page = Report(
            title=f"{data.name}: {name}", classes=data.classes, images=data.test, result=result,
            settings=settings,
        )  # fmt: skip
        write_report(args.report, page, model)
        print(f"report {args.report}")
