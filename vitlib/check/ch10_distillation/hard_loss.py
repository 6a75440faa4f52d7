"""10.4 hard_loss: two heads, two sets of labels."""

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.ch10_distillation._in_single import gradients, loss
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, numbers
from vitlib.check.probing import draw, gradient, in_single, returns
from vitlib.train import DistillationLoss


def hard_loss(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    truth = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    taught = F.cross_entropy(dist_logits, teacher_logits.argmax(dim=1))
    return (1 - alpha) * truth + alpha * taught


def by_hand(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    rows = torch.arange(len(labels))
    log_p, log_q = (z.log_softmax(dim=1) for z in (logits, dist_logits))
    truth = (1 - smoothing) * log_p[rows, labels] + smoothing * log_p.mean(dim=1)
    taught = log_q[rows, teacher_logits.max(dim=1).indices]
    return -((1 - alpha) * truth + alpha * taught).mean()


def by_targets(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    K = logits.shape[1]
    target = F.one_hot(labels, K) * (1 - smoothing) + smoothing / K
    taught = F.one_hot(teacher_logits.argmax(dim=-1), K).to(logits)
    learned = F.cross_entropy(logits, target.to(logits))
    return torch.lerp(learned, F.cross_entropy(dist_logits, taught), alpha)


def by_modules(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    base = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels)
    distilled = nn.NLLLoss()(nn.LogSoftmax(dim=1)(dist_logits), teacher_logits.argmax(1))
    return base * (1 - alpha) + distilled * alpha


def by_vitlib(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    images = teacher_logits[:, :, None, None]  # nn.Flatten, the teacher, makes logits of them
    teach = DistillationLoss(nn.Flatten(), "hard", alpha)
    return teach(images, (logits, dist_logits), labels, smoothing)


def cases(answer) -> Cases:
    def given(images, classes, alpha, smoothing, size=1.0, seed=0):
        logits, dist_logits, teacher = (
            size * numbers(images, classes, seed=seed + i) for i in range(3)
        )
        labels = torch.arange(images) * 5 % classes
        labels[:2] = teacher[:2].argmax(dim=1)  # the teacher is right about some, not about all
        return logits, dist_logits, teacher, labels, alpha, smoothing

    def run(*sizes, **options):
        return loss(answer, *given(*sizes, **options))

    yield "5 images, 4 classes, α = 0.3, no smoothing", lambda: run(5, 4, 0.3, 0.0)
    yield "the same with smoothing 0.2", lambda: run(5, 4, 0.3, 0.2)
    yield "α = 0, labels only", lambda: run(5, 4, 0.0, 0.2)
    yield "α = 1, teacher only", lambda: run(5, 4, 1.0, 0.2)
    # argmax along the wrong axis raises no error here
    yield "3 images and 3 classes", lambda: run(3, 3, 0.6, 0.1, seed=4)
    yield "logits in the thousands", lambda: run(5, 4, 0.3, 0.1, size=2000.0)
    yield (
        "the gradients that reach the heads",
        (lambda: gradients(answer, given(5, 4, 0.3, 0.2), logits=0, dist_logits=1)),
    )


MUTANTS = edits(hard_loss, """
both_smoothed: .argmax(dim=1) → .argmax(dim=1), label_smoothing=smoothing
    The teacher's classes are smoothed, too. The paper smooths the true labels only, and takes the
    teacher's as they are.
teacher_smoothed: , label_smoothing=smoothing →
and: .argmax(dim=1) → .argmax(dim=1), label_smoothing=smoothing
    The smoothing has gone to the wrong term: the true labels are smoothed, the teacher's classes
    are not.
not_smoothed: , label_smoothing=smoothing →
    `smoothing` is never used. F.cross_entropy takes it as label_smoothing, here for the true labels
    only.
fixed_smoothing: =smoothing → =0.1
    The labels are smoothed by 0.1, as in the paper, whatever `smoothing` is. Use the argument.
softmax_first: (logits, labels → (logits.softmax(dim=1), labels
and: (dist_logits, → (dist_logits.softmax(dim=1),
    F.cross_entropy gets probabilities, and takes a softmax itself: with a second one all classes
    look nearly alike, and the loss can hardly fall. Give it the logits.
weights_swapped: (1 - alpha) * truth + alpha * taught → alpha * truth + (1 - alpha) * taught
    The weights have changed places. α is the teacher's: at α = 0 only the labels should count, at α
    = 1 only the teacher. At α = 0.5, the usual choice, nobody notices.
alpha_ignored: (1 - alpha) * truth + alpha * taught → 0.5 * truth + 0.5 * taught
    Both terms have the weight ½, as in the paper, whatever α is. Use `alpha`.
sum: (1 - alpha) * truth + alpha * taught → truth + taught
    The two terms are added without their weights: (1 − α) for the labels, α for the teacher.
labels_at_full_weight: (1 - alpha) * truth → truth
    The labels keep the weight 1, and the teacher comes on top. The labels' weight is 1 − α, so that
    the two sum to 1.
subtracted: + alpha * taught → - alpha * taught
    The teacher's term is subtracted: the distillation head would learn to contradict the teacher.
    Add it.
halved: (1 - alpha) * truth + alpha * taught →
→ (1 - alpha) * truth / 2 + alpha * taught / 2
    The loss is halved. The weights 1 − α and α sum to 1 already.
labels_only: + alpha * taught →
    The teacher's term is missing: α times the cross-entropy of `dist_logits` and the classes that
    the teacher names.
teacher_only: (1 - alpha) * truth + →
    The labels' term is missing: 1 − α times the cross-entropy of `logits` and the true labels.
teacher_and_student_exchanged: dist_logits, teacher_logits.argmax(dim=1) →
→ teacher_logits, dist_logits.argmax(dim=1)
    Teacher and student have changed places: the teacher is judged by the class that the student
    names. It is the student that learns: dist_logits come first, and the teacher's argmax is the
    target.
heads_swapped: (dist_logits, → (logits,
and: (logits, labels → (dist_logits, labels
    The heads have changed places: here the class head learns from the teacher, and the distillation
    head from the labels. Nothing fails; but whoever reads one head alone reads the other one.
targets_swapped: labels, label_smoothing=smoothing → teacher_logits.argmax(dim=1)
and: (dist_logits, teacher_logits.argmax(dim=1) → (dist_logits, labels, label_smoothing=smoothing
    The targets have changed places: here `logits` learn from the teacher, and `dist_logits` from
    the labels. The class head is for the labels.
class_head_twice: (dist_logits, → (logits,
    Both terms read the class logits, and the distillation head learns nothing. This is distillation
    without the token. The teacher's term belongs to dist_logits.
distillation_head_twice: (logits, labels → (dist_logits, labels
    Both terms read the distillation logits, and the class head learns nothing. The labels' term
    belongs to `logits`.
mean_of_the_heads: truth = → logits = dist_logits = (logits + dist_logits) / 2
→ truth =
    Both terms read the mean of the heads. The mean is for later, when the model is used; in
    training each head has a target of its own, or else the two tokens learn the same.
teacher_graded: dist_logits, teacher_logits.argmax(dim=1) → teacher_logits, labels
    The second term measures how well the *teacher* knows the labels, and `dist_logits` is never
    used: the distillation head learns nothing. It is to learn the class that the teacher names.
no_teacher: teacher_logits.argmax(dim=1) → labels
    Both heads learn the true labels, and the teacher is never asked. The distillation head learns
    the class that the teacher names, also where that is wrong.
logits_as_targets: .argmax(dim=1) →
    The teacher's logits themselves are the target. F.cross_entropy takes a target of numbers for
    probabilities, without looking whether they sum to 1, or are negative. Hard distillation wants
    one class an image: argmax.
soft_targets: argmax → softmax
    The target is the teacher's probabilities. That is a form of soft distillation. The hard one
    keeps only the class with the largest logit: argmax.
students_own_class: teacher_logits.argmax → dist_logits.argmax
    The distillation head is taught by its own answers: the argmax is taken of dist_logits. Take the
    teacher's.
smallest_logit: argmax → argmin
    The target is the class that the teacher thinks *least* likely. Take the largest logit: argmax.
nll_of_logits: F.cross_entropy(dist_logits → F.nll_loss(dist_logits
    F.nll_loss gets logits. It wants logarithms of probabilities, and does not look: give it
    log_softmax, or call F.cross_entropy.
alpha_and_smoothing_exchanged: label_smoothing=smoothing → label_smoothing=alpha
and: (1 - alpha) * truth + alpha * taught → (1 - smoothing) * truth + smoothing * taught
    `alpha` and `smoothing` have changed places: α weighs the two terms, and smoothing belongs to
    the true labels.
divergence: F.cross_entropy(dist_logits, teacher_logits.argmax(dim=1)) →
→ F.kl_div(dist_logits.log_softmax(1), teacher_logits.softmax(1), reduction="batchmean")
    The second term is the divergence from the teacher's probabilities, as in soft distillation. The
    hard one is the cross-entropy with the class of its largest logit: argmax.
argmax_along_the_batch: argmax(dim=1) → argmax(dim=0)
    argmax runs along the batch: it looks for the best image of each class. The classes are the
    second axis of the logits (B, K).
""") | edits(by_hand, """
log_of_softmax: z.log_softmax(dim=1) → z.softmax(dim=1).log()
    The loss is infinite (or nan) where a probability is so small that it is rounded to 0: its
    logarithm is −∞. log_softmax or F.cross_entropy start from the logits, and stay finite.
sum_over_images: .mean() → .sum()
    The losses of the images are added up. Take their mean, or the gradient grows with the size of
    the batch.
one_for_each_image: .mean() →
    One loss for each image comes back. Take their mean.
number: .mean() → .mean().item()
    The value is right, but it is a number of Python, and a loss must be a tensor: otherwise there
    is no backward(). Leave out .item() or float().
torn_off: .mean() → .mean().detach()
    The value is right, but no gradient reaches the student. Look for .detach(), .data,
    torch.tensor(...) or no_grad(): only the teacher needs those.
""") | edits(by_targets, """
smoothed_over_the_others: smoothing / K → (1 - F.one_hot(labels, K)) * smoothing / (K - 1)
    The smoothing is shared among the *other* classes, with 1 − smoothing left for the right one.
    Label smoothing in the paper and in torch is shared among all K classes, so that the right one
    keeps 1 − smoothing + smoothing / K.
""")  # fmt: skip


def probe(answer):
    given = [
        (*(1.5 * draw(b, k, seed=s + i) for i in range(3)), torch.arange(b) * 3 % k, alpha, smooth)
        for b, k, alpha, smooth, s in [
            (6, 5, 0.7, 0.0, 0), (4, 4, 0.2, 0.3, 9), (3, 7, 0.0, 0.1, 20), (2, 3, 1.0, 0.4, 30),
            (1, 4, 0.5, 0.1, 40),
        ]
    ]  # fmt: skip
    huge = [300 * z for z in given[0][:3]]
    losses = [returns(answer, *g) for g in [*given, (*huge, *given[0][3:])]]
    return [
        in_single(run) for run in [*losses, *(gradient(answer, *given[1], of=i) for i in range(2))]
    ]


EXERCISE = Exercise(
    name="hard_loss",
    chapter="10_distillation",
    task="hard_loss(logits, dist_logits, teacher_logits, labels, alpha, smoothing) -> a tensor "
    "with one number: (1 − α) times the loss of the class logits on the labels, smoothed, plus α "
    "times that of the distillation logits on the teacher's classes, not smoothed",
    reference=hard_loss,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_hand, by_targets, by_modules, by_vitlib],
    probe=probe,
)
