"""Chooses the recipe of the book's small models, and trains the weights that come with vitlib.

    python -m vitlib.weights.train_nano choose         # chapter 7's recipe, on a validation split
    python -m vitlib.weights.train_nano run            # chapter 7's run, on all 4,000 digits
    python -m vitlib.weights.train_nano choose_longer  # the packaged models' recipe
    python -m vitlib.weights.train_nano train          # vit_nano_patch7_28, by that recipe
    python -m vitlib.weights.train_nano affine         # the same with chapter 7's augmentation
    python -m vitlib.weights.train_nano train_patch4   # vit_nano_patch4_28, by the same recipe

Each writes its part of the model's log, a JSON file next to the weights, which chapters show.

Chapter 7's recipe is the defaults of `vitlib.TrainConfig`; it takes a minute. The packaged models
are trained for longer, with a slower average and with augmentation "handwriting", so that they read
digits that others draw. Those are scikit-learn's, from which no model learns: the first half helps
to choose, the second half is only measured. With patches of 4 the recipe is the same, and a step
takes twice as long. `run`, `affine` and `train`, compared, say what the steps and the augmentation
did.

Training uses three seeds and tests each model once. The weights of the seed that reads most of the
drawn digits' first half are kept ("choosing": in the middle, and moved). So neither the test digits
nor the second half choose anything.

"also_tested" in the log of vit_nano_patch7_28, written by hand, names the versions of chapter 7's
recipe that had been tested before, three seeds each: a first draft with weight_init "" and 2,000
steps, and this recipe with 1,900 and with 1,700 steps. The 1,500 steps were chosen for their time.
In the log of vit_nano_patch4_28 it names 8,000 steps, tested with one seed.
"""

import json
import os
import platform
import statistics
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch.nn import functional as F

from vitlib import (
    ImageSet,
    TrainConfig,
    VisionTransformer,
    create_model,
    fit,
    load_data,
    save_checkpoint,
)
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.train_bias import SHIFTS, mean_accuracy, shifted
from vitlib.runs.train_positions import pairs
from vitlib.train.history import History

NAME, FINER = "vit_nano_patch7_28", "vit_nano_patch4_28"
FOLDER = Path(__file__).parent
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

SLOWER = {"ema_decay": 0.999, "amp": "bf16"}  # bf16 takes 0.6 of the time on the CPU that was used
LONGER: list[dict[str, Any]] = [
    SLOWER | {"steps": 6_000, "augment": "affine"},
    SLOWER | {"steps": 6_000, "augment": "handwriting"},
    SLOWER | {"steps": 12_000, "augment": "handwriting"},
]
PACKAGED = LONGER[2]


def choose() -> dict[str, Any]:
    """Validation loss and accuracy of the recipe and the other candidates, with two seeds each."""
    seeds = SEEDS[:2]
    done = one_core_each(validate, [(seed, change) for change in CANDIDATES for seed in seeds])
    rows = [
        {
            "change": change,
            "val_loss": [round(run.val_loss[-1], 4) for run in runs],
            "val_accuracy": [round(run.val_accuracy[-1], 4) for run in runs],
        }
        for change, *runs in zip(CANDIDATES, done[::2], done[1::2], strict=True)
    ]
    return {"candidates": rows, "candidates_steps": RECIPE.steps}


def validate(seed: int, change: dict[str, Any]) -> History:
    """Train one candidate and return its history, with validation."""
    history = train_once(NAME, seed, change)[1]
    print(change, seed, history, flush=True)
    return history


def choose_longer() -> dict[str, Any]:
    """Validation accuracy of the longer recipes, and accuracy on half of the drawn digits."""
    rows = []
    for change in LONGER:
        model, history = train_once(NAME, SEEDS[0], change)
        drawn, rolled = (drawn_accuracy(model, 0, by) for by in (0, 4))
        rows.append(
            {"change": change, "val_accuracy": round(history.val_accuracy[-1], 4),
             "drawn": drawn, "rolled": rolled, "seconds": round(history.seconds, 1)}
        )  # fmt: skip
        print(rows[-1], flush=True)
    return {"longer": rows}


def run() -> dict[str, Any]:
    """Chapter 7's run, with each seed; its weights are not kept."""
    return {"short": train_seeds(NAME, {})[0]}


def affine() -> dict[str, Any]:
    """As many steps, with the augmentation of chapter 7; the weights are not kept."""
    return {"affine": train_seeds(NAME, PACKAGED | {"augment": "affine"})[0]}


