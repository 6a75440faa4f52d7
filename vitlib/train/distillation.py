"""`DistillationLoss`: labels teach one head, a teacher the other (Touvron et al. 2021, sec. 4).

`PartlyLabelled` are images of which some have no label: about those, the teacher alone speaks.
"""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vitlib.data import ImageSet, LabelledImages
from vitlib.data.sets import same_statistics

UNLABELLED = -100  # PyTorch's default for `ignore_index` of the cross-entropy


class DistillationLoss:
    """The loss of a distilled model: one head learns the labels, the other the teacher's answers.

    With class logits z, distillation logits z_d, teacher logits z_t and labels y:

        hard: (1 - alpha) CE(z, y) + alpha CE(z_d, argmax z_t)
        soft: (1 - alpha) CE(z, y) + alpha tau² KL(softmax(z_t / tau) || softmax(z_d / tau))

    KL is summed over the classes and averaged over the batch, as the paper writes it. DeiT's
    published code divides by the number of logits instead, which makes it K times smaller.

    A label may be UNLABELLED: then the image counts in the teacher's term alone, and CE(z, y) is
    the mean over the others.

    The teacher is put in eval mode, gets no gradient, and is not a submodule, so that an optimiser
    over the student never updates it. It gets the same images as the student, augmented and
    normalised.

    Args:
        teacher: maps images (B, C, H, W) to logits (B, K).
        kind: "hard" or "soft".
        alpha: weight of the teacher's term, 0 to 1.
        tau: temperature, above 0; only "soft" uses it.

    Raises ValueError for another kind, for alpha or tau out of range, and when called, for a
    teacher whose logits have another shape than the student's.
    Source: Touvron et al. 2021, "Training data-efficient image transformers", equations 2 and 3.
    """

    def __init__(
        self, teacher: nn.Module, kind: str = "hard", alpha: float = 0.5, tau: float = 1.0
    ):
        if kind not in ("hard", "soft"):
            raise ValueError(f"kind of distillation must be 'hard' or 'soft', got {kind!r}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
        if not tau > 0:
            raise ValueError(f"tau must be above 0, got {tau}")
        self.teacher, self.kind, self.alpha, self.tau = teacher.eval(), kind, alpha, tau

    def __call__(
        self,
        images: Float[Tensor, "B C H W"],
        outputs: tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]],
        targets: Int64[Tensor, "B"] | Float[Tensor, "B K"],
        label_smoothing: float = 0.0,
        share: float = 1.0,
    ) -> Float[Tensor, ""]:
        """The loss, one number. `targets` are labels or, after mixup or cutmix, probabilities.

        Of a batch in parts, `share` is what `labelled_share` returns for this one.
        """
        logits, dist_logits = (z.float() for z in outputs)
        labels_loss = F.cross_entropy(
            logits, targets, label_smoothing=label_smoothing, ignore_index=UNLABELLED
        )
        if (targets == UNLABELLED).all():
            labels_loss = logits.new_zeros(())  # the mean over no images would be 0 / 0
        self.teacher.eval()
        with torch.no_grad():
            teacher_logits = self.teacher(images).float()
        if teacher_logits.shape != dist_logits.shape:
            raise ValueError(
                f"the teacher gives logits of shape {tuple(teacher_logits.shape)}, "
                f"the student {tuple(dist_logits.shape)}"
            )
        if self.kind == "hard":
            teacher_loss = F.cross_entropy(dist_logits, teacher_logits.argmax(dim=1))
        else:
            teacher_loss = self.tau**2 * F.kl_div(
                F.log_softmax(dist_logits / self.tau, dim=1),
                F.log_softmax(teacher_logits / self.tau, dim=1),
                reduction="batchmean",
                log_target=True,
            )
        return (1 - self.alpha) * share * labels_loss + self.alpha * teacher_loss


class PartlyLabelled(ImageSet):
    """Images with labels, and others whose labels `fit` does not get to see.

    `batch` gives those others as UNLABELLED, so that a teacher alone says what they are. The
    labelled images are there `times` times, since they are few: a batch contains more of them then.
    """

    def __init__(
        self, labelled: LabelledImages, unlabelled: LabelledImages, times: int = 1
    ) -> None:
        if not (isinstance(labelled, ImageSet) and isinstance(unlabelled, ImageSet)):
            raise ValueError("PartlyLabelled takes images in memory: load the data without stream")
        statistics = [(one.mean, one.std) for one in (labelled, unlabelled)]
        if not same_statistics(*statistics):
            raise ValueError(
                f"the labelled images have mean {labelled.mean} and std {labelled.std}, the others "
                f"{unlabelled.mean} and {unlabelled.std}: both must be normalised in the same way"
            )
        super().__init__(
            torch.cat([labelled.images.repeat(times, 1, 1, 1), unlabelled.images]),
            torch.cat([labelled.labels.repeat(times), unlabelled.labels]),
            labelled.mean,
            labelled.std,
        )
        self.has_label = torch.arange(len(self)) < times * len(labelled)

    def batch(self, index: Int[Tensor, "b"]) -> tuple[Float[Tensor, "b C H W"], Int64[Tensor, "b"]]:
        images, labels = super().batch(index)
        return images, labels.where(self.has_label[index], UNLABELLED)


def labelled_share(
    train: LabelledImages, part: Int64[Tensor, "b"], whole: Int64[Tensor, "B"]
) -> float:
    """The share of labelled images in a part of a batch, as a multiple of that in the whole batch.

    The mean over the labelled images of each part, times this, has as its mean over equal parts
    the mean over all labelled images.
    """
    if not isinstance(train, PartlyLabelled):
        return 1.0
    here, all_in_all = (float(train.has_label[index].float().mean()) for index in (part, whole))
    return here / all_in_all if all_in_all else 1.0
