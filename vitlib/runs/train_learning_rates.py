"""Trains the book's small model at six learning rates, with and without warm-up, three seeds each.

    python -m vitlib.runs.train_learning_rates

Writes learning_rates.json, for `RunsFigure("learning_rates")`. Everything else follows the book's
recipe, `vitlib.TrainConfig`, except that a run has only 400 steps and keeps no moving average of
the weights: an average would hide how far the weights themselves have come, or jumped. All numbers
are of the validation images, a tenth of the training digits; the test images are not used.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitlib import TrainConfig, create_model, load_data
from vitlib.runs.diverging import fit_or_diverge
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import accuracy_curve, loss_curve, window_means, write_log

LOG = Path(__file__).with_name("learning_rates.json")
NAME, SEEDS = "vit_nano_patch7_28", (0, 1, 2)
RATES, WARMUPS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (0, TrainConfig().warmup_steps)
RECIPE = TrainConfig(steps=400, eval_every=40, ema_decay=None, progress=False)
WINDOW = 20  # steps whose mean loss is one point of the curve


def run(lr: float, warmup_steps: int, seed: int) -> dict[str, Any]:
    """Train one model; return its entry in the log.

    A run that diverges is recorded up to that step.
    """
    data = load_data("mnist5k")
    torch.manual_seed(seed)
    model = create_model(NAME)
    config = replace(RECIPE, lr=lr, warmup_steps=warmup_steps, seed=seed)
    history, diverged_at = fit_or_diverge(model, data, config)
    val_accuracy = [round(value, 4) for value in history.val_accuracy]
    last = None if diverged_at else val_accuracy[-1]
    print(lr, warmup_steps, seed, last, diverged_at, flush=True)
    return {
        "lr": lr,
        "warmup_steps": warmup_steps,
        "seed": seed,
        "last_val_accuracy": last,
        "diverged_at": diverged_at,
        "loss": window_means(history.loss, WINDOW),
        "val_accuracy": val_accuracy,
    }


def write(runs: list[dict[str, Any]]) -> None:
    """Write the log of these runs."""
    val_accuracy = accuracy_curve(RECIPE.steps, RECIPE.eval_every)
    write_log(
        LOG,
        model=NAME,
        recipe=RECIPE,
        settings={"lr": "Learning rate", "warmup_steps": "Warm-up steps"},
        curves=loss_curve(RECIPE.steps, WINDOW) | {"val_accuracy": val_accuracy},
        results={"last_val_accuracy": {"label": "Validation accuracy at the end", "percent": True}},
        runs=runs,
    )


if __name__ == "__main__":
    jobs = [(lr, warmup, seed) for lr in RATES for warmup in WARMUPS for seed in SEEDS]
    write(one_core_each(run, jobs))
