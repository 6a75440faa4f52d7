"""3.7 self_attention: the whole, from bare weights."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, gradient, returns


def self_attention(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    B, N, D = x.shape
    qkv = F.linear(x, qkv_weight, qkv_bias)
    q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=num_heads)
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    weights = scores.softmax(dim=-1)
    out = (weights @ v).transpose(1, 2).reshape(B, N, D)
    return F.linear(out, proj_weight, proj_bias)


def by_permute(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    B, N, D = x.shape
    qkv = F.linear(x, qkv_weight, qkv_bias)
    qkv = qkv.reshape(B, N, 3, num_heads, D // num_heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    scores = q @ k.mT / (D // num_heads) ** 0.5
    weights = scores.softmax(dim=-1)
    out = (weights @ v).transpose(1, 2).flatten(2)
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
    def run(batch, tokens, width, heads, bias=True, size=1.0):
        weights = [
            numbers(3 * width, width, seed=1) * 0.3,
            numbers(3 * width, seed=2) if bias else None,
            numbers(width, width, seed=3) * 0.3,
            numbers(width, seed=4),
        ]
        return call(answer, size * numbers(batch, tokens, width), *weights, heads)

    yield "2 images, 7 tokens, D = 15, 3 heads", lambda: run(2, 7, 15, 3)
    yield "as many tokens as heads", lambda: run(1, 4, 8, 4)
    yield "one head", lambda: run(2, 3, 5, 1)
    yield "no bias in qkv", lambda: run(3, 5, 12, 2, bias=False)
    yield "scores of more than 1,000", lambda: run(2, 4, 6, 2, size=50.0)


SPLIT = 'rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=num_heads)'
MERGE = ".transpose(1, 2).reshape(B, N, D)"
MUTANTS = edits(self_attention, f"""
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
and: softmax(dim=-1) → softmax(dim=-1) * q.shape[-1] ** -0.5
scaled_after_the_softmax_by_dim: * q.shape[-1] ** -0.5 →
and: softmax(dim=-1) → softmax(dim=-1) * x.shape[-1] ** -0.5
    The weights are scaled, not the scores: their rows sum to less than 1, and the softmax is as
    closed as without a scale. Multiply the scores by d ** -0.5, with d = D / H, before the softmax.
divided_by_d: -0.5 → -1
    The scores are divided by d. It should be √d: d ** -0.5.
divided_by_the_whole_width: q.shape[-1] ** -0.5 → D**-1
    The scores are divided by the whole width D. It should be √d, with d = D / H: d ** -0.5.
root_of_the_number_of_heads: q.shape[-1] → q.shape[1]
    The number of heads stands under the root. (After the split it is axis 1 of q.) The scale is
    made from the width of one head, d = D / H: the last axis of q.
root_of_the_number_of_tokens: q.shape[-1] → q.shape[-2]
    The number of tokens stands under the root. The scale is made from the width of one head,
    d = D / H: the last axis of q.
fixed_scale: q.shape[-1] → 64
    The scale is always 64 ** -0.5 = 1/8. It is made from the width of one head, d = D / H.
softmax_over_queries: dim=-1 → dim=-2
    The softmax runs over the queries: the columns of the weights sum to 1, and the rows should. Use
    dim=-1.
softmax_over_heads: dim=-1 → dim=1
    The softmax runs over the heads, axis 1. It belongs to the keys, the last axis: dim=-1.
no_softmax: .softmax(dim=-1) →
    The softmax is missing: the scores themselves are used as weights.
other_order: (three h d) → (h three d)
    The outputs of qkv are read as (H, 3, d). They are ordered (3, H, d): all of q, then all of k,
    then all of v. With random weights nobody would notice, with loaded ones nothing fits.
other_order_inside: (three h d) → (h d three)
    The outputs of qkv are read as (H, d, 3). They are ordered (3, H, d): all of q, then all of k,
    then all of v. With random weights nobody would notice, with loaded ones nothing fits.
other_order_turned: (three h d) → (d h three)
other_order_turned_with_three: (three h d) → (d three h)
    The outputs of qkv are read in another order. They are ordered (3, H, d): all of q, then all of
    k, then all of v, each head after head.
