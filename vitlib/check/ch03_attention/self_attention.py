"""3.7 self_attention: the whole, from bare weights."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, gradient, returns


def self_attention(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    qkv = F.linear(x, qkv_weight, qkv_bias)
    q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=num_heads)
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    out = rearrange(scores.softmax(dim=-1) @ v, "b h n d -> b n (h d)")
    return F.linear(out, proj_weight, proj_bias)


def by_chunks(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    B, N, D = x.shape
    thirds = F.linear(x, qkv_weight, qkv_bias).chunk(3, dim=-1)
    q, k, v = (t.reshape(B, N, num_heads, -1).transpose(1, 2) for t in thirds)
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    return F.linear(out.reshape(B, N, D), proj_weight, proj_bias)


def by_loop(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    D = x.shape[-1]
    d, heads = D // num_heads, []
    for h in range(num_heads):
        rows = [slice(part * D + h * d, part * D + (h + 1) * d) for part in range(3)]
        q, k, v = (x @ qkv_weight[r].T + (0 if qkv_bias is None else qkv_bias[r]) for r in rows)
        heads.append(vitlib.attention_weights(q, k) @ v)
    return torch.cat(heads, dim=-1) @ proj_weight.T + proj_bias


def by_torch(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    tokens = x.transpose(0, 1)  # F.multi_head_attention_forward takes (N, B, D)
    out, _ = F.multi_head_attention_forward(
        tokens, tokens, tokens, x.shape[-1], num_heads, qkv_weight, qkv_bias, None, None, False,
        0.0, proj_weight, proj_bias,
    )  # fmt: skip
    return out.transpose(0, 1)


def by_module(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    module = vitlib.Attention(x.shape[-1], num_heads, qkv_bias=qkv_bias is not None).to(x.dtype)
    state = {"qkv.weight": qkv_weight, "proj.weight": proj_weight, "proj.bias": proj_bias}
    module.load_state_dict(state if qkv_bias is None else state | {"qkv.bias": qkv_bias})
    return module(x)


def cases(answer) -> Cases:
    def run(batch, tokens, width, heads, bias=True):
        weights = [
            numbers(3 * width, width, seed=1) * 0.3,
            numbers(3 * width, seed=2) if bias else None,
            numbers(width, width, seed=3) * 0.3,
            numbers(width, seed=4),
        ]
        return call(answer, numbers(batch, tokens, width), *weights, heads)

    yield "2 images, 7 tokens, D = 15, 3 heads", lambda: run(2, 7, 15, 3)
    yield "as many tokens as heads", lambda: run(1, 4, 8, 4)
    yield "one head", lambda: run(2, 3, 5, 1)
    yield "no bias in qkv", lambda: run(3, 5, 12, 2, bias=False)


MUTANTS = edits(self_attention, """
thrown_away: F.linear(out → F.linear(x
    The attention has no effect: your output is the projection of the input x. Each token depends on
    itself alone. Give the projection the merged heads, not x.
no_scale: * q.shape[-1] ** -0.5 →
    The scale is missing: multiply the scores by d ** -0.5, with d = D / H, before the softmax.
times_sqrt_d: -0.5 → 0.5
    The scores are multiplied by √d, and they should be divided by it: d ** -0.5. The softmax gives
    nearly everything to one key, and hardly any gradient gets through.
scaled_by_dim: q.shape[-1] → x.shape[-1]
    The scale is made from the whole width D. A score is a sum over one head, d = D / H products, so
    it is d ** -0.5. With D the maps come out too flat, by a factor √H in the scores.
scaled_after_the_softmax: * q.shape[-1] ** -0.5 →
and: dim=-1) @ v → dim=-1) * q.shape[-1] ** -0.5 @ v
scaled_after_the_softmax_by_dim: * q.shape[-1] ** -0.5 →
and: dim=-1) @ v → dim=-1) * x.shape[-1] ** -0.5 @ v
    The weights are scaled, not the scores: their rows sum to less than 1, and the softmax is as
    closed as without a scale. Multiply the scores by d ** -0.5, with d = D / H, before the softmax.
