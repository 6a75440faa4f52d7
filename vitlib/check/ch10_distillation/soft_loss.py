"""10.5 soft_loss: a function to repair."""

import torch
import torch.nn.functional as F
from einops import einsum
from torch import nn

from vitlib.check.ch10_distillation._in_single import gradients, loss
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, numbers
from vitlib.check.probing import draw, gradient, in_single, returns
from vitlib.train import DistillationLoss


def soft_loss(dist_logits, teacher_logits, tau):
    student = (dist_logits / tau).log_softmax(dim=1)
    teacher = (teacher_logits / tau).log_softmax(dim=1)
    return tau**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def by_hand(dist_logits, teacher_logits, tau):
    log_s, log_t = ((z / tau).log_softmax(dim=1) for z in (dist_logits, teacher_logits))
    return tau * tau * (log_t.exp() * (log_t - log_s)).sum(dim=1).mean()


def by_cross_entropies(dist_logits, teacher_logits, tau):
    teacher = F.softmax(teacher_logits / tau, dim=1)
    crossed = F.cross_entropy(dist_logits / tau, teacher)
    return (crossed - F.cross_entropy(teacher_logits / tau, teacher)) * tau**2


def by_module(dist_logits, teacher_logits, tau):
    kl = nn.KLDivLoss(reduction="sum")
    student, teacher = F.log_softmax(dist_logits / tau, -1), F.softmax(teacher_logits / tau, -1)
    return kl(student, teacher) / len(dist_logits) * tau**2


def by_loop(dist_logits, teacher_logits, tau):
    losses = []
    for z, t in zip(dist_logits / tau, teacher_logits / tau, strict=True):
        log_ratio = (t - t.logsumexp(0)) - (z - z.logsumexp(0))
        losses.append(einsum(t.softmax(0), log_ratio, "k, k ->"))
    return torch.stack(losses).mean() * tau**2


def by_vitlib(dist_logits, teacher_logits, tau):
    images = teacher_logits[:, :, None, None]  # nn.Flatten, the teacher, makes logits of them
    labels = torch.zeros(len(dist_logits), dtype=torch.long)
    teach = DistillationLoss(nn.Flatten(), "soft", alpha=1.0, tau=tau)
    return teach(images, (torch.zeros_like(dist_logits), dist_logits), labels)


def cases(answer) -> Cases:
    def given(images, classes, tau, size=1.0, seed=0):
        student, teacher = (size * numbers(images, classes, seed=seed + i) for i in range(2))
        return student, teacher, tau

    def run(*sizes, **options):
        return loss(answer, *given(*sizes, **options))

    def huge():
        result = run(5, 4, 2.0, size=4000.0)
        if isinstance(result, torch.Tensor) and result.shape == () and 0 < result < 100:
            raise Refused(f"the loss is {result:.4g}, and should be above 1,000", "cut off")
        return result

    def same():
        logits = numbers(4, 5, seed=6)
        return loss(answer, logits, logits.clone(), 2.0)

    yield "5 images, 4 classes, τ = 1", lambda: run(5, 4, 1.0)
    yield "the same at τ = 3", lambda: run(5, 4, 3.0)
    yield "3 images and 3 classes, τ = 0.5", lambda: run(3, 3, 0.5, seed=3)
    yield "a student that says what the teacher says", same
    yield "logits in the thousands", huge
    yield (
        "the gradient that reaches the student at τ = 3",
        (lambda: gradients(answer, given(5, 4, 3.0), dist_logits=0)),
    )


