"""Chooses the recipe of vit_nano_patch7_28, and trains the weights that come with vitlib.

    python -m vitlib.weights.train_nano choose   # on a validation split: candidates against it
    python -m vitlib.weights.train_nano train    # on all 4,000 digits: three seeds, then the test

Both write their part of vit_nano_patch7_28.json, which chapter 7 shows. The recipe itself stands in
`vitlib.TrainConfig`, as its defaults. The weights kept are those of the seed with the median test
accuracy, so that they are as good as the recipe and not as its luckiest run.
"""

import json
import os
import platform
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from vitlib import (
    TrainConfig,
    VisionTransformer,
    create_model,
    evaluate,
    fit,
    load_data,
    save_checkpoint,
)
from vitlib.history import History

NAME = "vit_nano_patch7_28"
FOLDER = Path(__file__).parent
LOG = FOLDER / f"{NAME}.json"
SEEDS = (0, 1, 2)

RECIPE = TrainConfig(progress=False)
CANDIDATES: list[dict[str, Any]] = [
    {},
    {"lr": 1.5e-3},
    {"lr": 5e-3},
    {"weight_decay": 0.2},
    {"label_smoothing": 0.0},
    {"ema_decay": None},
    {"augment": "none"},
    {"weight_init": ""},
]  # one change of the recipe each; weight_init is the model's


def choose() -> dict[str, Any]:
    """Validation loss and accuracy of the recipe and of its candidates, two seeds each."""
    seeds, rows = SEEDS[:2], []
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:  # a core for each run
        pending = [[pool.submit(validate, seed, change) for seed in seeds] for change in CANDIDATES]
    for change, futures in zip(CANDIDATES, pending, strict=True):
        runs = [future.result() for future in futures]
        rows.append(
            {
                "change": change,
                "val_loss": [round(run.val_loss[-1], 4) for run in runs],
                "val_accuracy": [round(run.val_accuracy[-1], 4) for run in runs],
            }
        )
    return {"candidates": rows, "candidates_steps": RECIPE.steps}


def validate(seed: int, change: dict[str, Any]) -> History:
    """The history of one candidate, trained on one core."""
    torch.set_num_threads(1)
    history = train_once(seed, change)[1]
    print(change, seed, history, flush=True)
    return history


def train() -> dict[str, Any]:
    """Train with each seed on all training digits, test each once, keep the median's weights."""
    data, runs, models = load_data("mnist5k"), [], []
    for seed in SEEDS:
        model, history = train_once(seed, {"val_fraction": 0.0})
        accuracy = evaluate(model, data.test).accuracy
        runs.append(
            {
                "seed": seed,
                "test_accuracy": round(accuracy, 4),
                "seconds": round(history.seconds, 1),
                "last_loss": round(statistics.mean(history.loss[-50:]), 4),
            }
        )
        models.append(model)
        print(runs[-1], flush=True)
    median = sorted(range(len(runs)), key=lambda i: runs[i]["test_accuracy"])[len(runs) // 2]
    save_checkpoint(models[median], FOLDER / f"{NAME}.safetensors", notes=runs[median])
    return {
        "recipe": replace(RECIPE, val_fraction=0.0).to_dict(),
        "runs": runs,
        "median_test_accuracy": runs[median]["test_accuracy"],
        "kept_seed": SEEDS[median],
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def train_once(seed: int, change: dict[str, Any]) -> tuple[VisionTransformer, History]:
    """The book's nano model, started and trained with `seed` by the recipe with one change."""
    settings = dict(change)
    start = {key: settings.pop(key) for key in ("weight_init",) if key in settings}
    torch.manual_seed(seed)
    model = create_model(NAME, **start)
    return model, fit(model, load_data("mnist5k"), replace(RECIPE, seed=seed, **settings))


if __name__ == "__main__":
    part = {"choose": choose, "train": train}[sys.argv[1]]()
    known = json.loads(LOG.read_text()) if LOG.exists() else {}
    LOG.write_text(json.dumps(known | part, indent=1) + "\n")
