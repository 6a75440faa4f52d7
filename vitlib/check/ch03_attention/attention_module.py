"""3.8 attention_module: what a class can do wrong, found by its behaviour."""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, twin
from vitlib.check.probing import draw, filled, forward, learned, parameter_gradients


class Attention(nn.Module):
    def __init__(self, dim, num_heads, attn_drop=0.0):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        qkv = self.qkv(x)
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.num_heads)
        scores = q @ k.transpose(-2, -1) * self.scale
        weights = scores.softmax(dim=-1)
        weights = self.attn_drop(weights)
        out = (weights @ v).transpose(1, 2).reshape(x.shape)
        return self.proj(out)


class HeadByHead(nn.Module):
    def __init__(self, dim, num_heads, attn_drop=0.0):
        super().__init__()
        self.num_heads, self.p = num_heads, attn_drop
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        parts = [part.chunk(self.num_heads, dim=-1) for part in self.qkv(x).chunk(3, dim=-1)]
        heads = []
        for q, k, v in zip(*parts, strict=True):
            weights = vitlib.attention_weights(q, k)
            heads.append(F.dropout(weights, self.p, training=self.training) @ v)
        return self.proj(torch.cat(heads, dim=-1))


class ByTorch(nn.Module):
    def __init__(self, dim, num_heads, attn_drop=0.0):
        super().__init__()
        self.torchs = nn.MultiheadAttention(dim, num_heads, dropout=attn_drop, batch_first=True)

    def forward(self, x):
        return self.torchs(x, x, x)[0]


def cases(answer) -> Cases:
    def made(*dropout):  # none given: the default must be none
        return twin(answer, Attention, 15, 3, *dropout)

    def listens():
        """Whether the output of the first token depends on the second."""
        module, x = made(), numbers(1, 4, 15)
        other = x.clone()
        other[:, 1] = numbers(15, seed=1)  # adding 1 to all channels, a norm would not see
        before, after = call(module, x), call(module, other)
        if not isinstance(before, torch.Tensor):
            return before
        return not torch.allclose(before[:, 0], after[:, 0])

    def passes_equal(training):
        module, x = made(0.5).train(training), numbers(2, 7, 15)
        return torch.equal(call(module, x), call(module, x))

    def outputs_of_one_token():
        """A token alone has one weight for each head, which is dropped or doubled: 2³ outputs.

        Only if there are as many does the largest say more: whether the weight was doubled.
        """
        out = call(made(0.5).train(), numbers(1, 1, 15).expand(400, 1, 15).clone())[:, 0].detach()
        count = len(out.round(decimals=6).unique(dim=0))
        return {"different outputs": count, "largest": out.amax(dim=0) if count == 8 else 0}

    yield "a test whether token 0 hears of token 1", listens
    yield (
        "2 images, 7 tokens, D = 15, 3 heads, evaluation",
        lambda: call(made(0.5).eval(), numbers(2, 7, 15)),
    )
    yield "training without dropout", lambda: call(made().train(), numbers(3, 5, 15, seed=1))
    for mode, training in [("training", True), ("evaluation", False)]:
        label = f"a test whether two passes in {mode} are equal, with dropout 0.5"
        yield label, partial(passes_equal, training)
    yield "one token alone, 400 times, with dropout 0.5", outputs_of_one_token


