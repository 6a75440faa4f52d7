"""`vitlib export`: a model as an ONNX file."""

import argparse
import warnings
from pathlib import Path

from vitlib.cli.options import add_model, open_model
from vitlib.export import export_onnx
from vitlib.files import check_output_path


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `vitlib export` and its options."""
    p = commands.add_parser("export", help="write a model as ONNX", description=export.__doc__)
    p.set_defaults(run=export)
    add_model(p)
    p.add_argument("--format", choices=["onnx"], default="onnx", help="(default: %(default)s)")
    p.add_argument("--out", required=True, type=Path, metavar="FILE", help="the file to write")


def export(args: argparse.Namespace) -> None:
    """Write a model as an ONNX file, and check its answers with onnxruntime."""
    check_output_path(args.out, checkpoint=args.checkpoint, weights=args.weights)
    model = open_model(args).model
    difference = export_onnx(model, args.out)
    height, width = model.img_size
    output = f"logits (batch, {model.num_classes})"
    if not model.num_classes:
        output = f"features (batch, {model.num_features})"
    print(
        f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, images (batch, {model.in_chans}, "
        f"{height}, {width}) to {output}"
    )
    if model.mean is None or model.std is None:
        warnings.warn(
            "the model does not say how its images must be normalised: --mean and --std tell it",
            stacklevel=1,
        )
    print(f"onnxruntime and torch differ by at most {difference:.1e}")
