"""14.11 stochastic_depth: a number of axes used as a size."""

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.ch04_block import drop_path
from vitlib.check.edit import edits
from vitlib.check.exercise import Exercise


class DropPath(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        mask = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1)) < keep
        return x * mask / keep


class Unpacked(DropPath):
    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        mask = torch.rand(x.shape[0], *[1] * (x.ndim - 1)) < keep
        return x * mask / keep


class Reshaped(DropPath):
    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        mask = torch.rand(len(x)) < keep
        return x * mask.view(-1, *(1 for _ in x.shape[1:])) / keep


class Flattened(DropPath):
    def forward(self, x):
        ones = x.new_ones(len(x), 1)
        return (x.flatten(1) * F.dropout(ones, self.p, self.training)).reshape(x.shape)


MUTANTS = edits(DropPath, """
unchanged: torch.rand((x.shape[0],) + (1,) * (x.ndim - 1)) → torch.rand(x.shape[0], 1, x.ndim - 1)
    The symptom is still there: in training, the sizes of the tensors do not match, or, at width 2,
    single channels vanish. Print the shapes of both factors, for tokens (B, N, D) with a D that is
    no other number's equal, and for vectors (B, D).
three_axes: torch.rand((x.shape[0],) + (1,) * (x.ndim - 1)) → torch.rand(x.shape[0], 1, 1)
    That is right for tokens (B, N, D), and for nothing else: vectors (B, D) grow to three axes, and
    pictures (B, C, H, W) clash. The mask needs as many axes as x.
batch_axis_alone: (x.shape[0],) + (1,) * (x.ndim - 1) → x.shape[0]
    The mask is (B,), and broadcasting lines up the last axes: it meets the channels.
per_token: (x.shape[0],) + (1,) * (x.ndim - 1) → (*x.shape[:-1], 1)
per_token_or_channel: (1,) * (x.ndim - 1) → (*x.shape[1:2], *[1] * (x.ndim - 2))
    Tokens are dropped one by one. Drop path drops the whole branch of an image: one draw for each.
per_channel: (1,) * (x.ndim - 1) → (*[1] * (x.ndim - 2), x.shape[-1])
    Channels are dropped one by one. Drop path drops the whole branch of an image: one draw for
    each, and a 1 for every other axis.
one_axis_too_many: x.ndim - 1 → x.ndim
    The mask has one axis more than x, and so has the result: x.ndim − 1 ones follow the batch axis.
per_number: torch.rand((x.shape[0],) + (1,) * (x.ndim - 1)) → torch.rand_like(x)
    The sizes fit, and this is ordinary dropout: every number is dropped by itself. Drop path drops
    the whole branch of an image.
one_for_all: (x.shape[0],) + (1,) * (x.ndim - 1) → (1,) * x.ndim
    One draw decides for the whole batch. Each image has its own.
not_divided: x * mask / keep → x * mask
    The sizes fit, but what is kept is no longer divided by 1 − p: on average the branch is weaker
    in training than in evaluation.
divided_by_the_wrong_one: / keep → / self.p
    What is kept is divided by p. Divide by 1 − p, the share that is kept.
multiplied: / keep → * keep
    What is kept is multiplied by 1 − p. Divide by it: only then does the mean stay the same.
rescaled_in_evaluation: if not self.training or self.p == 0: → if not self.training:
→     return x * (1 - self.p)
→ if self.p == 0:
and: / keep →
    You multiply by 1 − p in evaluation and not in training. That has the right mean, but in
    evaluation x should come back as it is: divide by 1 − p in training.
drops_in_evaluation: not self.training or self.p == 0 → self.p == 0
    It drops in evaluation, too. In evaluation x should come back: ask self.training.
only_in_evaluation: not self.training → self.training
    It drops in evaluation and not in training. It should be the other way round.
normal_numbers: torch.rand( → torch.randn(
    torch.randn draws from a normal distribution: more than `keep` of its numbers lie below `keep`.
    Draw evenly from 0 to 1, with torch.rand.
random_factor: < keep →
    Each sample is multiplied by a random number. It is kept whole or dropped whole: compare the
    random number with keep.
keeps_the_wrong_share: < keep → < self.p
    The share p is kept, and it should be dropped: a number below keep keeps the branch.
switched_off: or self.p == 0 → or True
    No error is left, because nothing is ever dropped: in training x comes back as well.
""")  # fmt: skip

EXERCISE = Exercise(
    name="stochastic_depth",
    chapter="14_bug_clinic",
    task="DropPath(p), a module: in training each sample of x (B, ...), of any number of axes, "
    "becomes 0 as a whole with probability p, and else is divided by 1 − p; in evaluation x comes "
    "back",
    reference=DropPath,
    cases=drop_path.cases,
    mutants=MUTANTS,
    accepted=[Unpacked, Reshaped, Flattened],
    probe=drop_path.probe,
)
