"""14.10 pre_norm: a norm over the last two axes."""

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, numbers, single, twin
from vitlib.check.probing import draw, filled, in_single


class PreNorm(nn.Module):
    """Layer normalisation."""

    def __init__(self, dim, tokens=196):
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        """(B, N, D) -> (B, N, D)"""
        return self.norm(x)


class WithoutTokens(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm([dim], eps=1e-6)

    def forward(self, x):
        return self.norm(x)


class ByFunction(PreNorm):
    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias, self.norm.eps)


class ByHand(nn.Module):
    def __init__(self, dim, tokens=196):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-6).sqrt() * self.weight + self.bias


def cases(answer) -> Cases:
    def tokens(B, N):  # with other means and deviations from token to token
        x = numbers(B, N, 8, dtype=torch.float32)
        return x * (1 + torch.arange(N) % 5)[:, None] + torch.arange(N)[:, None] % 3

    def output(B, N):
        return single(call(build(answer, 8), tokens(B, N)))

    def with_weights():
        return single(call(twin(answer, PreNorm, 8), tokens(2, 196).double()))

    yield "2 images of 144 tokens, D = 8", lambda: output(2, 144)
    yield "one image of 5 tokens", lambda: output(1, 5)
    yield "3 images of 196 tokens", lambda: output(3, 196)
    yield "with a weight and a bias for each channel", with_weights


MUTANTS = edits(PreNorm, """
unchanged: nn.LayerNorm(dim) → nn.LayerNorm([tokens, dim])
    The symptom is still there: the layer refuses images of another size. And at the size that it
    takes, one changed patch changes all tokens: `check.norm_scope(model, images)` says over what
    the norms of a model run.
any_number_of_tokens: self.norm(x) →
→ F.layer_norm(x, x.shape[-2:]) * self.norm.weight + self.norm.bias
    Any number of tokens goes through now, but the mean is still that of a whole image: the tokens
    still meet before any attention. Each token is normalised for itself.
without_weights: nn.LayerNorm(dim) → nn.LayerNorm([tokens, dim], elementwise_affine=False)
    The axes are the same as before, and weight and bias are gone.
over_tokens: self.norm(x) →
→ F.layer_norm(x.mT, x.mT.shape[-1:]).mT * self.norm.weight + self.norm.bias
    Each channel is normalised over the tokens. It should be each token over its channels: the last
    axis.
batch_norm: nn.LayerNorm(dim) → nn.BatchNorm1d(dim)
and: self.norm(x) → self.norm(x.mT).mT
    Batch norm takes the mean over all tokens of all images, so that what becomes of an image
    depends on the others.
no_affine: nn.LayerNorm(dim) → nn.LayerNorm(dim, elementwise_affine=False)
no_affine_by_function: self.norm(x) → F.layer_norm(x, x.shape[-1:])
    The axis is right now, and weight and bias are gone or have no effect.
rms: nn.LayerNorm(dim) → nn.RMSNorm(dim)
    nn.RMSNorm does not take the mean away, and it has no bias. LayerNorm does both.
""")  # fmt: skip


def probe(answer):
    return [
        in_single(lambda: filled(answer, 6)(9 * draw(2, 5, 6) + torch.arange(5.0)[:, None])),
        in_single(lambda: filled(answer, 7)(30 * draw(3, 9, 7))),
        lambda: sorted(tuple(p.shape) for p in answer(5).parameters()),
    ]


EXERCISE = Exercise(
    name="pre_norm",
    chapter="14_bug_clinic",
    task="PreNorm(dim), a module: layer normalisation as a ViT has it, with a learned weight and "
    "bias for each channel, (B, N, D) -> (B, N, D), for any number of tokens",
    reference=PreNorm,
    cases=cases,
    mutants=MUTANTS,
    accepted=[WithoutTokens, ByFunction, ByHand],
    probe=probe,
)
