"""TeacherFigure: what a student learns from a teacher, and the gradient that reaches its logits."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from traitlets import Bool, Bytes, Int, List, Unicode, validate
from traitlets import Float as Number

from vitlib.matching import as_vision_transformer, in_eval_mode, shown_pixels
from vitlib.model import VisionTransformer
from vitlib.widgets.figure import (
    BadValue,
    Figure,
    check_choice,
    check_index,
    check_model_images,
)

KINDS = ("hard", "soft")
TAUS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MAX_CLASSES = 20  # each has its own row
MAX_BYTES = 500_000


class TeacherFigure(Figure, script="teacher.js"):
    """Choose hard or soft and move τ: what the teacher asks, beside what its student gives.

    For one picture at a time, by class: the target that distillation makes of the teacher's answer
    (softened by τ, or one label), and the probabilities of the student's distillation head at the
    same τ. What is folded at first tells of the loss: the two terms of `DistillationLoss` for a
    batch of this one picture, weighed by α; the teacher's probabilities and the class head's as
    they are; and the gradient of the teacher's term with respect to the distillation head's logits,
    with the factor τ² and without, and its length for every τ.

    The student may also have no distillation token. Its only head then learns from both the labels
    and the teacher, and both terms apply to it. Both models run in eval mode and are left as they
    were.

    Args:
        teacher: maps images (B, C, H, W), the same as the student's, to logits (B, K).
        student: a VisionTransformer with K classes, from 2 to 20.
        images: the input of both, normalised: (B, C, H, W), or one image (C, H, W).
        labels: the true classes, one per picture; without them only the teacher's term is known,
            and shown.
        image, kind, tau, alpha: what is shown first; tau is one of TAUS, alpha one of ALPHAS.

    Logits are float32, not rounded.
    Raises ValueError for models, images and labels that do not fit each other, and for pictures of
    more than 500,000 numbers in all.
    """

    image = Int(0, help="which picture").tag(sync=True)
    kind = Unicode("soft").tag(sync=True)
    tau = Number(3.0, help="temperature; only soft distillation has one").tag(sync=True)
    alpha = Number(0.5, help="weight of the teacher's term").tag(sync=True)
    taus = List(Number(), default_value=list(TAUS)).tag(sync=True)
    alphas = List(Number(), default_value=list(ALPHAS)).tag(sync=True)
    count = Int(help="number of pictures, B").tag(sync=True)
    classes = List(Unicode(), help="names of the K classes").tag(sync=True)
    labels = List(Int(), help="true class of each picture; empty if unknown").tag(sync=True)
    distilled = Bool(help="whether the student has a distillation head").tag(sync=True)
    pixels = Bytes(help="uint8 (B, H, W, C)").tag(sync=True)
    shape = List(Int(), help="height, width and channels of a picture").tag(sync=True)
    logits = Bytes(
        help="float32 (B, 3, K): the teacher's, the class head's, the distillation head's; of a "
        "student with one head, its logits twice"
    ).tag(sync=True)

    def __init__(
        self,
        teacher: nn.Module,
        student: VisionTransformer,
        images: Tensor,
        labels: Sequence[int] | Tensor | None = None,
        *,
        image: int = 0,
        kind: str = "soft",
        tau: float = 3.0,
        alpha: float = 0.5,
    ):
        student = as_vision_transformer(student)
        images = check_model_images(student, images)
        if not 2 <= student.num_classes <= MAX_CLASSES:
            raise ValueError(
                f"the figure has a row for each class: it takes 2 to {MAX_CLASSES} classes, the "
                f"student has {student.num_classes}"
            )
        if images.numel() > MAX_BYTES:
            raise ValueError(
                f"the pictures are {images.numel():,} numbers, at most {MAX_BYTES:,} fit in the "
                f"figure: pass fewer, such as images[:{MAX_BYTES // images[0].numel()}]"
            )
        logits = _logits(teacher, student, images)
        names = student.classes or getattr(teacher, "classes", None) or range(student.num_classes)
        classes = [str(name) for name in names]
        known = [] if labels is None else _class_numbers(labels, len(images), len(classes))
        super().__init__(
            title="A teacher's answer, and what a student learns from it",
            alt=_describe(classes, logits[0], student.distilled),
            count=len(images),
            classes=classes,
            labels=known,
            distilled=student.distilled,
            pixels=shown_pixels(student, images).tobytes(),
            shape=[*student.img_size, student.in_chans],
            logits=logits.numpy().tobytes(),
        )
        self.image, self.kind, self.tau, self.alpha = image, kind, tau, alpha

    @validate("image")
    def _check_image(self, proposal: Any) -> int:
        return check_index("image", proposal.value, self.count, "pictures")

    @validate("kind")
    def _check_kind(self, proposal: Any) -> str:
        return check_choice("kind", proposal.value, KINDS)

    @validate("tau")
    def _check_tau(self, proposal: Any) -> float:
        return check_choice("tau", proposal.value, TAUS)

    @validate("alpha")
    def _check_alpha(self, proposal: Any) -> float:
        return check_choice("alpha", proposal.value, ALPHAS)


@torch.no_grad()
def _logits(
    teacher: nn.Module, student: VisionTransformer, images: Tensor
) -> Float[Tensor, "B 3 K"]:
    """The logits of teacher, class head and distillation head, in float32 on the CPU."""
    if not isinstance(teacher, nn.Module):
        raise ValueError(f"expected a model as the teacher, got {type(teacher).__name__}")
    ours, theirs = ((getattr(m, "mean", None), getattr(m, "std", None)) for m in (student, teacher))
    if None not in (*ours, *theirs) and ours != theirs:
        raise ValueError(
            f"the teacher expects mean {theirs[0]} and std {theirs[1]}, the student {ours[0]} and "
            f"{ours[1]}: both see the same images"
        )
    with in_eval_mode(student), in_eval_mode(teacher):
        own = images.to(student.cls_token)
        heads = student(own, return_dist=True) if student.distilled else (student(own),) * 2
        weight = next(teacher.parameters(), images)
        try:
            answer = teacher(images.to(weight))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"the teacher does not take the student's images {tuple(images.shape)}: {error}"
            ) from error
    wanted = (len(images), student.num_classes)
    if not isinstance(answer, Tensor) or tuple(answer.shape) != wanted:
        got = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else repr(type(answer))
        raise ValueError(f"the teacher must give logits of shape {wanted}, as the student: {got}")
    logits = torch.stack([answer.float().cpu(), *(z.float().cpu() for z in heads)], dim=1)
    if not logits.isfinite().all():
        raise ValueError("the models' logits are not finite (NaN): are their weights sound?")
    return logits


def _class_numbers(labels: Sequence[int] | Tensor, count: int, classes: int) -> list[int]:
    """The true classes as numbers; a ValueError unless there is a valid one for each picture."""
    many = labels.reshape(-1) if isinstance(labels, Tensor) else labels
    try:
        numbers = [operator.index(label) for label in many]
    except TypeError:
        raise BadValue(f"labels must be the numbers of classes: got {labels!r}") from None
    if len(numbers) != count:
        raise ValueError(f"expected {count} labels, one for each picture, got {len(numbers)}")
    return [check_index("a label", number, classes, "classes") for number in numbers]


def _describe(classes: list[str], first: Float[Tensor, "3 K"], distilled: bool) -> str:
    probability, answer = first[0].softmax(dim=0).max(dim=0)
    heads = "class head and distillation head" if distilled else "one head"
    return (
        f"Probabilities of {len(classes)} classes, of a teacher and of its student's {heads}. For "
        f"the first picture the teacher gives {classes[int(answer)]} the probability "
        f"{float(probability):.3f}. Choose a picture, hard or soft distillation, the temperature "
        "and the weight of the teacher to see the target, the loss and the gradient."
    )
