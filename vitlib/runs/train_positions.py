"""Trains the book's small model with learned, sin-cos and no positions, with three seeds each.

    python -m vitlib.runs.train_positions

Writes positions.json, which chapter 2 shows (record.py describes such files). Everything but the
positions follows the book's recipe, `vitlib.TrainConfig`; all 4,000 training digits are used, and
each run is tested once.
"""

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitlib import TrainConfig, create_model, evaluate, fit, load_data
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import TEST_ACCURACY, loss_curve, window_means, write_log

LOG = Path(__file__).with_name("positions.json")
NAME, SEEDS, KINDS = "vit_nano_patch7_28", (0, 1, 2), ("learned", "sincos", "none")
RECIPE = TrainConfig(progress=False, val_fraction=0.0)
WINDOW = 50  # steps whose mean loss is one point of the curve


def run(kind: str, seed: int) -> dict[str, Any]:
    """Train and test one model; return its entry in the log."""
    data = load_data("mnist5k")
    torch.manual_seed(seed)
    model = create_model(NAME, pos_embed=kind)
    history = fit(model, data, replace(RECIPE, seed=seed))
    result = {
        "pos_embed": kind,
        "seed": seed,
        "test_accuracy": round(evaluate(model, data.test).accuracy, 4),
        "last_loss": round(statistics.mean(history.loss[-50:]), 4),
        "loss": window_means(history.loss, WINDOW),
    }
    print(kind, seed, result["test_accuracy"], flush=True)
    return result


if __name__ == "__main__":
    write_log(
        LOG,
        model=NAME,
        recipe=RECIPE,
        settings={"pos_embed": "Position embedding"},
        curves=loss_curve(RECIPE.steps, WINDOW),
        results=TEST_ACCURACY,
        runs=one_core_each(run, [(kind, seed) for kind in KINDS for seed in SEEDS]),
    )
