"""Training with several processes: what they share, and what only the first of them does.

    torchrun --nproc-per-node 2 train.py       starts train.py twice, as processes 0 and 1

Each process holds the whole model and takes its share of every batch. In the backward pass, torch's
DistributedDataParallel replaces each gradient by its mean over the processes, so that all take the
same step. The first process draws the order of the images; augmentation, mixup and dropout are
drawn by each for its own images. The first one alone evaluates, writes and calls back; the others
wait for what comes of it.

Tensors of the CPU travel by gloo, those of a GPU by nccl.
Source: Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training".
"""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Result = TypeVar("Result")


class ProcessLost(RuntimeError):
    """Another process of the run has ended or failed, so that this one cannot go on alone."""


def is_first_process() -> bool:
    """Whether this is the process that prints and writes: the only one, or number 0 of torchrun."""
    return int(os.environ.get("RANK", 0)) == 0


def join_processes(device: str = "auto") -> "Processes":
    """This process among those that torchrun started; without torchrun, it is the only one.

    The connection is made once and stays until the process ends. Each process gets a GPU of its own
    unless `device` is "cpu".

    Raises ValueError for a `device` that several processes cannot train on, and for more processes
    than GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1 and not dist.is_initialized():
        return Processes()
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or number:
        raise ValueError(
            f"{count} processes cannot all train on device {device!r}: choose auto, cpu or cuda, "
            "which gives each process a GPU of its own"
        )
    if kind == "auto" and torch.backends.mps.is_available():
        raise ValueError("several processes cannot share this GPU (mps): choose device cpu")
    on_gpus = kind != "cpu" and torch.cuda.is_available()
    if on_gpus:
        here, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if here >= gpus:
            raise ValueError(
                f"each process needs a GPU of its own, and this machine has {gpus}: start as many "
                "processes (torchrun --nproc-per-node), or choose device cpu"
            )
        torch.cuda.set_device(here)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())


@dataclass(frozen=True)
class Processes:
    """The processes of a run, `count` of them, seen from number `rank`.

    With a single one, every method returns what it was given and nothing is sent.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that evaluates, writes and calls back."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """The seed of this process: `seed` itself for the first, another number for each other."""
        # torch's CPU generator reads 32 bits of a seed: these are well mixed, seed + rank would
        # give process 1 the numbers that process 0 has with the next seed.
        return seed if self.is_first else int(np.random.PCG64([seed, self.rank]).random_raw())

    def check_batch(self, batch_size: int, accumulate: int) -> None:
        """Raise ValueError unless a batch can be divided into equal parts.

        Equal, because the mean over all images is then the mean of the parts' means.
        """
        if batch_size % (self.count * accumulate):
            factors = [f"{self.count} processes"] * (self.count > 1)
            factors += [f"{accumulate} parts (accumulate)"] * (accumulate > 1)
            raise ValueError(
                f"batch_size {batch_size} cannot be divided equally among {' × '.join(factors)}: "
                f"it must be a multiple of {self.count * accumulate}"
            )

    def share(self, index: Int64[Tensor, "B"]) -> Int64[Tensor, "b"]:
        """This process's part of a batch."""
        return index.chunk(self.count)[self.rank]

    def wrap(self, model: nn.Module, some_unused: bool = False) -> nn.Module:
        """The model whose backward pass averages gradients over the processes.

        All models get the weights of the first process's. `some_unused` says that there may be
        parameters which a process's share of a batch does not need; finding them costs time.
        """
        if self.count == 1:
            return model
        return DistributedDataParallel(model, find_unused_parameters=some_unused)

    def averaging(self, model: nn.Module, now: bool) -> AbstractContextManager[None]:
        """Forward and backward pass of `wrap`'s model: are gradients averaged, or only added up?"""
        if now or not isinstance(model, DistributedDataParallel):
            return nullcontext()
        return model.no_sync()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of all processes' values."""
        if self.count == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.count

    def largest(self, number: int) -> int:
        """The largest of all processes' numbers."""
        if self.count == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def from_first(self, value: Tensor) -> Tensor:
        """The first process's value, a tensor on the CPU; the others give one of equal shape."""
        if self.count > 1:
            dist.broadcast(value, 0)
        return value

    def gather(self, value: Tensor) -> list[Tensor]:
        """All processes' values, tensors on the CPU of equal shape, in the order of the ranks."""
        if self.count == 1:
            return [value]
        values = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(values, value)
        return values

    def only_first(self, compute: Callable[[], Result]) -> Result:
        """compute() on the first process; the others wait for its result and return it, too.

        If it raises an error there, the others raise ProcessLost.
        """
        if self.count == 1:
            return compute()
        results: list[Result | None] = [None]
        failure: BaseException | None = None
        if self.is_first:
            try:
                results = [compute()]
            except BaseException as error:
                failure = error
        if self.largest(failure is not None):
            raise failure or ProcessLost(
                f"{self._name()} stops, because the first process has stopped: its message says why"
            )
        dist.broadcast_object_list(results, 0, device=torch.device("cpu"))
        return results[0]  # type: ignore[return-value]

    @contextmanager
    def watch(self, last_checkpoint: object = None) -> Iterator[None]:
        """Turn the loss of the connection, as when another process is killed, into ProcessLost."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _is_lost_connection(error):
                raise
            kept = f" {last_checkpoint} holds the last checkpoint." if last_checkpoint else ""
            raise ProcessLost(
                f"{self._name()} stops, because another process of this run has ended: its own "
                f"message, if it could leave one, says why.{kept}"
            ) from error

    def _name(self) -> str:
        return f"process {self.rank} of {self.count}"


def _is_lost_connection(error: RuntimeError) -> bool:
    # gloo has no exception of its own; its messages begin with the place in its source.
    return isinstance(error, dist.DistError) or "gloo" in str(error)
