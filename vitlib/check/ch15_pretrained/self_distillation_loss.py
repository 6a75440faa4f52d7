"""15.5 self_distillation_loss: a student, and a teacher without labels."""

import torch
import torch.nn.functional as F

from vitlib.check.ch10_distillation._in_single import gradients, loss
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, numbers
from vitlib.check.probing import draw, in_single, returns


def self_distillation_loss(student, teacher, centre, student_temp, teacher_temp):
    targets = ((teacher - centre) / teacher_temp).softmax(dim=-1).detach()
    log_p = (student / student_temp).log_softmax(dim=-1)
    return -(targets * log_p).sum(dim=-1).mean()


def by_cross_entropy(student, teacher, centre, student_temp, teacher_temp):
    with torch.no_grad():
        targets = F.softmax((teacher - centre) / teacher_temp, dim=1)
    return F.cross_entropy(student / student_temp, targets)


def by_divergence(student, teacher, centre, student_temp, teacher_temp):
    sharp = ((teacher.detach() - centre) / teacher_temp).log_softmax(dim=1)
    entropy = -(sharp.exp() * sharp).sum(dim=1).mean()
    log_p = F.log_softmax(student / student_temp, dim=1)
    return F.kl_div(log_p, sharp, reduction="batchmean", log_target=True) + entropy


def cases(answer) -> Cases:
    def given(images, width, student_temp, teacher_temp, seed=0, size=1.0):
        student, teacher = (size * numbers(images, width, seed=seed + i) for i in range(2))
        return student, teacher, numbers(width, seed=seed + 2), student_temp, teacher_temp

    yield "5 images, K = 4", lambda: loss(answer, *given(5, 4, 0.5, 0.2))
    yield "both temperatures 1", lambda: loss(answer, *given(3, 6, 1.0, 1.0, seed=5))
    # a softmax along the batch raises no error here
    yield "4 images, K = 4", lambda: loss(answer, *given(4, 4, 0.3, 0.9, seed=9))
    yield "logits in the hundreds", lambda: loss(answer, *given(5, 4, 0.1, 0.04, size=100.0))
    yield (
        "the gradients that reach student and teacher",
        lambda: gradients(answer, given(5, 4, 0.5, 0.2), student=0, teacher=1),
    )


