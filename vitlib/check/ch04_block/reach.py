"""4.6 reach: which token depends on which."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw


def reach(f, x):
    jacobian = torch.autograd.functional.jacobian(f, x)[0, :, :, 0]  # (N, D, N, D)
    return jacobian.abs().sum((1, 3)) > 1e-12


def by_gradients(f, x):
    x = x.clone().requires_grad_()
    out = f(x)[0]
    weights = torch.randn(out.shape, dtype=out.dtype)  # a plain sum would miss a LayerNorm
    sums = (weights * out).sum(-1)  # (N,)
    rows = [torch.autograd.grad(number, x, retain_graph=True)[0][0] for number in sums]
    return torch.stack([row.abs().amax(-1) > 1e-12 for row in rows])


def by_poking(f, x):
    with torch.no_grad():
        before, columns = f(x)[0], []
        for j in range(x.shape[1]):
            poked = x.clone()
            poked[0, j] += torch.randn_like(x[0, j])
            columns.append((f(poked)[0] != before).any(-1))  # (N,)
    return torch.stack(columns, dim=1)


def cases(answer) -> Cases:
    torch.manual_seed(0)
    exact = partial(nn.LayerNorm, eps=1e-12)  # a factor leaves no trace through eps
    attention = vitlib.Attention(6, 2, qkv_bias=True).double()
    block, mlp = vitlib.Block(6, 2, norm_layer=exact).double(), vitlib.Mlp(6, 12).double()
    attention.fused = block.attn.fused = False  # the fused kernel has no forward derivative
    norm, both = exact(6).double(), exact((4, 6)).double()
    x = numbers(1, 4, 6, seed=3).mul(64).round() / 64  # whole numbers can be added exactly

    def neighbour(x, read, written):  # less one channel of the token before, in another channel
        before = F.pad(x[:, :-1, read], (1, 0))
        return x - before[..., None] * F.one_hot(torch.tensor(written), x.shape[-1])

    def run(f):
        result = call(answer, f, x)
        whole = isinstance(result, torch.Tensor) and not result.is_floating_point()
        return result.bool() if whole else result

    yield "an MLP", lambda: run(mlp)
    yield "attention", lambda: run(attention)
    yield "a LayerNorm over the last axis", lambda: run(norm)
    yield "a LayerNorm over tokens and channels", lambda: run(both)
    yield "a LayerNorm, then an MLP", lambda: run(lambda x: mlp(norm(x)))
    yield "an MLP, then a LayerNorm", lambda: run(lambda x: norm(mlp(x)))
    yield "each channel minus the next one", lambda: run(lambda x: x - x.roll(-1, dims=-1))
    yield "each token divided by its length", lambda: run(lambda x: F.normalize(x, dim=-1))
    for read, written in ((0, 5), (5, 0), (0, 0)):
        yield (
            f"channel {read} of the token before, taken away from channel {written}",
            partial(run, partial(neighbour, read=read, written=written)),
        )
    yield "the token before, taken away", lambda: run(lambda x: x - F.pad(x, (0, 0, 1, 0))[:, :-1])
    yield (
        "a ten-thousandth of the token before, added",
        lambda: run(lambda x: x + F.pad(x, (0, 0, 1, 0))[:, :-1] / 10_000),
    )
    yield "a block", lambda: run(block)


MUTANTS = edits(by_poking, """
transposed: dim=1 → dim=0
    Rows and columns are swapped. The row i is the *output* token, and the column j the input token.
adds_a_constant: torch.randn_like(x[0, j]) → 1
and: (f(poked)[0] != before).any(-1) → (f(poked)[0] - before).abs().amax(-1) > 1e-9
adds_a_constant_and_compares_exactly: torch.randn_like(x[0, j]) → 1
    You add the same number to all channels of a token. LayerNorm takes the mean away, so it cannot
    see that. Add different numbers to the channels.
multiplies: += torch.randn_like(x[0, j]) → *= 2
and: (f(poked)[0] != before).any(-1) → (f(poked)[0] - before).abs().amax(-1) > 1e-9
multiplies_and_compares_exactly: += torch.randn_like(x[0, j]) → *= 2
    You multiply a token by a number. LayerNorm divides by the standard deviation, so it cannot see
    that. Add different numbers to the channels.
one_channel_poked: poked[0, j] += torch.randn_like(x[0, j]) → poked[0, j, 0] += 1
    Only the first channel of the input token is changed. The function may read another one: change
    all channels, each by another number.
one_channel_unmoved: torch.randn_like(x[0, j]) → torch.arange(x.shape[2])
    The first channel gets 0 added to it, so it does not move, and the function may read just that
    one. Change every channel, each by another number.
