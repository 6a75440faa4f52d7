"""Trains the book's small model on patches, on strips, and for a few steps on shuffled pixels.

    python -m vitlib.runs.train_strips

Writes strips.json, which chapter 1 reads (record.py describes such files). The three models differ
only in which pixels make up a token:

    "patches"  squares of 7 × 7 pixels, as in every ViT
    "strips"   49 pixels in the order of memory, as a patchify without the permute cuts them
    "shuffled" 49 pixels from anywhere in the image, the same ones in every image

For each of them, short runs on three quarters of the training digits compare learning rates on the
last quarter ("trials" in the log: 400 steps, no average of the weights, two seeds). On patches and
on strips, three models each are then trained at the rate with the best mean, by the book's recipe,
`vitlib.TrainConfig`, on all 4,000 training digits, and each is tested once. The test digits choose
nothing.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitlib import PatchEmbed, TrainConfig, create_model, evaluate, fit, load_data
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import TEST_ACCURACY, loss_curve, window_means, write_log
from vitlib.runs.rates import choose_rates

LOG = Path(__file__).with_name("strips.json")
NAME, SEEDS, TRIAL_SEEDS, RATES = "vit_nano_patch7_28", (0, 1, 2), (0, 1), (1e-3, 3e-3, 1e-2)
RECIPE = TrainConfig(progress=False, val_fraction=0.0)
TRIAL = replace(RECIPE, steps=400, eval_every=400, ema_decay=None, val_fraction=0.25)
FULL = ("patches", "strips")  # what is also trained by the full recipe
WINDOW = 50  # steps whose mean loss is one point of the curve


class Strips(PatchEmbed):
    """A patch embedding with the reshape that skips the permute: each row is a strip of pixels."""

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N D"]:
        weight = self.proj.weight.flatten(1)  # (D, C*P*P)
        rows = images.reshape(len(images), -1, weight.shape[1])  # (B, N, C*P*P)
        return F.linear(rows, weight, self.proj.bias)


class Shuffled(Strips):
    """Strips of an image whose pixels have changed places, in every image in the same way."""

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N D"]:
        generator = torch.Generator().manual_seed(0)
        places = torch.randperm(images[0].numel(), generator=generator)
        return super().forward(images.flatten(1)[:, places].reshape(images.shape))


LAYERS: dict[str, type[PatchEmbed]] = {
    "patches": PatchEmbed,
    "strips": Strips,
    "shuffled": Shuffled,
}


def trial(tokens: str, lr: float, seed: int) -> dict[str, Any]:
    """A short run on a part of the training digits; its accuracy on the rest."""
    torch.manual_seed(seed)
    model = create_model(NAME, embed_layer=LAYERS[tokens])
    history = fit(model, load_data("mnist5k"), replace(TRIAL, lr=lr, seed=seed))
    result = {
        "tokens": tokens,
        "lr": lr,
        "seed": seed,
        "val_accuracy": round(history.val_accuracy[-1], 4),
    }
    print(result, flush=True)
    return result


def run(tokens: str, lr: float, seed: int) -> dict[str, Any]:
    """Train and test one model; return its entry in the log."""
    data = load_data("mnist5k")
    torch.manual_seed(seed)
    model = create_model(NAME, embed_layer=LAYERS[tokens])
    history = fit(model, data, replace(RECIPE, lr=lr, seed=seed))
    result = {
        "tokens": tokens,
        "seed": seed,
        "test_accuracy": round(evaluate(model, data.test).accuracy, 4),
        "loss": window_means(history.loss, WINDOW),
    }
    print(tokens, lr, seed, result["test_accuracy"], flush=True)
    return result


if __name__ == "__main__":
    trials = one_core_each(trial, [(t, lr, s) for t in LAYERS for lr in RATES for s in TRIAL_SEEDS])
    rates = choose_rates(trials, "tokens", FULL)
    write_log(
        LOG,
        model=NAME,
        recipe=RECIPE,
        settings={"tokens": "A token is made of"},
        curves=loss_curve(RECIPE.steps, WINDOW),
        results=TEST_ACCURACY,
        runs=one_core_each(run, [(t, rates[t], s) for t in FULL for s in SEEDS]),
        details={"trial_recipe": TRIAL.to_dict(), "trials": trials, "rates": rates},
    )
