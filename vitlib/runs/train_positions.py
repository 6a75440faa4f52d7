"""Trains the book's small model with four kinds of positions: does it matter which?

    python -m vitlib.runs.train_positions

Writes positions.json, which chapter 2 shows (record.py describes such files). The kinds are learned
positions that start with a standard deviation of 0.02 ("learned") or of 1 ("learned, loud"), sines
and cosines on the grid ("sincos"), and none. Each is trained at three learning rates with three
seeds, by the book's recipe, `vitlib.TrainConfig`. A quarter of the training digits is kept out and
judges the runs, as written and with the patches of every digit in another order. The test digits
are not used. For learned positions the log also says how they are arranged after training. On a GPU
the whole takes a few minutes, on a CPU about two minutes per run and core.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor, nn

from vitlib import TrainConfig, create_model, evaluate, fit, load_data, patchify, unpatchify
from vitlib.data import ImageSet
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import accuracy_curve, loss_curve, window_means, write_log
from vitlib.train.loop import pick_device

LOG = Path(__file__).with_name("positions.json")
NAME, PATCH, SIDE = "vit_nano_patch7_28", 7, 4  # 4 rows and columns of patches
KINDS = ("learned", "sincos", "none", "learned, loud")
RATES, SEEDS = (1.5e-3, 3e-3, 6e-3), (0, 1, 2)
RECIPE = TrainConfig(progress=False, val_fraction=0.25, eval_every=100, amp="off")
WINDOW = 50  # steps whose mean loss is one point of the curve
CURVES = {
    "val_accuracy": accuracy_curve(RECIPE.steps, RECIPE.eval_every),
    **loss_curve(RECIPE.steps, WINDOW),
}
RESULTS = {
    "final_accuracy": {"label": "Validation accuracy", "percent": True},
    "shuffled_accuracy": {"label": "With shuffled patches", "percent": True},
}


def run(kind: str, lr: float, seed: int) -> dict[str, Any]:
    """Train and judge one model; return its entry in the log."""
    data = load_data("mnist5k")
    torch.manual_seed(seed)
    model = create_model(NAME, pos_embed="learned" if "learned" in kind else kind)
    if kind == "learned, loud":
        nn.init.normal_(_positions(model), std=1.0)
    recipe = replace(RECIPE, lr=lr, seed=seed)
    history = fit(model, data, recipe)
    val = data.split(recipe.val_fraction, seed=seed)[1]  # as `fit` splits
    result = {
        "pos_embed": kind,
        "lr": lr,
        "seed": seed,
        "final_accuracy": round(evaluate(model, val).accuracy, 4),
        "shuffled_accuracy": round(evaluate(model, shuffled(val)).accuracy, 4),
        "val_accuracy": [round(value, 4) for value in history.val_accuracy],
        "loss": window_means(history.loss, WINDOW),
    }
    if "learned" in kind:
        vectors = _positions(model).detach().cpu()[0, 1:]
        result |= arrangement(vectors, data.train.images / 255)
    print(kind, lr, seed, result["final_accuracy"], flush=True)
    return result


def shuffled(images: ImageSet) -> ImageSet:
    """The set with the patches of every image in one and the same random order."""
    order = torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(0))
    patches = patchify(images.images.float(), PATCH)[:, order]
    moved = unpatchify(patches, PATCH).to(images.images.dtype)
    return ImageSet(moved, images.labels, images.mean, images.std)


def arrangement(vectors: Tensor, images: Tensor) -> dict[str, Any]:
    """How the positions (N, D) of the patches are arranged.

    The mean cosine of two positions at each distance on the grid, the rank correlation of cosine
    and distance over all pairs of places, and that of a position's length and how much the
    brightness of the patch at its place varies over `images`.
    """
    distance, cosine = pairs(vectors, (SIDE, SIDE))
    varies = patchify(images, PATCH).mean(dim=2).std(dim=0)  # (N,)
    return {
        "cosine_at_distance": [
            [round(float(d), 3), round(float(cosine[distance == d].mean()), 3)]
            for d in distance.unique()
        ],
        "distance_correlation": round(float(spearmanr(distance, cosine).statistic), 3),
        "length_correlation": round(float(spearmanr(vectors.norm(dim=1), varies).statistic), 3),
    }


def pairs(vectors: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Distance on the grid and cosine of two of the positions (N, D), for each pair once."""
    places = torch.cartesian_prod(*map(torch.arange, grid)).float()
    first, second = torch.triu_indices(len(places), len(places), offset=1)
    distance = (places[first] - places[second]).norm(dim=1)
    directions = nn.functional.normalize(vectors, dim=1)
    return distance, (directions[first] * directions[second]).sum(dim=1)


def _positions(model: Any) -> Tensor:
    """The position embedding, prefix first; asserted, since it can be None."""
    assert model.pos_embed is not None
    return model.pos_embed


if __name__ == "__main__":
    write_log(
        LOG,
        model=NAME,
        recipe=RECIPE,
        settings={"pos_embed": "Position embedding", "lr": "Learning rate"},
        curves=CURVES,
        results=RESULTS,
        details={"device": pick_device(RECIPE.device).type},
        runs=one_core_each(run, product(KINDS, RATES, SEEDS)),
    )
