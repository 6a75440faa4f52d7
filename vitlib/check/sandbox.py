"""Runs a reader's code so that it can do no harm: it is stopped in time, and leaves no trace.

Python runs one thread at a time, so a second thread can wait for the deadline and then raise an
exception in the first one. This stops every endless Python loop, on every system and in Jupyter; it
cannot stop a single long call into C.
"""

import ctypes
import dis
import random
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch

# Code that is not the reader's: vitlib, installed packages, Python itself.
FOREIGN = (
    str(Path(__file__).parents[1]),
    *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
)


class OutOfTime(BaseException):
    """The deadline has passed. Not an Exception, so that `except Exception` does not swallow it."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise OutOfTime inside the with block if it runs for longer than `seconds`."""
    target, over, lock = threading.get_ident(), threading.Event(), threading.Lock()

    def raise_in(thread: int, error: type[BaseException] | None) -> None:
        value = None if error is None else ctypes.py_object(error)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), value)

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            with lock:
                if not over.is_set():
                    raise_in(target, OutOfTime)
            wait = 0.05  # a bare `except:` may have swallowed it: again, until it gets through

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        while True:
            try:
                with lock:
                    over.set()
                raise_in(target, None)  # one that was sent and has not arrived is taken back
                break
            except OutOfTime:  # a late one arrived just here
                continue
        watcher.join()


@contextmanager
def untouched_state(seed: int = 0) -> Iterator[None]:
    """Inside: seeded, float32, on the CPU, with gradients. Afterwards: everything as it was before.

    Covers the random numbers of torch, NumPy and Python, the default dtype and device, and whether
    gradients are recorded.
    """
    numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 - readers may use it
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    grad, anomaly = torch.is_grad_enabled(), torch.is_anomaly_enabled()
    try:
        generators = torch.random.fork_rng(range(torch.cuda.device_count()))
        with generators, torch.inference_mode(False), torch.device("cpu"):
            torch.set_default_dtype(torch.float32)
            torch.set_grad_enabled(True)
            reseed(seed)
            yield
    finally:
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])  # noqa: NPY002
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:  # to set even the same one would slow torch down
            torch.set_default_device(device)
        torch.set_grad_enabled(grad)
        torch.autograd.set_detect_anomaly(anomaly)


def reseed(seed: int) -> None:
    """The same random numbers for the reader's code as for ours."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def is_stub(answer: Any) -> bool:
    """Whether the answer has no body yet: `...`, `pass`, or a docstring only.

    A class is a stub if it, or its `__init__`, `forward` or `__call__`, has none.
    """
    code = getattr(answer, "__code__", None)
    if isinstance(code, CodeType):
        return _is_empty(code)
    if not isinstance(answer, type | torch.nn.Module):
        return False  # an object that can be called, such as a partial
    made = answer if isinstance(answer, type) else type(answer)
    methods = {name: m.__code__ for name, m in vars(made).items() if hasattr(m, "__code__")}
    if not methods:
        return made.__bases__ in ((object,), (torch.nn.Module,))
    return any(_is_empty(methods[n]) for n in ("__init__", "forward", "__call__") if n in methods)


def _is_empty(code: CodeType) -> bool:
    """Whether the compiled function does nothing but return None or `...`."""
    quiet = ("RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP")
    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    values = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return all(step.opname in quiet for step in steps) and all(
        value is None or value is ... for value in values
    )


def where(error: BaseException) -> str:
    """The last line of the reader's own code that led to the error; empty if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(FOREIGN)]
    if not theirs:
        return ""
    last = theirs[-1]
    return f"line {last.lineno} of {last.name}: {last.line}" if last.line else ""
