"""The command line: `vitlib train`, `vitlib eval` and `vitlib attend`.

Results go to stdout, progress and errors to stderr. Exit codes: 0, 2 for an error in what was
asked (one line, no traceback), 130 after Ctrl-C.
"""

import argparse
import math
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TextIO

import torch

import vitlib
from vitlib.attend import DEFAULT_MODEL, METHODS, attend
from vitlib.checkpoints import load_checkpoint, read_checkpoint, refuse_non_file
from vitlib.data import ImageData, load_data
from vitlib.evaluation import Evaluation, evaluate
from vitlib.history import TrainConfig
from vitlib.model import PRESETS, VisionTransformer, create_model, list_models
from vitlib.resume import CannotContinue
from vitlib.train import fit, pick_device

_MOST_TOKENS = 256  # that a patch size chosen here may lead to


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments, sys.argv's by default; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
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


def train(args: argparse.Namespace) -> None:
    """Train a preset on a data set, and say how well it does on the test images."""
    # All that can be wrong without a look at the data, which may take minutes to read.
    if args.model not in (None, *PRESETS):
        create_model(args.model)  # names the nearest model in its refusal
    chosen = {f.name: getattr(args, f.name) for f in fields(TrainConfig) if hasattr(args, f.name)}
    config = TrainConfig(**chosen | {"resume": not args.fresh})
    pick_device(config.device)
    _check_place(args.out or Path("runs") / "checkpoint")

    size = args.img_size
    if size is None and args.model and args.model.endswith("_224"):
        size = 224  # timm's names promise it; the book's own presets take the data's size
    data = load_data(args.data, img_size=size)
    torch.manual_seed(args.seed)  # of the first weights; `fit` seeds itself
    name, model = _model_for(data, args.model, args.patch_size)
    out = args.out or Path("runs") / f"{data.name.replace('/', '-')}-{name}.safetensors"
    if args.resume and not out.exists():
        raise ValueError(f"nothing to resume: there is no {out}")
    config = replace(config, checkpoint=out)

    channels, height, width = data.train.images.shape[1:]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{data.name}: {len(data.train):,} training and {len(data.test):,} test images, "
        f"{height}×{width}, {channels} channel{'s' if channels > 1 else ''}, "
        f"{len(data.classes)} classes"
    )
    print(
        f"{name}: {parameters:,} parameters, patches of {model.patch_size[0]}×"
        f"{model.patch_size[1]}, {math.prod(model.grid_size)} of them"
    )
    if out.exists() and not args.fresh:
        read_checkpoint(out)  # refuses a damaged file, before we say that it is continued
        print(f"continuing {out} (--fresh starts anew)")
    sys.stdout.flush()  # before the progress bar
    try:
        history = fit(model, data, config)
    except KeyboardInterrupt:
        if not out.exists():
            raise
        same = "the same command without --fresh" if args.fresh else "the same command"
        raise KeyboardInterrupt(f"interrupted; {out} keeps the run: {same} goes on") from None
    print(f"trained {len(history.loss):,} steps in {history.seconds:.0f} s")
    if history.val_accuracy:
        print(f"validation accuracy {history.val_accuracy[-1]:.2%}")
    print(_summary(evaluate(model, data.test)))
    print(f"checkpoint {out}")


def evaluate_checkpoint(args: argparse.Namespace) -> None:
    """Print a checkpoint's accuracy and loss on the test images of a data set."""
    device = pick_device(args.device)
    model = load_checkpoint(args.checkpoint)
    assert isinstance(model, VisionTransformer)
    data = load_data(args.data, img_size=model.img_size)
    if model.classes is not None and model.classes != data.classes:
        raise ValueError(
            f"the model knows the classes {_some(model.classes)}, {data.name} has "
            f"{_some(data.classes)}"
        )
    model.to(device)
    print(_summary(evaluate(model, data.test, args.batch_size)))


def _model_for(
    data: ImageData, name: str | None, patch: int | None
) -> tuple[str, VisionTransformer]:
    """The preset asked for, or the one that suits the data, fitted to the data's shape."""
    channels, *side = data.train.images.shape[1:]
    chosen = name or ("vit_nano_patch7_28" if channels == 1 else "vit_micro_patch4_32")
    if patch is None and chosen in PRESETS:
        patch = PRESETS[chosen][0].get("patch_size", 16)
        if any(length % patch for length in side):
            patch = _patch_for(side, patch, refuse=name)
    return chosen, create_model(
        chosen, img_size=tuple(side), patch_size=patch, in_chans=channels,
        num_classes=len(data.classes),
    )  # fmt: skip


def _patch_for(side: list[int], preset: int, refuse: str | None) -> int:
    """The largest patch that divides both sides and leaves at least 4×4 of them."""
    common = math.gcd(*side)
    fitting = [p for p in range(1, common + 1) if common % p == 0 and min(side) // p >= 4]
    size = f"{side[0]}×{side[1]}"
    if refuse:
        raise ValueError(
            f"the images are {size}, which patches of {preset} ({refuse}) do not divide: choose "
            f"--patch-size from {', '.join(map(str, fitting)) or 'none'}, or resize the images "
            f"with --img-size, for instance {max(4, round(side[0] / preset)) * preset}"
        )
    if not fitting or math.prod(side) // fitting[-1] ** 2 > _MOST_TOKENS:
        raise ValueError(
            f"the images are {size}, which no handy patch size divides: resize them with "
            f"--img-size, for instance 32, or choose --patch-size"
        )
    return fitting[-1]


def _check_place(out: Path) -> None:
    """Raise a ValueError where no checkpoint can be written, as far as can be told beforehand."""
    refuse_non_file(out)
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ValueError(f"no checkpoint can be written to {out}: {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"no checkpoint can be written to {out}: {folder} is write-protected")


def _failed(message: str) -> int:
    print(f"vitlib: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _is_out_of_memory(error: Exception) -> bool:
    """On the CPU, torch has no exception of its own for that."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "can't allocate memory" in str(error)
    )


def _summary(result: Evaluation) -> str:
    right = int((result.predictions == result.labels).sum())
    return (
        f"test accuracy {result.accuracy:.2%} ({right:,} of {len(result.labels):,}), "
        f"loss {result.loss:.4f}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else "")


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

    p = commands.add_parser("train", help="train a model", description=train.__doc__)
    p.set_defaults(run=train)
    p.add_argument("--data", required=True, help='"mnist5k", "digits", a folder, or a Hub id')
    p.add_argument(
        "--model",
        help=f"one of {', '.join(list_models())}; by default vit_nano_patch7_28 for grey images "
        "and vit_micro_patch4_32 for colour, with patches that suit the size of the images",
    )
    p.add_argument("--img-size", type=int, metavar="PIXELS", help="resize the images to this side")
    p.add_argument("--patch-size", type=int, metavar="PIXELS", help="side of a patch")
    p.add_argument(
        "--out", type=Path, metavar="FILE",
        help="the checkpoint (default: runs/DATA-MODEL.safetensors)",
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
        p.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), default=argparse.SUPPRESS,
            help=f"{text} (default: {value})",
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

    p = commands.add_parser(
        "attend", help="draw maps of where a model looked", description=attend.__doc__
    )
    p.set_defaults(run=attend)
    p.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")
    source = p.add_mutually_exclusive_group()
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="a model that was trained")
    source.add_argument(
        "--model", metavar="NAME", help="a model whose weights come with vitlib (default: "
        f"{DEFAULT_MODEL}, which reads digits, white on black)",
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
    return parser


if __name__ == "__main__":
    sys.exit(main())
