"""Checkpoints: one safetensors file, with everything that is not a tensor as JSON in its metadata.

The weights bear the model's own names, so that any safetensors reader finds them; what a training
run needs beside them stands under "training/". A file is written beside its final name, flushed to
the disk and renamed: whatever happens on the way, the former file stays whole. Nothing is pickled.
"""

import contextlib
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vitlib.model import VisionTransformer

FORMAT = 1  # goes up when an older vitlib could not read what is written
_METADATA, _TRAINING = "vitlib", "training/"
_REQUIRED = ("format", "model", "mean", "std", "classes")  # in the metadata
_HEADS = ("head", "head_dist")
FilePath = str | os.PathLike[str]


@dataclass
class TrainingState:
    """What a run needs to go on, beside the weights: tensors, and plain JSON values."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """The content of a checkpoint file."""

    path: Path
    weights: dict[str, Tensor]
    info: dict[str, Any]
    training: TrainingState | None


def save_checkpoint(
    model: nn.Module,
    path: FilePath,
    *,
    classes: Sequence[str] | None = None,
    training: TrainingState | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write the model's weights and settings to `path`, and return it.

    With them go `mean` and `std`, the class names (`classes`, else the model's own) and `notes`,
    any JSON values. Missing folders are made. A tensor that two names share is written under both.

    Where `path` is a link, the file that it points to is written.

    Raises ValueError for notes that JSON cannot hold and where `path` is a folder, device or pipe,
    and OSError when the file cannot be written, a full disk included; a former file at `path` is
    then untouched and nothing is left behind.
    """
    path, model = Path(path), unwrapped(model)
    own_classes = getattr(model, "classes", None)
    info = {
        "format": FORMAT,
        "model": {"class": type(model).__name__, "config": describe(model)},
        "mean": getattr(model, "mean", None),
        "std": getattr(model, "std", None),
        "classes": own_classes if classes is None else list(classes),
        "notes": dict(notes or {}),
    }
    tensors = dict(model.state_dict())
    if training is not None:
        info["training"] = training.info
        tensors |= {_TRAINING + name: tensor for name, tensor in training.tensors.items()}
    try:
        metadata = json.dumps(info, default=_plain_number)
    except TypeError as error:
        raise ValueError(f"what goes with the weights must be JSON values: {error}") from error
    _write(path, tensors, metadata)
    return path


def load_checkpoint(path: FilePath, model: nn.Module | None = None) -> nn.Module:
    """The model that `path` holds, in eval mode, on the CPU.

    Built from the stored settings, in the stored precision; or, with `model`, loaded into that one,
    which keeps its device and precision. `mean`, `std` and `classes` come with the weights.

    Raises FileNotFoundError for a missing file (naming similar ones), and ValueError for a file
    that is damaged, is no checkpoint, comes from a newer vitlib, holds a model with custom layers
    (which then has to be passed), or does not fit `model`, which is then untouched.
    """
    checkpoint = read_checkpoint(path)
    if model is None:
        model = _build(checkpoint)
    load_weights(unwrapped(model), checkpoint)
    adopt_statistics(unwrapped(model), checkpoint)
    return model.eval()


def load_packaged(name: str, model: nn.Module) -> None:
    """Load the weights that come with vitlib for the preset `name` into `model`, in eval mode then.

    Where the number of classes differs, the head stays as it was initialised.
    Raises ValueError where no weights come along, or where they do not fit otherwise.
    """
    weights = files("vitlib") / "weights"
    packaged = weights / f"{name}.safetensors"
    if not packaged.is_file():
        known = sorted(p.name.removesuffix(".safetensors") for p in _safetensors_in(weights))
        raise ValueError(
            f"no weights for {name!r} come with vitlib; there are some for: "
            f"{', '.join(known) or 'no model'}"
        )
    with as_file(packaged) as path:
        checkpoint = read_checkpoint(path)
    own, stored = model.state_dict(), checkpoint.weights
    mine, theirs = (
        {key: tensor for key, tensor in tensors.items() if key.split(".")[0] in _HEADS}
        for tensors in (own, stored)
    )
    if not mine or any(mine[key].shape != theirs[key].shape for key in mine.keys() & theirs.keys()):
        checkpoint.weights = {k: v for k, v in stored.items() if k not in theirs} | mine
        checkpoint.info["classes"] = None
    load_weights(model, checkpoint)
    adopt_statistics(model, checkpoint)
    model.eval()


