"""Ctrl-C and SIGTERM, held back until a step is complete."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_HELD: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@contextmanager
def defer_interrupts(alone: bool = True) -> Iterator[Callable[[], int]]:
    """Hold back Ctrl-C (SIGINT) and SIGTERM, which clusters send before they kill a process.

    Yields a function that returns the number of the signal that came, or 0. So no step is cut
    short. A second Ctrl-C interrupts at once; not so with several processes (`alone=False`), where
    one signal may arrive twice, from the sender and from torchrun.

    In other threads than the main one, and for a signal whose usual handler has been replaced,
    nothing changes.
    """
    pending: list[int] = []

    def hold(signum: int, frame: FrameType | None) -> None:
        if alone and signum == signal.SIGINT and pending:
            raise KeyboardInterrupt
        pending.append(signum)

    in_main_thread = threading.current_thread() is threading.main_thread()
    held = [s for s, usual in _HELD.items() if in_main_thread and signal.getsignal(s) is usual]
    for signum in held:
        signal.signal(signum, hold)
    try:
        yield lambda: pending[0] if pending else 0
    finally:
        for signum in held:
            signal.signal(signum, _HELD[signum])


def stop_for(signum: int) -> None:
    """End as that signal does: KeyboardInterrupt, or SystemExit with 128 + its number."""
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + signum)
