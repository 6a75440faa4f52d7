"""Trains the book's small model with and without augmentation, each at four learning rates.

    python -m vitlib.runs.train_augmentation

Writes augmentation.json, which chapter 7 shows (record.py describes such files). Everything else
follows the book's recipe, `vitlib.TrainConfig`. A run has its own seed and its own validation
images, a tenth of the training digits, by which the learning rate of each arm is to be chosen, on
the mean of the three seeds. The test images are not used.

The accuracies are those of the averaged weights, in eval mode: on the validation images, and on
`SHOWN` training images, without augmentation and the same throughout a run. "val_unaveraged" is the
accuracy on the validation images of the weights themselves.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitlib import TrainConfig, create_model, evaluate, fit, load_data
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import accuracy_curve, write_log
from vitlib.train import TrainState

LOG = Path(__file__).with_name("augmentation.json")
NAME, SEEDS = "vit_nano_patch7_28", (0, 1, 2)
ARMS, RATES = ("affine", "none"), (1.5e-3, 3e-3, 6e-3, 1.2e-2)
RECIPE = TrainConfig(eval_every=100, progress=False)
SHOWN = 400  # training images by which the training accuracy is measured


def run(augment: str, lr: float, seed: int) -> dict[str, Any]:
    """Train one model; return its entry in the log."""
    data = load_data("mnist5k")
    torch.manual_seed(seed)
    model = create_model(NAME)
    config = replace(RECIPE, augment=augment, lr=lr, seed=seed)
    train, val = data.split(config.val_fraction, seed)  # as `fit` splits them
    shown = train.subset(range(SHOWN))
    train_accuracy, unaveraged = [], []

    def measure(state: TrainState) -> None:
        if state.step % config.eval_every == 0:
            train_accuracy.append(round(evaluate(state.averaged, shown).accuracy, 4))
            unaveraged.append(round(evaluate(state.model, val).accuracy, 4))

    history = fit(model, data, config, callbacks=[measure])
    val_accuracy = [round(value, 4) for value in history.val_accuracy]
    print(augment, lr, seed, train_accuracy[-1], val_accuracy[-1], flush=True)
    return {
        "augment": augment,
        "lr": lr,
        "seed": seed,
        "last_train_accuracy": train_accuracy[-1],
        "last_val_accuracy": val_accuracy[-1],
        "last_val_loss": round(history.val_loss[-1], 4),
        "train_accuracy": train_accuracy,
        "val_accuracy": val_accuracy,
        "val_unaveraged": unaveraged,
    }


def write(runs: list[dict[str, Any]]) -> None:
    """Write the log of these runs."""
    curves = {
        "val_accuracy": "Validation accuracy",
        "train_accuracy": "Training accuracy",
        "val_unaveraged": "Validation accuracy without the moving average",
    }
    write_log(
        LOG,
        model=NAME,
        recipe=RECIPE,
        settings={"augment": "Augmentation", "lr": "Learning rate"},
        curves={
            key: accuracy_curve(RECIPE.steps, RECIPE.eval_every, label)
            for key, label in curves.items()
        },
        results={
            "last_val_accuracy": {"label": "Validation accuracy at the end", "percent": True},
            "last_train_accuracy": {"label": "Training accuracy at the end", "percent": True},
        },
        runs=runs,
        details={"training_images_shown": SHOWN},
    )


if __name__ == "__main__":
    jobs = [(augment, lr, seed) for augment in ARMS for lr in RATES for seed in SEEDS]
    write(one_core_each(run, jobs))