MUTANTS = edits(self_distillation_loss, """
teacher_learns: .detach() →
    Gradients reach the teacher. It should follow the student slowly, as its moving average, and not
    come to meet it: the two would agree on the same answer for every image. Detach the targets.
no_centre: (teacher - centre) → teacher
    `centre` is not used. Without it, one output can win for all images, and both networks agree
    without looking. Subtract it from the teacher's logits.
centre_added: (teacher - centre) → (teacher + centre)
    The centre is added: what the teacher says for every image counts more instead of less. Subtract
    it.
centre_on_both: student / → (student - centre) /
    The centre is subtracted from the student's logits, too. Only the teacher's are centred.
centre_on_the_student: (teacher - centre) → teacher
and: student / → (student - centre) /
    The centre is subtracted from the student's logits. It belongs to the teacher's.
centre_after_the_softmax: ((teacher - centre) / teacher_temp).softmax(dim=-1) →
→ ((teacher / teacher_temp).softmax(dim=-1) - centre)
    The centre is subtracted from probabilities. It is a mean of logits: subtract it before the
    softmax.
centre_not_sharpened: (teacher - centre) / teacher_temp → teacher / teacher_temp - centre
    The centre is subtracted after the division. It is a mean of the teacher's logits as they are:
    subtract first, then divide.
own_centre: (teacher - centre) → (teacher - teacher.mean(dim=0))
    The mean of this batch is subtracted, and `centre` is not used. The centre is a running mean
    over many batches.
temperatures_exchanged: centre) / teacher_temp → centre) / student_temp
and: (student / student_temp) → (student / teacher_temp)
    The temperatures have changed places. The teacher has the lower one: its targets are sharper
    than what the student says.
one_temperature: (student / student_temp) → (student / teacher_temp)
    Both use the teacher's temperature. The student has its own.
one_temperature_of_the_student: centre) / teacher_temp → centre) / student_temp
    Both use the student's temperature. The teacher has its own.
student_not_divided: (student / student_temp) → student
    The student's logits are not divided by the student's temperature.
teacher_not_divided: (teacher - centre) / teacher_temp → (teacher - centre)
    The teacher's logits are not divided by the teacher's temperature, so that its targets stay
    blunt.
multiplied: centre) / teacher_temp → centre) * teacher_temp
and: student / student_temp → student * student_temp
    The logits are multiplied by the temperatures. Divided by them, a low temperature sharpens.
exchanged: ((teacher - centre) / teacher_temp) → (student / student_temp)
and: (student / student_temp).log → ((teacher - centre) / teacher_temp).log
    Teacher and student have changed places: here the teacher would learn from the student. The
    targets are the teacher's.
hard_targets: ((teacher - centre) / teacher_temp).softmax(dim=-1) →
→ F.one_hot((teacher - centre).argmax(dim=-1), teacher.shape[-1])
    The target is the teacher's largest output alone. Here the student learns its probabilities, a
    softmax.
no_minus: return -( → return (
    The minus is missing: the loss would fall as the two disagree.
sums: .sum(dim=-1).mean() → .sum()
    The losses of the images are added up. Take their mean, or the gradient grows with the size of
    the batch.
mean_of_all: .sum(dim=-1).mean() → .mean()
    The mean runs over the K outputs, too, and makes the loss K times too small. Sum over the
    outputs, then take the mean over the images.
one_per_image: .sum(dim=-1).mean() → .sum(dim=-1)
    One loss per image comes back. Take their mean.
probabilities: log_softmax → softmax
    The student's probabilities are multiplied by the targets, without a logarithm. Cross-entropy
    needs log_softmax.
logits: .log_softmax(dim=-1) →
    The student's logits are taken for logarithms of probabilities. log_softmax makes them that.
log_of_softmax: log_softmax(dim=-1) → softmax(dim=-1).log()
    The loss is infinite (or nan) where a probability is so small that it is rounded to 0. Take
    log_softmax, which starts from the logits and stays finite.
along_the_batch: (dim=-1).detach() → (dim=0).detach()
and: log_softmax(dim=-1) → log_softmax(dim=0)
    The softmax runs over the images. It runs over the outputs, the last axis.
torn_off: .mean() → .mean().detach()
    The value is right, but no gradient reaches the student, which is the one that learns. Only the
    targets are detached.
squares: -(targets * log_p).sum(dim=-1).mean() →
→ (targets - log_p.exp()).square().sum(dim=-1).mean()
    This is the squared distance of the probabilities. The task says cross-entropy.
""") | edits(by_divergence, """
divergence: + entropy →
    This is the divergence: cross-entropy less the entropy of the targets. Its gradient is the same,
    but the value is not what the task asks for: do not subtract the entropy.
""")  # fmt: skip


def probe(answer):
    def given(images, width, student_temp, teacher_temp, seed):
        student, teacher = (1.5 * draw(images, width, seed=seed + i) for i in range(2))
        return student, teacher, draw(width, seed=seed + 2), student_temp, teacher_temp

    tries = [given(6, 5, 0.4, 0.15, 0), given(3, 3, 0.8, 0.3, 10), given(2, 7, 1.3, 0.6, 20)]
    huge = (200 * tries[0][0], 200 * tries[0][1], *tries[0][2:])
    runs = [returns(answer, *each) for each in [*tries, huge]]
    learned = [lambda: gradients(answer, tries[0], student=0, teacher=1)]
    return [*map(in_single, runs), *learned]


EXERCISE = Exercise(
    name="self_distillation_loss",
    chapter="15_pretrained",
    task="self_distillation_loss(student, teacher, centre, student_temp, teacher_temp) -> a tensor "
    "with one number: the mean cross-entropy of the student's logits (B, K), divided by "
    "student_temp, with targets from the teacher's logits (B, K) less the centre (K,), divided by "
    "teacher_temp",
    reference=self_distillation_loss,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_cross_entropy, by_divergence],
    probe=probe,
)