every_hth_channel: (three h d) → (three d h)
    A head takes every Hth channel. Within q, k and v it should have d neighbours: the outputs are
    ordered (3, H, d).
keys_first: q, k, v → k, q, v
    Queries and keys have changed places: the first third of qkv is q, the second k. The scores come
    out transposed, as if tokens asked with their keys.
values_before_keys: q, k, v → q, v, k
    Keys and values have changed places: the second third of qkv is k, the last is v.
backwards: q, k, v → v, k, q
    Queries and values have changed places: the first third of qkv is q, the last is v.
thirds_in_another_order: q, k, v → k, v, q
thirds_in_another_order_v_first: q, k, v → v, q, k
    The thirds of qkv are taken in another order. They are q, k, v.
queries_as_keys: @ k.transpose → @ q.transpose
    The queries meet themselves: q @ qᵀ. Their partners are the keys: q @ k.transpose(-2, -1).
keys_as_values: weights @ v → weights @ k
    The weights multiply the keys. They belong to the values: weights @ v.
weights_transposed: (weights @ v) → (weights.transpose(-2, -1) @ v)
    The weights are transposed, or, which comes to the same, the keys ask and the softmax runs over
    them. Row i of q @ kᵀ belongs to query i: take its softmax along dim=-1, and weights @ v.
heads_not_in_front: three b h n d → three b n h d
and: {MERGE} → .reshape(B, N, D)
    The heads still stand behind the tokens when q meets k: (B, N, H, d). So the heads of one token
    attend to each other, and no token to any other. Move H in front of N.
heads_not_in_front_till_the_end: three b h n d → three b n h d
    The heads still stand behind the tokens when q meets k: (B, N, H, d). So the heads of one token
    attend to each other, and no token to any other. Move H in front of N before the scores; the
    transpose at the end moves it back.
channels_attend: three b h n d → three b h d n
and: {MERGE} → .permute(0, 3, 1, 2).reshape(B, N, D)
    Channels attend to channels: q and k are (B, H, d, N) when they meet. Tokens should:
    (B, H, N, d).
merged_by_channel: {MERGE} → .permute(0, 2, 3, 1).reshape(B, N, D)
    The merge interleaves the heads, (d, H). Put each head's d numbers side by side, (H, d), or the
    output projection meets the wrong ones.
merged_with_wrong_axes: v).transpose(1, 2) → v).transpose(2, 3)
    The merge swaps the tokens with the channels. It is the heads and the tokens, axes 1 and 2, that
    change places.
merged_with_wrong_axes_too: v).transpose(1, 2) → v).transpose(1, 3)
    The merge swaps the heads with the channels. It is the heads and the tokens, axes 1 and 2, that
    change places.
no_transpose_back: v).transpose(1, 2) → v)
    The heads are merged without moving them back behind the tokens, so that numbers of different
    tokens end up in one. From (B, H, N, d) to (B, N, H, d) first, then reshape.
split_by_reshape_alone: {SPLIT} →
→ (t.reshape(B, num_heads, N, -1) for t in qkv.chunk(3, dim=-1))
    The heads are split by a reshape alone, to (B, H, N, d) at once. It reads token by token, so a
    “head” holds whole tokens. Split the width first, (B, N, H, d), then swap H and N.
no_transpose_at_all: {SPLIT} →
→ (t.reshape(B, num_heads, N, -1) for t in qkv.chunk(3, dim=-1))
and: v).transpose(1, 2) → v)
    The heads are split and merged by reshapes alone. What goes in comes out in order, but in
    between a “head” holds whole tokens, not a piece of each. Split the width first, (B, N, H, d),
    then swap H and N, and swap them back before the merge.
one_head: h=num_heads → h=1
one_head_with_the_scale_of_many: h=num_heads → h=1
and: q.shape[-1] → (D // num_heads)
    There is one head, whatever num_heads says. Split q, k and v into H heads, (B, H, N, d), before
    they meet.
fixed_number_of_heads: h=num_heads → h=3
fixed_number_of_heads_4: h=num_heads → h=4
fixed_number_of_heads_12: h=num_heads → h=12
    The number of heads is fixed. Use num_heads.
as_many_heads_as_channels: h=num_heads → h=D // num_heads
    There are D / H heads of H channels. It should be H heads of D / H channels.
no_qkv_bias: qkv_bias) → None)
    The bias of qkv is left out. It is None in some models; where it is given, it must be added
    before q, k and v are split.
