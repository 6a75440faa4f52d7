"""`vitlib train`: train a model from scratch, or fine-tune given weights (finetune.py)."""

import argparse
import math
import sys
from dataclasses import fields, replace
from pathlib import Path

import torch
from tqdm import tqdm

from vitlib.checkpoints import LoadReport
from vitlib.cli import finetune
from vitlib.cli.describe import (
    describe_data,
    describe_freezing,
    describe_model,
    describe_pixels,
    describe_result,
    describe_run,
)
from vitlib.cli.options import add_data, add_stream, open_checkpoint, warn_of_statistics
from vitlib.create import create_model, list_models
from vitlib.data import ImageData, load_data
from vitlib.files import check_output_path
from vitlib.matching import match_model
from vitlib.model import VisionTransformer
from vitlib.presets import PRESETS
from vitlib.report import Report, write_report
from vitlib.train import (
    Profile,
    TrainConfig,
    TrainState,
    evaluate,
    fit,
    is_first_process,
    pick_device,
)

_MAX_TOKENS = 256  # patches per image that a patch size chosen here may lead to


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `vitlib train` and its options."""
    defaults = TrainConfig()
    p = commands.add_parser(
        "train", help="train a model, or fine-tune weights", description=train.__doc__
    )
    p.set_defaults(run=train)
    add_data(p)
    add_stream(p)
    p.add_argument(
        "--model",
        help=f"one of {', '.join(list_models())}; by default, with --weights, the model of these, "
        "else vit_nano_patch7_28 for grey images and vit_micro_patch4_32 for colour, with patches "
        "that suit the size of the images",
    )
    p.add_argument(
        "--weights", metavar="FROM", help="fine-tune: start from the weights in a file or folder "
        "(safetensors, .bin, .pth, .npz, a checkpoint of vitlib), or from the Hub, owner/name",
    )  # fmt: skip
    p.add_argument(
        "--freeze", type=_parse_freeze, default="none", metavar="PART", help="what part of "
        "--weights stays as it is: none; backbone, all but the head; or a number N, the patch "
        "embedding, tokens, positions and the first N blocks (default: none)",
    )  # fmt: skip
    p.add_argument(
        "--img-size", type=int, metavar="PIXELS", help="resize the images to this side; with "
        "--weights, the positions are resampled to it (default: that of the weights)",
    )  # fmt: skip
    p.add_argument("--patch-size", type=int, metavar="PIXELS", help="side of a patch")
    p.add_argument(
        "--num-heads", type=int, metavar="NUMBER", help="attention heads of --weights, which most "
        "files do not tell (default: as published ViTs of this width have)",
    )  # fmt: skip
    p.add_argument(
        "--out", type=Path, metavar="FILE",
        help="the checkpoint (default: runs/DATA-MODEL.safetensors)",
    )  # fmt: skip
    p.add_argument(
        "--report", type=Path, metavar="FILE", help="an HTML page about the run and its mistakes "
        "(default: none; with --weights, next to the checkpoint)",
    )  # fmt: skip
    start = p.add_mutually_exclusive_group()
    start.add_argument(
        "--fresh", action="store_true", help="start anew even if --out holds a run; without this, "
        "an existing run is continued",
    )  # fmt: skip
    start.add_argument(
        "--resume", action="store_true", help="refuse to start if --out holds no run"
    )
    p.add_argument("--seed", type=int, default=defaults.seed, help="(default: %(default)s)")
    for name, text in {
        "steps": "optimiser steps",
        "batch_size": "images per step, of all processes together",
        "accumulate": "parts in which a batch is computed, to save memory",
        "lr": "highest learning rate",
        "min_lr": "learning rate at the end",
        "warmup_steps": "steps up to the highest learning rate",
        "weight_decay": "AdamW's weight decay",
        "label_smoothing": "share of the target spread over all classes",
        "augment": "none, affine, handwriting, flip_crop or randaugment",
        "mixup": "alpha of mixup, 0 for off",
        "cutmix": "alpha of cutmix, 0 for off",
        "val_fraction": "share of the training images kept back for validation",
        "eval_every": "steps between validations",
        "checkpoint_every": "steps between checkpoints",
        "amp": "auto, bf16 or off",
        "device": "auto or a device that torch knows",
    }.items():
        value = getattr(defaults, name)
        tuned = f"; with --weights {finetune.SETTINGS[name]}" if name in finetune.SETTINGS else ""
        tuned += f", or {finetune.HEAD_LR} if the backbone is frozen" if name == "lr" else ""
        p.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), default=argparse.SUPPRESS,
            help=f"{text} (default: {value}{tuned})",
        )  # fmt: skip
    p.add_argument(
        "--compile", action="store_true", default=argparse.SUPPRESS,
        help="run the steps through torch.compile",
    )  # fmt: skip
    p.add_argument(
        "--profile", nargs="?", const="", metavar="TRACE", help="say at the end where the time "
        "went, and how many images and tokens each second; with a file name, also write a Chrome "
        "trace of a few steps there",
    )  # fmt: skip
    p.add_argument(
        "--quiet", dest="progress", action="store_false", default=argparse.SUPPRESS,
        help="no progress bar",
    )  # fmt: skip


def _parse_freeze(text: str) -> str:
    if text not in ("none", "backbone") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"none, backbone or a number of blocks, not {text!r}")
    return text


def train(args: argparse.Namespace) -> None:
    """Train a model on a data set, from scratch or from given weights (--weights, fine-tuning),
    and say how well it does on the test images. With --stream, the pictures need not fit into
    memory. Several processes train together when torchrun
    starts them: torchrun --nproc-per-node 2 -m vitlib train ...
    """
    first = is_first_process()  # it alone prints, and writes files
    config, start = _check_request(args)
    # data and model
    size = args.img_size
    if size is None and start is not None:
        size = finetune.choose_img_size(start, args.model)
    elif size is None and args.model:
        size = PRESETS[args.model].native_size
    data = load_data(args.data, img_size=size, stream=args.stream)
    torch.manual_seed(args.seed)  # of the first weights; `fit` seeds itself
    settings: dict[str, str] = {}
    if start is None:
        name, model = _build_for_data(data, args.model, args.patch_size)
    else:
        name = args.model or start.name
        model, loading = _build_from_weights(start, data, config, args)
        del start  # frees memory: its tensors are in the model now
        data = match_model(data, model)
        if not hasattr(args, "batch_size"):
            batch_size = finetune.choose_batch_size(data, config.val_fraction)
            config = replace(config, batch_size=batch_size)
        settings = {
            "weights": str(loading),
            "input": describe_pixels(data),
            "trained": describe_freezing(model, args.freeze),
        }
    # files to write
    out = args.out or Path("runs") / f"{data.name.replace('/', '-')}-{name}.safetensors"
    if args.resume and not out.exists():
        raise ValueError(f"nothing to resume: there is no {out}")
    report = args.report or (None if args.weights is None else out.with_suffix(".html"))
    check_output_path(out, weights=args.weights)
    if report is not None:
        check_output_path(report, weights=args.weights, checkpoint=out)
    config = replace(config, checkpoint=out)
    profile = None
    if args.profile is not None:
        profile = Profile(args.profile or None)
        if profile.trace is not None:
            check_output_path(profile.trace, weights=args.weights, checkpoint=out, report=report)

    # train
    settings = {"data": describe_data(data), "model": describe_model(name, model)} | settings
    if first:
        print(data.summary(warned=False), *list(settings.values())[1:], sep="\n")
    continuing = [_Continuing(out)] if out.exists() and not args.fresh else []
    if continuing:  # refuses a damaged file before anything is computed
        open_checkpoint(out, "it would be overwritten. --fresh does so, or choose another --out")
    sys.stdout.flush()  # before the progress bar
    try:
        history = fit(model, data, config, callbacks=continuing, profile=profile)
    except (KeyboardInterrupt, SystemExit) as stop:
        if out.exists() and first:
            same = "the same command without --fresh" if args.fresh else "the same command"
            stop.add_note(f"{out} holds the run: {same} continues it")
        raise
    if not first:
        return
    if any(not told.is_said for told in continuing):
        print(f"{out} holds this run, and it is finished (--fresh starts anew)")
    print(f"trained {len(history.loss):,} steps in {history.seconds:.0f} s")
    if profile is not None:
        print(profile.summary())
    if history.val_accuracy:
        print(f"validation accuracy {history.val_accuracy[-1]:.2%}")
    # test
    result = evaluate(model, data.test)
    print(describe_result(result))
    print(f"checkpoint {out}")
    if report is not None:
        sys.stdout.flush()
        settings |= describe_run(history) | {"command": args.command_line}
        page = Report(
            title=f"{data.name}: {name}", classes=data.classes, images=data.test.readable(),
            result=result, settings=settings, history=history,
        )  # fmt: skip
        write_report(report, page, model, config.progress)
        print(f"report {report}")


class _Continuing:
    """Says after its first step that a run is continued: only then it is sure not to be refused."""

    def __init__(self, out: Path):
        self.out, self.is_said = out, False

    def __call__(self, state: TrainState) -> None:
        if not self.is_said:
            tqdm.write(f"continuing {self.out} after step {state.step - 1:,} (--fresh starts anew)")
        self.is_said = True


def _check_request(args: argparse.Namespace) -> tuple[TrainConfig, finetune.StartingWeights | None]:
    """The run's settings and starting weights, if any.

    Everything that can be checked before the data are read is checked here, because reading them
    may take minutes.
    """
    if args.model not in (None, *PRESETS):
        create_model(args.model)  # raises an error that names the nearest model
    if args.weights is None and args.freeze != "none":
        raise ValueError("--freeze needs --weights: without them, there is nothing to keep")
    if args.weights is None and args.num_heads is not None:
        raise ValueError("--num-heads needs --weights: without them, --model tells the heads")
    chosen = {f.name: getattr(args, f.name) for f in fields(TrainConfig) if hasattr(args, f.name)}
    usual = {} if args.weights is None else finetune.settings_for(args.freeze)
    config = TrainConfig(**usual | chosen | {"resume": not args.fresh})
    pick_device(config.device)
    for place in (args.out or Path("runs/unnamed.safetensors"), args.report):
        if place is not None:
            check_output_path(place, weights=args.weights)
    return config, None if args.weights is None else finetune.read_starting_weights(args.weights)


def _build_from_weights(
    start: finetune.StartingWeights, data: ImageData, config: TrainConfig, args: argparse.Namespace
) -> tuple[VisionTransformer, LoadReport]:
    """The model to be fine-tuned, partly frozen, and the report on loading its weights."""
    finetune.check_classes(data, config.val_fraction)
    chosen = {"patch_size": args.patch_size, "num_heads": args.num_heads}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    resize = args.img_size is not None or args.patch_size is not None
    model, loading = finetune.build(start, data, args.model, resize, **chosen)
    finetune.freeze(model, args.freeze)
    if model.mean is None:
        warn_of_statistics(start.place, data.name)
    # resume.py compares this, so that the checkpoint of another run is not continued.
    vars(model)["started_from"] = {
        "weights": f"{start.name}, {start.digest}", "freeze": args.freeze,
    }  # fmt: skip
    return model, loading


def _build_for_data(
    data: ImageData, name: str | None, patch: int | None
) -> tuple[str, VisionTransformer]:
    """The preset asked for, or the one that suits the data, built for the data's shape."""
    channels, *side = data.train.shape[1:]
    chosen = name or ("vit_nano_patch7_28" if channels == 1 else "vit_micro_patch4_32")
    if patch is None and chosen in PRESETS:
        patch = PRESETS[chosen].arguments.get("patch_size", 16)
        if any(length % patch for length in side):
            patch = _choose_patch_size(side, patch, preset=name)
    return chosen, create_model(
        chosen, img_size=tuple(side), patch_size=patch, in_chans=channels,
        num_classes=len(data.classes),
    )  # fmt: skip


def _choose_patch_size(side: list[int], usual: int, preset: str | None) -> int:
    """The largest patch size that divides both sides and leaves at least 4×4 patches.

    Raises ValueError if there is none, or if a `preset` was asked for, whose `usual` patch size
    does not divide the images.
    """
    common = math.gcd(*side)
    fitting = [p for p in range(1, common + 1) if common % p == 0 and min(side) // p >= 4]
    size = f"{side[0]}×{side[1]}"
    if preset:
        raise ValueError(
            f"the images are {size}, which patches of {usual} ({preset}) do not divide: choose "
            f"--patch-size from {', '.join(map(str, fitting)) or 'none'}, or resize the images "
            f"with --img-size, for instance {max(4, round(side[0] / usual)) * usual}"
        )
    if not fitting or math.prod(side) // fitting[-1] ** 2 > _MAX_TOKENS:
        raise ValueError(
            f"the images are {size}, which no handy patch size divides: resize them with "
            f"--img-size, for instance 32, or choose --patch-size"
        )
    return fitting[-1]
