"""4.3 drop_path: a whole branch of one sample, or nothing."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

import vitlib
from vitlib.check.ch04_block._fates import fates
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, numbers
from vitlib.check.probing import draw


class DropPath(nn.Module):
    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        if self.drop_prob == 0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        mask = x.new_empty(shape).bernoulli_(keep)
        return x * mask / keep


class ByFloor(DropPath):
    """A form that is often seen: floor(keep + uniform) is 1 with probability keep."""

    def forward(self, x):
        if not self.training:
            return x
        keep = 1 - self.drop_prob
        uniform = torch.rand(x.shape[0], *[1] * (x.ndim - 1))
        return x.div(keep) * (keep + uniform).floor().to(x)


class ByDropout(DropPath):
    def forward(self, x):
        ones = x.new_ones(x.shape[0], *[1] * (x.ndim - 1))
        return x * F.dropout(ones, self.drop_prob, self.training)


class ByLoop(DropPath):
    def forward(self, x):
        if not self.training:
            return x
        kept = [sample * (torch.rand(()) >= self.drop_prob) for sample in x]
        return torch.stack(kept) / (1 - self.drop_prob)


def cases(answer) -> Cases:
    def train(*shape, p=0.25):
        layer, x = build(answer, p).train(), 1 + numbers(*shape).abs()
        return fates(x, [call(layer, x) for _ in range(32)])

    def unchanged(p, training):
        out = call(build(answer, p).train(training), numbers(40, 3, 4))
        drops = isinstance(out, torch.Tensor) and bool((out == 0).any())
        # whom it hits is luck, and says nothing about the mistake
        return {"something is dropped": drops, "what comes back": "changed" if drops else out}

    def gradient():
        x = (1 + numbers(40, 3, 4).abs()).requires_grad_()
        out = build(answer, 0.25).train()(x)
        out.sum().backward()
        return x.grad is not None and bool(torch.allclose(x.grad * x, out))

    yield "80 samples of 3 tokens, D = 4", lambda: train(80, 3, 4)
    yield "width 2", lambda: train(80, 3, 2)
    yield "width 1", lambda: train(80, 3, 1)
    yield "one vector a sample, (80, 5)", lambda: train(80, 5)
    yield "pictures, (80, 3, 4, 5)", lambda: train(80, 3, 4, 5)
    yield "drop_prob 0.75", lambda: train(80, 3, 4, p=0.75)
    yield "evaluation, where nothing should change", lambda: unchanged(0.25, training=False)
    yield (
        "training with drop_prob 0, where nothing should change",
        (lambda: unchanged(0.0, training=True)),
    )
    yield "the gradient, which should pass where the branch is kept", gradient


MUTANTS = edits(DropPath, """
mask_of_the_wrong_shape: (1,) * (x.ndim - 1) → (1, x.ndim - 1)
    The mask has the shape (B, 1, x.ndim − 1), where the last entry is a *number of axes* used as a
    size. At width 2 that goes unnoticed, as a mask for each channel; at width 1 the result grows;
    elsewhere it clashes. You want B, followed by a 1 for each of the other axes.
mask_of_three_axes: (1,) * (x.ndim - 1) → (1, 1)
    The mask is (B, 1, 1) whatever x is. That is right for tokens (B, N, D) only: a (B, D) becomes
    (B, B, D), and pictures clash. Give it as many axes as x has.
mask_without_ones: + (1,) * (x.ndim - 1) →
    The mask is (B,), and the last axes are matched first: it meets the channels instead of the
    samples. Append a 1 for each of the other axes.
one_one_too_many: x.ndim - 1 → x.ndim
    The mask has one axis more than x, and so has the result. B is an axis, too: x.ndim − 1 ones
    follow it.
each_channel: (1,) * (x.ndim - 1) → (1,) * (x.ndim - 2) + (x.shape[-1],)
    Channels are dropped one by one. DropPath drops a sample's whole branch, all tokens and channels
    together: for tokens, a mask of shape (B, 1, 1).
each_number: (x.shape[0],) + (1,) * (x.ndim - 1) → x.shape
    Every number is dropped by itself. That is ordinary dropout. DropPath drops a sample's whole
    branch: one draw a sample, a mask of shape (B, 1, 1).
each_token: (x.shape[0],) + (1,) * (x.ndim - 1) → x.shape[:2] + (1,) * (x.ndim - 2)
each_token_by_the_last_axis: (x.shape[0],) + (1,) * (x.ndim - 1) → (*x.shape[:-1], 1)
    Tokens are dropped one by one. DropPath drops a sample's whole branch: one draw a sample, a mask
    of shape (B, 1, 1).
