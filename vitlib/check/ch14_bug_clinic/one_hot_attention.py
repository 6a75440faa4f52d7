"""14.3 one_hot_attention: the scores are multiplied by √d, and should be divided by it."""

import math

import torch.nn.functional as F
from torch import nn

from vitlib.check.ch14_bug_clinic._attention import ANYWHERE, INPUT_ADDED, OF_THE_HEADS
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, twin
from vitlib.check.probing import draw, forward, learned, parameter_gradients


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))


class Divided(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** 0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / self.scale).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))


class OnTheQueries(Attention):
    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q = q / math.sqrt(q.shape[-1])
        weights = (q @ k.mT).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))


class ByTorch(Attention):
    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(B, N, D))


def cases(answer) -> Cases:
    def output(B, N, D, heads, size):
        return call(twin(answer, Attention, D, heads), size * numbers(B, N, D))

    yield "2 images of 5 tokens, D = 12, 3 heads", lambda: output(2, 5, 12, 3, 1.0)
    yield "3 images of 4 tokens, D = 10, 2 heads", lambda: output(3, 4, 10, 2, 1.0)
    yield "the first, with tokens a tenth as large", lambda: output(2, 5, 12, 3, 0.1)


MUTANTS = edits(Attention, """
unchanged: -0.5 → 0.5
    The symptom is still there: each token attends to a single other one, from the first step. Put
    the layer into a model and ask `check.entropy_by_depth(model, images)` how evenly its attention
    is spread.
whole_width: (dim // heads) → dim
    You divide by the root of the whole width, D. A score is a sum over the d channels of one head:
    divide by the root of d.
no_root: -0.5 → -1
    You divide by d, not by its root (or twice by the root). The deviation of q · k grows with √d,
    so that the scores now become smaller the wider a head is.
no_scale: * self.scale).softmax → ).softmax
    The factor is gone. That is milder than before, but the scores still grow with the width of a
    head: their deviation is √d where it should be 1.
fixed_factor: (dim // heads) ** -0.5 → 0.125
    The factor is the same whatever the width of a head. 1/8 is right for heads of 64 channels, and
    for no others.
after_the_softmax: -0.5 → 0.5
and: * self.scale).softmax(dim=-1) → ).softmax(dim=-1) / self.scale
    You scale after the softmax: the rows no longer sum to 1, and the softmax is as sharp as
    without any factor. Scale the scores.
clamped: (q @ k.transpose(-2, -1) * self.scale) →
→ (q @ k.transpose(-2, -1) / self.scale).clamp(-3, 3)
    The scores are cut off. The entropy looks better, and the scores are as wrong as before: the
    large ones are now all equal.
unit_queries: weights = → q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
→ weights =
and: -0.5 → 0.5
    You bring queries and keys to length 1. The attention is no longer one-hot, but this is another
    attention, cosine attention: the layer no longer computes q · k / √d.
flattened: softmax(dim=-1) → softmax(dim=-1).add(1 / N).div(2)
and: -0.5 → 0.5
    You mix the weights with a uniform share. The entropy looks better, but the softmax is as
    saturated as before, and so its gradient as small.
""") | edits(Attention, ANYWHERE + OF_THE_HEADS + INPUT_ADDED)  # fmt: skip


def probe(answer):
    return [
        learned(answer, 9, 3),
        forward(answer, (9, 3), 2 * draw(2, 4, 9)),
        forward(answer, (8, 4), draw(3, 5, 8)),
        parameter_gradients(answer, (9, 3), draw(2, 4, 9)),
    ]


EXERCISE = Exercise(
    name="one_hot_attention",
    chapter="14_bug_clinic",
    task="Attention(dim, heads), a module: scaled dot-product self-attention over the tokens of "
    "each image, (B, N, D) -> (B, N, D)",
    reference=Attention,
    cases=cases,
    mutants=MUTANTS,
    accepted=[Divided, OnTheQueries, ByTorch],
    probe=probe,
)