bias_of_the_queries_alone: qkv_bias) → None)
→ if qkv_bias is not None:
→     qkv[..., :D] += qkv_bias[:D]
    Only the queries get their bias. qkv_bias has 3D numbers, for keys and values, too.
no_projection: F.linear(out, proj_weight, proj_bias) → out
    The output projection is missing: apply proj_weight and proj_bias to the merged heads.
projection_transposed: out, proj_weight → out, proj_weight.T
    The output projection multiplies by proj_weight where it needs the transpose. nn.Linear keeps
    one row for each output: x @ weight.T, or F.linear.
no_output_bias: proj_bias) → None)
    The bias of the output projection is missing.
input_added: return F → return x + F
    The input is added to the result. The residual belongs to the block, not to the attention.
""") | edits(by_permute, """
softmax_over_images: dim=-1 → dim=0
    The softmax runs over the images, axis 0. (F.softmax without dim picks the axis itself.) It
    belongs to the keys, the last axis: dim=-1.
softmax_over_everything: scores.softmax(dim=-1) →
→ scores.flatten(2).softmax(-1).reshape(scores.shape)
    All the weights of a head together sum to 1, and each row should: softmax(dim=-1).
softmax_twice: softmax(dim=-1) → softmax(dim=-1).softmax(dim=-1)
    The softmax is taken twice. The second flattens the weights: shares lie between 0 and 1.
overflows: scores.softmax(dim=-1) → scores.exp() / scores.exp().sum(-1, keepdim=True)
    Your softmax overflows: for large scores exp(...) is infinite, and the result is nan. Subtract
    the largest score of each row first, as in exercise 3.1, or use softmax.
powers_not_divided: softmax(dim=-1) → exp()
    The exponentials are not divided by their sum. Each row of the weights should sum to 1.
log_softmax: scores.softmax → scores.log_softmax
    The logarithms of the weights multiply the values. Use softmax, not log_softmax.
sigmoid: softmax(dim=-1) → sigmoid()
    The sigmoid weighs each key by itself. The keys of a query share a sum of 1: use softmax.
relu: softmax(dim=-1) → relu()
    The scores become weights by a ReLU. The keys of a query share a sum of 1: use softmax.
least_like_first: = scores.softmax → = (-scores).softmax
    The sign of the scores is turned round: the key that fits least gets the most.
lengths_taken_out: q @ k.mT → F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
    Queries and keys are brought to length 1, and their cosines are the scores. Attention takes the
    dot product as it is.
no_future: weights = scores → later = torch.ones_like(scores).triu(1).bool()
→ scores = scores.masked_fill(later, -torch.inf)
→ weights = scores
    A mask keeps each token from those behind it, as in a language model. In a ViT every patch may
    look at all the others.
keys_as_queries: = q @ k.mT → = k @ k.mT
    The keys meet themselves: k @ kᵀ. It is the queries that ask: q @ k.transpose(-2, -1).
values_as_keys: @ k.mT → @ v.mT
    The queries meet the values. Scores are made with the keys: q @ k.transpose(-2, -1).
queries_as_values: weights @ v → weights @ q
    The weights multiply the queries. They belong to the values: weights @ v.
not_transposed: k.mT → k
    The keys are not transposed: q and k are both (B, H, N, d), and the product needs (B, H, d, N):
    k.transpose(-2, -1).
wrong_axes_swapped: k.mT → k.transpose(1, 2)
    The keys' heads and tokens are swapped, axes 1 and 2. With four axes the product needs
    k.transpose(-2, -1).
weights_not_used: weights @ v → v
    The weights are never used: each token keeps its own value. Multiply: weights @ v.
weights_averaged_over_heads: = scores.softmax(dim=-1) → = scores.softmax(dim=-1).mean(1, True)
    The weights are averaged over the heads, and all heads look alike. Each head has its own.
