"""Trains chapter 10's students of 250 labels, with and without a teacher, with and without a token.

    python -m vitlib.runs.train_distillation

Writes distillation.json, which chapter 10 reads (record.py describes such files). Of the 4,000
training digits, 250 keep their labels: 25 of each class, drawn anew for each seed. A SmallCNN is
trained on them, which is the teacher, and then one student for each of `ARMS`, all by the same
recipe and seed. Two arms also use the other 3,750 digits: one with the teacher's answers as labels,
and, to show what that costs, one with the true labels.

The recipe is the book's, `vitlib.TrainConfig`, with batches of 50 and 1,000 steps to save time, and
without an average of the weights, since the learning rate ends at zero. The number of steps and the
teacher's form were chosen on digits of the 3,750; τ and alpha were not tuned at all. Each run is
tested once. The control with one smoothed head was added after the other's results were known.

In addition to the usual results, each run has, for the 1,000 test digits,

    "same_mistakes": of the digits that the teacher gets wrong, the share with the same wrong answer

and with two tokens

    "class_head", "distillation_head": the accuracy of each
    "cosine", "cosine_untrained": between the two tokens, mean over the digits: as they enter the
        first block, after each block, and after the final norm
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vitlib import (
    DistillationLoss,
    ImageSet,
    TrainConfig,
    VisionTransformer,
    create_model,
    evaluate,
    fit,
    load_data,
)
from vitlib.baselines import SmallCNN
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import TEST_ACCURACY, loss_curve, window_means, write_log

LOG = Path(__file__).with_name("distillation.json")
NAME, WIDTH, LABELS, SEEDS = "vit_nano_patch7_28", 16, 250, (0, 1, 2, 3, 4)
RECIPE = TrainConfig(steps=1000, batch_size=50, ema_decay=None, val_fraction=0.0, progress=False)
WINDOW = 50  # steps whose mean loss is one point of the curve


class LabelsTwice(DistillationLoss):
    """DeiT's control with two class tokens: the second head learns the labels, too.

    This is hard distillation by a teacher that is never wrong, and differs from it in nothing else.
    So the second head's labels are not smoothed, as a teacher's are not, unless `smooth_both`.
    """

    def __init__(self, teacher: nn.Module, smooth_both: bool = False):
        super().__init__(teacher)
        self.smooth_both = smooth_both

    def __call__(
        self,
        images: Float[Tensor, "B C H W"],
        outputs: tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]],
        targets: Int64[Tensor, "B"] | Float[Tensor, "B K"],
        label_smoothing: float = 0.0,
    ) -> Float[Tensor, ""]:
        logits, second_logits = (z.float() for z in outputs)
        first = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        smoothing = label_smoothing if self.smooth_both else 0.0
        second = F.cross_entropy(second_logits, targets, label_smoothing=smoothing)
        return (1 - self.alpha) * first + self.alpha * second


class OneHead(nn.Module):
    """A plain model that answers like a distilled one, with its one head in both places.

    Both terms of the loss then apply to the class token: distillation as it was before DeiT.
    """

    distilled = True

    def __init__(self, model: VisionTransformer):
        super().__init__()
        self.model = model

    def forward(
        self, images: Float[Tensor, "B C H W"], return_dist: bool = False
    ) -> Float[Tensor, "B K"] | tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        logits = self.model(images)
        return (logits, logits) if return_dist else logits

    def no_weight_decay(self) -> set[str]:
        return {f"model.{name}" for name in self.model.no_weight_decay()}


@dataclass(frozen=True)
class Arm:
    """How a student is trained; without a `loss` it learns the labels by cross-entropy alone."""

    token: bool = False  # whether it has a distillation token
    loss: Callable[[nn.Module], DistillationLoss] | None = None  # made from the teacher
    all_digits: bool = False  # or only those with labels


def smoothed_twice(teacher: nn.Module) -> DistillationLoss:
    return LabelsTwice(teacher, smooth_both=True)


def hard(teacher: nn.Module) -> DistillationLoss:
    return DistillationLoss(teacher, "hard")


def soft_1(teacher: nn.Module) -> DistillationLoss:
    return DistillationLoss(teacher, "soft", tau=1.0)


def soft_3(teacher: nn.Module) -> DistillationLoss:
    return DistillationLoss(teacher, "soft", tau=3.0)


def teacher_alone(teacher: nn.Module) -> DistillationLoss:
    return DistillationLoss(teacher, "hard", alpha=1.0)


ARMS = {
    "labels": Arm(),
    "labels, two class tokens": Arm(token=True, loss=LabelsTwice),
    "the same, both smoothed": Arm(token=True, loss=smoothed_twice),
    "hard, token": Arm(token=True, loss=hard),
    "soft, τ = 1, token": Arm(token=True, loss=soft_1),
    "soft, τ = 3, token": Arm(token=True, loss=soft_3),
    "hard, no token": Arm(loss=hard),
    "soft, τ = 3, no token": Arm(loss=soft_3),
    "4,000 digits, teacher's labels": Arm(loss=teacher_alone, all_digits=True),
    "4,000 digits, true labels": Arm(all_digits=True),
}


def run(seed: int) -> list[dict[str, Any]]:
    """For one draw of labels, train the teacher and one student per arm; return their entries."""
    data = load_data("mnist5k")
    _, labelled = data.split(LABELS / len(data.train), seed=seed)
    few, recipe = replace(data, train=labelled), replace(RECIPE, seed=seed)
    torch.manual_seed(seed)
    teacher = SmallCNN(width=WIDTH)
    losses = fit(teacher, few, recipe).loss
    found: dict[str, Any] = {"student": "the teacher", "seed": seed}
    runs = [found | score(teacher, teacher, data.test) | {"loss": window_means(losses, WINDOW)}]
    for name, arm in ARMS.items():
        torch.manual_seed(seed)
        model = create_model(NAME, distilled=arm.token)
        student = OneHead(model) if arm.loss and not arm.token else model
        untrained = token_cosines(model, data.test) if arm.token else []
        loss = arm.loss(teacher) if arm.loss else None
        losses = fit(student, data if arm.all_digits else few, recipe, distillation=loss).loss
        found = {"student": name, "seed": seed, **score(student, teacher, data.test)}
        if arm.token:
            found |= {"cosine_untrained": untrained, **score_heads(model, data.test)}
        runs.append(found | {"loss": window_means(losses, WINDOW)})
        print(found, flush=True)
    return runs


def score(model: nn.Module, teacher: nn.Module, digits: ImageSet) -> dict[str, float]:
    """How often the model is right, and how often it gives the same answer as the teacher."""
    answers, taught = (evaluate(one, digits).predictions for one in (model, teacher))
    missed = taught != digits.labels
    return {
        "test_accuracy": _share(answers == digits.labels),
        "agreement": _share(answers == taught),
        "same_mistakes": _share(answers[missed] == taught[missed]),
    }


@torch.no_grad()
def score_heads(model: VisionTransformer, digits: ImageSet) -> dict[str, Any]:
    """How often each head alone is right, and the cosine between their tokens."""
    logits, dist_logits = model(_normalised(digits), return_dist=True)
    return {
        "class_head": _share(logits.argmax(dim=1) == digits.labels),
        "distillation_head": _share(dist_logits.argmax(dim=1) == digits.labels),
        "cosine": token_cosines(model, digits),
    }


@torch.no_grad()
def token_cosines(model: VisionTransformer, digits: ImageSet) -> list[float]:
    """The cosine between the two tokens, mean over the digits, at each depth.

    The depths are: as they enter the first block, after each block, and after the final norm.
    """
    images = _normalised(digits)
    first_two = torch.cat([model.get_parameter(f"{kind}_token") for kind in ("cls", "dist")], dim=1)
    entering = first_two + model.get_parameter("pos_embed")[:, :2]
    depths = [entering, *model.forward_intermediates(images), model.forward_features(images)]
    cosines = [F.cosine_similarity(x[:, 0], x[:, 1], dim=-1).mean() for x in depths]
    return [round(cosine.item(), 4) for cosine in cosines]


def _normalised(digits: ImageSet) -> Float[Tensor, "n C H W"]:
    return digits.normalize(digits.images.float() / 255)


def _share(right: Tensor) -> float:
    return round(right.float().mean().item(), 4)


if __name__ == "__main__":
    agreement = {"label": "Test digits read as the teacher reads them", "percent": True}
    write_log(
        LOG,
        model=NAME,
        details={"teacher": {"width": WIDTH}, "labels": LABELS},
        recipe=RECIPE,
        settings={"student": "Student"},
        curves=loss_curve(RECIPE.steps, WINDOW),
        results=TEST_ACCURACY | {"agreement": agreement},
        runs=list(chain.from_iterable(one_core_each(run, [(seed,) for seed in SEEDS]))),
    )
