"""Trains chapter 10's students of 100 labels, with and without a teacher, with and without a token.

    python -m vitlib.runs.train_distillation

Writes distillation.json, which chapter 10 reads (record.py describes such files). The 4,000
training digits are dealt anew in each round, class by class: 100 keep their labels, 3,150 lose
them, and 750 are kept back. A SmallCNN learns the 100, which makes it the teacher of the round, and
then there is one student for each of `ARMS`. Most of those with a teacher see the 3,150 digits,
too, about which it alone speaks.

The recipe is the book's, `vitlib.TrainConfig`, with batches of 50 and 1,000 steps to save time, and
without an average of the weights, since the learning rate ends at zero. Every arm is trained at
each of `RATES` in the first two rounds ("trials" in the log), the rate with the best mean on the
digits kept back is taken for the others, and the models at that rate are the runs of the log. So
the test digits choose nothing. The teacher learns at the recipe's own rate. It, τ and the number of
labels were not tuned. ALPHA was chosen from a few early trials with soft distillation on labelled
digits, three with 0.8 and one with 0.9: no fair comparison.

In addition to the usual results, each run has "val_accuracy", on the digits kept back, and for the
1,000 test digits

    "same_mistakes": of the digits that the teacher gets wrong, the share with the same wrong answer

and with two tokens

    "class_head", "distillation_head": the accuracy of each
    "cosine", "cosine_untrained": between the two tokens, mean over the digits: as they enter the
        first block, after each block, and after the final norm
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vitlib import (
    DistillationLoss,
    ImageData,
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
from vitlib.runs.rates import choose_rates
from vitlib.train import PartlyLabelled

LOG = Path(__file__).with_name("distillation.json")
NAME, WIDTH, LABELS, KEPT_BACK = "vit_nano_patch7_28", 16, 100, 750
ROUNDS, TRIAL_ROUNDS, RATES = (0, 1, 2, 3, 4), (0, 1), (0.75e-3, 1.5e-3, 3e-3, 6e-3)
ALPHA, TAU = 0.9, 3.0
RECIPE = TrainConfig(steps=1000, batch_size=50, ema_decay=None, val_fraction=0.0, progress=False)
WINDOW = 50  # steps whose mean loss is one point of the curve


class LabelsTwice(DistillationLoss):
    """DeiT's control with two class tokens: the second head learns the labels, too.

    This is hard distillation on labelled images by a teacher that is never wrong. The second head's
    labels are not smoothed, as a teacher's are not.
    """

    def __call__(
        self,
        images: Float[Tensor, "B C H W"],
        outputs: tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]],
        targets: Int64[Tensor, "B"] | Float[Tensor, "B K"],
        label_smoothing: float = 0.0,
        share: float = 1.0,  # every image has a label
    ) -> Float[Tensor, ""]:
        logits, second_logits = (z.float() for z in outputs)
        first = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        second = F.cross_entropy(second_logits, targets)
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

    digits: str = "few"  # a field of Deal: which digits it sees
    token: bool = False  # whether it has a distillation token
    loss: Callable[[nn.Module], DistillationLoss] | None = None  # made from the teacher


def hard(teacher: nn.Module) -> DistillationLoss:
    return DistillationLoss(teacher, "hard", ALPHA)


def soft(teacher: nn.Module) -> DistillationLoss:
    return DistillationLoss(teacher, "soft", ALPHA, TAU)


ARMS = {
    "100 labels": Arm(),
    "100 labels, two tokens": Arm(token=True, loss=LabelsTwice),
    "hard": Arm("partly", loss=hard),
    "hard, two tokens": Arm("partly", token=True, loss=hard),
    "soft": Arm("partly", loss=soft),
    "soft, two tokens": Arm("partly", token=True, loss=soft),
    "soft, labelled digits only": Arm(loss=soft),
    "all labels": Arm("all"),
}


@dataclass(frozen=True)
class Deal:
    """The training digits of one round, as data for `fit`, and the digits kept back."""

    few: ImageData
    partly: ImageData
    all: ImageData
    kept_back: ImageSet

    @classmethod
    def of_round(cls, seed: int) -> "Deal":
        data = load_data("mnist5k")
        rest, kept_back = data.split(KEPT_BACK / len(data.train), seed=seed)
        unlabelled, labelled = replace(data, train=rest).split(LABELS / len(rest), seed=seed)
        few, partly, everything = (
            replace(data, train=train)
            for train in (labelled, PartlyLabelled(labelled, unlabelled), rest)
        )
        return cls(few, partly, everything, kept_back)


@cache
def train_teacher(seed: int) -> tuple[SmallCNN, list[float]]:
    """The round's teacher, and its loss at each step."""
    torch.manual_seed(seed)
    teacher = SmallCNN(width=WIDTH)
    losses = fit(teacher, Deal.of_round(seed).few, replace(RECIPE, seed=seed)).loss
    return teacher, losses