MUTANTS = edits(Attention, """
thrown_away: self.proj(out) → x
    The attention is computed and thrown away: what you return is the input x. No token hears of any
    other, and a class token never sees the image. Follow the result through the last lines of
    forward, up to the return.
dropout_never_called: self.attn_drop(weights) → weights
    The dropout layer is built and never applied: two passes in training are equal. Call it in
    forward, on the weights, between the softmax and the product with v.
dropout_in_evaluation: self.attn_drop(weights) → F.dropout(weights, self.attn_drop.p)
    Weights are dropped in evaluation, too, so that the same image gives other answers each time.
    F.dropout is on unless it is told training=self.training; nn.Dropout knows by itself.
dropout_before_the_softmax: scores.softmax → self.attn_drop(scores).softmax
and: self.attn_drop(weights) → weights
    The dropout acts before the softmax, on the scores or on what they are made of. A score of 0 is
    not a weight of 0: the key is still looked at. Apply it to the weights, after the softmax.
dropout_on_the_output: self.attn_drop(weights) → weights
and: self.proj(out) → self.attn_drop(self.proj(out))
    The dropout acts on single channels, of the output, the values or the input. attn_drop belongs
    on the weights, between the softmax and the product with v. (A dropout on the output is another
    layer, proj_drop.)
not_enlarged: weights = self.attn_drop(weights) → if self.training:
→     weights = weights * (torch.rand_like(weights) >= self.attn_drop.p)
    Weights are dropped, and those that stay are not enlarged: in training the sums are smaller on
    average than in evaluation. Divide by 1 − p, or let nn.Dropout do both.
no_scale: * self.scale →
    The scale is missing: multiply the scores by (dim // num_heads) ** -0.5, before the softmax.
times_sqrt_d: -0.5 → 0.5
    The scores are multiplied by √d, and they should be divided by it: (dim // num_heads) ** -0.5.
softmax_over_queries: dim=-1 → dim=-2
    The softmax runs over the queries: the columns of the weights sum to 1, and the rows should. Use
    dim=-1.
no_transpose_back: .transpose(1, 2) →
    The heads are merged without moving them back behind the tokens. From (B, H, N, d) to (B, N, H,
    d) first, then reshape.
projects_the_input: proj(out) → proj(x)
    The attention is computed and thrown away: proj is given the input x. Give it the merged heads.
scaled_by_dim: (dim // num_heads) → dim
    The scale is made from the whole width: dim ** -0.5. A score is a sum over one head, so it is
    (dim // num_heads) ** -0.5. The maps come out too flat.
other_order: (three h d) → (h three d)
    The outputs of qkv are read as (H, 3, d). They are ordered (3, H, d): all of q, then all of k,
    then all of v. With random weights nobody would notice, with loaded ones nothing fits.
no_projection: self.proj(out) → out
    The output projection is built and never applied, so that the heads are not mixed. Call proj on
    the merged heads.
""")  # fmt: skip


def probe(answer):
    def outcomes():
        """All outputs that dropout can make of one token with two heads, in some order."""
        torch.manual_seed(3)
        out = filled(answer, 10, 2, 0.4).train()(draw(1, 1, 10).expand(200, 1, 10))
        return out.detach()[:, 0].round(decimals=5).unique(dim=0)

    def zero_in_the_mean():
        """The mean over many passes is the output without dropout."""
        torch.manual_seed(3)
        x = draw(1, 4, 10).expand(1500, 4, 10)
        out = filled(answer, 10, 2, 0.3).train()(x).detach().mean(0)
        calm = filled(answer, 10, 2, 0.3).eval()(x[:1]).detach()[0]
        return bool((out - calm).abs().max() < 0.15)

    return [
        forward(answer, (10, 2, 0.4), draw(3, 4, 10)),
        forward(answer, (12, 3), draw(2, 5, 12), train=True),
        parameter_gradients(answer, (10, 5), draw(1, 3, 10)),
        learned(answer, 6, 2),
        outcomes,
        zero_in_the_mean,
    ]


EXERCISE = Exercise(
    name="attention_module",
    chapter="03_attention",
    task="Attention(dim, num_heads, attn_drop=0.0), a module with the layers qkv and proj, both "
    "with a bias: (B, N, D) -> (B, N, D); dropout on the weights, in training only",
    reference=Attention,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        HeadByHead,
        ByTorch,
        lambda dim, heads, attn_drop=0.0: vitlib.Attention(
            dim, heads, qkv_bias=True, attn_drop=attn_drop
        ),
    ],
    probe=probe,
)
