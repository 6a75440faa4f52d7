"""Many small trainings at once: for small models, one core for each is faster than all for one."""

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from vitlib.files import atomic_write

Result = TypeVar("Result")


def one_core_each(
    run: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], keep: Path | None = None
) -> list[Result]:
    """[run(*job) for job in jobs], with as many jobs at a time as there are cores.

    With `keep`, a folder, every result is kept there as soon as it is found, and a call that was
    interrupted goes on where it stopped. Delete the folder to run an experiment that has changed.
    """
    context = get_context("spawn")  # a forked process may hang in torch's threads
    with ProcessPoolExecutor(os.cpu_count(), context, torch.set_num_threads, (1,)) as pool:
        pending = [pool.submit(_run_once, run, job, keep) for job in jobs]
    return [future.result() for future in pending]


def _run_once(run: Callable[..., Result], job: tuple[Any, ...], keep: Path | None) -> Result:
    """run(*job), or what it returned before."""
    if keep is None:
        return run(*job)
    name = hashlib.sha256(repr(job).encode()).hexdigest()[:16]
    path = keep / f"{getattr(run, '__name__', 'run')}-{name}.pickle"
    if path.exists():
        kept: Result = pickle.loads(path.read_bytes())
        return kept
    result = run(*job)
    with atomic_write(path) as temporary:
        temporary.write_bytes(pickle.dumps(result))
    return result