def read_checkpoint(path: FilePath) -> Checkpoint:
    """Everything in the file; raises as `load_checkpoint` does."""
    path = Path(path)
    refuse_non_file(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint {path}{_nearest(path)}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        with open(path, "rb") as file:
            start = file.read(2)
        size = path.stat().st_size
        reason = f"is damaged or cut off ({size:,} bytes: {error})"
        if start in (b"PK", b"\x80\x02"):
            reason = "is a PyTorch pickle, not a safetensors file: vitlib never unpickles"
        raise ValueError(f"checkpoint {path} {reason}") from error
    if _METADATA not in metadata:
        raise ValueError(f"{path} holds tensors, but was not written by vitlib's save_checkpoint")
    info = _parse(path, metadata[_METADATA])
    if info["format"] > FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {info['format']}, this vitlib reads up to {FORMAT}: "
            f"upgrade vitlib"
        )
    training = None
    if "training" in info:
        own = {k.removeprefix(_TRAINING): v for k, v in tensors.items() if k.startswith(_TRAINING)}
        training = TrainingState(own, info.pop("training"))
    weights = {k: v for k, v in tensors.items() if not k.startswith(_TRAINING)}
    return Checkpoint(path, weights, info, training)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where `torch.compile` has wrapped it: that prefixes every name."""
    inner: nn.Module = getattr(model, "_orig_mod", model)
    return inner


def refuse_non_file(path: Path) -> None:
    """Raise a ValueError where something other than a file bears the name: a rename replaces it."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise ValueError(f"{path} is {kind}; give the name of a file for the checkpoint")


def describe(model: nn.Module) -> dict[str, Any] | None:
    """The arguments that build the model as JSON values; a custom layer as {"custom": its name}."""
    config = getattr(model, "config", None)
    if config is None:
        return None
    return {
        name: {"custom": getattr(value, "__qualname__", repr(value))} if callable(value) else value
        for name, value in config.items()
    }


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the weights into `model`, or raise a ValueError that names what does not fit."""
    own, stored = model.state_dict(), checkpoint.weights
    problems = [
        f"{key} is {_shape(stored[key])} in the checkpoint, {_shape(own[key])} in the model"
        for key in own
        if key in stored and stored[key].shape != own[key].shape
    ]
    problems += [f"{key} is missing in the checkpoint" for key in own if key not in stored]
    problems += [f"{key} is not in the model" for key in stored if key not in own]
    if problems:
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(
            f"checkpoint {checkpoint.path} does not fit the model: {'; '.join(problems[:4])}{more}"
        )
    model.load_state_dict(stored)


def adopt_statistics(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Give `model` the stored mean, std and classes."""
    for name in ("mean", "std", "classes"):
        value = checkpoint.info[name]
        vars(model)[name] = None if value is None else tuple(value)


def _build(checkpoint: Checkpoint) -> nn.Module:
    path, stored = checkpoint.path, checkpoint.info["model"]
    config = stored["config"]
    if stored["class"] != VisionTransformer.__name__ or config is None:
        raise ValueError(
            f"checkpoint {path} holds a {stored['class']}: build it and pass it, "
            f"load_checkpoint(path, model=...)"
        )
    unknown = sorted(set(config) - set(inspect.signature(VisionTransformer).parameters))
    if unknown:
        raise ValueError(
            f"checkpoint {path} needs options that this vitlib does not know: "
            f"{', '.join(unknown)}: upgrade vitlib"
        )
    custom = [f"{k}={v['custom']}" for k, v in config.items() if isinstance(v, dict)]
    if custom:
        raise ValueError(
            f"checkpoint {path} was built with layers that a file cannot hold "
            f"({', '.join(custom)}): build the model and pass it, load_checkpoint(path, model=...)"
        )
    arguments: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in config.items()
    }
    model = VisionTransformer(**arguments)
    precisions = {t.dtype for t in checkpoint.weights.values() if t.is_floating_point()}
    return model.to(precisions.pop()) if len(precisions) == 1 else model


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: str) -> None:
    refuse_non_file(path)
    path = path.resolve()  # a link stays a link, and what it points to is written
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Clones, because safetensors refuses tensors that share memory or are not contiguous.
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask wants it; safetensors writes 0600
        save_file(own, temporary, metadata={_METADATA: metadata})
        os.chmod(temporary, mode)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError | SafetensorError):
            raise
        former = " The former checkpoint there is untouched." if path.exists() else ""
        raise OSError(f"could not write checkpoint {path}: {error}.{former}") from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    """The metadata, if it has all that a reader of any format looks for."""
    try:
        info = json.loads(text)
    except json.JSONDecodeError:
        info = {}
    missing = [key for key in _REQUIRED if not (isinstance(info, dict) and key in info)]
    if not missing:
        if not isinstance(info["format"], int):
            missing = ["format"]
        elif not (isinstance(info["model"], dict) and {"class", "config"} <= info["model"].keys()):
            missing = ["model's class and config"]
    if missing:
        raise ValueError(
            f"checkpoint {path} was written by another program or is damaged: "
            f"{', '.join(missing)} missing in its metadata"
        )
    return dict(info)


def _plain_number(value: Any) -> Any:
    """A number of numpy or torch as Python's, for JSON."""
    if getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}"
    names = [p.name for p in path.parent.iterdir() if p.is_file()]
    nearest = get_close_matches(path.name, names, n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(nearest)}?" if nearest else f" in {path.parent}"


def _safetensors_in(folder: Any) -> list[Any]:
    if not folder.is_dir():
        return []
    return [entry for entry in folder.iterdir() if entry.name.endswith(".safetensors")]
