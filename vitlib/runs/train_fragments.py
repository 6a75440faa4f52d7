"""Trains chapter 12's small model on canvases with fragments, with three seeds; scores its maps.

    python -m vitlib.runs.train_fragments

Writes fragments.json, which chapter 12 reads (record.py describes such files). The canvases are the
same for all seeds; the initial weights and the order of the images are not. In addition to the
usual results, each run has, for 200 test canvases,

    "order": map -> rank correlation with occlusion in black, among patches with ink, mean of images
    "share": map -> share of the map on patches of the whole digit, mean of images
    "untrained": both of these for the maps of a model with random weights
    "coverings": c -> order of occlusion in c · black instead of black

for all test canvases,

    "painted_out": how many answers are right without the digit, how many without its fragments, and
        how many of the latter are not the answer to the whole canvas, once right or once wrong
    "without_layer", "lens": for each i, the accuracy without layer i's attention, and that of the
        logit lens after block i

and for 200 canvases with two whole digits

    "two_classes": of the map of a digit's class, the share on that digit among what lies on one of
        the two digits only, for the trained model and for one with random weights

The rank correlation is SciPy's, since the chapter writes its own.
"""

import copy
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import max_pool2d

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
from vitlib.fragments import SIDE, fragments_data, make_pairs
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import TEST_ACCURACY, loss_curve, window_means, write_log

LOG = Path(__file__).with_name("fragments.json")
SEEDS, SCORED, PATCH = (0, 1, 2), 200, 7
COVERINGS = (0.9, 0.5, 0.0)  # times black; 0 is the mean grey
PATH = [(step + 0.5) / 20 for step in range(20)]  # from black to the image
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
    digits = load_data("mnist5k")
    data, whole = fragments_data(digits)
    torch.manual_seed(seed)
    model = VisionTransformer(**MODEL)
    untrained = copy.deepcopy(model).eval()
    history = fit(model, data, replace(RECIPE, seed=seed))
    torch.nn.init.trunc_normal_(untrained.get_parameter("head.weight"), std=0.02)  # it is 0

    images = data.test.normalize(data.test.images.float() / 255)
    few, on = images[:SCORED], whole[:SCORED]
    drop, black = _drop(model, data, few, 1.0), _black(data)
    answers = logit_lens(model, images).argmax(dim=-1)  # (n, L)
    lens = (answers == data.test.labels[:, None]).float().mean(dim=0)
    without = [evaluate(_without_attention(model, i), data.test) for i in range(MODEL["depth"])]
    has_ink = _has_ink(data, few)
    result = {
        "seed": seed,
        "test_accuracy": round(evaluate(model, data.test).accuracy, 4),
        **score_maps(model, data, few, on, drop),
        "untrained": score_maps(untrained, data, few, on, drop),
        "coverings": {
            str(c): round(rank_agreement(_drop(model, data, few, c), drop, has_ink), 4)
            for c in COVERINGS
        },
        "painted_out": paint_out(model, data, images, whole, black),
        "without_layer": [round(one.accuracy, 4) for one in without],
        "lens": [round(value, 4) for value in lens.tolist()],
        "two_classes": {
            "trained": ask_for_both(model, data, digits),
            "untrained": ask_for_both(untrained, data, digits),
        },
        "loss": window_means(history.loss, WINDOW),
    }
    print({key: value for key, value in result.items() if key != "loss"}, flush=True)
    return result


def score_maps(
    model: VisionTransformer,
    data: ImageData,
    images: Float[Tensor, "B 1 H W"],
    whole: Bool[Tensor, "B H W"],
    drop: Float[Tensor, "B N"],
) -> dict[str, dict[str, float]]:
    """{"order": ..., "share": ...} of the maps, for normalised images and masks of their digits.

    `drop` is the occlusion with which their order is compared, of this model or of another.
    """
    with torch.no_grad(), AttentionRecorder(model) as recorder:
        model(images)
    layers = recorder.attention.mean(dim=2)  # (B, L, T, T)
    tables = {f"layer {i}": layers[:, i] for i in range(layers.shape[1])} | {
        "rollout": attention_rollout(recorder.attention),
        "gradient rollout": gradient_rollout(model, images),
    }
    row, column = model.grid_size
    y, x = (torch.arange(n) - (n - 1) / 2 for n in (row, column))
    centre = -torch.hypot(y[:, None], x).flatten()
    pixels = patchify(data.test.denormalize(images), PATCH)  # (B, N, P*P)
    black = _black(data)
    maps = {
        "centre": (centre - centre.min()).expand(drop.shape),
        "ink": pixels.mean(dim=-1),
        **{name: table[:, 0, 1:] for name, table in tables.items()},
        "input × gradient": path_gradients(model, images, black, [1.0]),
        "integrated gradients": path_gradients(model, images, black, PATH),
    }
    has_ink = _has_ink(data, images)
    order = {name: rank_agreement(values, drop, has_ink) for name, values in maps.items()}
    maps |= {
        "occlusion": _drop(model, data, images, 1.0),
        "occlusion, grey": _drop(model, data, images, 0.0),
    }
    on_digit = patchify(whole[:, None].float(), PATCH).mean(dim=-1) > 0.05  # (B, N)
    share = {}
    for name, values in maps.items():
        positive = values.clamp(min=0)
        on = (positive * on_digit).sum(dim=1) / positive.sum(dim=1).clamp(min=1e-9)
        share[name] = on.mean().item()
    return {
        "order": {name: round(value, 4) for name, value in order.items()},
        "share": {name: round(value, 4) for name, value in share.items()},
    }


