"""Classifies CIFAR-10 with 10 to 5,000 labelled photos: features of DINOv2, or a ViT of one's own.

    python -m vitlib.runs.train_labels WEIGHTS --data DATA --model "DINOv2-small, as published"

WEIGHTS is whatever `create_model` loads, facebook/dinov2-small by default, DATA whatever
`load_data` reads, and --model says in words whose weights these are. Writes labels.json, for
chapter 15; it has no curves, so it is not for RunsFigure.

DINOv2's weights stay as they are. Their features, the class token and the mean of the patch tokens,
go to nearest neighbours (the class token alone) and to logistic regression. Beside them stand
chapter 7's ViT with 4×4 patches, trained from random weights on the same photos, and logistic
regression on the pixels, the control that knows nothing about photos.

Each method has three settings. One of them is chosen with the first seed, by the accuracy on a
fifth of the labelled photos that is kept back; of equal ones, the first. Then the method learns
from all of them, with each seed. Of 10 photos, one per class, none can be kept back: there every
method has the setting that it got with 100; and with 5,000, which would take long, the one that it
got with 500. Each seed draws photos of its own, the smaller sets from the larger. The test photos
choose nothing.

DINOv2 sees the photos enlarged to 112 pixels, 8×8 patches: 224 would take more than four times as
long. It computes in bfloat16, which is three times as fast on some CPUs and changes the features by
1 %. All takes about half an hour of one core; features and trainings are kept, so that it can be
interrupted.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from vitlib import ImageData, ImageSet, TrainConfig, create_model, evaluate, load_data
from vitlib.data.sets import stratified
from vitlib.model import VisionTransformer
from vitlib.runs.diverging import fit_or_diverge
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import TEST_ACCURACY, write_log
from vitlib.train.features import extract_features
from vitlib.train.probe import weigh_neighbours

LOG = Path(__file__).with_name("labels.json")
COUNTS, SEEDS, TEST_PHOTOS, SIDE = (10, 100, 500, 5000), (0, 1, 2), 2000, 112
KEPT_BACK, CHOSEN_BY = 0.2, {10: 100, 5000: 500}  # with so many photos, as with so many
NEIGHBOURS, FEATURES, PIXELS, SCRATCH = (
    "nearest neighbours on features",
    "logistic regression on features",
    "logistic regression on pixels",
    "ViT from random weights",
)
# Neighbours; scikit-learn's C, the inverse of the penalty; the highest learning rate.
SETTINGS: dict[str, tuple[float, ...]] = {
    NEIGHBOURS: (1, 5, 20),
    FEATURES: (1e-4, 1e-3, 1e-2),
    PIXELS: (1e-4, 1e-3, 1e-2),
    SCRATCH: (1e-3, 3e-3, 1e-2),
}
STEPS = {10: 150, 100: 150, 500: 500, 5000: 2000}
RECIPE = TrainConfig(
    batch_size=50, augment="flip_crop", ema_decay=None, val_fraction=0.0, progress=False
)

# (photos to learn from, seed, setting, whether it is a trial to choose the setting by).
Job = tuple[int, int, float, bool]


class BothTokens(nn.Module):
    """A backbone whose features are the class token and, after it, the mean patch token."""

    def __init__(self, model: VisionTransformer):
        super().__init__()
        self.model, self.mean, self.std = model, model.mean, model.std
        self.img_size, self.in_chans = model.img_size, model.in_chans

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B T D"]:
        tokens: Tensor = self.model.forward_features(images)
        return tokens

    def forward_head(
        self, tokens: Float[Tensor, "B T D"], pre_logits: bool = True
    ) -> Float[Tensor, "B both"]:
        tokens = tokens.float()
        patches = tokens[:, self.model.num_prefix_tokens :]
        return torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1)


def enlarged(photos: ImageSet, side: int) -> ImageSet:
    """The photos with so many pixels a side, as Pillow's bicubic enlarges them."""
    images = nn.functional.interpolate(
        photos.images.float(), (side, side), mode="bicubic", antialias=True
    )
    return ImageSet(images.clamp(0, 255).round().byte(), photos.labels, photos.mean, photos.std)


