"""Measures training steps for chapter 11 and its figure: memory and time, beside the cost model.

    python -m vitlib.runs.record_costs          writes costs.json; some minutes

Each point is a ViT in a process of its own, which takes two steps of AdamW with gradients that stay
allocated. Its memory is the highest that the process ever held, less what it held before the model
was built; its time is the CPU's own, of the second step, on one thread. Sizes are changed one at a
time from BASE. Needs Linux or macOS.

"options" are the same steps at BASE in the ways that the chapter compares; "matmul" is the speed of
square matrix products, with which no model can do better; "returned" is one point once more,
where the C library's allocator gives back what was freed (of Linux, glibc).
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from vitlib import VisionTransformer, param_groups
from vitlib.attention import unfused
from vitlib.costs import TrainingCost

BASE = TrainingCost(img_size=224, embed_dim=192, depth=12, num_heads=3, batch=8)
HEAD = 64  # channels per head, as in all published ViTs
VARIED = {
    "img_size": (64, 128, 224, 384),
    "depth": (3, 12, 24),
    "embed_dim": (64, 192, 384),
    "batch": (1, 8, 32),
}
WAYS: tuple[dict[str, bool], ...] = ({}, {"checkpointing": True}, {"bf16": True})
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # changes of BASE, ways to train
    "plain": ({}, {}),
    "accumulate": ({}, {"parts": 4}),
    "checkpointing": ({"checkpointing": True}, {}),
    "bf16": ({"bf16": True}, {}),
    "bf16, unfused": ({"bf16": True}, {"fused": False}),  # as `fit` does on a CPU
    "unfused": ({}, {"fused": False}),
    "compile": ({}, {"compiled": True}),
}
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STEPS = 4  # of an option: the first two warm up
MATRIX = 2048


def measure(
    cost: TrainingCost, steps: int = 2, parts: int = 1, compiled: bool = False, fused: bool = True
) -> dict[str, float]:
    """Peak memory in bytes, and seconds of the last steps (median), of a ViT like `cost`."""
    train(TrainingCost(img_size=32, embed_dim=64, num_heads=1, depth=1, bf16=cost.bf16), 1)
    held = peak_memory()  # with all that PyTorch sets up at the first step
    times = train(cost, steps, parts, compiled, fused)
    seconds = statistics.median(times[steps // 2 :])
    return {"bytes": peak_memory() - held, "seconds": round(seconds, 4)}


def train(
    cost: TrainingCost, steps: int, parts: int = 1, compiled: bool = False, fused: bool = True
) -> list[float]:
    """Take `steps` steps of AdamW on random images; the seconds of each."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=cost.img_size, patch_size=cost.patch_size, embed_dim=cost.embed_dim,
        depth=cost.depth, num_heads=cost.num_heads, num_classes=cost.num_classes,
    )  # fmt: skip
    if cost.checkpointing:
        for block in model.blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    optimizer = torch.optim.AdamW(param_groups(model, 0.05), lr=1e-3, fused=True)
    run = cast(nn.Module, torch.compile(model)) if compiled else model
    images = torch.randn(cost.batch, cost.in_chans, cost.img_size, cost.img_size)
    labels = torch.arange(cost.batch) % cost.num_classes
    times = []
    with nullcontext() if fused else unfused(model):
        for _ in range(steps):
            started = time.process_time()
            optimizer.zero_grad(set_to_none=False)
            for some, some_labels in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                with torch.autocast("cpu", torch.bfloat16, enabled=cost.bf16):
                    logits = run(some)
                (F.cross_entropy(logits.float(), some_labels) / parts).backward()
            optimizer.step()
            times.append(time.process_time() - started)
    return times


def peak_memory() -> int:
    """The most that this process ever held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def matmul_speed(dtype: torch.dtype) -> float:
    """FLOPs per second of the product of two square matrices, the best of five."""
    a, b = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in "ab")
    times = []
    for _ in range(6):
        started = time.process_time()
        a @ b
        times.append(time.process_time() - started)
    return 2 * MATRIX**3 / min(times[1:])


def alone(function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """function(...) in a process of its own, on one thread."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return pool.submit(function, *given, **options).result()


def costs_to_measure() -> list[TrainingCost]:
    """BASE and its variations: plain, with checkpointing, and in bfloat16."""
    changes: list[dict[str, Any]] = [
        {name: value, "num_heads": width // HEAD}
        for name, values in VARIED.items()
        for value in values
        for width in (value if name == "embed_dim" else BASE.embed_dim,)
    ]
    sizes = {replace(BASE, **change) for change in changes}
    return [
        replace(cost, **way)
        for cost in sorted(sizes, key=lambda cost: (cost.memory, cost.img_size))
        for way in WAYS
    ]


def main() -> None:
    speeds = {name: matmul_speed(dtype) for name, dtype in PRECISIONS.items()}
    points = []
    for cost in costs_to_measure():
        points.append(asdict(cost) | alone(measure, cost))
        print(points[-1], flush=True)
    options = {
        name: alone(measure, replace(BASE, **change), STEPS, **given)
        for name, (change, given) in OPTIONS.items()
    }
    largest = replace(BASE, batch=max(VARIED["batch"]), checkpointing=True)
    os.environ.update(RETURNING)  # the allocator of a new process reads them
    returned = asdict(largest) | {"bytes": alone(measure, largest)["bytes"]}
    log = {
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "base": asdict(BASE),
        "matmul": {name: round(speed) for name, speed in speeds.items()},
        "options": options,
        "points": points,
        "returned": returned,
    }
    path = Path(__file__).with_name("costs.json")
    path.write_text(json.dumps(log, indent=1) + "\n", "utf8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