the_whole_batch: (x.shape[0],) → (1,)
    One draw decides for the whole batch. Each sample should have a draw of its own: a mask of shape
    (B, 1, 1).
not_rescaled: / keep →
    What is kept is not divided by 1 − drop_prob. On average the branch is then weaker in training
    than in evaluation.
keeps_what_it_should_drop: 1 - self.drop_prob → self.drop_prob
    drop_prob and 1 − drop_prob are exchanged: three quarters are dropped where one should be.
    bernoulli_(q) gives 1, which keeps, with probability q.
compared_the_wrong_way: x.new_empty(shape).bernoulli_(keep) → torch.rand(shape) > keep
    Three quarters are dropped where one should be. rand() < keep is true with probability keep;
    with > it is true with probability drop_prob.
multiplied: / keep → * keep
    What is kept is multiplied by 1 − drop_prob. Divide by it: only then does the mean stay the
    same.
normal_numbers: x.new_empty(shape).bernoulli_(keep) → torch.randn(shape) < keep
    torch.randn draws from a normal distribution: below `keep` lie more than `keep` of them. Draw
    evenly from 0 to 1, with torch.rand.
one_generator: mask = x.new_empty(shape) → generator = torch.Generator().manual_seed(0)
→ mask = x.new_empty(shape)
and: bernoulli_(keep) → bernoulli_(keep, generator=generator)
    The generator is seeded in every pass, so that the same samples are dropped each time. Use
    torch's own generator, without a seed.
rounded_up: x.new_empty(shape).bernoulli_(keep) → (keep + torch.rand(shape)).round()
    keep + rand() is rounded to the nearest number, which is 1 or 2 and never 0. floor() gives 1
    with probability keep.
random_factor: x.new_empty(shape).bernoulli_(keep) → torch.rand(shape)
    Each sample is multiplied by a random number. A sample is kept whole or dropped whole: compare
    the random number with keep.
divided_by_the_wrong_one: / keep → / self.drop_prob
    The kept samples are divided by drop_prob. Divide by 1 − drop_prob, the share that is kept: only
    then does the mean stay the same.
only_in_evaluation: not self.training → self.training
    It drops in evaluation and not in training: it should be the other way round. self.training is
    true in training.
the_same_each_time: mask = → torch.manual_seed(0)
→ mask =
    The same samples are dropped in every pass. The coins must be tossed anew each time, without a
    fixed seed.
drops_in_evaluation: or not self.training →
    It drops in evaluation, too: the same image would get another answer each time. Ask
    self.training.
""") | edits(ByLoop, """
rescaled_in_evaluation: return x → return x * (1 - self.drop_prob)
and: / (1 - self.drop_prob) →
    You multiply by 1 − drop_prob in evaluation, as the first paper did. That has the right mean,
    but ViT code divides in training, so that evaluation is the identity.
""")  # fmt: skip


def probe(answer):
    def fates(p, *shape):
        torch.manual_seed(5)
        x = draw(*shape).abs() + 1
        out = answer(p).train()(x)
        factors = (out / x).flatten(1)
        whole = bool((factors == factors[:, :1]).all())
        kept = factors[factors != 0]
        share = round((factors == 0).double().mean().item() * 5)
        return tuple(out.shape), whole, share, kept.min().item(), kept.max().item()

    def gradient_of_kept():
        torch.manual_seed(5)
        x = (draw(50, 2, 3).abs() + 1).requires_grad_()
        out = answer(0.4).train()(x)
        out.sum().backward()
        return torch.allclose(out, x * x.grad)

    return [
        *[partial(fates, 0.4, 500, *rest) for rest in [(3, 5), (2,), (1, 1), (2, 2, 3)]],
        partial(fates, 0.2, 500, 4, 2),
        lambda: answer(0.4).eval()(draw(3, 2, 5)),
        lambda: answer(0.0).train()(draw(3, 2, 5)),
        gradient_of_kept,
    ]


EXERCISE = Exercise(
    name="drop_path",
    chapter="04_block",
    task="DropPath(drop_prob), a module: in training each sample of x (B, ...) becomes 0 as a "
    "whole with probability drop_prob, and else is divided by 1 − drop_prob; in evaluation x "
    "comes back",
    reference=DropPath,
    cases=cases,
    mutants=MUTANTS,
    accepted=[ByFloor, ByDropout, ByLoop, vitlib.DropPath],
    probe=probe,
)
