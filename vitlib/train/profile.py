"""Where the time of a training goes: a `Profile` that `fit` fills.

profile = Profile()
fit(model, data, config, profile=profile)
print(profile.summary())
"""

import math
import time
from os import PathLike
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as Tracer

from vitlib.data import LabelledImages
from vitlib.files import atomic_write, check_output_path
from vitlib.patch import grid_of
from vitlib.train.history import TrainConfig

# What the loop is doing, in the order of a step. "data" is waiting for images: reading them and
# moving them to the device. "backward" includes the exchange of gradients between processes, and
# "rest" evaluations, checkpoints and callbacks.
STAGES = ("data", "augmentation", "forward", "backward", "optimizer", "rest")
_WARM_UP, _TRACED = 2, 3  # steps before a trace, and in it


class Profile:
    """Seconds spent in each of `STAGES`, of all steps but the first, which warms up.

    On a GPU the program waits at the end of each stage until it is computed, so that its time
    is counted where it belongs. That costs some speed: compare shares, and time a run without it.

    Args:
        trace: file for a Chrome trace of three steps, for chrome://tracing or ui.perfetto.dev;
            None writes none. It has one row per thread and GPU stream, with the stages above.

    Raises ValueError, when `fit` begins, for a `trace` that cannot be written.
    """

    def __init__(self, trace: str | PathLike[str] | None = None):
        self.trace = None if trace is None else Path(trace)
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.steps = self.images_per_step = self.tokens_per_image = 0
        self._stage, self._since, self._taken = "", 0.0, 0
        self._device = torch.device("cpu")
        self._traces = self._written = False
        self._tracer: Tracer | None = None
        self._label: record_function | None = None

    def begin(
        self,
        model: nn.Module,
        train: LabelledImages,
        device: torch.device,
        config: TrainConfig,
        is_first: bool = True,
    ) -> None:
        """`fit` calls this before it begins; of several processes, the first writes the trace."""
        if self.trace is not None:
            check_output_path(self.trace)
        self._device, self._traces = device, self.trace is not None and is_first
        self.images_per_step = config.batch_size
        height, width = train.shape[-2:]
        self.tokens_per_image = _count_tokens(model, (height, width))

    def enter(self, stage: str) -> None:
        """The stage before ends, and this one begins. Each step ends with one "rest"."""
        self._leave()
        if stage == "rest":
            self._taken += 1
        elif self._stage in ("", "rest"):  # a step begins
            self._start_or_stop_tracing()
        if self._tracer is not None:
            self._label = record_function(stage)
            self._label.__enter__()
        self._stage, self._since = stage, time.perf_counter()

    def end(self) -> None:
        """`fit` calls this after the last step."""
        self._leave()
        self._stage = ""
        self._write_trace()

    @property
    def images_per_second(self) -> float:
        """Of all processes together; 0 before the second step."""
        total = sum(self.seconds.values())
        return self.steps * self.images_per_step / total if total else 0.0

    def shares(self) -> dict[str, float]:
        """The share of each stage in the time of a step, 0 to 1."""
        total = sum(self.seconds.values()) or 1.0
        return {stage: seconds / total for stage, seconds in self.seconds.items()}

    def summary(self) -> str:
        """The shares, images and tokens per second, and where the trace is."""
        if not self.steps:
            return "profile: fewer than two steps were taken, which is too few to tell"
        shares = ", ".join(f"{stage} {share:.1%}" for stage, share in self.shares().items())
        speed = f"{self.images_per_second:,.0f} images"
        if self.tokens_per_image:
            speed += f" and {self.images_per_second * self.tokens_per_image:,.0f} tokens"
        lines = [f"time of {self.steps:,} steps: {shares}", f"{speed} per second"]
        if self._traces:
            where = f"{self.trace}, for chrome://tracing or ui.perfetto.dev"
            lines.append(
                f"trace {where}" if self._written else f"no trace: it begins after {_WARM_UP} steps"
            )
        return "\n".join(lines)

    def _leave(self) -> None:
        if not self._stage:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        if self._label is not None:
            self._label.__exit__(None, None, None)
            self._label = None
        if self._taken:  # the first step is over
            self.seconds[self._stage] += time.perf_counter() - self._since
            self.steps = self._taken - 1

    def _start_or_stop_tracing(self) -> None:
        if not self._traces:
            return
        if self._taken == _WARM_UP:
            on_gpu = [ProfilerActivity.CUDA] * (self._device.type == "cuda")
            self._tracer = Tracer(activities=[ProfilerActivity.CPU, *on_gpu])
            self._tracer.start()
        elif self._taken == _WARM_UP + _TRACED:
            self._write_trace()

    def _write_trace(self) -> None:
        if self._tracer is None or self.trace is None:
            return
        self._tracer.stop()
        with atomic_write(self.trace) as temporary:
            self._tracer.export_chrome_trace(str(temporary))
        self._tracer, self._written = None, True


def _count_tokens(model: nn.Module, size: tuple[int, int]) -> int:
    """Tokens that each image becomes, or 0 for a model without patches."""
    patch = getattr(model, "patch_size", None)
    if patch is None:
        return 0
    return math.prod(grid_of(size, patch)) + int(getattr(model, "num_prefix_tokens", 0))
