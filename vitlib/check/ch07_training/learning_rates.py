"""7.5 learning_rates: the whole curve at once."""

import math

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call
from vitlib.check.probing import returns
from vitlib.train import warmup_cosine


def learning_rates(steps, warmup_steps, lr, min_lr):
    t = torch.arange(steps)
    growing = lr * (t + 1) / warmup_steps
    progress = (t - warmup_steps) / (steps - warmup_steps)
    falling = min_lr + (lr - min_lr) * 0.5 * (1 + torch.cos(math.pi * progress))
    return torch.where(t < warmup_steps, growing, falling)


def by_share(steps, warmup_steps, lr, min_lr):
    shares = [warmup_cosine(t, steps, warmup_steps, min_lr / lr) for t in range(steps)]
    return lr * torch.tensor(shares)


def in_two_parts(steps, warmup_steps, lr, min_lr):
    growing = lr * torch.arange(1, warmup_steps + 1) / max(1, warmup_steps)
    angle = torch.linspace(0, math.pi, steps - warmup_steps + 1)[:-1]
    return torch.cat([growing, min_lr + (lr - min_lr) * (1 + angle.cos()) / 2])


def cases(answer) -> Cases:
    def run(*arguments):
        rates = call(answer, *arguments)
        single = isinstance(rates, torch.Tensor) and rates.is_floating_point()
        return rates.float() if single else rates  # either precision will do

    yield "12 steps, 4 of warm-up, from 2.0 to 0.5", lambda: run(12, 4, 2.0, 0.5)
    yield "10 steps, 1 of warm-up, from 1.0 to 0", lambda: run(10, 1, 1.0, 0.0)
    yield "7 steps without warm-up", lambda: run(7, 0, 2.0, 0.5)
    yield "5 steps, all of them warm-up", lambda: run(5, 5, 2.0, 0.5)


