"""What an answer leaves behind in what all code shares: grad mode, default dtype, seed."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from vitlib.check.aftermath import Change

STAMP = 7_700_613  # a seed that nobody takes
SHARED: dict[str, tuple[Callable[[], Any], str]] = {
    "gradients": (
        torch.is_grad_enabled,
        "gradients are switched {} for good: the next loss.backward() fails, or memory fills up. "
        "`with torch.no_grad():` switches them off for its block only",
    ),
    "dtype": (torch.get_default_dtype, "the default dtype is {} afterwards"),
    "threads": (torch.get_num_threads, "PyTorch computes with {} threads afterwards"),
    "autocast": (partial(torch.is_autocast_enabled, "cpu"), "autocast is {} afterwards"),
    "deterministic": (
        torch.are_deterministic_algorithms_enabled,
        "torch.use_deterministic_algorithms is {} afterwards",
    ),
    "anomaly": (torch.is_anomaly_enabled, "autograd's anomaly detection is {} afterwards"),
    "inference": (torch.is_inference_mode_enabled, "inference mode is {} afterwards"),
}  # fmt: skip


RESTORE: dict[str, Callable[[Any], Any]] = {  # the rest ends with the thread
    "gradients": torch.set_grad_enabled,
    "dtype": torch.set_default_dtype,
    "threads": torch.set_num_threads,
    "autocast": partial(torch.set_autocast_enabled, "cpu"),
    "deterministic": torch.use_deterministic_algorithms,
    "anomaly": torch.autograd.set_detect_anomaly,
}


class Shared:
    """Grad mode, default dtype and the like, as they are now."""

    def __init__(self) -> None:
        self._before = {name: look() for name, (look, _) in SHARED.items()}

    def changes(self) -> list[Change]:
        """What is not as it was."""
        found = []
        for name, (look, text) in SHARED.items():
            now = look()
            if now != self._before[name]:
                restore = "" if name == "gradients" else f", and it was {_said(self._before[name])}"
                said = _said(now)
                found.append(Change("shared state", name, text.format(said) + restore, said))
        return found

    def restore(self) -> None:
        """Make it as it was, for the next case."""
        for name, before in self._before.items():
            if SHARED[name][0]() != before and name in RESTORE:
                RESTORE[name](before)


def _said(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


class Seed:
    """The seed of PyTorch's random numbers, stamped so that any torch.manual_seed shows."""

    def __init__(self) -> None:
        state = torch.get_rng_state()
        state[:8] = torch.tensor(list(STAMP.to_bytes(8, "little")), dtype=torch.uint8)
        torch.set_rng_state(state)  # the numbers to come are the same

    def changes(self) -> list[Change]:
        """Whether somebody has set a seed."""
        if torch.initial_seed() == STAMP:
            return []
        text = (
            "torch.manual_seed was called: all random numbers of the program start again from "
            "there. Use a torch.Generator of your own, or leave the seed to the caller"
        )
        return [Change("shared state", "seed", text)]
