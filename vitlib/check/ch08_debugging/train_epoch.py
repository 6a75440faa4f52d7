"""8.6 train_epoch: a loop to repair."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.check.probing import draw


def train_epoch(model, batches, optimizer):
    model.train()
    losses = []
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def cleared_afterwards(model, batches, optimizer):
    losses, criterion = [], nn.CrossEntropyLoss()
    for images, labels in batches:
        model.train()
        loss = criterion(model(images), labels)
        losses.append(loss.detach().item())
        loss.backward()
        optimizer.step()
        model.zero_grad(set_to_none=False)
    return losses


def by_log_softmax(model, batches, optimizer):
    mode = model.training

    def step(images, labels):
        optimizer.zero_grad()
        loss = F.nll_loss(model(images).log_softmax(dim=1), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    model.train()
    losses = [step(*batch) for batch in batches]
    model.train(mode)
    return losses


def by_hand(model, batches, optimizer):
    model.train()
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        logarithms = model(images).softmax(dim=1).log()  # less exact where a softmax is near 0
        loss = F.cross_entropy(logarithms, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def cases(answer) -> Cases:
    def run(optimizer, *sizes, training=False):
        # Without a bias before batch norm: AdamW makes whole steps of its gradient, which is noise.
        layers = (
            nn.Linear(4, 6, bias=False),
            nn.BatchNorm1d(6),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(6, 3),
        )
        model = fill(nn.Sequential(nn.Flatten(), *layers)).train(training)
        labels = torch.tensor([2, 0, 1, 2, 2, 0])
        batches = [(numbers(n, 1, 2, 2, seed=n) + 1, labels[:n]) for n in sizes]
        given = model, batches, optimizer(model.parameters())
        losses = call(answer, *given, may_change=["grad", "mode"])
        if isinstance(losses, torch.Tensor):
            raise Refused("a tensor came back, and a list should")
        several = losses if isinstance(losses, list | tuple) else []
        if any(isinstance(loss, torch.Tensor | np.ndarray) for loss in several):
            raise Refused("tensors came back, and Python numbers should: loss.item() makes one")
        return {"the losses": losses, "the model afterwards": model.state_dict()}

    sgd = partial(torch.optim.SGD, lr=0.3)
    adamw = partial(torch.optim.AdamW, lr=0.05)
    yield "4 batches, a model in eval mode", lambda: run(sgd, 5, 3, 6, 4)
    yield "the same in training mode", lambda: run(sgd, 5, 3, 6, 4, training=True)
    yield "3 batches, and AdamW", lambda: run(adamw, 6, 2, 5)
    yield "a single batch", lambda: run(sgd, 4)
    yield "no batch at all", lambda: run(sgd)


MUTANTS = edits(train_epoch, """
as_posted: model.train() →
and: cross_entropy(model(images), → cross_entropy(model(images).softmax(dim=1),
and: optimizer.zero_grad() → pass
    All three mistakes are still there. Begin with the loss: F.cross_entropy takes logits and
    applies the softmax itself. Then look at what becomes of the gradients from one round to the
    next, and at the mode that the model arrives in. The checker names what is left, one or two.
softmax_first: cross_entropy(model(images), → cross_entropy(model(images).softmax(dim=1),
    Probabilities go into F.cross_entropy, which takes logits and applies the softmax itself. With
    two of them the loss can never come near 0, and the gradients are small: it falls, and stops too
    early. Leave out the softmax.
softmax_over_the_images: cross_entropy(model(images), → cross_entropy(model(images).softmax(dim=0),
    A softmax over the images of the batch comes before F.cross_entropy, which takes the logits as
    they are, and applies its own softmax, over the classes. Leave yours out.
softmax_over_the_images_with_a_log: (model(images), → (model(images).log_softmax(dim=0),
    A log_softmax over the images of the batch comes before F.cross_entropy, which takes the logits
    as they are, and applies its own softmax, over the classes. Leave yours out.
softmax_over_the_images_alone: F.cross_entropy(model(images), labels) →
→ F.nll_loss(model(images).log_softmax(dim=0), labels)
    The softmax runs over the images. It belongs to the classes, dim=1, where F.cross_entropy takes
    it by itself.
sigmoid_first: cross_entropy(model(images), → cross_entropy(model(images).sigmoid(),
    A sigmoid comes before F.cross_entropy, which takes the logits as they are. Leave it out.
nll_of_probabilities: cross_entropy(model(images), → nll_loss(model(images).softmax(dim=1),
    F.nll_loss takes *logarithms* of probabilities, and these are probabilities. F.cross_entropy of
    the logits does all three steps.
nll_of_logits: cross_entropy → nll_loss
    F.nll_loss takes logarithms of probabilities, and these are logits: the loss falls without end.
    F.cross_entropy takes logits.
squared_error: F.cross_entropy(model(images), labels) →
→ F.mse_loss(model(images).softmax(dim=1), F.one_hot(labels, 3).double())
squared_error_of_logits: F.cross_entropy(model(images), labels) →
→ F.mse_loss(model(images), F.one_hot(labels, 3).double())
    This is a squared error. The cross-entropy of the logits is asked for: F.cross_entropy.
gradients_pile_up: optimizer.zero_grad() → pass
    Gradients pile up: backward() *adds* to what is in .grad, so each step follows all the batches
    so far. Call optimizer.zero_grad() in every round of the loop, before backward() or after the
    step.
cleared_every_second_time: optimizer.zero_grad() → if len(losses) % 2 == 0:
→     optimizer.zero_grad()
    The gradients are cleared in every second round only, as if two batches made one step. Here each
    batch makes its own: clear them in every round.
nothing_moves: optimizer.step() → pass
    The weights never change. Either the step is missing, or the gradients are cleared between
    backward() and the step. The order is zero_grad, backward, step.
not_in_training_mode: model.train() → pass
    The model stays in the mode in which it arrives. In eval mode, in which an evaluation left it,
    dropout is off, and batch norm uses old statistics and learns none: training goes on, silently,
    without them. Call model.train() before the first batch. (Setting model.training alone does not
    reach its layers.)
eval_mode: model.train() → model.eval()
    The model is put in eval mode: dropout is off, and batch norm uses old statistics. To train,
    call model.train().
training_mode_too_late: model.train() →
and: losses.append(loss.item()) → losses.append(loss.item())
→ model.train()
    The first batch is still learned in the mode in which the model arrives. Call model.train()
    before the loop.
one_step_at_the_end: optimizer.step() → pass
and: return losses → optimizer.step()
→ return losses
    There is one step only, after the last batch. Take one in each round of the loop, by the
    gradient of its batch.
step_too_early: optimizer.step() →
and: optimizer.zero_grad() → optimizer.step()
→ optimizer.zero_grad()
    The step comes before backward(): it follows the gradient of the batch before. The order is
    zero_grad, backward, step.
two_steps: optimizer.step() → optimizer.step()
→ optimizer.step()
    There are two steps per batch. One is asked for.
new_momentum: optimizer.step() → optimizer.state.clear()
→ optimizer.step()
    The optimiser forgets its averages at each step. Use the one that you are given, as it is.
measured_after_the_step: losses.append(loss.item()) →
→ losses.append(F.cross_entropy(model(images), labels).item())
    The losses are computed once more, after the step. Keep those before it, from which the gradient
    comes: loss.item().
no_gradient: loss.backward() → loss.detach().backward()
    Nothing is recorded: torch.no_grad(), detach() or item() cuts the loss off from the weights, and
    backward() has nothing to go through.
summed_over_images: (model(images), labels) → (model(images), labels, reduction="sum")
    The losses of a batch are summed, and the step grows with the size of the batch. Take the mean,
    as F.cross_entropy does by itself.
times_the_batch: append(loss.item()) → append(loss.item() * len(images))
    Each loss is multiplied by the size of its batch. Return the means, as they are.
running_total: append(loss.item()) → append(loss.item() + (losses[-1] if losses else 0))
    These are running totals. Return the loss of each batch by itself.
running_mean: append(loss.item()) →
→ append((loss.item() + (losses[-1] * len(losses) if losses else 0)) / (len(losses) + 1))
    These are the means of all losses so far. Return the loss of each batch by itself.
tensors: append(loss.item()) → append(loss)
    The losses are tensors. Python numbers are asked for: loss.item(). A list of tensors
    keeps everything in memory from which they were computed.
stacked: return losses → return torch.tensor(losses)
    A tensor came back. Return a list of Python numbers.
mean_loss: return losses → return sum(losses) / max(len(losses), 1)
mean_loss_of_some: return losses → return sum(losses) / len(losses)
    Only the mean of the losses came back. Return all of them, in a list.
total_loss: return losses → return sum(losses)
    Only the sum of the losses came back. Return all of them, in a list.
last_loss: return losses → return losses[-1]
    Only the last loss came back. Return all of them, in a list.
stops_after_one: losses.append(loss.item()) → losses.append(loss.item())
→ break
stops_after_one_with_return: return losses →
and: losses.append(loss.item()) → losses.append(loss.item())
→ return losses
    The loop ends after the first batch: the return, or a break, is inside it.
rounded: append(loss.item()) → append(round(loss.item(), 3))
    The losses are rounded. Return them as they are; whoever prints them may round.
""")  # fmt: skip


def probe(answer):
    def run(optimizer, training, *sizes):
        torch.manual_seed(4)
        layers = nn.Linear(6, 5, bias=False), nn.Dropout(0.3), nn.BatchNorm1d(5), nn.Linear(5, 4)
        model = nn.Sequential(nn.Flatten(), *layers).double().train(training)
        batches = [(draw(n, 1, 2, 3, seed=n), torch.arange(n) % 4) for n in sizes]
        losses = answer(model, batches, optimizer(model.parameters(), lr=0.1))
        return losses, {n: v.clone() for n, v in model.state_dict().items()}

    given = [(torch.optim.SGD, False, 4, 7, 3), (torch.optim.Adam, True, 5, 2)]
    return [partial(run, *g) for g in given]


EXERCISE = Exercise(
    name="train_epoch",
    chapter="08_debugging",
    task="train_epoch(model, batches, optimizer) -> list of the losses before each step, as Python "
    "numbers: in training mode, one step per batch of images and labels, by the gradient of this "
    "batch's cross-entropy alone",
    reference=train_epoch,
    cases=cases,
    mutants=MUTANTS,
    accepted=[cleared_afterwards, by_log_softmax, by_hand],
    probe=probe,
)
