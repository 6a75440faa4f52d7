"""Trains the book's small model at six learning rates, with warm-up and without, two seeds each.

    python -m vitlib.runs.train_learning_rates

Writes learning_rates.json, for `RunsFigure("learning_rates")`. Everything else is the book's
recipe, `vitlib.TrainConfig`, except that a run is 400 steps short and keeps no moving average of
the weights: an average would hide how far the weights themselves have come, or jumped. A rate is
to be chosen by the validation images, a tenth of the training digits; each run is tested once.
"""

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitlib import History, TrainConfig, create_model, evaluate, fit, load_data
from vitlib.runs.in_parallel import one_core_each
from vitlib.train import TrainState

LOG = Path(__file__).with_name("learning_rates.json")
NAME, SEEDS = "vit_nano_patch7_28", (0, 1)
RATES, WARMUPS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (0, TrainConfig().warmup_steps)
RECIPE = TrainConfig(steps=400, eval_every=40, ema_decay=None, progress=False)
WINDOW = 20  # steps whose mean loss is one point of the curve: enough to draw, short enough to read


def run(lr: float, warmup_steps: int, seed: int) -> dict[str, Any]:
    """One training, and what came of it; one that diverged is recorded as far as it came."""
    data = load_data("mnist5k")
    torch.manual_seed(seed)
    model = create_model(NAME)
    config = replace(RECIPE, lr=lr, warmup_steps=warmup_steps, seed=seed)
    history, diverged_at = History(config), None

    def keep(state: TrainState) -> None:
        nonlocal history
        history = state.history  # fit returns none where it breaks off

    try:
        fit(model, data, config, callbacks=[keep])
    except FloatingPointError:
        diverged_at = len(history.loss) + 1
    whole = range(WINDOW, len(history.loss) + 1, WINDOW)
    accuracy = None if diverged_at else round(evaluate(model, data.test).accuracy, 4)
    print(lr, warmup_steps, seed, accuracy, diverged_at, flush=True)
    return {
        "lr": lr,
        "warmup_steps": warmup_steps,
        "seed": seed,
        "test_accuracy": accuracy,
        "diverged_at": diverged_at,
        "loss": [round(statistics.mean(history.loss[end - WINDOW : end]), 3) for end in whole],
        "val_accuracy": [round(value, 4) for value in history.val_accuracy],
    }


if __name__ == "__main__":
    jobs = [(lr, warmup, seed) for lr in RATES for warmup in WARMUPS for seed in SEEDS]
    log = {
        "model": NAME,
        "recipe": RECIPE.to_dict(),
        "settings": {"lr": "Learning rate", "warmup_steps": "Warm-up steps"},
        "curves": {
            "loss": {
                "label": f"Training loss, mean of {WINDOW} steps",
                "steps": list(range(WINDOW, RECIPE.steps + 1, WINDOW)),
            },
            "val_accuracy": {
                "label": "Validation accuracy",
                "steps": list(range(RECIPE.eval_every, RECIPE.steps + 1, RECIPE.eval_every)),
                "percent": True,
            },
        },
        "results": {"test_accuracy": {"label": "Test accuracy", "percent": True}},
        "runs": one_core_each(run, jobs),
        "torch": torch.__version__,
    }
    LOG.write_text(json.dumps(log, indent=1) + "\n")