def train(name: str) -> dict[str, Any]:
    """Train the packaged model with each seed, test each once, keep one seed's weights."""
    log, models = train_seeds(name, PACKAGED)
    for run, model in zip(log["runs"], models, strict=True):
        run["choosing"] = [drawn_accuracy(model, 0, by) for by in (0, 4)]
    kept = max(range(len(SEEDS)), key=lambda i: sum(log["runs"][i]["choosing"]))
    save_checkpoint(models[kept], FOLDER / f"{name}.safetensors", notes=log["runs"][kept])
    accuracies = [run["test_accuracy"] for run in log["runs"]]
    return log | {"median_test_accuracy": statistics.median(accuracies), "kept_seed": SEEDS[kept]}


def train_seeds(
    name: str, change: dict[str, Any]
) -> tuple[dict[str, Any], list[VisionTransformer]]:
    """The recipe with this change on all training digits, once per seed."""
    data, runs, models = load_data("mnist5k"), [], []
    change = change | {"val_fraction": 0.0}
    for seed in SEEDS:
        model, history = train_once(name, seed, change)
        accuracies = [mean_accuracy(model, shifted(data.test, by)) for by in SHIFTS]
        runs.append(
            {
                "seed": seed,
                "test_accuracy": accuracies[0],
                "seconds": round(history.seconds, 1),
                "last_loss": round(statistics.mean(history.loss[-50:]), 4),
                "drawn": drawn_accuracy(model, 1),
                "rolled": drawn_accuracy(model, 1, by=4),
                "distance_correlation": distance_correlation(model),
                "shifted": accuracies,
            }
        )
        models.append(model)
        print(runs[-1], flush=True)
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    return {"recipe": replace(RECIPE, **change).to_dict(), "runs": runs, "machine": machine}, models


def train_once(name: str, seed: int, change: dict[str, Any]) -> tuple[VisionTransformer, History]:
    """Build and train the model of this name, with `seed` and these changes of the recipe."""
    settings = dict(change)
    start = {key: settings.pop(key) for key in ("weight_init",) if key in settings}
    torch.manual_seed(seed)
    model = create_model(name, **start)
    return model, fit(model, load_data("mnist5k"), replace(RECIPE, seed=seed, **settings))


@cache
def drawn_digits() -> ImageSet:
    """1,797 digits by other writers, framed as a page frames what a reader draws in it.

    They are scikit-learn's, 8×8 pixels of 17 greys. Each is enlarged to 20×20 and put into a field
    of 28×28 so that its centre of mass is in the middle, as MNIST's digits are.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    large = F.interpolate(small, (20, 20), mode="bicubic").clamp(0, 1)
    placed = [_centred(image) for image in F.pad(large, (4, 4, 4, 4))]
    mnist = load_data("mnist5k")
    pixels = (255 * torch.stack(placed)).round().to(torch.uint8)
    return ImageSet(pixels, torch.from_numpy(labels.astype(np.int64)), mnist.mean, mnist.std)


def _centred(image: torch.Tensor) -> torch.Tensor:
    """The image (1, 28, 28), rolled so that its centre of mass is at 13.5 in both directions."""
    place = torch.arange(28.0)
    rows, columns = image[0].sum(dim=1), image[0].sum(dim=0)
    shifts = [round(13.5 - float((place * ink).sum() / ink.sum())) for ink in (rows, columns)]
    return image.roll(shifts, dims=(1, 2))


def distance_correlation(model: VisionTransformer) -> float:
    """Rank correlation of the positions' cosine with the distance of their places on the grid."""
    assert model.pos_embed is not None
    vectors = model.pos_embed.detach()[0, model.num_prefix_tokens :]
    return round(float(spearmanr(*pairs(vectors, model.grid_size)).statistic), 3)


def drawn_accuracy(model: VisionTransformer, half: int, by: int = 0) -> float:
    """Accuracy on the first half (0) or the second (1) of the drawn digits, rolled `by` pixels down
    and to the right."""
    digits = drawn_digits()
    index = torch.arange(len(digits)).chunk(2)[half]
    rolled = digits.images[index].roll((by, by), dims=(2, 3))
    chosen = ImageSet(rolled, digits.labels[index], digits.mean, digits.std)
    return mean_accuracy(model, [chosen])


COMMANDS = {
    "choose": (NAME, choose),
    "run": (NAME, run),
    "affine": (NAME, affine),
    "choose_longer": (NAME, choose_longer),
    "train": (NAME, lambda: train(NAME)),
    "train_patch4": (FINER, lambda: train(FINER)),
}

if __name__ == "__main__":
    name, command = COMMANDS[sys.argv[1]]
    log = FOLDER / f"{name}.json"
    known = json.loads(log.read_text()) if log.exists() else {}
    log.write_text(json.dumps(known | command(), indent=1) + "\n")