def path_gradients(
    model: VisionTransformer,
    images: Float[Tensor, "B 1 H W"],
    black: float,
    shares: Sequence[float],
) -> Float[Tensor, "B N"]:
    """Pixels, less black, times the mean gradient of the answer's logit on the way from black.

    `shares` says at which points of the way; [1] is input × gradient, many are integrated
    gradients (Sundararajan, Taly and Yan 2017). Summed over each patch.
    """
    with torch.no_grad():
        answer = model(images).argmax(dim=1, keepdim=True)
    total = torch.zeros_like(images)
    for share in shares:
        point = (black + share * (images - black)).requires_grad_()
        logit = model(point).gather(1, answer).sum()
        total += torch.autograd.grad(logit, point)[0]
    return patchify((images - black) * total / len(shares), PATCH).sum(dim=-1)


@torch.no_grad()
def paint_out(
    model: VisionTransformer,
    data: ImageData,
    images: Float[Tensor, "B 1 H W"],
    whole: Bool[Tensor, "B H W"],
    black: float,
) -> dict[str, float]:
    """Shares of the images: right without the digit, right without its fragments, and changes."""
    digit = max_pool2d(whole[:, None].float(), 3, 1, 1) > 0  # and the pixels next to its ink
    before, without_digit, without_fragments = (
        model(each).argmax(dim=1)
        for each in (images, images.masked_fill(digit, black), images.masked_fill(~digit, black))
    )
    right = before == data.test.labels
    still = without_fragments == data.test.labels
    shares = {
        "right without the digit": without_digit == data.test.labels,
        "right without the fragments": still,
        "changed": without_fragments != before,
        "right to wrong": right & ~still,
        "wrong to right": ~right & still,
    }
    return {name: round(which.float().mean().item(), 4) for name, which in shares.items()}


def ask_for_both(model: VisionTransformer, data: ImageData, digits: ImageData) -> float:
    """How much of gradient rollout for each of two digits' classes lies on that digit, the mean.

    Patches that have ink of both or of neither are left out.
    """
    canvases, labels, masks = make_pairs(digits.test, SCORED, seed=2)
    images = data.test.normalize(canvases.float() / 255)
    on = patchify(masks.float(), PATCH).unflatten(-1, (2, -1)).mean(dim=-1) > 0.05  # (n, N, 2)
    shares = []
    for asked in (0, 1):
        relevance = gradient_rollout(model, images, labels[:, asked])[:, 0, 1:]  # (n, N)
        one, other = on[..., asked] & ~on[..., 1 - asked], on[..., 1 - asked] & ~on[..., asked]
        found, missed = (relevance * one).sum(dim=1), (relevance * other).sum(dim=1)
        shares.append(found / (found + missed))
    return round(torch.cat(shares).mean().item(), 4)


def rank_agreement(
    maps: Float[Tensor, "B N"], drops: Float[Tensor, "B N"], where: Bool[Tensor, "B N"]
) -> float:
    """Spearman's correlation of each map with the drops, among the patches `where`; the mean."""
    each = [
        spearmanr(m[w].numpy(), d[w].numpy()).statistic
        for m, d, w in zip(maps, drops, where, strict=True)
    ]
    return statistics.mean(map(float, each))


def _black(data: ImageData) -> float:
    return -data.mean[0] / data.std[0]


def _has_ink(data: ImageData, images: Tensor) -> Bool[Tensor, "B N"]:
    return patchify(data.test.denormalize(images), PATCH).amax(dim=-1) > 0.2


def _drop(
    model: VisionTransformer, data: ImageData, images: Tensor, covering: float
) -> Float[Tensor, "B N"]:
    return occlusion(model, images, fill=covering * _black(data)).flatten(1)


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
