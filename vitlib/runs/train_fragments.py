"""Trains chapter 12's small model on canvases with fragments, with three seeds; scores its maps.

    python -m vitlib.runs.train_fragments

Writes fragments.json, which chapter 12 reads (record.py describes such files). The canvases are the
same for all seeds; the initial weights and the order of the images are not. In addition to the
usual results, each run has, for 200 test canvases,

    "order": map -> rank correlation with occlusion in black, among patches with ink, mean of images
    "share": map -> share of the map on patches of the whole digit, mean of images

and for all test canvases, for each i, the accuracy "without_layer" i's attention, and that of the
logit "lens" after block i. The rank correlation is SciPy's, since the chapter writes its own.
"""

import copy
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor

from vitlib import (
    AttentionRecorder,
    ImageData,
    TrainConfig,
    VisionTransformer,
    attention_rollout,
    evaluate,
    fit,
    gradient_rollout,
    load_data,
    logit_lens,
    occlusion,
    patchify,
)
from vitlib.fragments import SIDE, fragments_data
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import TEST_ACCURACY, loss_curve, window_means, write_log

LOG = Path(__file__).with_name("fragments.json")
SEEDS, SCORED, PATCH = (0, 1, 2), 200, 7
MODEL: dict[str, Any] = {
    "img_size": SIDE, "patch_size": PATCH, "in_chans": 1, "num_classes": 10, "embed_dim": 64,
    "depth": 4, "num_heads": 4, "mlp_ratio": 2, "weight_init": "jax",
}  # fmt: skip
RECIPE = TrainConfig(
    steps=800, batch_size=64, lr=4e-3, augment="none", ema_decay=0.99, val_fraction=0,
    progress=False,
)  # fmt: skip
WINDOW = 40  # steps whose mean loss is one point of the curve


def run(seed: int) -> dict[str, Any]:
    """Train and test one model and score its maps; return its entry in the log."""
    data, whole = fragments_data(load_data("mnist5k"))
    torch.manual_seed(seed)
    model = VisionTransformer(**MODEL)
    history = fit(model, data, replace(RECIPE, seed=seed))
    images = data.test.normalize(data.test.images.float() / 255)
    answers = logit_lens(model, images).argmax(dim=-1)  # (n, L)
    lens = (answers == data.test.labels[:, None]).float().mean(dim=0)
    without = [evaluate(_without_attention(model, i), data.test) for i in range(MODEL["depth"])]
    result = {
        "seed": seed,
        "test_accuracy": round(evaluate(model, data.test).accuracy, 4),
        **score_maps(model, data, images[:SCORED], whole[:SCORED]),
        "without_layer": [round(one.accuracy, 4) for one in without],
        "lens": [round(value, 4) for value in lens.tolist()],
        "loss": window_means(history.loss, WINDOW),
    }
    print({key: value for key, value in result.items() if key != "loss"}, flush=True)
    return result


def score_maps(
    model: VisionTransformer,
    data: ImageData,
    images: Float[Tensor, "B 1 H W"],
    whole: Bool[Tensor, "B H W"],
) -> dict[str, dict[str, float]]:
    """{"order": ..., "share": ...} of the maps, for normalised images and masks of their digits."""
    with torch.no_grad(), AttentionRecorder(model) as recorder:
        model(images)
    pixels = patchify(data.test.denormalize(images), PATCH)  # (B, N, P*P)
    tables = {
        "first layer": recorder.attention[:, 0].mean(dim=1),
        "last layer, mean": recorder.attention[:, -1].mean(dim=1),
        "rollout": attention_rollout(recorder.attention),
        "gradient rollout": gradient_rollout(model, images),
    }
    maps = {"ink": pixels.mean(dim=-1)} | {name: t[:, 0, 1:] for name, t in tables.items()}
    black = -data.mean[0] / data.std[0]
    drop = occlusion(model, images, fill=black).flatten(1)  # (B, N)
    has_ink = pixels.amax(dim=-1) > 0.2
    order = {name: rank_agreement(values, drop, has_ink) for name, values in maps.items()}
    maps |= {
        "occlusion": drop.clamp(min=0),
        "occlusion, grey": occlusion(model, images).flatten(1).clamp(min=0),
    }
    on_digit = patchify(whole[:, None].float(), PATCH).mean(dim=-1) > 0.05  # (B, N)
    share = {n: ((v * on_digit).sum(1) / v.sum(1)).mean().item() for n, v in maps.items()}
    return {
        "order": {name: round(value, 4) for name, value in order.items()},
        "share": {name: round(value, 4) for name, value in share.items()},
    }


def rank_agreement(
    maps: Float[Tensor, "B N"], drops: Float[Tensor, "B N"], where: Bool[Tensor, "B N"]
) -> float:
    """Spearman's correlation of each map with the drops, among the patches `where`; the mean."""
    each = [
        spearmanr(m[w].numpy(), d[w].numpy()).statistic
        for m, d, w in zip(maps, drops, where, strict=True)
    ]
    return statistics.mean(map(float, each))


def _without_attention(model: VisionTransformer, layer: int) -> VisionTransformer:
    """A copy in which this layer's attention adds nothing but a bias."""
    model = copy.deepcopy(model)
    torch.nn.init.zeros_(model.get_parameter(f"blocks.{layer}.attn.proj.weight"))
    return model


if __name__ == "__main__":
    write_log(
        LOG,
        model=MODEL,
        recipe=RECIPE,
        settings={},
        curves=loss_curve(RECIPE.steps, WINDOW),
        results=TEST_ACCURACY,
        runs=one_core_each(run, [(seed,) for seed in SEEDS]),
    )