def run_teacher(seed: int) -> dict[str, Any]:
    """The entry of a round's teacher in the log."""
    teacher, losses = train_teacher(seed)
    found = examine(teacher, teacher, Deal.of_round(seed))
    return {"student": "the teacher", "seed": seed, **found, "loss": window_means(losses, WINDOW)}


def run(student: str, lr: float, seed: int) -> dict[str, Any]:
    """Train one student; return its entry in the log, should `lr` become its arm's rate."""
    arm, deal = ARMS[student], Deal.of_round(seed)
    teacher, _ = train_teacher(seed)
    torch.manual_seed(seed)
    model = create_model(NAME, distilled=arm.token)
    learner = OneHead(model) if arm.loss and not arm.token else model
    untrained = token_cosines(model, deal.few.test) if arm.token else []
    loss = arm.loss(teacher) if arm.loss else None
    recipe = replace(RECIPE, lr=lr, seed=seed)
    losses = fit(learner, getattr(deal, arm.digits), recipe, distillation=loss).loss
    found: dict[str, Any] = {"student": student, "lr": lr, "seed": seed}
    found |= examine(learner, teacher, deal)
    if arm.token:
        found |= {"cosine_untrained": untrained, **score_heads(model, deal.few.test)}
    print({key: found[key] for key in ("student", "lr", "seed", "val_accuracy")}, flush=True)
    return found | {"loss": window_means(losses, WINDOW)}


def examine(model: nn.Module, teacher: nn.Module, deal: Deal) -> dict[str, float]:
    """How often the model is right, and how often it repeats a mistake of the teacher."""
    digits = deal.few.test
    answers, taught = (evaluate(one, digits).predictions for one in (model, teacher))
    missed = taught != digits.labels
    return {
        "val_accuracy": round(evaluate(model, deal.kept_back).accuracy, 4),
        "test_accuracy": _share(answers == digits.labels),
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
    swept = one_core_each(run, [(arm, lr, s) for arm in ARMS for lr in RATES for s in TRIAL_ROUNDS])
    rates = choose_rates(swept, "student", ARMS)
    others = [s for s in ROUNDS if s not in TRIAL_ROUNDS]
    trained = [one for one in swept if one["lr"] == rates[one["student"]]]
    trained += one_core_each(run, [(arm, rates[arm], s) for arm in ARMS for s in others])
    teachers = one_core_each(run_teacher, [(s,) for s in ROUNDS])
    same_mistakes = {"label": "The teacher's mistakes repeated", "percent": True}
    asked = ("student", "lr", "seed", "val_accuracy")
    write_log(
        LOG,
        model=NAME,
        details={
            "teacher": {"width": WIDTH},
            "labels": LABELS,
            "kept_back": KEPT_BACK,
            "alpha": ALPHA,
            "tau": TAU,
            "rates": rates,
            "trials": [{key: one[key] for key in asked} for one in swept],
        },
        recipe=RECIPE,
        settings={"student": "Student"},
        curves=loss_curve(RECIPE.steps, WINDOW),
        results=TEST_ACCURACY | {"same_mistakes": same_mistakes},
        runs=teachers + trained,
    )
