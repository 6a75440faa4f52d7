"""Many small trainings at once: for small models, one core for each is faster than all for one."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def one_core_each(run: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]) -> list[Result]:
    """[run(*job) for job in jobs], with as many jobs at a time as there are cores."""
    context = get_context("spawn")  # a forked process may hang in torch's threads
    with ProcessPoolExecutor(os.cpu_count(), context, torch.set_num_threads, (1,)) as pool:
        pending = [pool.submit(run, *job) for job in jobs]
    return [future.result() for future in pending]
