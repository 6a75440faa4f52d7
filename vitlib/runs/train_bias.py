"""Trains a CNN, a ViT, a Mixer and an MLP of one size on few and on many digits, and on scrambled.

    python -m vitlib.runs.train_bias

Writes bias.json, for chapter 9 (record.py describes such files). Each of the four has about 206,000
parameters. They learn from 50 to 3,600 digits, with and without augmentation; and, without, from
3,600 digits whose patches, or whose single pixels, stand in another order, and from 50 of the
latter: one order, the same for every digit and in testing. Such an order takes nothing from a model
that has to learn from data which places belong together; what does it take from one that expects
neighbours to be alike? The MLP, one hidden layer on all pixels, is the control that knows nothing
about images.

The recipe is the book's, `vitlib.TrainConfig`, with batches of 50 and without an average of the
weights. Every run has as many steps, whatever the number of digits. Each arm is trained at each of
`RATES` with the first seed; the rate with the best accuracy on 400 digits kept back is the arm's,
and the other seeds are trained at that rate ("trials" in the log are the others). Only then are
models tested, so the test digits choose nothing.

"shifted" is the accuracy on test digits that are shifted by 0, 1, ... 7 pixels, the mean of the
four directions, for models that learned from all digits. A digit shifted by more than 4 pixels may
lose ink at the edge: it is cut there.

This takes about two hours on two cores. Results are kept in `_build`, so that it can be
interrupted.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib import ImageSet, MlpMixer, TrainConfig, create_model, evaluate, load_data
from vitlib.baselines import SmallCNN
from vitlib.runs.diverging import fit_or_diverge
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import TEST_ACCURACY, accuracy_curve, loss_curve, window_means, write_log
from vitlib.runs.rates import choose_rates
from vitlib.train import TrainState

LOG = Path(__file__).with_name("bias.json")
MODELS: dict[str, Callable[[], nn.Module]] = {
    # channels_last computes the same, and its convolutions are faster on a CPU.
    "CNN": lambda: SmallCNN(width=60).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    "ViT": lambda: create_model("vit_nano_patch7_28"),
    "Mixer": lambda: MlpMixer(28, 7, 1, 10, embed_dim=78, depth=4),
    "MLP": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 258), nn.GELU(), nn.Linear(258, 10)
    ),
}  # fmt: skip
DIGITS, KEPT_BACK = (50, 200, 800, 3600), 400
ORDERS = ("as they are", "patches shuffled", "pixels shuffled")
SEEDS, RATES, SHIFTS = (0, 1, 2), (1e-3, 3e-3, 1e-2), range(8)
RECIPE = TrainConfig(steps=1000, batch_size=50, ema_decay=None, val_fraction=0.0, progress=False)
EVERY = 100  # steps between two points of a curve

# An arm of the experiment: (model, digits, augmentation, order).
Arm = tuple[str, int, str, str]
ARMS: tuple[Arm, ...] = (
    *((m, n, a, ORDERS[0]) for a in ("none", "affine") for n in DIGITS[::-1] for m in MODELS),
    *((m, DIGITS[-1], "none", order) for order in ORDERS[1:] for m in MODELS),
    *((m, DIGITS[0], "none", ORDERS[-1]) for m in MODELS),
)


class Reordered(nn.Module):
    """A classifier behind a fixed order of the image's patches, or of its pixels.

    Patches are those of the ViT and the Mixer, 7 × 7. Pixels are one row of numbers here, and
    `places[i]` says from where the i-th one comes.
    """

    def __init__(self, model: nn.Module, order: str, side: int = 28, patch: int = 7):
        super().__init__()
        self.model, self.num_classes = model, 10
        places = torch.arange(side * side).reshape(side, side)
        generator = torch.Generator().manual_seed(0)
        if order == "patches shuffled":
            rows = side // patch
            patches = places.unfold(0, patch, patch).unfold(1, patch, patch).flatten(0, 1)
            patches = patches[torch.randperm(rows * rows, generator=generator)]
            places = patches.unflatten(0, (rows, rows)).transpose(1, 2)
        elif order == "pixels shuffled":
            places = torch.randperm(side * side, generator=generator)
        self.places: Tensor
        self.register_buffer("places", places.flatten())

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        logits: Tensor = self.model(images.flatten(2)[..., self.places].reshape(images.shape))
        return logits

    def no_weight_decay(self) -> set[str]:
        exempt: set[str] = getattr(self.model, "no_weight_decay", set)()
        return {f"model.{name}" for name in exempt}


def shifted(digits: ImageSet, by: int) -> list[ImageSet]:
    """The digits moved by so many pixels to the right, left, down and up; black fills the gap."""
    side = digits.images.shape[-1]
    wide = nn.functional.pad(digits.images, (by, by, by, by))
    corners = ((by, 0), (by, 2 * by), (0, by), (2 * by, by))  # of the part that is seen
    return [
        ImageSet(wide[..., y : y + side, x : x + side], digits.labels, digits.mean, digits.std)
        for y, x in corners
    ]


def train(arm: Arm, lr: float, seed: int, steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train one model; return its entry in the log, and its weights as arrays."""
    kind, count, augment, order = arm
    data = load_data("mnist5k")
    rest, kept_back = data.split(KEPT_BACK / len(data.train), seed=seed)
    data = replace(data, train=rest)
    if count < len(rest):
        data = replace(data, train=data.split(count / len(rest), seed=seed)[1])
    torch.manual_seed(seed)
    model = Reordered(MODELS[kind](), order)
    val_accuracy: list[float] = []

    def measure(state: TrainState) -> None:
        if state.step % EVERY == 0:
            val_accuracy.append(mean_accuracy(state.model, [kept_back]))

    config = replace(RECIPE, steps=steps, lr=lr, augment=augment, seed=seed)
    history, diverged_at = fit_or_diverge(model, data, config, callbacks=[measure])
    entry = {
        "model": kind,
        "digits": count,
        "augment": augment,
        "order": order,
        "lr": lr,
        "seed": seed,
        "diverged_at": diverged_at,
        "last_val_accuracy": 0.0 if diverged_at else val_accuracy[-1],
        "val_accuracy": val_accuracy,
        "loss": window_means(history.loss, EVERY),
    }
    print(*list(entry.values())[:8], flush=True)
    return entry, {name: value.numpy() for name, value in model.state_dict().items()}


