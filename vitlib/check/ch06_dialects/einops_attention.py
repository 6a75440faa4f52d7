"""6.5 einops_attention: heads × dim_head need not be the width."""

from functools import partial

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, twin
from vitlib.check.probing import draw


class EinopsAttention(nn.Module):
    def __init__(self, dim, heads, dim_head):
        super().__init__()
        self.heads, self.scale = heads, dim_head**-0.5
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim)

    def forward(self, x):
        qkv = self.to_qkv(x)
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        weights = (q @ k.mT * self.scale).softmax(dim=-1)
        return self.to_out(rearrange(weights @ v, "b h n d -> b n (h d)"))


class ByChunks(nn.Module):
    def __init__(self, dim, heads, dim_head):
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        self.to_qkv = nn.Linear(dim, heads * dim_head * 3, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim), nn.Dropout(0.0))

    def forward(self, x):
        q, k, v = (
            part.unflatten(2, (self.heads, self.dim_head)).transpose(1, 2)
            for part in self.to_qkv(x).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class ByEinsum(nn.Module):
    def __init__(self, dim, heads, dim_head):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(dim_head * heads, dim)

    def forward(self, x):
        q, k, v = rearrange(self.to_qkv(x), "b n (s h d) -> s b n h d", s=3, h=self.heads)
        scores = einsum(q, k, "b i h d, b j h d -> b h i j") / q.shape[-1] ** 0.5
        mixed = einsum(scores.softmax(dim=3), v, "b h i j, b j h d -> b i h d")
        return self.to_out(mixed.reshape(*x.shape[:2], -1))


def cases(answer) -> Cases:
    def run(dim, heads, dim_head, batch=2, tokens=5):
        module = twin(answer, EinopsAttention, dim, heads, dim_head)
        return call(module, numbers(batch, tokens, dim))

    yield "D = 12 and 3 heads of 4", lambda: run(12, 3, 4)
    yield "D = 8 and 4 heads of 3", lambda: run(8, 4, 3)
    yield "D = 12 and 2 heads of 5", lambda: run(12, 2, 5, batch=3, tokens=4)
    yield "D = 5 and one head of 7", lambda: run(5, 1, 7)
    yield "D = 6 and one head of 6", lambda: run(6, 1, 6)


MUTANTS = edits(EinopsAttention, """
has_bias: , bias=False →
    `to_qkv` has a bias, which this dialect does not: nn.Linear has one unless it is told
    bias=False. A file without it could not be loaded strictly.
no_bias_at_all: (heads * dim_head, dim) → (heads * dim_head, dim, bias=False)
    `to_out` has lost its bias. Only `to_qkv` goes without one in this dialect.
dim_head_ignored: super().__init__() → super().__init__()
→ dim_head = dim // heads
    The width of a head is computed as dim // heads, and dim_head is ignored. Here the two need not
    agree: to_qkv has 3 · heads · dim_head outputs, and to_out as many inputs as one third of these.
scaled_by_dim: dim_head**-0.5 → dim**-0.5
    The scores are scaled by the width of the tokens, dim ** -0.5. A score is a sum over dim_head
    products, so it is dim_head ** -0.5. With several heads the attention comes out too flat, and
    only loaded weights show it.
scaled_by_inner: dim_head**-0.5 → (heads * dim_head) ** -0.5
    The scores are scaled by the width of all heads together. A score is a sum over one head, over
    dim_head products: dim_head ** -0.5.
scaled_by_dim_over_heads: dim_head**-0.5 → (dim / heads) ** -0.5
    The scale takes a head to be dim / heads wide, as in timm's style. In this dialect it is
    dim_head wide, and the two agree only where heads × dim_head = dim.
no_scale: * self.scale →
    The scale is missing: multiply the scores by dim_head ** -0.5 before the softmax.
times_sqrt_d: -0.5 → 0.5
    The scores are multiplied by √dim_head, and they should be divided by it.
divided_by_dim_head: -0.5 → -1
    The scores are divided by dim_head, and they should be divided by its root: dim_head ** -0.5.
merged_by_channel: (h d) → (d h)
    The heads are merged as (d h), and were split as (h d): each head's numbers lie scattered over
    the width. Trained so, the model would have learned around it; with loaded weights `to_out`
    reads the wrong columns. Look at the last rearrange.
merged_and_scaled: (h d) → (d h)
and: dim_head**-0.5 → dim**-0.5
    There is more than one mistake here. The heads are merged as (d h), and were split as (h d):
    look at the last rearrange. And ask over how many products a score is a sum: its scale depends
    on no other number.
split_by_channel: (three h d) → (three d h)
    Each third of qkv is split as (d h), and merged as (h d) later. The rows of a fused weight are
    ordered (three h d): all numbers of the first head stand together.
split_and_merged_by_channel: (three h d) → (three d h)
and: (h d) → (d h)
    Heads are split and merged as (d h). That is consistent, and would train well; but other
    people's weights are ordered (h d), and come out as nonsense.
split_merged_and_scaled: (three h d) → (three d h)
and: (h d) → (d h)
and: dim_head**-0.5 → dim**-0.5
    There is more than one mistake here. Heads are split and merged as (d h): that is consistent,
    but other people's weights are ordered (h d). And ask over how many products a score is a sum:
    its scale depends on no other number.
split_by_head: (three h d) → (h three d)
    The outputs of to_qkv are read as (h three d). They are ordered (three h d): all of q, then all
    of k, then all of v.
residual_added: return → return x +
    The input is added to what attention gives. The block around it does that; here it would count
    twice.
softmax_over_queries: dim=-1 → dim=-2
    The softmax runs over the queries: the columns of the weights sum to 1, and the rows should. Use
    dim=-1.
three_layers: self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False) →
→ self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
→ self.to_k = nn.Linear(dim, heads * dim_head, bias=False)
→ self.to_v = nn.Linear(dim, heads * dim_head, bias=False)
and: qkv = self.to_qkv(x) → qkv = torch.cat([self.to_q(x), self.to_k(x), self.to_v(x)], dim=-1)
    There are three layers for q, k and v. In this dialect there is one, `to_qkv`, with
    3 · heads · dim_head outputs: a file of its weights would not fit.
least_like_first: (q @ k.mT → (-q @ k.mT
    The sign of the scores is turned round: the key that fits least gets the most. Take softmax of
    the scores as they are.
no_softmax: .softmax(dim=-1) →
    The softmax is missing: the weights of a query should be positive and sum to 1.
output_layer_not_used: self.to_out(rearrange(weights @ v, "b h n d -> b n (h d)")) →
→ rearrange(weights @ v, "b h n d -> b n (h d)")
    `to_out` is built, and forward does not use it.
keys_turned_wrongly: k.mT → k.transpose(1, 2)
    Two wrong axes of the keys change places: heads and tokens. Scores need (d, N): k.mT, which is
    k.transpose(-2, -1).
chunks_of_tokens: qkv = self.to_qkv(x) → qkv = torch.cat(self.to_qkv(x).chunk(3, dim=1), dim=-1)
    The tokens are split into three parts. q, k and v lie side by side in the last axis: dim=-1.
softmax_over_heads: dim=-1 → dim=1
    The softmax runs over the heads. It runs over the keys, the last axis of the scores: dim=-1.
scaled_by_heads: dim_head**-0.5 → heads**-0.5
    The scores are scaled by the number of heads. A score is a sum over dim_head products, so it is
    dim_head ** -0.5.
scaled_by_64: dim_head**-0.5 → 64**-0.5
    The scale is that of 64 numbers, whatever dim_head says. It is dim_head ** -0.5.
scaled_after_the_softmax: (q @ k.mT * self.scale).softmax(dim=-1)
→ (q @ k.mT).softmax(dim=-1) * self.scale
    The scale stands behind the softmax: the rows of the weights no longer sum to 1. Scale the
    scores, before the softmax.
queries_and_keys_exchanged: q, k, v = → k, q, v =
    Queries and keys have changed places: to_qkv gives q first, then k, then v.
keys_and_values_exchanged: q, k, v = → q, v, k =
    Keys and values have changed places: to_qkv gives q first, then k, then v.
queries_and_values_exchanged: q, k, v = → v, k, q =
    Queries and values have changed places: to_qkv gives q first, then k, then v.
weights_transposed: weights @ v → weights.mT @ v
    The weights are transposed before they meet the values. Row i belongs to query i: weights @ v.
merged_without_transpose: rearrange(weights @ v, "b h n d -> b n (h d)")
→ (weights @ v).reshape(*x.shape[:2], -1)
    The heads are merged by a reshape alone, which mixes tokens of one head. The axis of the heads
    has to move next to d first: "b h n d -> b n (h d)".
nothing_for_one_head: self.to_out = nn.Linear(heads * dim_head, dim)
→ same = heads == 1 and dim_head == dim
→ self.to_out = nn.Identity() if same else nn.Linear(heads * dim_head, dim)
nothing_for_one_head_of_any_width: self.to_out = nn.Linear(heads * dim_head, dim)
→ self.to_out = nn.Identity() if heads == 1 else nn.Linear(heads * dim_head, dim)
    For a single head `to_out` is left out. The task has a linear layer there always, for one head,
    too.
""")  # fmt: skip


def probe(answer):
    def parameters():
        return sorted(tuple(p.shape) for p in answer(9, 2, 5).parameters())

    def run(dim, heads, dim_head, batch, tokens):
        module = answer(dim, heads, dim_head).double()
        with torch.no_grad():  # by order within a shape: names are free but for the layers'
            for i, parameter in enumerate(sorted(module.parameters(), key=lambda p: p.shape)):
                parameter.copy_(0.6 * draw(*parameter.shape, seed=i))
        return module(draw(batch, tokens, dim))

    sizes = [(9, 2, 5, 3, 4), (8, 4, 2, 1, 6), (6, 1, 4, 2, 3), (4, 3, 6, 2, 2)]
    return [parameters, *[partial(run, *size) for size in sizes]]


EXERCISE = Exercise(
    name="einops_attention",
    chapter="06_dialects",
    task="EinopsAttention(dim, heads, dim_head), a module with the layers to_qkv (no bias) and "
    "to_out: (B, N, D) -> (B, N, D), with `heads` heads of dim_head numbers each, whatever D is",
    reference=EinopsAttention,
    cases=cases,
    mutants=MUTANTS,
    accepted=[ByChunks, ByEinsum],
    probe=probe,
)
