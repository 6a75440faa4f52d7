"""7.6 ema_update: in place, with all that belongs to a model."""

from copy import deepcopy
from functools import partial

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.check.probing import draw


@torch.no_grad()
def ema_update(averaged, model, decay):
    for a, w in zip(averaged.parameters(), model.parameters(), strict=True):
        a.lerp_(w, 1 - decay)
    for a, b in zip(averaged.buffers(), model.buffers(), strict=True):
        a.copy_(b)


def by_data(averaged, model, decay):
    weights = dict(model.named_parameters())
    for name, a in averaged.named_parameters():
        a.data = decay * a.data + (1 - decay) * weights[name].data
    for a, b in zip(averaged.buffers(), model.buffers(), strict=True):
        a.copy_(b)


def by_state(averaged, model, decay):
    old, new = averaged.state_dict(), model.state_dict()
    mixed = {k: decay * old[k] + (1 - decay) * new[k] for k, _ in model.named_parameters()}
    averaged.load_state_dict(new | mixed)


def cases(answer) -> Cases:
    def made(seed, batches):
        model = fill(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), seed)
        for i in range(batches):  # batch norm counts them, and keeps a running mean and variance
            model(numbers(5, 3, seed=i + batches))
        return model

    def updates(decay, count):
        averaged, model = made(0, 1), made(1, 3)
        parameters = list(averaged.parameters())
        for i in range(count):
            call(answer, averaged, model, decay)
            if i + 1 < count:
                fill(model, seed=2 + i)
        after = deepcopy(model.state_dict())
        model(numbers(5, 3, seed=9))  # the model trains on, which is nothing to the average
        if any(a is not b for a, b in zip(averaged.parameters(), parameters, strict=True)):
            raise Refused(
                "the average has new parameters in place of its own: write into those that it has"
            )
        trainable = all(p.requires_grad for p in model.parameters())
        return {
            "the average": averaged.state_dict(),
            "the model": after,
            "the model's weights": "trainable" if trainable else "frozen",
        }

    def without_gradients():
        averaged, model = made(0, 1), made(1, 3)
        averaged.requires_grad_(False)
        call(answer, averaged, model, 0.9)
        recorded = any(a.requires_grad for a in averaged.parameters())
        return {
            "gradients": "recorded" if recorded else "not recorded",
            "the average": averaged.state_dict(),
        }

    def partly_frozen():
        averaged, model = made(0, 1), made(1, 3)
        model[0].requires_grad_(False)
        averaged[0].requires_grad_(False)
        call(answer, averaged, model, 0.9)
        return {"the average": averaged.state_dict()}

    yield "one update with decay 0.9", lambda: updates(0.9, 1)
    yield "three updates with decay 0.75", lambda: updates(0.75, 3)
    yield "an average that takes no gradients itself", without_gradients
    yield "a model whose first layer is frozen", partly_frozen


