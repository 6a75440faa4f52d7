"""What the commands do: train or fine-tune, evaluate, export. (`vitlib attend`: attend.py.)"""

import argparse
import math
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch

from vitlib import finetune
from vitlib.checkpoints import LoadReport, load_checkpoint, read_checkpoint
from vitlib.data import ImageData, load_data
from vitlib.evaluation import Evaluation, evaluate
from vitlib.export import export_onnx
from vitlib.history import History, TrainConfig
from vitlib.model import PRESETS, VisionTransformer, create_model
from vitlib.report import Report, write_report
from vitlib.train import fit, pick_device
from vitlib.whole_file import refuse_non_file

_MOST_TOKENS = 256  # that a patch size chosen here may lead to


def train(args: argparse.Namespace) -> None:
    """Train a model on a data set, from the start or from given weights (--weights, fine-tuning),
    and say how well it does on the test images.
    """
    config, start = _check_request(args)
    size = args.img_size
    if size is None and start is not None:
        size = finetune.choose_size(start, args.model)
    elif size is None and args.model and args.model.endswith("_224"):
        size = 224  # timm's names promise it; the book's own presets take the data's size
    data = load_data(args.data, img_size=size)
    torch.manual_seed(args.seed)  # of the first weights; `fit` seeds itself
    told: dict[str, str] = {}
    if start is None:
        name, model = _model_for(data, args.model, args.patch_size)
    else:
        name = args.model or start.name
        model, loading = _start_from(start, data, config, args)
        del start  # its tensors are in the model now, and training takes long
        data = finetune.suit(data, model)
        if not hasattr(args, "batch_size"):
            config = replace(config, batch_size=finetune.fitting_batch(data, config.val_fraction))
        told = {
            "weights": str(loading),
            "input": _told_pixels(data),
            "trained": _told_frozen(model, args.freeze),
        }
    out = args.out or Path("runs") / f"{data.name.replace('/', '-')}-{name}.safetensors"
    if args.resume and not out.exists():
        raise ValueError(f"nothing to resume: there is no {out}")
    report = args.report or (None if args.weights is None else out.with_suffix(".html"))
    _check_place(out, weights=args.weights)
    if report is not None:
        _check_place(report, weights=args.weights, checkpoint=out)
    config = replace(config, checkpoint=out)

    told = {"data": _told_data(data), "model": _told_model(name, model)} | told
    print("\n".join(told.values()))
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
    result = evaluate(model, data.test)
    print(_summary(result))
    print(f"checkpoint {out}")
    if report is not None:
        sys.stdout.flush()
        told |= _told_run(history) | {"command": args.command_line}
        page = Report(f"{data.name}: {name}", data.classes, data.test, result, told, history)
        write_report(report, page, model, config.progress)
        print(f"report {report}")


def evaluate_checkpoint(args: argparse.Namespace) -> None:
    """Print a checkpoint's accuracy and loss on the test images of a data set."""
    device = pick_device(args.device)
    if args.report is not None:
        _check_place(args.report, checkpoint=args.checkpoint)
    model = load_checkpoint(args.checkpoint)
    assert isinstance(model, VisionTransformer)
    data = load_data(args.data, img_size=model.img_size)
    if model.classes is not None and model.classes != data.classes:
        raise ValueError(
            f"the model knows the classes {_some(model.classes)}, {data.name} has "
            f"{_some(data.classes)}"
        )
    data = finetune.suit(data, model)
    model.to(device)
    result = evaluate(model, data.test, args.batch_size)
    print(_summary(result))
    if args.report is not None:
        name = args.checkpoint.name
        told = {"data": _told_data(data), "model": _told_model(name, model)}
        told |= {"input": _told_pixels(data), "command": args.command_line}
        page = Report(f"{data.name}: {name}", data.classes, data.test, result, told)
        write_report(args.report, page, model)
        print(f"report {args.report}")


