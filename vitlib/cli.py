"""The command line: `vitlib train`, `vitlib eval`, `vitlib attend` and `vitlib export`.

Results go to stdout, progress and errors to stderr. Exit codes: 0, 2 for an error in what was
asked (one line, no traceback), 130 after Ctrl-C. What the commands do stands in commands.py.
"""

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import torch

import vitlib
from vitlib.attend import DEFAULT_MODEL, METHODS, attend
from vitlib.commands import evaluate_checkpoint, export, train
from vitlib.finetune import HEAD_LR, SETTINGS
from vitlib.history import TrainConfig
from vitlib.model import list_models
from vitlib.resume import CannotContinue


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments, sys.argv's by default; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    args.command_line = shlex.join(["vitlib", *(sys.argv[1:] if argv is None else argv)])
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            args.run(args)
        except CannotContinue as error:
            return _failed(f"{error.reason}. --fresh starts over, or choose another --out")
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            return _failed(str(error))
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            return _failed("not enough memory: try a smaller --batch-size or --img-size")
        except KeyboardInterrupt as interrupt:
            print(f"vitlib: {str(interrupt) or 'interrupted'}", file=sys.stderr)
            return 130
    return 0


def _failed(message: str) -> int:
    print(f"vitlib: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _is_out_of_memory(error: Exception) -> bool:
    """On the CPU, torch has no exception of its own for that."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "can't allocate memory" in str(error)
    )


def _freeze(text: str) -> str:
    if text not in ("none", "backbone") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"none, backbone or a number of blocks, not {text!r}")
    return text


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"vitlib: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vitlib", description="Train, evaluate and look into Vision Transformers."
    )
    parser.add_argument("--version", action="version", version=f"vitlib {vitlib.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    defaults = TrainConfig()

    p = commands.add_parser(
        "train", help="train a model, or fine-tune weights", description=train.__doc__
    )
    p.set_defaults(run=train)
    p.add_argument("--data", required=True, help='"mnist5k", "digits", a folder, or a Hub id')
    p.add_argument(
        "--model",
        help=f"one of {', '.join(list_models())}; by default, with --weights, what these need, "
        "else vit_nano_patch7_28 for grey images and vit_micro_patch4_32 for colour, with patches "
        "that suit the size of the images",
    )
    p.add_argument(
        "--weights", metavar="FROM", help="fine-tune: start from the weights in a file or folder "
        "(safetensors, .bin, .pth, .npz, a checkpoint of vitlib), or from the Hub, owner/name",
    )  # fmt: skip
    p.add_argument(
        "--freeze", type=_freeze, default="none", metavar="PART", help="of --weights, what stays "
        "as it is: none; backbone, all but the head; or a number N, the patch embedding, tokens, "
        "positions and the first N blocks (default: none)",
    )  # fmt: skip
    p.add_argument(
        "--img-size", type=int, metavar="PIXELS", help="resize the images to this side; with "
        "--weights, the positions are resampled to it (default: that of the weights)",
    )  # fmt: skip
    p.add_argument("--patch-size", type=int, metavar="PIXELS", help="side of a patch")
    p.add_argument(
        "--out", type=Path, metavar="FILE",
        help="the checkpoint (default: runs/DATA-MODEL.safetensors)",
    )  # fmt: skip
    p.add_argument(
        "--report", type=Path, metavar="FILE", help="an HTML page about the run and its mistakes "
        "(default: none; with --weights, beside the checkpoint)",
    )  # fmt: skip
    start = p.add_mutually_exclusive_group()
    start.add_argument(
        "--fresh", action="store_true", help="start afresh even if --out holds a run; without "
        "this, an existing run is continued",
    )  # fmt: skip
    start.add_argument(
        "--resume", action="store_true", help="refuse to start where --out holds no run"
    )
    p.add_argument("--seed", type=int, default=defaults.seed, help="(default: %(default)s)")
    for name, text in {
        "steps": "optimiser steps",
        "batch_size": "images a step",
        "lr": "highest learning rate",
        "min_lr": "learning rate at the end",
        "warmup_steps": "steps up to the highest learning rate",
        "weight_decay": "AdamW's weight decay",
        "label_smoothing": "share of the target spread over all classes",
        "augment": "none, affine, flip_crop or randaugment",
        "mixup": "alpha of mixup, 0 for off",
        "cutmix": "alpha of cutmix, 0 for off",
        "val_fraction": "share of the training images kept back for validation",
        "eval_every": "steps between validations",
        "checkpoint_every": "steps between checkpoints",
        "amp": "auto, bf16 or off",
        "device": "auto or a device that torch knows",
    }.items():
        value = getattr(defaults, name)
        fine = f"; with --weights {SETTINGS[name]}" if name in SETTINGS else ""
        fine += f", or {HEAD_LR} if the backbone is frozen" if name == "lr" else ""
        p.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), default=argparse.SUPPRESS,
            help=f"{text} (default: {value}{fine})",
        )  # fmt: skip
    p.add_argument(
        "--quiet", dest="progress", action="store_false", default=argparse.SUPPRESS,
        help="no progress bar",
    )  # fmt: skip

    p = commands.add_parser(
        "eval", help="evaluate a checkpoint", description=evaluate_checkpoint.__doc__
    )
    p.set_defaults(run=evaluate_checkpoint)
    p.add_argument("--checkpoint", required=True, type=Path, metavar="FILE")
    p.add_argument("--data", required=True, help='"mnist5k", "digits", a folder, or a Hub id')
    p.add_argument("--batch-size", type=int, default=500, help="(default: %(default)s)")
    p.add_argument("--device", default="auto", help="auto or a device that torch knows")
    p.add_argument(
        "--report", type=Path, metavar="FILE", help="write an HTML page about its mistakes"
    )

    p = commands.add_parser(
        "attend", help="draw maps of where a model looked", description=attend.__doc__
    )
    p.set_defaults(run=attend)
    p.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")
    source = p.add_mutually_exclusive_group()
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="a model that was trained")
    source.add_argument(
        "--model", metavar="NAME", help="a model whose weights come with vitlib or from the Hub "
        f"(default: {DEFAULT_MODEL}, which reads digits, white on black)",
    )  # fmt: skip
    p.add_argument(
        "--method", choices=METHODS, default="attention",
        help="the map: attention weights; their rollout; gradient rollout; or occlusion, which "
        "covers each patch in turn and measures what that costs (default: %(default)s)",
    )  # fmt: skip
    p.add_argument(
        "--layer", type=int, metavar="N", help="of attention: the block, counted from 0, or from "
        "-1 backwards (default: the last)",
    )  # fmt: skip
    p.add_argument(
        "--head", type=int, metavar="N", help="of attention: the head, counted likewise (default: "
        "the mean of all)",
    )  # fmt: skip
    p.add_argument(
        "--target", metavar="CLASS", help="of gradient and occlusion: the class asked about, by "
        "name or number (default: the predicted one)",
    )  # fmt: skip
    p.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER",
        help="where IMAGE-METHOD.png goes (default: the current folder)",
    )  # fmt: skip

    p = commands.add_parser("export", help="write a model as ONNX", description=export.__doc__)
    p.set_defaults(run=export)
    source = p.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="a model that was trained")
    source.add_argument(
        "--model", metavar="NAME", help="a model whose weights come with vitlib or from the Hub"
    )
    p.add_argument("--format", choices=["onnx"], default="onnx", help="(default: %(default)s)")
    p.add_argument("--out", required=True, type=Path, metavar="FILE", help="the file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