MUTANTS = edits(ema_update, """
swapped: 1 - decay → decay
    The decay stands on the wrong side: the average goes almost all the way to the new weights. It
    should keep the share `decay` of itself, and take 1 − decay of them. torch.lerp and lerp_ take
    the share of the new.
swapped_without_buffers: 1 - decay → decay
and: a.copy_(b) → pass
    The decay stands on the wrong side: the average goes almost all the way to the new weights. It
    should keep the share `decay` of itself, and take 1 − decay of them. torch.lerp and lerp_ take
    the share of the new. And the model's buffers are not copied yet.
moves_the_model: a.lerp_(w, 1 - decay) → w.lerp_(a, decay)
    It is the model that moves: the training would go on from averaged weights. Change the average,
    and leave the model alone.
new_name: a.lerp_(w, 1 - decay) → a = a.lerp(w, 1 - decay)
and: a.copy_(b) → pass
new_name_with_buffers: a.lerp_(w, 1 - decay) → a = a.lerp(w, 1 - decay)
    The average does not change. `a = ...` in a loop makes a new tensor, and so does a.lerp(...)
    without the underscore, a new entry in a state_dict or a copy of the model; the tensor inside
    `averaged` stays as it was. Write into it: a.copy_(...), a.lerp_(...) or a.mul_(...) and
    a.add_(...).
not_decayed: a.lerp_(w, 1 - decay) → a.add_((1 - decay) * w)
    The old average is not decayed: it stays whole, and a share of the new weights comes on top, so
    that the average grows with each update. Multiply it by `decay` first.
new_at_full_weight: a.lerp_(w, 1 - decay) → a.mul_(decay).add_(w)
    The new weights are added whole. Their share is 1 − decay, so that the two shares sum to 1.
decayed_twice: a.lerp_(w, 1 - decay) → a.mul_(decay**2).add_((1 - decay) * w)
    The average is multiplied by `decay` twice. In-place steps add up: after a.mul_(decay), the
    tensor `a` is decayed already.
away_from_the_model: a.lerp_(w, 1 - decay) → a.lerp_(w, decay - 1)
    The average moves away from the model. It should go the share 1 − decay of the way from itself
    to the weight: a + (1 − decay) · (w − a).
plain_mean: 1 - decay → 0.5
    This is the plain mean of the two, whatever `decay` is.
weights_only: for a, w in zip(averaged.parameters(), model.parameters(), strict=True): →
→ for (name, a), w in zip(averaged.named_parameters(), model.parameters(), strict=True):
→     if not name.endswith("weight"): continue
    Only parameters that are called `weight` are averaged, and the biases stay as they were. Average
    all parameters().
frozen_skipped: a.lerp_(w, 1 - decay) → if w.requires_grad: a.lerp_(w, 1 - decay)
frozen_skipped_in_the_average: a.lerp_(w, 1 - decay) → if a.requires_grad: a.lerp_(w, 1 - decay)
    Frozen parameters are left out. Whether a parameter takes gradients is nothing to the average:
    move *each* parameter. (An average is often frozen itself, since nobody trains it.)
whole_numbers_skipped: a.copy_(b) → a.copy_(b) if b.is_floating_point() else None
    Buffers of whole numbers are left out, such as a batch norm's count of its batches. They cannot
    be averaged, but they can be copied: copy all buffers().
copies: a.lerp_(w, 1 - decay) → a.copy_(w)
    The model is copied, and nothing is averaged: the old average is lost at each step.
buffers_forgotten: a.copy_(b) → pass
    The parameters are right, and the buffers are those of the start. A batch norm with averaged
    weights and a mean and variance of long ago gives nonsense. Copy the model's buffers.
count_averaged: a.copy_(b) → a.lerp_(b, 1 - decay)
count_averaged_by_mul: a.copy_(b) → a.mul_(decay).add_((1 - decay) * b)
    One of the buffers is a whole number, how many batches a batch norm has seen, and cannot be
    averaged in place. No buffer should be: average the parameters(), and copy the buffers(). (A
    state_dict holds both.)
buffers_to_the_model: a.copy_(b) → b.copy_(a)
    The buffers are copied the wrong way, from the average into the model. x.copy_(y) writes y into
    x.
buffers_shared: a.copy_(b) → a.data = b.data
    The average and the model now share their buffers: when the model sees its next batch, the
    average changes with it. Copy the numbers: a.copy_(b).
freezes_the_model: @torch.no_grad() →
and: for a, w in → averaged.requires_grad_(False)
→ model.requires_grad_(False)
→ for a, w in
    The average is right, but the model's parameters are frozen now (requires_grad=False), and would
    learn nothing more. torch.no_grad() is enough.
gradients: @torch.no_grad() →
    The update is recorded for gradients. Either PyTorch refuses to change a trainable weight in
    place, or each step hangs on all the steps before, and memory fills up. Do it under
    torch.no_grad().
""") | edits(by_state, """
buffers_averaged: for k, _ in model.named_parameters() → for k in old if old[k].is_floating_point()
buffers_averaged_with_the_count: for k, _ in model.named_parameters() → for k in old
    The buffers are averaged like weights. Batch norm's mean and variance are averages already: copy
    the model's buffers as they are, as AveragedModel of PyTorch does.
""")  # fmt: skip


def probe(answer):
    def made(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.Linear(5, 2)).double()
        for _ in range(seed):
            model(draw(4, 2, 5, seed=seed))
        return model

    def after(decay, times, trainable=True):
        average, model = made(1).requires_grad_(trainable), made(2)
        result = [answer(average, model, decay) for _ in range(times)]
        states = [{n: v.clone() for n, v in m.state_dict().items()} for m in (average, model)]
        flags = [(p.requires_grad, p.is_leaf) for p in average.parameters()]
        return [result, *states, flags]

    return [partial(after, *g) for g in [(0.8, 1), (0.5, 3), (0.99, 2, False)]]


EXERCISE = Exercise(
    name="ema_update",
    chapter="07_training",
    task="ema_update(averaged, model, decay): moves the parameters of `averaged`, in place, to "
    "decay · average + (1 − decay) · weight, copies the model's buffers, leaves the model as it "
    "is, and returns nothing",
    reference=ema_update,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_data, by_state],
    probe=probe,
)