def export(args: argparse.Namespace) -> None:
    """Write a model as an ONNX file, and check its answers with onnxruntime."""
    _check_place(args.out, checkpoint=args.checkpoint)
    if args.checkpoint is not None:
        model = load_checkpoint(args.checkpoint)
    else:
        model = create_model(args.model, pretrained=True)
    assert isinstance(model, VisionTransformer)
    difference = export_onnx(model, args.out)
    height, width = model.img_size
    output = f"logits (batch, {model.num_classes})"
    if not model.num_classes:
        output = f"features (batch, {model.num_features})"
    print(
        f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, images (batch, {model.in_chans}, "
        f"{height}, {width}) to {output}"
    )
    if model.mean is None:
        warnings.warn("the model does not say how its images are to be normalised", stacklevel=1)
    print(f"onnxruntime and torch differ by at most {difference:.1e}")


def _check_request(args: argparse.Namespace) -> tuple[TrainConfig, finetune.Start | None]:
    """All that can be wrong without a look at the data, which may take minutes to read."""
    if args.model not in (None, *PRESETS):
        create_model(args.model)  # names the nearest model in its refusal
    if args.weights is None and args.freeze != "none":
        raise ValueError("--freeze goes with --weights: without them, there is nothing to keep")
    chosen = {f.name: getattr(args, f.name) for f in fields(TrainConfig) if hasattr(args, f.name)}
    usual = {} if args.weights is None else finetune.settings_for(args.freeze)
    config = TrainConfig(**usual | chosen | {"resume": not args.fresh})
    pick_device(config.device)
    for place in (args.out or Path("runs/unnamed.safetensors"), args.report):
        if place is not None:
            _check_place(place, weights=args.weights)
    return config, None if args.weights is None else finetune.read_start(args.weights)


def _start_from(
    start: finetune.Start, data: ImageData, config: TrainConfig, args: argparse.Namespace
) -> tuple[VisionTransformer, LoadReport]:
    """The model that is to be fine-tuned, partly frozen, and how its weights were loaded."""
    finetune.check_classes(data, config.val_fraction)
    patch = {} if args.patch_size is None else {"patch_size": args.patch_size}
    resize = args.img_size is not None or args.patch_size is not None
    model, loading = finetune.build(start, data, args.model, resize, **patch)
    finetune.freeze(model, args.freeze)
    if model.mean is None:
        warnings.warn(
            f"{start.place} does not say by which mean and std its pixels were normalised: those "
            f"of {data.name} are taken, with which the weights may do worse",
            stacklevel=1,
        )
    # What resume.py compares: another run's checkpoint is not continued.
    facts = {"weights": f"{start.name}, {start.digest}", "freeze": args.freeze}
    vars(model)["started_from"] = facts
    return model, loading


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


def _check_place(out: Path, **others: Path | str | None) -> None:
    """Raise a ValueError where no file can be written, as far as can be told beforehand, and where
    `out` is one of the command's other files.
    """
    refuse_non_file(out)
    for what, other in others.items():
        if other is not None and out.resolve() == Path(other).resolve():
            raise ValueError(f"{out} is the name of the {what} already: choose another")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ValueError(f"{out} cannot be written: {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{out} cannot be written: {folder} is write-protected")


def _told_data(data: ImageData) -> str:
    channels, height, width = data.train.images.shape[1:]
    return (
        f"{data.name}: {len(data.train):,} training and {len(data.test):,} test images, "
        f"{height}×{width}, {channels} channel{'s' if channels > 1 else ''}, "
        f"{len(data.classes)} classes"
    )


def _told_model(name: str, model: VisionTransformer) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{name}: {parameters:,} parameters, patches of {model.patch_size[0]}×"
        f"{model.patch_size[1]}, {math.prod(model.grid_size)} of them"
    )


def _told_pixels(data: ImageData) -> str:
    mean, std = (" ".join(f"{x:.4g}" for x in values) for values in (data.mean, data.std))
    return f"pixels normalised by mean {mean} and std {std}"


def _told_frozen(model: VisionTransformer, how: str) -> str:
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    trained, total = sum(n for n, t in counts if t), sum(n for n, _ in counts)
    return f"{trained:,} of {total:,} parameters are trained (--freeze {how})"


def _told_run(history: History) -> dict[str, str]:
    """The settings that decide a run, and how long it took, for the report."""
    config = history.config
    names = (
        "batch_size", "lr", "warmup_steps", "weight_decay", "label_smoothing", "ema_decay",
        "augment", "mixup", "cutmix", "val_fraction", "seed",
    )  # fmt: skip
    settings = ((name, getattr(config, name)) for name in names)
    return {
        "run": f"{len(history.loss):,} steps in {history.seconds:.0f} s, "
        f"{history.images_per_second:.0f} images a second",
        "settings": ", ".join(f"{name} {value}" for name, value in settings),
    }


def _summary(result: Evaluation) -> str:
    right = int((result.predictions == result.labels).sum())
    return (
        f"test accuracy {result.accuracy:.2%} ({right:,} of {len(result.labels):,}), "
        f"loss {result.loss:.4f}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else "")
