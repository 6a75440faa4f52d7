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
    Tokens are dropped one by one. Drop path drops the whole branch of an image: one draw for each.
per_number: torch.rand((x.shape[0],) + (1,) * (x.ndim - 1)) → torch.rand_like(x)
    The sizes fit, and this is ordinary dropout: every number is dropped by itself. Drop path drops
    the whole branch of an image.
one_for_all: (x.shape[0],) + (1,) * (x.ndim - 1) → (1,) * x.ndim
    One draw decides for the whole batch. Each image has its own.
not_divided: x * mask / keep → x * mask
    The sizes fit, but what is kept is no longer divided by 1 − p: on average the branch is weaker
    in training than in evaluation.
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