@cache
def read(place: str) -> ImageData:
    """CIFAR-10, with those of its test photos that all methods are asked about."""
    data = load_data(place)
    _, kept = stratified(data.test.labels.numpy(), TEST_PHOTOS, 0, data.classes)
    return replace(data, test=data.test.subset(torch.from_numpy(kept)))


def draw(data: ImageData, count: int, seed: int) -> np.ndarray:
    """Which training photos are labelled, as many of each class."""
    labels = data.train.labels.numpy()
    _, most = stratified(labels, max(COUNTS), seed, data.classes)
    if count == len(most):
        return most
    return most[stratified(labels[most], count, seed, data.classes)[1]]


def learned_and_asked(data: ImageData, job: Job) -> tuple[np.ndarray, np.ndarray | None]:
    """Which training photos a job learns from, and which it is asked about; None: the test set."""
    count, seed, _, is_trial = job
    chosen = draw(data, count, seed)
    if not is_trial:
        return chosen, None
    labels = data.train.labels.numpy()[chosen]
    rest, kept = stratified(labels, round(KEPT_BACK * count), seed, data.classes)
    return chosen[rest], chosen[kept]


# The methods: (inputs to learn from, labels, inputs asked about, setting) -> answers


def by_neighbours(
    inputs: np.ndarray, labels: np.ndarray, asked: np.ndarray, count: float
) -> np.ndarray:
    count = min(int(count), len(inputs))
    train, known, queries = (torch.from_numpy(array) for array in (inputs, labels, asked))
    votes = weigh_neighbours(train, known, queries, count, 10)
    return votes.argmax(dim=1).numpy()


def by_regression(
    inputs: np.ndarray, labels: np.ndarray, asked: np.ndarray, strength: float
) -> np.ndarray:
    scaler = StandardScaler().fit(inputs)
    regression = LogisticRegression(C=strength, max_iter=2000)
    regression.fit(scaler.transform(inputs), labels)
    answers: np.ndarray = regression.predict(scaler.transform(asked))
    return answers


def accuracy_of(
    method: Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray],
    data: ImageData,
    inputs: Callable[[ImageSet, np.ndarray | None], np.ndarray],
    job: Job,
) -> float:
    """`inputs`: of a set's photos at these places, all of them for None."""
    learned, asked = learned_and_asked(data, job)
    labels = data.train.labels.numpy()
    source, right = (data.test, data.test.labels.numpy())
    if asked is not None:
        source, right = data.train, labels[asked]
    answers = method(inputs(data.train, learned), labels[learned], inputs(source, asked), job[2])
    return float((answers == right).mean())


def train_scratch(place: str, job: Job, steps: int) -> float:
    """The accuracy of a ViT trained from random weights; 0 if it diverges."""
    data = read(place)
    learned, asked = learned_and_asked(data, job)
    count, seed, lr, _ = job
    torch.manual_seed(seed)
    model = create_model("vit_nano_patch7_28", img_size=32, patch_size=8, in_chans=3)
    recipe = replace(
        RECIPE, steps=steps, lr=lr, seed=seed, batch_size=min(RECIPE.batch_size, count)
    )
    train = data.train.subset(torch.from_numpy(learned))
    _, diverged_at = fit_or_diverge(model, replace(data, train=train), recipe)
    test = data.test if asked is None else data.train.subset(torch.from_numpy(asked))
    accuracy = 0.0 if diverged_at else evaluate(model, test).accuracy
    print(SCRATCH, job, f"{accuracy:.4f}", flush=True)
    return accuracy


def train_all(place: str, log: Path, jobs: Sequence[Job]) -> list[float]:
    calls = [(place, job, STEPS[job[0]]) for job in jobs]
    return one_core_each(train_scratch, calls, Path("_build") / log.stem)


