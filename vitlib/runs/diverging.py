"""Trainings that may diverge: how far they came."""

from collections.abc import Callable, Sequence

from torch import nn

from vitlib import History, ImageData, TrainConfig, fit
from vitlib.train import TrainState


def fit_or_diverge(
    model: nn.Module,
    data: ImageData,
    config: TrainConfig,
    callbacks: Sequence[Callable[[TrainState], object]] = (),
) -> tuple[History, int | None]:
    """`fit`'s history, up to the step at which the run diverges, and that step; None if it ends."""
    history = History(config)

    def keep(state: TrainState) -> None:
        nonlocal history
        history = state.history  # fit does not return it if the run diverges

    try:
        fit(model, data, config, callbacks=[keep, *callbacks])
    except FloatingPointError:
        return history, len(history.loss) + 1
    return history, None
