"""10.3 teacher_targets: what the teacher hands over, and what it keeps."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.check.probing import draw


@torch.no_grad()
def teacher_targets(teacher, images, tau):
    logits = teacher.eval()(images)
    return logits.argmax(dim=1), (logits / tau).softmax(dim=1)


@torch.no_grad()
def mode_kept(teacher, images, tau):
    was_training = teacher.training
    logits = teacher.eval()(images)
    teacher.train(was_training)
    cooled = logits / tau
    return logits.max(dim=1).indices, (cooled - cooled.logsumexp(dim=1, keepdim=True)).exp()


def detached(teacher, images, tau):
    teacher.eval()
    logits = teacher(images).detach()
    return torch.argmax(logits, -1), F.softmax(logits / tau, -1)


def by_loop(teacher, images, tau):
    for part in teacher.modules():
        part.training = False
    labels, rows = [], []
    for image in images:
        with torch.no_grad():
            row = torch.softmax(teacher(image[None])[0] / tau, dim=0)
        labels.append(row.argmax().item())
        rows.append(row)
    return torch.tensor(labels), torch.stack(rows)


def cases(answer) -> Cases:
    def run(training, images, classes, tau):
        teacher = fill(
            nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.4), nn.Flatten(),
                nn.Linear(24, classes),
            )
        )  # fmt: skip
        teacher(numbers(9, 1, 5, 4, seed=2) - 0.5)  # so that batch norm has statistics of its own
        teacher.train(training)
        state = {name: value.clone() for name, value in teacher.state_dict().items()}
        student = numbers(images, classes, seed=4).requires_grad_()
        result = call(answer, teacher, numbers(images, 1, 5, 4, seed=3), tau)
        off = not torch.is_grad_enabled()
        torch.set_grad_enabled(True)  # for the next case
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Refused("two results should come back: the labels and the probabilities")
        labels, soft = result
        if isinstance(soft, torch.Tensor) and soft.shape == student.shape:
            (-(soft * student.log_softmax(dim=1)).sum()).backward()  # as a soft loss does it
        changed = any(not torch.equal(teacher.state_dict()[k], v) for k, v in state.items())
        return {
            "the labels": labels,
            "the probabilities": soft,
            "the numbers in the teacher": "changed" if changed else "unchanged",
            "weights of the teacher that get a gradient from the student's loss": sum(
                weight.grad is not None for weight in teacher.parameters()
            ),
            "gradients afterwards": "off" if off else "on",
        }

    yield "6 images, 4 classes, τ = 2, a teacher in training mode", lambda: run(True, 6, 4, 2.0)
    yield "a teacher in eval mode, τ = 1", lambda: run(False, 5, 3, 1.0)
    # a softmax or an argmax along the wrong axis has the right shape
    yield "3 images and 3 classes, τ = 0.5", lambda: run(True, 3, 3, 0.5)


MUTANTS = edits(teacher_targets, """
training_mode: .eval() →
and: @torch.no_grad() →
training_mode_no_grad: .eval() →
    The teacher answers in training mode. Dropout switches parts of it off at random, and batch norm
    goes by the images of this batch and learns from them: the teacher changes while it teaches,
    although no optimiser touches it. Call teacher.eval() first.
training_mode_asked_for: eval() → train()
    teacher.train() does not train the teacher, it switches to training mode: dropout is on, and
    batch norm learns from the images. A teacher that answers wants teacher.eval().
only_batch_norm_in_eval: logits = teacher.eval() → for part in teacher.modules():
→     if isinstance(part, nn.BatchNorm2d): part.eval()
→ logits = teacher
    Batch norm is in eval mode, dropout is not: the teacher's answers are different at each call.
    teacher.eval() switches every part.
only_dropout_in_eval: logits = teacher.eval() → for part in teacher.modules():
→     if isinstance(part, nn.Dropout): part.eval()
→ logits = teacher
    Dropout is in eval mode, batch norm is not: it goes by the images of this batch, and learns from
    them. teacher.eval() switches every part.
gradient: @torch.no_grad() →
    The targets are right, but the probabilities still hang on the teacher's weights: the student's
    loss would send gradients into the teacher, and keeps all its intermediate tensors in memory.
    Let the teacher answer under torch.no_grad().
inference_mode: no_grad → inference_mode
    What is made under torch.inference_mode() can take no part in a loss: the student's backward
    pass stops with an error. For targets that are learned from, use torch.no_grad().
gradients_left_off: @torch.no_grad() →
and: logits = teacher → torch.set_grad_enabled(False)
→ logits = teacher
    Gradients are switched off for good, and the student can learn nothing afterwards. `with
    torch.no_grad():` switches them off for its block only.
no_tau: (logits / tau) → logits
    tau has no effect: these are the probabilities at temperature 1. Divide the logits by it before
    the softmax. (After it, a division cancels as soon as the shares are made to sum to 1.)
times_tau: logits / tau → logits * tau
    The logits are multiplied by tau, and a high temperature makes the teacher surer of itself,
    where it should make it softer. Divide.