def choose_and_run(
    method: str, accuracies: Callable[[list[Job]], list[float]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The trials of a method's settings, and its runs with the chosen ones and each seed."""
    asked = [
        (count, SEEDS[0], setting, True)
        for count in COUNTS
        if count not in CHOSEN_BY
        for setting in SETTINGS[method]
    ]
    trials: list[dict[str, Any]] = [
        {"method": method, "labels": job[0], "setting": job[2], "val_accuracy": round(value, 4)}
        for job, value in zip(asked, accuracies(asked), strict=True)
    ]

    def chosen(count: int) -> float:
        of = [one for one in trials if one["labels"] == CHOSEN_BY.get(count, count)]
        setting: float = max(of, key=lambda one: one["val_accuracy"])["setting"]
        return setting

    final = [(count, seed, chosen(count), False) for count in COUNTS for seed in SEEDS]
    runs: list[dict[str, Any]] = [
        {
            "method": method, "labels": job[0], "seed": job[1], "setting": job[2],
            "test_accuracy": round(value, 4),
        }
        for job, value in zip(final, accuracies(final), strict=True)
    ]  # fmt: skip
    return trials, runs


def record(weights: str, words: str, place: str, log: Path = LOG) -> None:
    """Run all methods and write the log."""
    data = read(place)
    drawn = np.unique(np.concatenate([draw(data, max(COUNTS), seed) for seed in SEEDS]))
    model = create_model(weights, pretrained=True, img_size=SIDE).bfloat16()
    backbone = BothTokens(model)

    def features_of(photos: ImageSet) -> np.ndarray:
        """Enlarged a thousand at a time, or they would take gigabytes."""
        found = [
            extract_features(backbone, enlarged(photos.subset(part), SIDE))
            for part in torch.arange(len(photos)).split(1000)
        ]
        return torch.cat(found).numpy()

    known = {id(data.test): features_of(data.test)}
    row = np.full(len(data.train), -1)
    row[drawn] = np.arange(len(drawn))
    known[id(data.train)] = features_of(data.train.subset(torch.from_numpy(drawn)))

    def both(photos: ImageSet, index: np.ndarray | None) -> np.ndarray:
        return known[id(photos)] if index is None else known[id(photos)][row[index]]

    def class_token(photos: ImageSet, index: np.ndarray | None) -> np.ndarray:
        return both(photos, index)[:, : backbone.model.embed_dim]

    def pixels(photos: ImageSet, index: np.ndarray | None) -> np.ndarray:
        images = photos.images if index is None else photos.images[torch.from_numpy(index)]
        return images.flatten(1).numpy() / np.float32(255)

    trials: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    for name, method, inputs in (
        (NEIGHBOURS, by_neighbours, class_token),
        (FEATURES, by_regression, both),
        (PIXELS, by_regression, pixels),
    ):
        one = partial(accuracy_of, method, data, inputs)
        found = choose_and_run(name, lambda jobs, one=one: [one(job) for job in jobs])  # type: ignore[misc]
        print(name, *((run["labels"], run["test_accuracy"]) for run in found[1]), flush=True)
        trials, runs = trials + found[0], runs + found[1]

    found = choose_and_run(SCRATCH, partial(train_all, place, log))
    write_log(
        log,
        model=f"{words}; vit_nano_patch7_28 with patches of 8 for 32×32 pixels in three colours",
        details={
            "data": f"{data.name}, {len(data.test)} of its test photos",
            "side": SIDE,
            "steps": STEPS,
            "trials": trials + found[0],
        },
        recipe=RECIPE,
        settings={"method": "Method", "labels": "Labelled photos"},
        curves={},
        results=TEST_ACCURACY,
        runs=runs + found[1],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="?", default="facebook/dinov2-small")
    parser.add_argument("--data", default="uoft-cs/cifar10")
    parser.add_argument("--model", default="DINOv2-small")
    given = parser.parse_args()
    record(given.weights, given.model, given.data)
