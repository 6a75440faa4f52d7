"""Stopping and continuing: the state of a training run on disk."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vitlib.checkpoints import (
    TrainingState,
    describe,
    load_weights,
    read_checkpoint,
    save_checkpoint,
)
from vitlib.data import ImageData, ImageSet
from vitlib.data.contents import describe_changes
from vitlib.data.sets import same_statistics
from vitlib.files import check_output_path, refuse_non_file, remove_leftovers
from vitlib.train.distillation import UNLABELLED, DistillationLoss, PartlyLabelled
from vitlib.train.distributed import Processes
from vitlib.train.history import History, TrainConfig


class CannotContinue(ValueError):
    """There is a checkpoint, but this run cannot continue from it.

    `reason` is the message without its advice.
    """

    def __init__(self, reason: str):
        super().__init__(f"{reason}. Start anew with resume=False, or use another file.")
        self.reason = reason


class ResumableRun:
    """The state of a run between two steps: all it takes to continue as if it had never stopped.

    That is the weights and their average, the optimiser's moments, torch's random states, the order
    of images in the current epoch, and the history. The learning rate follows from the number of
    steps. A new object continues from `config.checkpoint` if that file exists and `config.resume`
    is on.

    The file also holds a fingerprint and the label of each training image, since a run continues on
    the same data only: of images in memory, a hash of the pixels; of a stream, one of the name and
    size of the file. Files of earlier versions do not: they are continued, with a warning.

    Of several processes, each reads the file, and the first writes it, with the random states of
    all.

    Raises CannotContinue for a file that is the checkpoint of another run, or of none; ValueError
    for a place where no file can be written, and where processes do not see the same file; OSError
    if the folder of the checkpoint cannot be made.
    """

    def __init__(
        self,
        model: nn.Module,
        ema: AveragedModel | None,
        optimizer: torch.optim.Optimizer,
        data: ImageData,
        config: TrainConfig,
        distillation: DistillationLoss | None,
        processes: Processes = Processes(),  # noqa: B008 - frozen
    ):
        self.model, self.ema, self.optimizer, self.config = model, ema, optimizer, config
        self.processes = processes
        self.history = History(config)
        self.order = torch.empty(0, dtype=torch.int64)  # of the images in the current epoch
        self._names = {id(p): name for name, p in model.named_parameters()}
        self._description = _describe_run(model, data, distillation, processes)
        self._device = next(model.parameters()).device
        if config.checkpoint is None:
            return
        self._kind = data.train.fingerprinted  # the tensor's name in the file
        self._images = {self._kind: data.train.fingerprints(), "labels": data.train.labels.cpu()}
        if isinstance(data.train, PartlyLabelled):
            self._images["labels"] = data.train.labels.where(data.train.has_label, UNLABELLED)
        self._classes, self._mean_std = data.classes, [list(data.mean), list(data.std)]
        self._white = data.white  # `vitlib eval` wants to know it
        path = Path(config.checkpoint)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)  # better to fail now than when saving
        except OSError as error:
            raise OSError(f"cannot make the folder of checkpoint {path}: {error}") from error
        refuse_non_file(path)
        if config.resume and path.exists():
            self._restore(path)
        if self.step < config.steps:
            check_output_path(path)
        steps = [int(step) for step in processes.gather(torch.tensor(self.step))]
        if len(set(steps)) > 1:
            raise ValueError(
                f"the processes found {path} after steps {', '.join(map(str, steps))}: it must lie "
                "in a folder that all of them see"
            )
        if processes.is_first:
            remove_leftovers(path)  # of a process that was killed while it wrote

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return len(self.history.loss)

    def save(self) -> None:
        """Write `config.checkpoint`: the averaged weights as a model, and the rest next to them.

        All processes call this. Raises FloatingPointError if a weight is not finite; the file is
        then left as it was.
        """
        path = self.config.checkpoint
        assert path is not None
        weights = self.model.state_dict()
        if not all(w.isfinite().all() for w in weights.values() if w.is_floating_point()):
            raise FloatingPointError(
                f"training diverged: the weights after step {self.step} are not finite. "
                f"Try a smaller lr. {path} is left as it was."
            )
        averaged, tensors = self.model, {}
        if self.ema is not None:
            averaged = self.ema.module
            tensors = {f"weights/{name}": tensor for name, tensor in weights.items()}
        for name, state in zip(self._parameter_names(), self._moments(), strict=True):
            tensors |= {f"optimizer/{key}/{name}": value for key, value in state.items()}
        tensors |= {"order": self.order} | self._images
        states = {"rng": torch.get_rng_state()}
        if self._device.type == "cuda":
            states["rng_cuda"] = torch.cuda.get_rng_state(self._device)
        for name, here in states.items():
            for rank, one in enumerate(self.processes.gather(here)):
                tensors[_of_rank(name, rank)] = one
        info = {
            "history": self.history.to_dict(), "facts": self._description,
            "mean and std": self._mean_std, "white": self._white,
        }  # fmt: skip
        training = TrainingState(tensors, info)
        self.processes.only_first(lambda: save_checkpoint(averaged, path, training=training))

    def _restore(self, path: Path) -> None:
        checkpoint = read_checkpoint(path)
        run = checkpoint.training
        if run is None or not {"history", "facts"} <= run.info.keys():
            raise CannotContinue(
                f"{path} holds a model but no training run to continue, and would be overwritten"
            )
        info, tensors = run.info, run.tensors
        history = History.from_dict(info["history"])
        earlier = {"processes": 1, "streamed": False}  # versions that had no other
        facts = earlier | info["facts"]
        differences = history.config.differences(self.config) + [
            f"{name} {facts.get(name)!r} there, {value!r} here"
            for name, value in self._description.items()
            if facts.get(name) != value
        ]
        if facts["streamed"] == self._description["streamed"]:
            differences += self._compare_images(path, run)
        if differences:
            raise CannotContinue(f"{path} belongs to another run: {'; '.join(differences)}")
        averaged = self.model if self.ema is None else self.ema.module
        load_weights(averaged, checkpoint)
        if self.ema is not None:
            self.model.load_state_dict(_select_prefix("weights/", tensors))
            self.ema.n_averaged.fill_(len(history.loss))
        self._restore_moments(_select_prefix("optimizer/", tensors))
        self.order = tensors["order"]
        rank = self.processes.rank
        torch.set_rng_state(tensors[_of_rank("rng", rank)])
        on_gpu = tensors.get(_of_rank("rng_cuda", rank))
        if self._device.type == "cuda" and on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, self._device)
        self.history = replace(history, config=self.config)

    def _compare_images(self, path: Path, run: TrainingState) -> list[str]:
        """How the training images differ from those of the run in `path`, in one line or none."""
        if not self._images.keys() <= run.tensors.keys():
            warnings.warn(
                f"{path} is from an earlier version and does not say on which images it was "
                "trained: it is continued as if they were the same",
                stacklevel=1,
            )
            return []
        there, here = ((t[self._kind], t["labels"]) for t in (run.tensors, self._images))
        changes = describe_changes(there, here, self._classes)
        before = run.info["mean and std"]
        if not changes and not same_statistics(before, self._mean_std):
            changes = f"mean and std of the images {before} there, {self._mean_std} here"
        return [changes] if changes else []

    def _parameter_names(self) -> list[str]:
        """Names of the trained parameters, in the optimiser's order."""
        return [self._names[id(p)] for g in self.optimizer.param_groups for p in g["params"]]

    def _moments(self) -> list[dict[str, Tensor]]:
        groups = self.optimizer.param_groups
        return [self.optimizer.state.get(p, {}) for group in groups for p in group["params"]]

    def _restore_moments(self, tensors: dict[str, Tensor]) -> None:
        states: dict[int, dict[str, Tensor]] = {}
        for number, name in enumerate(self._parameter_names()):
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if f"{key}/{name}" in tensors:
                    states.setdefault(number, {})[key] = tensors[f"{key}/{name}"]
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        # The fused AdamW pairs numbers by their place in memory, and those of the file are
        # contiguous: the moments get the memory format of their weights, such as channels_last.
        for weight, state in self.optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.empty_like(weight, requires_grad=False).copy_(state[key])
        for group in self.optimizer.param_groups:
            group["initial_lr"] = self.config.lr  # a scheduler that starts late needs it


def _describe_run(
    model: nn.Module,
    data: ImageData,
    distillation: DistillationLoss | None,
    processes: Processes,
) -> dict[str, Any]:
    """What decides a run's outcome besides its settings, as JSON values."""
    facts: dict[str, Any] = {"model": type(model).__name__}
    for name, value in (describe(model) or {}).items():
        facts[f"model.{name}"] = list(value) if isinstance(value, tuple) else value
    facts["trained parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    facts |= {"data": data.name, "training images": len(data.train), "classes": list(data.classes)}
    started = getattr(model, "started_from", {})  # of fine-tuning
    facts |= {name: started.get(name) for name in ("weights", "freeze")}
    facts["distillation"] = None
    if distillation is not None:
        facts["distillation"] = [distillation.kind, distillation.alpha, distillation.tau]
    facts["processes"] = processes.count  # each has its own random numbers
    facts["streamed"] = not isinstance(data.train, ImageSet)
    return facts


def _of_rank(name: str, rank: int) -> str:
    """A tensor's name in the file, where every process has its own; the first one's is plain."""
    return f"{name}/{rank}" if rank else name


def _select_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, under their names without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