softmax_over_queries: dim=-1 → dim=-2
    The softmax runs over the queries: the columns of the weights sum to 1, and the rows should. Use
    dim=-1.
other_order: (three h d) → (h three d)
    The outputs of qkv are read as (H, 3, d). They are ordered (3, H, d): all of q, then all of k,
    then all of v. With random weights nobody would notice, with loaded ones nothing fits.
keys_first: q, k, v → k, q, v
    Queries and keys have changed places: the first third of qkv is q, the second k. The scores come
    out transposed, as if tokens asked with their keys.
heads_not_in_front: three b h n d → three b n h d
and: b h n d → b n h d
    The heads still stand behind the tokens when q meets k: (B, N, H, d). So the heads of one token
    attend to each other, and no token to any other. Move H in front of N.
values_before_keys: q, k, v → q, v, k
    Keys and values have changed places: the second third of qkv is k, the last is v.
no_qkv_bias: qkv_bias) → None)
    The bias of qkv is left out. It is None in some models; where it is given, it must be added
    before q, k and v are split.
no_softmax: .softmax(dim=-1) →
    The softmax is missing: the scores themselves are used as weights.
divided_by_d: -0.5 → -1
    The scores are divided by d. It should be √d: d ** -0.5.
root_of_the_number_of_heads: q.shape[-1] → q.shape[1]
    The number of heads stands under the root. (After the split it is axis 1 of q.) The scale is
    made from the width of one head, d = D / H: the last axis of q.
every_hth_channel: (three h d) → (three d h)
    A head takes every Hth channel. Within q, k and v it should have d neighbours: the outputs are
    ordered (3, H, d).
merged_by_channel: (h d) → (d h)
    The merge interleaves the heads, (d, H). Put each head's d numbers side by side, (H, d), or the
    output projection meets the wrong ones.
no_projection: F.linear(out, proj_weight, proj_bias) → out
    The output projection is missing: apply proj_weight and proj_bias to the merged heads.
projection_transposed: out, proj_weight → out, proj_weight.T
    The output projection multiplies by proj_weight where it needs the transpose. nn.Linear keeps
    one row for each output: x @ weight.T, or F.linear.
no_output_bias: proj_bias) → None)
    The bias of the output projection is missing.
""") | edits(by_chunks, """
no_transpose_back: v).transpose(1, 2) → v)
    The heads are merged without moving them back behind the tokens, so that numbers of different
    tokens end up in one. From (B, H, N, d) to (B, N, H, d) first, then reshape.
split_by_reshape_alone: N, num_heads, -1).transpose(1, 2) → num_heads, N, -1)
    The heads are split by a reshape alone, to (B, H, N, d) at once. It reads token by token, so a
    “head” holds whole tokens. Split the width first, (B, N, H, d), then swap H and N.
no_transpose_at_all: N, num_heads, -1).transpose(1, 2) → num_heads, N, -1)
and: .transpose(1, 2) →
    The heads are split and merged by reshapes alone. What goes in comes out in order, but in
    between a “head” holds whole tokens, not a piece of each. Split the width first, (B, N, H, d),
    then swap H and N, and swap them back before the merge.
""")  # fmt: skip


def probe(answer):
    def given(b, n, d, heads, bias=True):
        weights = draw(3 * d, d, seed=1) / 2, draw(3 * d, seed=2) if bias else None
        return draw(b, n, d), *weights, draw(d, d, seed=3) / 2, draw(d, seed=4), heads

    sizes = [(3, 4, 10, 2), (1, 6, 9, 3), (2, 3, 4, 1), (2, 5, 8, 4, False)]
    return [returns(answer, *given(*s)) for s in sizes] + [gradient(answer, *given(*sizes[0]))]


EXERCISE = Exercise(
    name="self_attention",
    chapter="03_attention",
    task="self_attention(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads) -> (B, N, D); "
    "the 3D outputs of qkv are ordered (3, H, d), and qkv_bias may be None",
    reference=self_attention,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_chunks, by_loop, by_torch, by_module],
    probe=probe,
)
