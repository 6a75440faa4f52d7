"""Checkpoints: one safetensors file, with everything that is not a tensor as JSON in its metadata.

The weights have the model's own names, so that any safetensors reader finds them; whatever else a
training run needs is stored under "training/". A file is first written under a temporary name,
flushed to the disk and then renamed: whatever happens on the way, an older file stays intact.
Nothing is pickled.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vitlib.files import atomic_write, refuse_non_file
from vitlib.model import VisionTransformer
from vitlib.wording import did_you_mean, first_few

FORMAT = 1  # increased whenever an older vitlib could not read what is written
_METADATA, _TRAINING = "vitlib", "training/"
_REQUIRED = ("format", "model", "mean", "std", "classes")  # in the metadata
# Layers that a file can describe, as a class or as a partial of it with these keywords.
_LAYERS: dict[str, tuple[Callable[..., nn.Module], set[str]]] = {
    "LayerNorm": (nn.LayerNorm, {"eps"}),
    "GELU": (nn.GELU, {"approximate"}),
}
FilePath = str | os.PathLike[str]


class ForeignWeights(ValueError):
    """A file that holds weights from elsewhere where a checkpoint was expected.

    `reason` is the message without its advice.
    """

    def __init__(self, reason: str):
        super().__init__(f"{reason}: load_pretrained(model, path) reads such weights")
        self.reason = reason


@dataclass
class TrainingState:
    """What a run needs to continue, besides the weights: tensors, and plain JSON values."""

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

    They are stored with `mean` and `std`, the class names (`classes`, else the model's own) and
    `notes`, any JSON values. Missing folders are created. A tensor with two names is written under
    both. If `path` is a link, the file that it points to is replaced.

    Raises ValueError for notes that are not JSON values and if `path` is a folder, device or pipe;
    OSError if the file cannot be written, for instance because the disk is full. An older file at
    `path` is then untouched, and no temporary file is left behind.
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

    It is built from the stored settings, in the stored precision. If `model` is given, the weights
    are loaded into it instead, and it keeps its device and precision. `mean`, `std` and `classes`
    come with the weights.

    Raises FileNotFoundError for a missing file (naming a similar one), and ValueError for a file
    that is damaged, is not a checkpoint, comes from a newer vitlib, holds a model with custom
    layers (which then has to be passed), or does not fit `model`, which is then untouched.
    """
    return restore_model(read_checkpoint(path), model)


def restore_model(checkpoint: Checkpoint, model: nn.Module | None = None) -> nn.Module:
    """As `load_checkpoint`, of a file that has been read."""
    if model is None:
        model = _build(checkpoint)
    load_weights(unwrapped(model), checkpoint)
    adopt_statistics(unwrapped(model), checkpoint)
    return model.eval()