thirds_by_reshape_alone: qkv.permute(2, 0, 3, 1, 4) → qkv.reshape(3, B, num_heads, N, -1)
    q, k and v are split by a reshape alone, to (3, B, H, N, d) at once. It reads token by token,
    image by image. First (B, N, 3, H, d), then permute(2, 0, 3, 1, 4).
thirds_by_reshape_in_each_image: qkv.permute(2, 0, 3, 1, 4) →
→ qkv.reshape(B, 3, num_heads, N, -1).unbind(1)
    q, k and v are split by a reshape alone, to (B, 3, H, N, d) at once. It reads token by token.
    First (B, N, 3, H, d), then permute(2, 0, 3, 1, 4).
thirds_of_the_tokens: qkv.permute(2, 0, 3, 1, 4) →
→ qkv.reshape(3, B, N, num_heads, -1).transpose(2, 3)
    The three parts are read off the front, (3, B, N, H, d), by a reshape alone. They lie side by
    side in the *last* axis: (B, N, 3, H, d), then permute(2, 0, 3, 1, 4).
heads_added: .transpose(1, 2).flatten(2) → .sum(1).repeat(1, 1, num_heads)
    The heads are added up. Put them side by side, (B, N, H·d); the projection mixes them.
first_head_everywhere: (weights @ v) → (weights @ v)[:, :1].expand(v.shape)
    The result of the first head is repeated. Each head has its own: put them side by side.
bias_always_added: F.linear(x, qkv_weight, qkv_bias) → x @ qkv_weight.T + qkv_bias
    qkv_bias is added even where it is None, and a tensor and None cannot be added. F.linear takes
    None; otherwise ask `if qkv_bias is not None`.
bias_asked_for_its_truth: F.linear(x, qkv_weight, qkv_bias) →
→ x @ qkv_weight.T + (qkv_bias if qkv_bias else 0)
    `if qkv_bias` and `qkv_bias or ...` ask a tensor for its truth, which many numbers do not have.
    Ask `if qkv_bias is not None`.
qkv_weight_not_transposed: F.linear(x, qkv_weight, qkv_bias) → x @ qkv_weight
    x meets qkv_weight where it needs the transpose. nn.Linear keeps one row for each output:
    x @ weight.T, or F.linear.
qkv_weight_reshaped: F.linear(x, qkv_weight, qkv_bias) →
→ F.linear(x, qkv_weight.reshape(D, 3 * D).T, qkv_bias)
    The weight of qkv is brought to (D, 3D) by a reshape, which mixes its rows. It needs the
    transpose: qkv_weight.T, or F.linear.
input_normalised: F.linear(x, qkv → F.linear(F.layer_norm(x, (D,)), qkv
    The input is normalised first. The norm belongs to the block, not to the attention.
rectified: F.linear(x, qkv_weight, qkv_bias) → F.linear(x, qkv_weight, qkv_bias).relu()
    A ReLU acts on q, k and v. There is none in attention.
projected_twice: return F.linear(out → out = F.linear(out, proj_weight, proj_bias)
→ return F.linear(out
    The output projection is applied twice. Once is enough.
output_bias_first: F.linear(out, proj_weight, proj_bias) → F.linear(out + proj_bias, proj_weight)
    The bias of the output projection is added before the product. It comes after it: F.linear(out,
    proj_weight, proj_bias).
output_bias_twice: return F → return proj_bias + F
    The bias of the output projection is added twice. F.linear adds it already.
input_added_before_the_projection: F.linear(out → F.linear(x + out
    The input is added to the merged heads. The residual belongs to the block, and comes after the
    projection.
first_token_only: return F → out = out[:, :1]
→ return F
first_token_only_without_an_axis: return F → out = out[:, 0]
→ return F
    Only the first token comes back. All of them are asked for: (B, N, D).
mean_of_the_tokens: return F → out = out.mean(1)
→ return F
    The tokens are averaged. All of them are asked for: (B, N, D).
weights_too: proj_bias) → proj_bias), weights
    The weights come back beside the result. Only the result, (B, N, D), is asked for.
nothing_returned: return F → F
    The result is computed and not returned. The last line needs `return`.
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
    excluded=["torch.nn.functional.scaled_dot_product_attention", "torch.nn.Module"],
    accepted=[by_permute, by_chunks, by_loop, by_torch, by_module],
    probe=probe,
)
