"""A run's settings (`TrainConfig`), its record (`History`), and the state that callbacks get."""

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from os import PathLike, fspath
from typing import Any

from torch import nn

from vitlib.data.augmentation import RECIPES
from vitlib.plots import figure_svg, plot_history

# Fields that change neither the weights nor what a resumed run would compute.
_FREE_TO_CHANGE = {
    "eval_every", "device", "checkpoint", "checkpoint_every", "resume", "progress",
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `fit`. The defaults are the book's recipe for vit_nano_patch7_28 on mnist5k.

    Args:
        steps: optimiser steps, a fixed number.
        batch_size: images per step, of all processes together; the last, short batch of an epoch is
            dropped.
        accumulate: parts in which each process computes its share of a batch, one after the other,
            adding up their gradients: less memory, the same step.
        lr: highest learning rate, reached after `warmup_steps` of linear growth.
        min_lr: learning rate at the end of the cosine.
        warmup_steps: steps of linear growth; with `steps` no larger than this, lr only grows.
        weight_decay: AdamW's, on weight matrices only; see `param_groups`.
        betas: AdamW's two decay rates.
        label_smoothing: share of the target spread evenly over the classes.
        clip_grad: largest norm of all gradients together; None does not clip.
        ema_decay: decay of the exponential moving average of the weights; None keeps no average.
        augment: "none", "affine", "handwriting", "flip_crop" or "randaugment"; see
            `vitlib.data.augment`.
        mixup, cutmix: alpha of their Beta distribution, 0 for off. If both are on, each batch gets
            one of the two, with equal probability.
        amp: "auto" (bfloat16 autocast on CUDA devices that compute in it, else off; on a CPU it is
            slower at small widths), "bf16" (always) or "off".
        compile: whether the steps run through `torch.compile`.
        val_fraction: share of the training images held out for validation; 0 trains on all.
        eval_every: steps between two evaluations on the validation images.
        seed: seeds every random draw inside `fit`, the validation split included; below 2**63.
        device: "auto" (cuda, else mps, else cpu) or a name that torch knows.
        checkpoint: file to save the run to; None saves nothing.
        checkpoint_every: steps between two saves; the last step is always saved.
        resume: whether to continue from `checkpoint` if that file exists; False starts anew and
            overwrites it.
        progress: whether to show a progress bar on stderr.

    Raises ValueError for values out of range.
    """

    steps: int = 1500
    batch_size: int = 100
    accumulate: int = 1
    lr: float = 3e-3
    min_lr: float = 0.0
    warmup_steps: int = 100
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    label_smoothing: float = 0.05
    clip_grad: float | None = 1.0
    ema_decay: float | None = 0.998
    augment: str = "affine"
    mixup: float = 0.0
    cutmix: float = 0.0
    amp: str = "auto"
    compile: bool = False
    val_fraction: float = 0.1
    eval_every: int = 200
    seed: int = 0
    device: str = "auto"
    checkpoint: str | PathLike[str] | None = None
    checkpoint_every: int = 200
    resume: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "eval_every", "checkpoint_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("warmup_steps", "weight_decay", "mixup", "cutmix", "seed"):
            value = getattr(self, name)
            self._require(name, value >= 0 and math.isfinite(value), "0 or more")
        self._require("seed", self.seed < 2**63, "below 2**63")
        self._require("lr", self.lr > 0 and math.isfinite(self.lr), "above 0")
        self._require("min_lr", 0 <= self.min_lr <= self.lr, f"between 0 and lr ({self.lr:g})")
        two = len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas)
        self._require("betas", two, "two numbers from 0 to below 1")
        self._require("augment", self.augment in RECIPES, f"one of {', '.join(RECIPES)}")
        for name in ("label_smoothing", "val_fraction"):
            self._require(name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        if self.ema_decay is not None:
            self._require("ema_decay", 0 <= self.ema_decay < 1, "from 0 to below 1, or None")
        if self.clip_grad is not None:
            self._require("clip_grad", self.clip_grad > 0, "above 0, or None")
        self._require("amp", self.amp in ("auto", "bf16", "off"), "'auto', 'bf16' or 'off'")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        path = None if self.checkpoint is None else fspath(self.checkpoint)
        return asdict(self) | {"betas": list(self.betas), "checkpoint": path}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The inverse of `to_dict`; raises ValueError for settings that this version lacks."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(
                f"unknown training settings {', '.join(unknown)}: written by a newer vitlib?"
            )
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**given)

    def differences(self, here: "TrainConfig") -> list[str]:
        """Settings that change the outcome and differ, as in "lr 0.003 there, 0.001 here"."""
        mine, others = self.to_dict(), here.to_dict()
        return [
            f"{name} {mine[name]!r} there, {others[name]!r} here"
            for name in mine
            if name not in _FREE_TO_CHANGE and mine[name] != others[name]
        ]


@dataclass
class History:
    """The record of a run; a notebook shows it as a figure.

    `loss` and `lr` have one number per step, `val_loss` and `val_accuracy` one for each of
    `val_steps` (counted from 1, measured with the averaged weights). `seconds` is the wall-clock
    time of the run, validation included; a resumed run adds up its parts.
    """

    config: TrainConfig
    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    val_steps: list[int] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps(self) -> list[int]:
        """1, 2, ..., up to the last step taken."""
        return list(range(1, len(self.loss) + 1))

    @property
    def images_per_second(self) -> float:
        """Training images per second, validation time included."""
        return len(self.loss) * self.config.batch_size / self.seconds if self.seconds else 0.0

    def add_validation(self, step: int, loss: float, accuracy: float) -> None:
        """Append the result of an evaluation after `step`."""
        self.val_steps.append(step)
        self.val_loss.append(loss)
        self.val_accuracy.append(accuracy)

    def plot(self) -> Any:
        """A matplotlib figure of the loss and, where there is one, the validation accuracy."""
        return plot_history(self)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return asdict(self) | {"config": self.config.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "History":
        """The inverse of `to_dict`."""
        return cls(**{**values, "config": TrainConfig.from_dict(values["config"])})

    def __repr__(self) -> str:
        if not self.loss:
            return "History(no steps yet)"
        accuracy = f", validation accuracy {self.val_accuracy[-1]:.2%}" if self.val_steps else ""
        return f"History({len(self.loss)} steps, loss {self.loss[-1]:.4f}{accuracy})"

    def _repr_png_(self) -> bytes | None:
        if not self.loss:
            return None
        buffer = io.BytesIO()
        self.plot().savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()

    def _repr_svg_(self) -> str | None:
        return figure_svg(self.plot()) if self.loss else None


@dataclass(frozen=True)
class TrainState:
    """What `fit` passes to each callback after a step.

    `model` holds the weights that the optimiser updates, in training mode; `averaged` holds their
    moving average, in eval mode (without `ema_decay`, it is the same model). `step` counts from 1.
    """

    step: int
    steps: int
    loss: float
    lr: float
    model: nn.Module
    averaged: nn.Module
    history: History