not_restored: before, columns = f(x)[0], [] → before, columns, poked = f(x)[0], [], x.clone()
and: poked = x.clone() →
    The tokens that were changed stay changed, so that each column shows the effect of all tokens up
    to j. Start from a fresh copy of x for each token.
changed_in_place: poked = x.clone() → poked = x
    Your code changes the tokens x that it is given. Unless each is put back exactly as it was, the
    pokes pile up, and the caller's tensor stays changed. Clone x anew for each token.
all_channels_must_change: any(-1) → all(-1)
    A token counts as reached only if *all* of its channels change. One is enough: any, not all.
compared_with_the_input: f(poked)[0] != before → f(poked)[0] != x[0]
    The output of the changed tokens is compared with the *input*. Compare it with the output of
    the tokens as they were: f(x).
rises_only: (f(poked)[0] != before).any(-1) → (f(poked)[0] - before).amax(-1) > 1e-9
    Only outputs that rise are seen: a difference may be negative, too. Take abs() first.
coarse: (f(poked)[0] != before).any(-1) → (f(poked)[0] - before).abs().amax(-1) > 1e-2
coarser: (f(poked)[0] != before).any(-1) → (f(poked)[0] - before).abs().amax(-1) > 0.1
    Your tolerance is too large: a weak dependence is one, too. Rounding in float64 is below 1e-12,
    so that 1e-9 is enough.
flipped: poked[0, j] += torch.randn_like(x[0, j]) → poked[0, j] = poked[0, j].flip(-1)
    The channels of the token change places. A function that goes by their sum, or by a norm over
    tokens and channels, does not see that. Add different numbers to the channels.
all_at_once: poked[0, j] += torch.randn_like(x[0, j]) → poked[:, : j + 1] += torch.randn(x.shape[2])
    All tokens up to j are changed at once. Change token j alone.
diagonal_left_out: dim=1) → dim=1) & (torch.eye(x.shape[1]) < 1)
    The diagonal is false: a token that depends on itself is a dependence, too.
all_ones: return torch.stack(columns, dim=1) → return torch.ones(x.shape[1], x.shape[1]).bool()
    Every entry is true, whatever f is. Change one token after the other, and look which outputs
    change.
identity: return torch.stack(columns, dim=1) → return torch.eye(x.shape[1]).bool()
    Only the diagonal is true, whatever f is: as if no token reached another one.
first_channel_only: .any(-1) → [:, 0]
    Only the first channel of the output is looked at. Tokens may mix in another one.
""") | edits(reach, """
derivatives_cancel: abs().sum((1, 3)) → sum((1, 3)).abs()
    You add up derivatives of both signs, and behind or before a LayerNorm they cancel to zero. Take
    abs() before the sum, or ask for != 0 and any.
positive_only: .abs().sum((1, 3)) > 1e-12 → .gt(0).any(3).any(1)
    You ask for derivatives above zero. A negative one is a dependence, too: != 0.
""") | edits(by_gradients, """
sum_over_the_channels: (weights * out) → out
    You go by the *sum* of an output token's channels, by its change or by its gradient. Behind a
    LayerNorm that sum is constant, although every channel depends on the input. Look at each
    channel by itself, or at a sum with random weights.
""")  # fmt: skip


def probe(answer):
    mix = draw(5, 5).tril()
    functions = [
        lambda x: x.cumsum(1),
        lambda x: x.tanh() * 3,
        lambda x: (x.softmax(-1) * 2).sin(),
        lambda x: F.layer_norm(x, x.shape[-1:]),
        lambda x: x + x.mean(1, keepdim=True) / 50,
        lambda x: mix @ x,
        lambda x: x + F.one_hot(torch.tensor(2), 7) * x.roll(1, 1),
        lambda x: x + x.roll(-2, 1)[..., 3:4] * F.one_hot(torch.tensor(6), 7),
        lambda x: x - x.mean(-1, keepdim=True),
    ]
    return [lambda f=f: answer(f, draw(1, 5, 7)).bool() for f in functions]


EXERCISE = Exercise(
    name="reach",
    chapter="04_block",
    task="reach(f, x) -> bool (N, N): for a function f from (1, N, D) to (1, N, D), entry [i, j] "
    "says whether output token i depends on input token j of x, which stays unchanged",
    reference=reach,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        by_gradients,
        by_poking,
        lambda f, x: torch.func.jacrev(lambda y: f(y[None])[0])(x[0]).ne(0).any(3).any(1),
    ],
    probe=probe,
)