def test(arm: Arm, entry: dict[str, Any], weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """The entry with the results on the test digits."""
    kind, count, _, order = arm
    model = Reordered(MODELS[kind](), order)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    digits = load_data("mnist5k").test
    shifts = SHIFTS if (count, order) == (DIGITS[-1], ORDERS[0]) else range(1)
    accuracies = [mean_accuracy(model, shifted(digits, by)) for by in shifts]
    return entry | {"test_accuracy": accuracies[0], "shifted": accuracies}


def mean_accuracy(model: nn.Module, sets: list[ImageSet]) -> float:
    """The mean of the accuracies on these sets."""
    return round(sum(evaluate(model, one).accuracy for one in sets) / len(sets), 4)


def record(log: Path, arms: Sequence[Arm], steps: int) -> None:
    """Choose each arm's rate, train it with every seed, test, and write the log."""
    keep = Path("_build") / log.stem
    sweep = [(arm, lr, SEEDS[0], steps) for arm in arms for lr in RATES]
    swept = one_core_each(train, sweep, keep)
    trials = [
        {"arm": arm, "lr": lr, "val_accuracy": entry["last_val_accuracy"]}
        for (arm, lr, *_), (entry, _) in zip(sweep, swept, strict=True)
    ]
    rates = choose_rates(trials, "arm", arms)
    rest = [(arm, rates[arm], seed, steps) for arm in arms for seed in SEEDS[1:]]
    swept += one_core_each(train, rest, keep)
    trained = zip(sweep + rest, swept, strict=True)
    chosen = [(arm, *result) for (arm, lr, *_), result in trained if lr == rates[arm]]
    runs = one_core_each(test, chosen)
    write_log(
        log,
        model={
            kind: sum(weight.numel() for weight in make().parameters())
            for kind, make in MODELS.items()
        },
        details={"trials": trials},
        recipe=replace(RECIPE, steps=steps),
        settings={
            "model": "Model",
            "digits": "Training digits",
            "augment": "Augmentation",
            "order": "The digits",
        },
        curves={"val_accuracy": accuracy_curve(steps, EVERY), **loss_curve(steps, EVERY)},
        results=TEST_ACCURACY,
        runs=runs,
    )


if __name__ == "__main__":
    record(LOG, ARMS, RECIPE.steps)