MUTANTS = edits(learning_rates, """
starts_at_min_lr: lr * (t + 1) → min_lr + (lr - min_lr) * (t + 1)
    The warm-up starts from min_lr. Some libraries do so; by the chapter's formula it is a share (t
    + 1)/w of lr, and min_lr is where the cosine goes.
no_warmup: torch.where(t < warmup_steps, growing, falling) → falling
    The warm-up is missing: the first w rates should grow from lr/w to lr.
warmup_one_longer: t < warmup_steps → t <= warmup_steps
warmup_one_longer_if_there_is_one: t < warmup_steps → (t <= warmup_steps) & (warmup_steps > 0)
    The warm-up is one step too long, and its last rate is above lr. With steps counted from 0, w
    steps of warm-up are those with t < w.
cosine_from_the_start: (t - warmup_steps) / (steps - warmup_steps) → t / steps
cosine_from_the_start_over_the_rest: (t - warmup_steps) → t
    The cosine counts from the first step, not from the end of the warm-up. So the rate jumps down
    where the two meet. Its progress is (t − w)/(T − w).
cosine_over_all_steps: (steps - warmup_steps) → steps
    The cosine is stretched over all the steps, and the run ends before it is down. It has T − w
    steps: its progress is (t − w)/(T − w).
cosine_one_step_ahead: (t - warmup_steps) → (t + 1 - warmup_steps)
    The cosine is one step ahead: it should begin at lr itself, at t = w, and would reach min_lr at
    step number `steps`. The 1 that is added to t belongs to the warm-up only.
floor_on_top: (lr - min_lr) → lr
    min_lr is added to a curve of the full height, so that the rate jumps above lr after the
    warm-up. The cosine has the height lr − min_lr.
degrees: math.pi → 180
    cos takes an angle in radians, and yours is in degrees: the curve jumps up and down. Half a turn
    is π.
whole_wave: math.pi → 2 * math.pi
    This is a whole wave: the rate falls, and comes back up. Half a turn, π, is enough.
quarter_wave: math.pi → math.pi / 2
    This is a quarter of a wave: the rate ends halfway down. The angle should run to π, not to π/2.
one_step_early: (steps - warmup_steps) → (steps - warmup_steps - 1)
    The last step has the rate min_lr already: with min_lr = 0, it is computed for nothing. The
    cosine would arrive one step later, at step number `steps`: divide by T − w, not by T − w − 1.
cut_off: min_lr + (lr - min_lr) * 0.5 * (1 + torch.cos(math.pi * progress)) →
→ (lr * 0.5 * (1 + torch.cos(math.pi * progress))).clamp(min=min_lr)
    The cosine falls to 0 and is cut off at min_lr. By the formula it is shrunk and lifted, so that
    it arrives at min_lr smoothly: min_lr + (lr − min_lr) · ½(1 + cos).
straight: (lr - min_lr) * 0.5 * (1 + torch.cos(math.pi * progress)) →
→ (lr - min_lr) * (1 - progress)
    The rate falls along a straight line. It should be half a cosine: ½(1 + cos(π · progress)) in
    place of 1 − progress.
not_halved: 0.5 * →
    The cosine is twice as high: 1 + cos runs from 2 to 0. Take half of it.
quarter_of_a_cosine: 0.5 * (1 + torch.cos(math.pi * progress)) →
→ torch.cos(math.pi / 2 * progress)
    This is cos from 0 to π/2, a quarter of a wave, which is steepest at its end. Half a wave, from
    0 to π, is ½(1 + cos(π · progress)).
upside_down: (1 + torch → (1 - torch
    The cosine is upside down: the rate rises from min_lr. It is 1 + cos that falls.
warmup_by_one_more: / warmup_steps → / (warmup_steps + 1)
    The warm-up is divided by w + 1, so that its last rate is below lr. The formula is (t + 1)/w.
divided_by_no_warmup: lr * (t + 1) / warmup_steps → lr / warmup_steps * (t + 1)
    Without warm-up, Python's own numbers are divided by 0, which is an error. Divide only where
    there is a warm-up, or divide a tensor: lr * (t + 1) / warmup_steps.
divided_by_no_cosine: (t - warmup_steps) / (steps - warmup_steps) →
→ (t - warmup_steps) * (1 / (steps - warmup_steps))
    If all steps are warm-up, Python's own numbers are divided by 0, which is an error. Divide only
    where there is a cosine, or divide a tensor.
masked: torch.where(t < warmup_steps, growing, falling) →
→ (t < warmup_steps) * growing + (t >= warmup_steps) * falling
    Without warm-up, or without a cosine, a division by 0 gives inf or nan, and 0 times that is nan,
    not 0. torch.where chooses, and does not multiply.
""") | edits(by_share, """
share_of_lr: lr * torch → torch
    These are shares of the highest rate, as lr_factor gives them. Multiply by lr.
floor_is_a_share: min_lr / lr → min_lr
    min_lr is taken for the formula's f. But f is a share of lr, and min_lr is a rate: f = min_lr /
    lr.
floor_ignored: , min_lr / lr →
    The curve falls to 0 and not to min_lr. Shrink the cosine to lr − min_lr, and lift it by min_lr.
""") | edits(in_two_parts, """
starts_at_zero: arange(1, warmup_steps + 1) → arange(warmup_steps)
starts_at_zero_by_linspace: lr * torch.arange(1, warmup_steps + 1) / max(1, warmup_steps) →
→ torch.linspace(0, lr, warmup_steps)
    The first learning rate is 0: the first batch is computed for nothing. Steps are counted from 0,
    so the warm-up is (t + 1)/w.
two_linspaces: lr * torch.arange(1, warmup_steps + 1) / max(1, warmup_steps) →
→ torch.linspace(0, lr, warmup_steps)
and: steps - warmup_steps + 1)[:-1] → steps - warmup_steps)
    Both ends of both parts are included, as torch.linspace does it: the first rate is 0, and the
    last one min_lr already. Begin one step later (the warm-up is (t + 1)/w), and stop one earlier:
    linspace with one point more, and the last left out.
""")  # fmt: skip


def probe(answer):
    def single(run):
        return lambda: run().float()  # either precision is right

    given = [(9, 3, 1.0, 0.1), (6, 0, 0.3, 0.0), (8, 1, 3.0, 1.0), (4, 4, 1.0, 0.5), (5, 2, 1.0, 0)]
    return [single(returns(answer, *g)) for g in given]


EXERCISE = Exercise(
    name="learning_rates",
    chapter="07_training",
    task="learning_rates(steps, warmup_steps, lr, min_lr) -> (steps,): lr/w, 2·lr/w, ... up to lr "
    "during w warm-up steps, then half a cosine from lr, which would reach min_lr at step number "
    "`steps`, counted from 0",
    reference=learning_rates,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_share, in_two_parts],
    probe=probe,
)