def read_checkpoint(path: FilePath) -> Checkpoint:
    """Everything in the file. Raises the errors of `load_checkpoint` that concern the file."""
    path = Path(path)
    refuse_non_file(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint {path}{suggest_similar_name(path)}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        with open(path, "rb") as file:
            start = file.read(2)
        size = path.stat().st_size
        if start in (b"PK", b"\x80\x02"):
            raise ForeignWeights(f"checkpoint {path} is PyTorch's or numpy's") from error
        reason = f"is damaged or cut off ({size:,} bytes: {error})"
        raise ValueError(f"checkpoint {path} {reason}") from error
    if _METADATA not in metadata:
        raise ForeignWeights(
            f"{path} holds tensors, but was not written by vitlib's save_checkpoint"
        )
    info = _parse_metadata(path, metadata[_METADATA])
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


def is_native(path: Path) -> bool:
    """Whether `save_checkpoint` wrote the file."""
    if not path.is_file():  # opening a pipe would wait for ever
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return _METADATA in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without the wrapper of `torch.compile`, which prefixes every name."""
    inner: nn.Module = getattr(model, "_orig_mod", model)
    return inner


def describe(model: nn.Module) -> dict[str, Any] | None:
    """The arguments that build the model, as JSON values; None for a model without a `config`.

    A layer is {"custom": its name}. LayerNorm and GELU also have "layer" and their settings, so
    that they can be built again: {"custom": "LayerNorm", "layer": "LayerNorm", "eps": 1e-12}. They
    keep "custom" because older readers of format 1 only look for that.
    """
    config = getattr(model, "config", None)
    if config is None:
        return None
    return {k: _layer_to_json(value) if callable(value) else value for k, value in config.items()}


def _layer_to_json(layer: Any) -> dict[str, Any]:
    kind, settings = layer, {}
    if isinstance(layer, partial) and not layer.args:
        kind, settings = layer.func, layer.keywords
    for name, (known, names) in _LAYERS.items():
        if kind is known and settings.keys() <= names:
            return {"custom": name, "layer": name, **settings}
    return {"custom": getattr(layer, "__qualname__", repr(layer))}


def _argument_from_json(value: Any) -> Any:
    """The argument that a JSON value stands for; an unknown layer stays as it is."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict) and value.get("layer") in _LAYERS:
        known, names = _LAYERS[value["layer"]]
        return partial(known, **{name: value[name] for name in names & value.keys()})
    return value


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the checkpoint's weights into `model`.

    Raises a ValueError that names what does not fit; the model is then untouched.
    """
    own, stored = model.state_dict(), checkpoint.weights
    problems = [
        f"{key} is {_shape(stored[key])} in the checkpoint, {_shape(own[key])} in the model"
        for key in own
        if key in stored and stored[key].shape != own[key].shape
    ]
    problems += [f"{key} is missing in the checkpoint" for key in own if key not in stored]
    problems += [f"{key} is not in the model" for key in stored if key not in own]
    if problems:
        raise ValueError(
            f"checkpoint {checkpoint.path} does not fit the model: {first_few(problems, 4, '; ')}"
        )
    model.load_state_dict(stored)


def adopt_statistics(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Give `model` the stored mean, std and classes."""
    for name in ("mean", "std", "classes"):
        value = checkpoint.info[name]
        vars(model)[name] = None if value is None else tuple(value)


def stored_arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    """The arguments that build the VisionTransformer of the file.

    Raises a ValueError that says why if it is another model, or needs options or layers that are
    not known.
    """
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
    arguments = {name: _argument_from_json(value) for name, value in config.items()}
    custom = [f"{k}={v['custom']}" for k, v in arguments.items() if isinstance(v, dict)]
    if custom:
        raise ValueError(
            f"checkpoint {path} was built with layers that a file cannot hold "
            f"({', '.join(custom)}): build the model and pass it, load_checkpoint(path, model=...)"
        )
    return arguments


def _build(checkpoint: Checkpoint) -> nn.Module:
    model = VisionTransformer(**stored_arguments(checkpoint))
    precisions = {t.dtype for t in checkpoint.weights.values() if t.is_floating_point()}
    return model.to(precisions.pop()) if len(precisions) == 1 else model


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: str) -> None:
    refuse_non_file(path)
    path = path.resolve()  # a link stays a link, and the file that it points to is written
    # Clones, because safetensors refuses tensors that share memory or are not contiguous.
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    try:
        with atomic_write(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode  # by the umask; safetensors would make it 0600
            save_file(own, temporary, metadata={_METADATA: metadata})
            os.chmod(temporary, mode)
    except (OSError, SafetensorError) as error:
        untouched = " The older checkpoint there is untouched." if path.exists() else ""
        raise OSError(f"could not write checkpoint {path}: {error}.{untouched}") from error


def _parse_metadata(path: Path, text: str) -> dict[str, Any]:
    """The metadata; a ValueError unless it has the keys that every format has."""
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
    """A number of numpy or torch as a Python number, for JSON."""
    if getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def suggest_similar_name(path: Path) -> str:
    """The end of a message about a missing file: a similar name in its folder, if there is one."""
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}"
    question = did_you_mean(path.name, [p.name for p in path.parent.iterdir() if p.is_file()])
    return f". {question}" if question else f" in {path.parent}"


def digest_weights(weights: Mapping[str, Tensor]) -> str:
    """A fingerprint: the same for the same numbers under the same names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]
