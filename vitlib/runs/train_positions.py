"""Trains the book's small model with learned, sin-cos and no positions, three seeds each.

    python -m vitlib.runs.train_positions

Writes positions.json, which chapter 2 shows (record.py says what such a file holds). Everything but
the positions is the book's recipe, `vitlib.TrainConfig`; the 4,000 training digits are used whole,
and each run is tested once.
"""

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitlib import TrainConfig, create_model, evaluate, fit, load_data
from vitlib.runs.in_parallel import one_core_each

LOG = Path(__file__).with_name("positions.json")
NAME, SEEDS, KINDS = "vit_nano_patch7_28", (0, 1, 2), ("learned", "sincos", "none")
RECIPE = TrainConfig(progress=False, val_fraction=0.0)
WINDOW = 50  # steps whose mean loss is one point of the curve: enough to draw, short enough to read
ENDS = list(range(WINDOW, RECIPE.steps + 1, WINDOW))


def run(kind: str, seed: int) -> dict[str, Any]:
    """One training, and what came of it."""
    data = load_data("mnist5k")
    torch.manual_seed(seed)
    model = create_model(NAME, pos_embed=kind)
    history = fit(model, data, replace(RECIPE, seed=seed))
    result = {
        "pos_embed": kind,
        "seed": seed,
        "test_accuracy": round(evaluate(model, data.test).accuracy, 4),
        "last_loss": round(statistics.mean(history.loss[-50:]), 4),
        "loss": [round(statistics.mean(history.loss[end - WINDOW : end]), 3) for end in ENDS],
    }
    print(kind, seed, result["test_accuracy"], flush=True)
    return result


if __name__ == "__main__":
    runs = one_core_each(run, [(kind, seed) for kind in KINDS for seed in SEEDS])
    log = {
        "model": NAME,
        "recipe": RECIPE.to_dict(),
        "settings": {"pos_embed": "Position embedding"},
        "curves": {"loss": {"label": f"Training loss, mean of {WINDOW} steps", "steps": ENDS}},
        "results": {"test_accuracy": {"label": "Test accuracy", "percent": True}},
        "runs": runs,
        "torch": torch.__version__,
    }
    LOG.write_text(json.dumps(log, indent=1) + "\n")
