"""8.5 one_batch: whether a few images can be learned by heart."""

from copy import deepcopy
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.check.probing import draw


def one_batch(model, images, labels, lr, steps):
    copy = deepcopy(model).eval()
    optimizer = torch.optim.SGD(copy.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(copy(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    losses.append(F.cross_entropy(copy(images), labels).item())
    return losses


def by_hand(model, images, labels, lr, steps):
    copy = deepcopy(model).eval()
    losses = [F.cross_entropy(copy(images), labels).item()]
    for _ in range(steps):
        copy.zero_grad()
        F.cross_entropy(copy(images), labels).backward()
        with torch.no_grad():
            for p in copy.parameters():
                if p.grad is not None:
                    p -= lr * p.grad
        losses.append(F.cross_entropy(copy(images), labels).item())
    return losses


def by_autograd(model, images, labels, lr, steps):
    copy = deepcopy(model).eval()
    weights = [p for p in copy.parameters() if p.requires_grad]
    losses = []
    for _ in range(steps + 1):
        loss = F.cross_entropy(copy(images), labels)
        losses.append(loss.item())
        found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        for weight, gradient in zip(weights, found, strict=True):
            weight.data -= lr * gradient
    return losses


def put_back(model, images, labels, lr, steps):
    mode, before = model.training, deepcopy(model.state_dict())
    grads = [p.grad for p in model.parameters()]
    model.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        losses.append(F.cross_entropy(model(images), labels).item())
    model.load_state_dict(before)
    for p, grad in zip(model.parameters(), grads, strict=True):
        p.grad = grad
    model.train(mode)
    return losses


def cases(answer) -> Cases:
    def run(*layers, lr=0.2, steps=3, training=False, frozen=False, old=False):
        model = fill(nn.Sequential(nn.Flatten(), nn.Linear(4, 6), *layers, nn.Linear(6, 3)))
        if frozen:
            model[1].weight.requires_grad_(False)
            model.register_parameter("spare", nn.Parameter(torch.ones(2, dtype=torch.float64)))
        for i, p in enumerate(model.parameters() if old else ()):
            p.grad = numbers(*p.shape, seed=10 + i)
        images, labels = numbers(5, 1, 2, 2, seed=3), torch.tensor([2, 0, 1, 2, 2])
        losses = call(answer, model.train(training), images, labels, lr, steps)
        if isinstance(losses, torch.Tensor):
            raise Refused("a tensor came back, and a list should")
        several = losses if isinstance(losses, list | tuple) else []
        if any(isinstance(loss, torch.Tensor | np.ndarray) for loss in several):
            raise Refused("tensors came back, and Python numbers should: loss.item() makes one")
        return losses

    def dropped():
        return [nn.BatchNorm1d(6), nn.GELU(), nn.Dropout(0.5)]

    yield "3 steps on 5 images", lambda: run(nn.Tanh())
    yield "5 steps at a rate that is too large", lambda: run(nn.GELU(), lr=4.0, steps=5)
    yield "no steps at all", lambda: run(nn.Tanh(), steps=0)
    yield "a model that holds old gradients", lambda: run(nn.Tanh(), old=True)
    yield "a model with a frozen parameter and one unused", lambda: run(nn.Tanh(), frozen=True)
    yield (
        "a model in training mode, with dropout and batch norm",
        lambda: run(*dropped(), training=True),
    )
    yield "the same model in eval mode", lambda: run(*dropped())


MUTANTS = edits(one_batch, """
trains_the_model: deepcopy(model).eval() → model.eval()
    It is the model itself that is trained, and it is in eval mode afterwards. The long run that you
    wanted to test it for would begin with a model that has seen one batch. Train a copy:
    deepcopy(model). (A second name, or copy.copy, makes no new weights.)
trains_the_model_in_its_mode: deepcopy(model).eval() → model
    It is the model itself that is trained, in the mode in which it is. Train a copy in eval mode:
    deepcopy(model).eval(). (A second name, or copy.copy, makes no new weights.)
shares_the_weights: deepcopy(model).eval() → __import__("copy").copy(model).eval()
    The copy has the weights of the model itself: copy.copy makes a new module around the same
    tensors, so both are trained. deepcopy copies the tensors, too.
training_mode: .eval() →
    The copy is in the mode of the model. In training mode dropout draws other parts at each step,
    and the losses jump; batch norm goes by the batch. Call eval() on the copy.
asks_for_training: .eval() → .train()
    train() switches to training mode: dropout draws other parts at each step, and the losses jump.
    The copy is to learn in eval mode; a model can learn in either.
eval_mode_too_late: .eval() → .train()
and: losses.append(F.cross → copy.eval()
→ losses.append(F.cross
    Only the last loss is that of eval mode: the copy learns in training mode. Call eval() on it
    before the first step.
only_dropout_in_eval: deepcopy(model).eval() → deepcopy(model)
→ for part in copy.modules():
→     if isinstance(part, nn.Dropout):
→         part.eval()
    Only dropout is in eval mode; batch norm goes by the batch, and learns from it. Put the whole
    copy in eval mode.
originals_parameters: SGD(copy.parameters() → SGD(model.parameters()
    The optimiser has the parameters of the *model*, while the gradients are those of the copy: all
    losses are the same. And if the model holds old gradients, it is changed. Give the optimiser
    copy.parameters().
gradients_pile_up: optimizer.zero_grad() → pass
    Gradients pile up: backward() adds to those of the steps before. Call zero_grad() in each step,
    before backward().
nothing_moves: optimizer.step() → pass
    All losses are the same: the weights of the copy never change. Either the step is missing, or
    the gradients are cleared between backward() and the step, or each step begins with a new copy,
    or you write `p = p - ...`, which changes no weight: `p -= ...` under torch.no_grad() does.
last_loss_missing: losses.append(F.cross_entropy(copy(images), labels).item()) → pass
    There are `steps` losses. The loss after the last step is missing: run the copy once more.
first_loss_missing: return losses → return losses[1:]
    The first loss is missing, that before any step. It tells how the model starts.
last_loss_twice: losses.append(F.cross_entropy(copy(images), labels).item()) →
→ losses.append(loss.item() if steps else F.cross_entropy(copy(images), labels).item())
last_loss_twice_in_a_loop: losses.append(F.cross_entropy(copy(images), labels).item()) →
→ losses.append(loss.item())
    The last loss stands there twice: it was computed *before* the last step. Run the copy once
    more, with its new weights.
first_loss_twice: losses = [] → losses = [F.cross_entropy(copy(images), labels).item()]
and: losses.append(F.cross_entropy(copy(images), labels).item()) → pass
    The first loss stands there twice, and the last one is missing: you compute the loss before the
    loop, and in the loop before each step. Compute it in one of these places, and once at the end.
only_the_last: return losses → return losses[-1]
    Only the last loss came back. Return all of them, in a list.
first_and_last: return losses → return [losses[0], losses[-1]]
    Only the first and the last loss came back. Return all of them.
one_step_more: range(steps) → range(steps + 1)
    There is one loss too many: the loop takes steps + 1 steps, and a loss comes after it. Either
    run the loop that often and leave out what comes after it, or run it `steps` times.
one_step_less: range(steps) → range(steps - 1)
    One step is missing. `range(steps)` makes `steps` rounds.
tensors: loss.item() → loss
and: (copy(images), labels).item() → (copy(images), labels)
tensors_but_the_last: loss.item() → loss
    The losses are tensors. Python numbers are asked for: loss.item(). A list of tensors
    keeps everything in memory from which they were computed.
stacked: return losses → return torch.tensor(losses)
    A tensor came back. Return a list of Python numbers.
rounded: return losses → return [round(loss, 3) for loss in losses]
rounded_to_4_places: return losses → return [round(loss, 4) for loss in losses]
    The losses are rounded. Return them as they are; whoever prints them may round.
momentum: lr=lr) → lr=lr, momentum=0.9)
    The steps have momentum. Plain gradient descent is asked for: SGD with nothing but lr.
adam: SGD → Adam
    Adam divides each step by the size of the gradients. Plain gradient descent is asked for:
    torch.optim.SGD.
adamw: SGD → AdamW
    AdamW divides each step by the size of the gradients, and lets the weights decay. Plain gradient
    descent is asked for: torch.optim.SGD.
weight_decay: lr=lr) → lr=lr, weight_decay=0.01)
weight_decay_of_a_ten_thousandth: lr=lr) → lr=lr, weight_decay=1e-4)
weight_decay_of_five_of_them: lr=lr) → lr=lr, weight_decay=5e-4)
    The weights decay. Plain gradient descent is asked for: SGD with nothing but lr.
uphill: lr=lr) → lr=lr, maximize=True)
    The steps go uphill, and the loss rises. The gradient points to where the loss grows: subtract
    it.
another_rate: lr=lr) → lr=0.01)
another_rate_of_a_tenth: lr=lr) → lr=0.1)
another_rate_of_a_thousandth: lr=lr) → lr=1e-3)
    The learning rate is one of your own. Use `lr`.
rate_divided: lr=lr) → lr=lr / len(images))
    The learning rate is divided by the number of images. The cross-entropy is a mean over the
    images already.
rate_falls: optimizer.step() → optimizer.param_groups[0]["lr"] = lr * (1 - len(losses) / steps)
→ optimizer.step()
rate_falls_along_a_cosine: optimizer.step() → turn = torch.tensor(torch.pi * len(losses) / steps)
→ optimizer.param_groups[0]["lr"] = lr * (1 + turn.cos().item()) / 2
→ optimizer.step()
    The learning rate falls from step to step. Plain gradient descent is asked for: `lr`, every
    time.
image_by_image: loss.backward() → for image, label in zip(images, labels, strict=True):
→     optimizer.zero_grad()
→     F.cross_entropy(copy(image[None]), label[None]).backward()
→     optimizer.step()
→ optimizer.zero_grad()
    There is one step per image. Take one for the whole batch.
clipped: optimizer.step() → nn.utils.clip_grad_norm_(copy.parameters(), 1.0)
→ optimizer.step()
    The gradients are clipped. Plain gradient descent is asked for, whatever their size.
softmax_first: loss = F.cross_entropy(copy(images), →
→ loss = F.cross_entropy(copy(images).softmax(1),
and: append(F.cross_entropy(copy(images), → append(F.cross_entropy(copy(images).softmax(1),
    Probabilities go into F.cross_entropy, which takes logits and applies the softmax itself. With
    two of them the loss can never come near 0.
summed: loss = F.cross_entropy(copy(images), labels) →
→ loss = F.cross_entropy(copy(images), labels, reduction="sum")
and: append(F.cross_entropy(copy(images), labels) →
→ append(F.cross_entropy(copy(images), labels, reduction="sum")
    The losses of the images are summed. The cross-entropy is their mean, as F.cross_entropy takes
    it by itself.
frozen_ones_trained: optimizer = → copy.requires_grad_(True)
→ optimizer =
    Frozen parameters are trained as well. Leave requires_grad as it is.
without_gradients: loss.backward() → loss.detach().backward()
    Nothing is recorded: torch.no_grad() or detach() cuts the loss off from the weights, and
    backward() has nothing to go through. Switch gradients off for the last loss alone, if at all.
""") | edits(by_hand, """
none_subtracted: if p.grad is not None → if True
    A parameter that is frozen or not used has no gradient: p.grad is None, and cannot be multiplied
    by lr. Pass over those.
recorded: with torch.no_grad() → if True
    PyTorch refuses to change a trainable weight in place while it records gradients. Do the step
    under torch.no_grad().
rate_forgotten: lr * p.grad → p.grad
    The gradients are subtracted whole. Multiply them by lr.
""") | edits(by_autograd, """
unused_not_allowed: , allow_unused=True, materialize_grads=True →
    torch.autograd.grad stops at a parameter that is not used. Give it allow_unused=True: then it
    returns None for those.
frozen_asked_for: copy.parameters() if p.requires_grad] → copy.parameters()]
    torch.autograd.grad is asked for the gradient of a frozen parameter, and refuses. Leave out the
    parameters with requires_grad=False.
""") | edits(put_back, """
kept_without_a_copy: deepcopy(model.state_dict()) → model.state_dict()
    model.state_dict() holds the weights themselves, not their values: what you keep changes with
    the model, and there is nothing to go back to. Take deepcopy(model.state_dict()), or train a
    deepcopy of the model.
gradients_left: p.grad = grad → pass
gradients_left_at_none: p.grad = grad → p.grad = None
    The model's gradients are not what they were: they are gone, or those of your own steps stand in
    their place. Train a deepcopy, which has gradients of its own.
gradients_and_mode_left: p.grad = grad → pass
and: model.train(mode) → pass
    The weights are put back, but not the rest: other gradients are in the model, and it is in eval
    mode. Train a deepcopy: then there is nothing to put back.
left_in_eval: model.train(mode) → pass
    The model is left in eval mode. Train a deepcopy, and call eval() on that, not on the model; or
    keep model.training at the beginning, and give it to model.train(...) at the end.
""")  # fmt: skip


def probe(answer):
    def run(lr, steps, training, old, frozen):
        torch.manual_seed(3)
        layers = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.4), nn.Linear(5, 4)
        model = nn.Sequential(nn.Flatten(), *layers).double().train(training)
        model.register_parameter("extra", nn.Parameter(draw(3)))
        model[1].bias.requires_grad_(not frozen)
        for i, p in enumerate(model.parameters()):
            p.grad = draw(*p.shape, seed=i) if old else None
        grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        state = {n: v.clone() for n, v in model.state_dict().items()}
        losses = answer(model, draw(6, 1, 2, 3), torch.arange(6) % 4, lr, steps)
        pairs = zip(grads, model.parameters(), strict=True)
        kept = [p.grad is None if g is None else g.equal(p.grad) for g, p in pairs]
        same = all(v.equal(state[n]) for n, v in model.state_dict().items())
        return losses, kept, same, [m.training for m in model.modules()]

    given = [(0.3, 2, True, True, True), (0.05, 4, False, False, True), (1.0, 0, True, True, False)]
    return [partial(run, *g) for g in given]


EXERCISE = Exercise(
    name="one_batch",
    chapter="08_debugging",
    task="one_batch(model, images, labels, lr, steps) -> list of steps + 1 losses, as Python "
    "numbers: a copy of the model in eval mode learns this batch by plain gradient descent, and "
    "the model itself stays as it is: its weights, gradients and mode",
    reference=one_batch,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_hand, by_autograd, put_back],
    probe=probe,
)
