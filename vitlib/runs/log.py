"""What the scripts of this folder share: means of losses, and the JSON log that record.py reads."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vitlib import TrainConfig

TEST_ACCURACY = {"test_accuracy": {"label": "Test accuracy", "percent": True}}


def window_ends(steps: int, window: int) -> list[int]:
    """The last step of each complete window of steps: window, 2 · window, ..., up to `steps`."""
    return list(range(window, steps + 1, window))


def window_means(losses: Sequence[float], window: int) -> list[float]:
    """The mean loss of each complete window of steps, rounded: the points of a curve."""
    ends = window_ends(len(losses), window)
    return [round(statistics.mean(losses[end - window : end]), 3) for end in ends]


def loss_curve(steps: int, window: int) -> dict[str, Any]:
    """How a log describes the curve that `window_means` makes."""
    label = f"Training loss, mean of {window} steps"
    return {"loss": {"label": label, "steps": window_ends(steps, window)}}


def accuracy_curve(steps: int, every: int, label: str = "Validation accuracy") -> dict[str, Any]:
    """How a log describes a curve of accuracies, one after each `every` steps."""
    return {"label": label, "steps": window_ends(steps, every), "percent": True}


def write_log(
    path: Path,
    *,
    model: Any,
    recipe: TrainConfig,
    settings: Mapping[str, str],
    curves: Mapping[str, Any],
    results: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write the log of an experiment, with torch's version.

    Args:
        model: the name of a preset, or arguments of VisionTransformer.
        recipe: the settings that all runs share.
        settings, curves, results, runs: as record.py describes them.
        details: whatever else should be in the log.

    Raises ValueError for numbers that are not finite.
    """
    log = {
        "model": model,
        **(details or {}),
        "recipe": recipe.to_dict(),
        "settings": settings,
        "curves": curves,
        "results": results,
        "runs": runs,
        "torch": torch.__version__,
    }
    text = json.dumps(log, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", "utf8")
