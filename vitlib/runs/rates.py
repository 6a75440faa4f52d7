"""The learning rate of each arm of an experiment: the best one on data that no run learned from."""

import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

Arm = TypeVar("Arm", bound=Hashable)


def choose_rates(
    trials: Sequence[Mapping[str, Any]], setting: str, arms: Iterable[Arm]
) -> dict[Arm, float]:
    """For each arm the rate with the best mean validation accuracy; of equal ones, the first tried.

    trials: each with the arm under `setting`, its "lr", and its "val_accuracy".
    """

    def mean_of(arm: Arm, lr: float) -> float:
        return statistics.mean(
            one["val_accuracy"] for one in trials if (one[setting], one["lr"]) == (arm, lr)
        )

    rates = list(dict.fromkeys(one["lr"] for one in trials))
    return {arm: max(rates, key=lambda lr: mean_of(arm, lr)) for arm in arms}
