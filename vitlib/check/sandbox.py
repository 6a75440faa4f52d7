"""Runs a reader's code so that it can do no harm: it is stopped in time, and leaves no trace.

It runs in a thread of its own. What counts is the time that this thread computes, so that a busy
machine stops nobody. Imports do not count, as torch loads some of its parts when they are first
used. Code that waits without computing is stopped by the clock.

When its time is over, an exception is raised in that thread: this stops every endless Python loop,
on every system and in Jupyter, and a stop that comes late hits nobody else. A single long call into
C ends when it ends, but nobody waits for it.
"""

import builtins
import ctypes
import dis
import random
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")

# Code that is not the reader's: vitlib, installed packages, Python itself.
FOREIGN = (
    str(Path(__file__).parents[1]),
    *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
    "<frozen",
)


LONGEST_WAIT = 60.0  # seconds by the clock, for code that sleeps or asks for input
_TICK = 0.05  # seconds between two looks at a thread's clock


class OutOfTime(BaseException):
    """The time is over. Not an Exception, so that `except Exception` does not swallow it.

    `waited`: it was not spent computing.
    """

    waited = False


def in_time(
    function: Callable[[], T], seconds: float | None = None, longest: float = LONGEST_WAIT
) -> T:
    """What function() returns, run in a thread of its own.

    Raises OutOfTime when it has computed for `seconds`, imports not counted, or has not ended after
    `longest` seconds by the clock. Without `seconds`, it may take as long as it wants.

    PyTorch keeps grad mode, inference mode and the default device for each thread: whatever they
    are here, the new thread starts with gradients, without inference mode, and on the CPU.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    clock = _Clock()
    ending = threading.Lock()
    over = False  # then no stop is sent any more: it would hit how Python ends a thread

    def run() -> None:
        clock.follow_this_thread()
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    def work() -> None:
        nonlocal over
        try:  # noqa: SIM105  (suppress would itself be struck)
            run()
        except OutOfTime:  # a stop that came late
            pass
        while not over:
            try:
                with ending:
                    over = True
                for _ in range(2):  # here arrives one that was sent just before
                    pass
            except OutOfTime:
                pass

    worker = threading.Thread(target=work, daemon=True)
    waited = False
    try:
        with clock.watching_imports():
            worker.start()
            waited = _join(worker, clock, seconds, longest)
    finally:
        for _ in range(40):  # a bare `except:` may have swallowed it: again, until it gets through
            if not worker.is_alive():
                break
            with ending:
                if not over:
                    thread, error = ctypes.c_ulong(worker.ident or 0), ctypes.py_object(OutOfTime)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, error)
            worker.join(0.05)
    if results:
        return results[0]
    reason = errors[0] if errors else OutOfTime()
    if isinstance(reason, OutOfTime):
        reason.waited = waited
    raise reason


def _join(worker: threading.Thread, clock: "_Clock", seconds: float | None, longest: float) -> bool:
    """Wait until the thread ends or its time is over; whether it then waited, too."""
    if seconds is None:
        worker.join()
        return False
    started = time.monotonic()
    while worker.is_alive() and clock.computed() < seconds:
        if time.monotonic() - started > longest:
            return True
        worker.join(min(_TICK, seconds / 4))
    return False


class _Clock:
    """How long a thread has computed, its imports not counted.

    Where the system does not say that of a thread, the whole process counts.
    """

    def __init__(self) -> None:
        self._process_start = time.process_time()
        self._thread: int | None = None
        self._number: int | None = None
        self._imported = 0.0  # seconds spent on imports that have ended
        self._import_began: float | None = None  # of the import at hand, the outermost

    def follow_this_thread(self) -> None:
        """To be called in the thread itself, as one that has ended must not be asked about."""
        self._thread = threading.get_ident()
        with suppress(AttributeError):  # not on this system
            self._number = time.pthread_getcpuclockid(self._thread)

    def computed(self) -> float:
        """Seconds so far; it stands still during an import."""
        began = self._import_began
        return (self._now() if began is None else began) - self._imported

    @contextmanager
    def watching_imports(self) -> Iterator[None]:
        """Note how long the thread's imports take; those of other threads pass through."""
        plain = builtins.__import__

        def watched(*arguments: Any, **named: Any) -> Any:
            if threading.get_ident() != self._thread or self._import_began is not None:
                return plain(*arguments, **named)
            self._import_began = began = self._now()
            try:
                return plain(*arguments, **named)
            finally:
                self._imported += self._now() - began
                self._import_began = None

        builtins.__import__ = watched
        try:
            yield
        finally:
            builtins.__import__ = plain

    def _now(self) -> float:
        if self._number is None:
            return time.process_time() - self._process_start
        with suppress(OSError):  # the thread has just ended
            return time.clock_gettime(self._number)
        return 0.0


@contextmanager
def untouched_state() -> Iterator[None]:
    """Inside: seeded, and float32. Afterwards: everything as it was before.

    Covers what all threads share: the random numbers of torch, NumPy and Python, the default dtype
    and autograd's anomaly mode.
    """
    numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 - readers may use it
    dtype, anomaly = torch.get_default_dtype(), torch.is_anomaly_enabled()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.set_default_dtype(torch.float32)
            reseed(0)
            yield
    finally:
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])  # noqa: NPY002
        torch.set_default_dtype(dtype)
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
    while isinstance(answer, partial):
        answer = answer.func
    code = getattr(answer, "__code__", None)
    if isinstance(code, CodeType):
        return _is_empty(code)
    made = answer if isinstance(answer, type) else type(answer)
    methods = {name: m.__code__ for name, m in vars(made).items() if hasattr(m, "__code__")}
    if not methods:
        return made.__bases__ == (torch.nn.Module,) or (
            isinstance(answer, type) and made.__bases__ == (object,)
        )
    return any(_is_empty(methods[n]) for n in ("__init__", "forward", "__call__") if n in methods)


def _is_empty(code: CodeType) -> bool:
    """Whether the compiled function does nothing but return None or `...`."""
    quiet = ("RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP")
    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    values = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return all(step.opname in quiet for step in steps) and all(
        value is None or value is ... for value in values
    )


def says_not_implemented(error: BaseException) -> bool:
    """Whether the reader's own code says so, and not torch, of an operation or of `forward`."""
    if not isinstance(error, NotImplementedError) or error.__traceback__ is None:
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    code = frame.f_code
    return not code.co_filename.startswith(FOREIGN) and "NotImplementedError" in code.co_names


def is_unfilled(error: BaseException) -> bool:
    """Whether the error is about an `x = ...` that was not filled in."""
    text = str(error).lower()
    return "ellipsis" in text and "..." not in text  # with dots it is about an index or a pattern


def where(error: BaseException) -> str:
    """The last line of the reader's own code that led to the error; empty if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(FOREIGN)]
    if not theirs:
        return ""
    last = ([frame for frame in theirs if frame.line] or theirs)[-1]
    return f"line {last.lineno} of {last.name}" + f": {last.line}" * bool(last.line)