tau_after_the_softmax: (logits / tau).softmax(dim=1) → logits.softmax(dim=1) / tau
    The probabilities are divided by tau, and do not sum to 1 any more. The temperature belongs
    inside: divide the logits, then take the softmax.
root_of_tau: logits / tau → logits / tau**0.5
    The logits are divided by the root of tau. Divide them by tau itself.
tau_squared: logits / tau → logits / tau**2
    The logits are divided by τ². Divide them by tau; τ² is the factor of the loss, later.
power: (logits / tau).softmax(dim=1) → logits.softmax(dim=1) ** (1 / tau)
    Probabilities are raised to the power 1/τ. That is the right direction, but they do not sum to 1
    afterwards. Divide the logits by tau, then take the softmax, which divides by the sum.
tau_between_two_softmaxes: (logits / tau).softmax(dim=1) →
→ (logits.softmax(dim=1) / tau).softmax(dim=1)
    A softmax is taken, divided by tau, and then a second softmax. The teacher gives logits: divide
    these, and one softmax is enough.
softmax_over_images: softmax(dim=1) → softmax(dim=0)
    The softmax runs over the images: each column sums to 1. It belongs to the classes, dim=1, so
    that each row does.
best_image_of_each_class: argmax(dim=1) → argmax(dim=0)
    argmax runs along the batch: it finds the best image of each class. The classes are the second
    axis of the logits (B, K).
log_probabilities: softmax → log_softmax
    These are logarithms of probabilities: none is above 0. F.kl_div can take them so, but
    probabilities are asked for here: softmax.
logits: .softmax(dim=1) →
    These are logits. Probabilities sum to 1 over the classes: softmax.
softmax_twice: .softmax(dim=1) → .softmax(dim=1).softmax(dim=1)
    The probabilities go through a softmax a second time, which makes them nearly equal. The teacher
    gives logits: one softmax is enough.
largest_logits: argmax → amax
    The largest logits came back in place of the labels. Where they stand, argmax tells.
labels_with_a_point: logits.argmax(dim=1), → logits.argmax(dim=1).float(),
labels_with_a_point_in_double: logits.argmax(dim=1), → logits.argmax(dim=1).to(logits),
    The labels are numbers with a decimal point. F.cross_entropy wants whole numbers, as argmax
    gives them.
labels_in_a_column: argmax(dim=1) → argmax(dim=1, keepdim=True)
    The labels stand in a column, (B, 1). They should be (B,): leave out keepdim=True.
one_label_for_all: argmax(dim=1) → argmax()
    argmax without an axis looks at the whole table, and gives one number for all images. The
    classes are the second axis: dim=1.
largest_probabilities: logits.argmax(dim=1), → (logits / tau).softmax(dim=1).amax(dim=1),
    The largest probabilities came back in place of the labels. Where they stand, argmax tells.
sigmoid: softmax(dim=1) → sigmoid()
    sigmoid looks at each class for itself, and the numbers do not sum to 1. Probabilities of
    classes that exclude each other: softmax.
logits_divided_by_their_sum: (logits / tau).softmax(dim=1) →
→ logits / logits.sum(dim=1, keepdim=True)
    The logits are divided by their sum. Some of them are negative, and so no probabilities come of
    that: softmax takes the exponential first.
softmin: softmax → softmin
    Here the smallest logit gets the largest probability, as softmin does it. Take softmax.
one_hot: logits.argmax(dim=1) → F.one_hot(logits.argmax(dim=1), logits.shape[1])
    The labels are spread over K columns of zeros and ones. One whole number an image is asked for,
    (B,), as F.cross_entropy takes it.
swapped: logits.argmax(dim=1), (logits / tau).softmax(dim=1) →
→ (logits / tau).softmax(dim=1), logits.argmax(dim=1)
    The two results have changed places: first the labels, then the probabilities.
""")  # fmt: skip


def probe(answer):
    def run(training, B, K, tau):
        torch.manual_seed(5)
        layers = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.6)
        teacher = nn.Sequential(*layers, nn.Linear(18, K)).double()
        teacher(draw(8, 2, 3, 4, seed=1) + 0.3)
        teacher.train(training)
        before = {n: v.clone() for n, v in teacher.state_dict().items()}
        labels, soft = answer(teacher, 2 * draw(B, 2, 3, 4, seed=B), tau)
        kept = all(v.equal(before[n]) for n, v in teacher.state_dict().items())
        on = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        student = draw(B, K).requires_grad_()
        (soft * student.log_softmax(1)).sum().backward()
        touched = any(p.grad is not None for p in teacher.parameters())
        return [labels, soft.detach(), kept, on, touched]

    return [partial(run, *g) for g in [(True, 5, 4, 3.0), (False, 4, 4, 0.7), (True, 2, 3, 1.0)]]


EXERCISE = Exercise(
    name="teacher_targets",
    chapter="10_distillation",
    task="teacher_targets(teacher, images, tau) -> (labels (B,), probabilities (B, K)): the "
    "teacher's class for each image, and its softmax at temperature tau; in eval mode, with no "
    "number in the teacher changed, and no gradient into it",
    reference=teacher_targets,
    cases=cases,
    mutants=MUTANTS,
    accepted=[mode_kept, detached, by_loop],
    probe=probe,
)
