"""11.2 accumulate_gradients: a large batch in small parts."""

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, fill, numbers
from vitlib.check.probing import draw


def accumulate_gradients(model, images, labels, size):
    model.zero_grad()
    for some, answers in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(some), answers, reduction="sum")
        (loss / len(images)).backward()


def by_weights(model, images, labels, size):
    for parameter in model.parameters():
        parameter.grad = None
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        share = len(labels[part]) / len(labels)
        (F.cross_entropy(model(images[part]), labels[part]) * share).backward()


def by_division(model, images, labels, size):
    """Sums first, and the division at the end."""
    model.zero_grad()
    for some, answers in zip(images.split(size), labels.split(size), strict=True):
        F.nll_loss(model(some).log_softmax(dim=1), answers, reduction="sum").backward()
    for parameter in model.parameters():
        parameter.grad.div_(len(labels))


def backward_at_the_end(model, images, labels, size):
    model.zero_grad()
    total = 0
    for some, answers in zip(images.split(size), labels.split(size), strict=True):
        total = total + F.cross_entropy(model(some), answers, reduction="sum")
    (total / len(images)).backward()


def cases(answer) -> Cases:
    def run(count, size, before=False):
        model = fill(nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
        if before:
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
        events = []
        model.register_forward_pre_hook(lambda _, given: events.append(f"{len(given[0])} images"))
        model[-1].register_full_backward_hook(lambda *_: events.append("backward"))
        images, labels = numbers(count, 1, 2, 2, seed=count), torch.arange(count) * 2 % 3
        call(answer, model, images, labels, size, may_change=["grad"])
        grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        return {"the gradients": grads, "forward and backward": events}

    yield "6 images in parts of 2", lambda: run(6, 2)
    yield "7 images in parts of 3, the last one shorter", lambda: run(7, 3)
    yield "7 images in parts of 3, with old gradients", lambda: run(7, 3, before=True)
    yield "5 images in one part", lambda: run(5, 5)
    yield "2 images in parts of 4", lambda: run(2, 4)


MUTANTS = edits(accumulate_gradients, """
mean_of_means: loss = F.cross_entropy(model(some), answers, reduction="sum") →
→ loss = F.cross_entropy(model(some), answers)
and: loss / len(images) → loss / len(images.split(size))
    The means of the parts are averaged, as if all had the same size. The images of a shorter last
    part then count for more. Weigh each part by its number of images.
sum_of_means: loss = F.cross_entropy(model(some), answers, reduction="sum") →
→ loss = F.cross_entropy(model(some), answers)
and: (loss / len(images)).backward() → loss.backward()
    The gradients of the parts' means are added up, so the result is as many times too large as
    there are parts. Each part is to count for its share of the images only.
divided_by_the_size: loss / len(images) → loss / size
    The sum over a part is divided by the size of a part. That is the part's mean, and the means are
    added up. Divide by the number of all images.
sum: (loss / len(images)).backward() → loss.backward()
    This is the gradient of the sum over all images. Divide by their number, for the mean.
divided_twice: reduction="sum") → reduction="mean")
    The loss of a part is its mean already, and you divide it by the number of all images once more.
divided_by_the_classes: loss / len(images) → loss / model(some).shape[1]
    The sum is divided by the number of classes, and the model is run twice for that. Divide by the
    number of images.
old_gradients: model.zero_grad() → pass
    The gradients that were there before are still in the sum. backward() adds to them: clear them
    once, before the first part.
cleared_in_the_loop: model.zero_grad() → pass
and: loss = F → model.zero_grad()
→ loss = F
    The gradients are cleared before every part, so that only the last part is left. Clear them
    once, before the loop.
cleared_at_the_end: (loss / len(images)).backward() → (loss / len(images)).backward()
→ model.zero_grad()
    The gradients are cleared after each backward pass, and nothing is left. Clear them once, before
    the loop; what follows is the optimiser's.
one_backward: model.zero_grad() → model.zero_grad()
→ total = 0
and: (loss / len(images)).backward() → total = total + loss / len(images)
→ total.backward()
    The gradients are right, but every backward pass goes through the parts before as well. Let go
    of each part's graph by a backward pass of its own loss.
backward_at_the_end:
    The gradients are right, but the backward pass comes after all the forward passes. Until then
    the activations of all parts are kept, and nothing is saved. Call backward() in the loop.
all_at_once: images.split(size) → images.split(len(images))
and: labels.split(size) → labels.split(len(images))
    The gradients are right, but the whole batch goes through the model at once, which is what was
    to be avoided.
image_by_image: images.split(size) → images.split(1)
and: labels.split(size) → labels.split(1)
    The gradients are right, but each part has one image. Take `size` of them at a time.
as_many_parts: images.split(size) → images.chunk(size)
and: labels.split(size) → labels.chunk(size)
    `size` is taken for the number of parts. It is the number of images in a part: split, not chunk.
rest_dropped: images.split(size) → images[: len(images) // size * size or None].split(size)
and: labels.split(size) → labels[: len(labels) // size * size or None].split(size)
    The images that do not fill a part are left out. The last part may be shorter.
last_part_forgotten: images.split(size), labels.split(size) →
→ images.split(size)[:-1], labels.split(size)[:-1]
    The last part is never looked at.
first_part_only: (loss / len(images)).backward() → (loss / len(images)).backward()
→ break
    The loop ends after the first part.
no_backward: (loss / len(images)).backward() → loss / len(images)
    There is no backward pass, so there are no gradients.
""")  # fmt: skip


def probe(answer):
    def run(count, size):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 5)).double()
        sizes = []
        model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        answer(model, draw(count, 1, 2, 3), torch.arange(count) % 5, size)
        return [p.grad for p in model.parameters()], sizes

    return [lambda g=g: run(*g) for g in [(8, 3), (9, 3), (4, 6), (5, 2)]]


EXERCISE = Exercise(
    name="accumulate_gradients",
    chapter="11_scaling",
    task="accumulate_gradients(model, images, labels, size): afterwards, .grad of each parameter "
    "is the gradient of the mean cross-entropy of all images, and nothing else; `size` images at a "
    "time go through the model, forward and backward; the last part may have fewer",
    reference=accumulate_gradients,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_weights, by_division],
    probe=probe,
)