MUTANTS = edits(soft_loss, """
direction_and_no_tau_squared: student, teacher → teacher, student
and: tau**2 * →
    Two things. Teacher and student have changed places: this is KL(student ‖ teacher), which weighs
    the classes by the *student's* probabilities, so that what the student gives nothing to counts
    for nothing. F.kl_div wants the student's log-probabilities first and the teacher's second: the
    other way round from how the divergence is written. And the factor τ² is missing: dividing the
    logits by τ makes the gradient about τ² times smaller.
direction: student, teacher → teacher, student
    Teacher and student have changed places: this is KL(student ‖ teacher), which weighs the classes
    by the *student's* probabilities, so that what the student gives nothing to counts for nothing.
    F.kl_div wants the student's log-probabilities first and the teacher's second: the other way
    round from how the divergence is written.
no_tau_squared: tau**2 * →
    The factor τ² is missing. Dividing the logits by τ makes the gradient about τ² times smaller;
    the factor brings it back, so that α means the same at every temperature.
times_tau: tau**2 → tau
    The factor is τ, and should be τ²: one τ comes from dividing the student's logits, the other
    from the teacher's, since both softmaxes become flatter.
divided_by_tau_squared: tau**2 → 1 / tau**2
    The loss is divided by τ². The gradient is too small by about that factor already: multiply.
student_not_cooled: (dist_logits / tau) → dist_logits
    Only the teacher's logits are divided by τ. Then the student would have to be as soft itself as
    the teacher is at τ. Both are divided.
teacher_not_cooled: (teacher_logits / tau) → teacher_logits
    Only the student's logits are divided by τ. The teacher's softness is what it is about: divide
    both.
log_target_of_probabilities: (teacher_logits / tau).log_softmax → (teacher_logits / tau).softmax
    F.kl_div gets the teacher's probabilities and takes them for logarithms. log_target=True is for
    a target from log_softmax: leave it out, or give it those.
logits_of_the_student: (dist_logits / tau).log_softmax(dim=1) → dist_logits / tau
    F.kl_div gets the student's logits. It wants logarithms of probabilities, and does not look:
    log_softmax for the student.
squared_differences_of_logits: student = (dist → return F.mse_loss(dist_logits, teacher_logits)
→ student = (dist
    These are squared differences of logits. The divergence compares probabilities: F.kl_div.
both_directions: F.kl_div(student, teacher, reduction="batchmean", log_target=True) →
→ (
→     F.kl_div(student, teacher, reduction="batchmean", log_target=True) / 2
→     + F.kl_div(teacher, student, reduction="batchmean", log_target=True) / 2
→ )
    This is the mean of both directions. Only KL(teacher ‖ student) is asked for: F.kl_div(student,
    teacher, ...).
log_target_forgotten: , log_target=True →
    F.kl_div gets the teacher's log-probabilities and takes them for probabilities. Say
    log_target=True, or give it the teacher's softmax.
sum_over_images: "batchmean" → "sum"
    The losses of the images are added up. Take their mean; in F.kl_div, "batchmean" sums over the
    classes and averages over the images.
one_for_each_number: "batchmean" → "none"
    One number for each image and class comes back. Sum over the classes, then take the mean over
    the images.
""") | edits(by_hand, """
one_for_each_image: .mean() →
    One loss for each image comes back. Take their mean.
mean_of_all_numbers: .sum(dim=1) →
    The loss is K times too small: it is averaged over images *and* classes. So does
    reduction="mean", and DeiT's published code. Sum over the classes, average over the images: in
    F.kl_div that is called "batchmean".
tau_ignored: (z / tau) → z
and: tau * tau * →
    tau has no effect. Divide both logits by it, and multiply the loss by its square.
only_tau_squared: (z / tau) → z
    The factor τ² is there, but the logits are not divided by τ: both, before the softmax.
logits_times_tau: z / tau → z * tau
    The logits are multiplied by τ: a high temperature makes the teacher harder here, and should
    make it softer. Divide.
squared_differences: (log_t.exp() * (log_t - log_s)) → (log_t.exp() - log_s.exp()).square()
    These are squared differences of probabilities. The divergence compares their logarithms: the
    mean of log p_t − log p_s, weighted by p_t.
wrong_axis: log_softmax(dim=1) → log_softmax(dim=0)
    The softmax runs along the batch, so that the images compete for each class. It belongs to the
    axis of the classes: dim=1.
cooled_after_log_softmax: (z / tau).log_softmax(dim=1) → z.log_softmax(dim=1) / tau
    The division by τ comes after log_softmax, and what it leaves are no logarithms of
    probabilities: they do not sum to 1. Divide the logits first.
log_of_softmax_and_a_bit: (z / tau).log_softmax(dim=1) → ((z / tau).softmax(dim=1) + 1e-8).log()
    A small number in the logarithm, such as 1e-8, or a clamp keeps the loss finite, but cuts it
    off: a student that is very wrong is not told how wrong. log_softmax needs no such help.
log_of_softmax: (z / tau).log_softmax(dim=1) → (z / tau).softmax(dim=1).log()
    The loss is infinite or nan where a probability is so small that it is rounded to 0: its
    logarithm is −∞, and 0/0 has no value. log_softmax computes the logarithm straight from the
    logits, and stays finite.
no_minus: log_t - log_s → log_s - log_t
    The sign is wrong: a divergence is never below 0, and this one never above.
number: .mean() → .mean().item()
    The value is right, but it is a number of Python, and a loss must be a tensor: otherwise there
    is no backward(). Leave out .item() or float().
torn_off: .mean() → .mean().detach()
    The value is right, but no gradient reaches the student. Look for .detach(), .data,
    torch.tensor(...) or no_grad(): only the teacher needs those.
""") | edits(by_cross_entropies, """
cross_entropy: (crossed - F.cross_entropy(teacher_logits / tau, teacher)) → crossed
    This is a cross-entropy. Its gradient is the same, but it is larger than the divergence by the
    teacher's own entropy, so a perfect student would not reach 0. Subtract that, or use F.kl_div.
""") | edits(by_module, """
probabilities_of_the_student: log_softmax → softmax
    F.kl_div gets the student's probabilities. It wants their logarithms, and does not look:
    log_softmax for the student.
logits_as_target: F.softmax(teacher_logits / tau, -1) → teacher_logits / tau
    F.kl_div gets the teacher's logits and takes them for probabilities; of a negative one there is
    no logarithm, hence nan. Give it the teacher's softmax, or its log_softmax with log_target=True.
""")  # fmt: skip


def probe(answer):
    given = [
        (*(1.5 * draw(b, k, seed=s + i) for i in range(2)), tau)
        for b, k, tau, s in [(6, 5, 1.0, 0), (3, 3, 4.0, 9), (2, 7, 0.6, 20), (1, 4, 2.0, 30)]
    ]
    huge = [900 * z for z in given[0][:2]]
    losses = [returns(answer, *g) for g in [*given, (*huge, 1.5)]]
    return [in_single(run) for run in [*losses, gradient(answer, *given[1])]]


EXERCISE = Exercise(
    name="soft_loss",
    chapter="10_distillation",
    task="soft_loss(dist_logits, teacher_logits, tau) -> a tensor with one number: "
    "τ² KL(teacher ‖ student) between the two softmaxes at temperature τ, summed over the classes, "
    "averaged over the images",
    reference=soft_loss,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_hand, by_cross_entropies, by_module, by_loop, by_vitlib],
    probe=probe,
)
