"""Chapter 3, attention: the exercises, their right answers and their usual mistakes."""

from functools import partial

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import nn

import vitlib
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers, twin

# --- 3.1 softmax_rows: large scores, and the axis


def _softmax(scores):
    powers = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def _softmax_by_row(scores):
    rows = [torch.exp(row - torch.logsumexp(row, 0)) for row in scores.flatten(0, -2)]
    return torch.stack(rows).reshape(scores.shape)


def _softmax_less(scores, least, axis=-1):
    """Softmax of scores from which `least` is taken."""
    powers = (scores - least).exp()
    return powers / powers.sum(dim=axis, keepdim=True)


def _softmax_of_all(scores):
    powers = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return powers / powers.sum()


def _softmax_cases(answer) -> Cases:
    toy = torch.tensor([[3.0, 4.0, 2.0], [3.0, 2.0, 1.0], [2.0, 3.0, 1.0]], dtype=torch.float64)
    yield "the toy's scores", lambda: call(answer, toy)
    yield "3 queries and 5 keys, in 2 sets", lambda: call(answer, numbers(2, 3, 5))
    high = torch.tensor([[1000.0, 999.0], [998.0, 1000.0]], dtype=torch.float64)
    yield "scores of about 1,000", lambda: call(answer, high)
    apart = torch.tensor([[800.0, 802.0], [-800.0, -801.0]], dtype=torch.float64)
    yield "one row near 800 and one near −800", lambda: call(answer, apart)
    wide = torch.tensor([[1000.0, -1000.0, -999.0]], dtype=torch.float64)
    yield "1,000 and −1,000 in one row", lambda: call(answer, wide)
    yield "float32", lambda: call(answer, numbers(4, 3, dtype=torch.float32))


softmax_rows = Exercise(
    name="softmax_rows",
    chapter="03_attention",
    task="softmax_rows(scores) -> the softmax over the last axis, same shape and dtype, without "
    "overflow",
    reference=_softmax,
    cases=_softmax_cases,
    mutants={
        "overflows": (
            lambda scores: _softmax_less(scores, 0),
            "The formula is right, and for large scores it fails: exp(1000) is infinite, and "
            "infinity divided by infinity is nan. Subtract the largest score of each row first; "
            "that changes nothing in the result.",
        ),
        "wrong_axis": (
            lambda scores: _softmax_less(scores, scores.amax(-2, keepdim=True), axis=-2),
            "The columns sum to 1, and the rows should. A row belongs to one query, and its "
            "weights say how much that query takes from each key: the softmax runs over the last "
            "axis.",
        ),
        "one_maximum_for_all": (
            lambda scores: _softmax_less(scores, scores.max()),
            "You subtract the largest score of the whole tensor. A row that lies far below it "
            "becomes all zeros, and 0/0 is nan. Each row needs its own maximum: "
            "amax(dim=-1, keepdim=True).",
        ),
        "minus_the_mean": (
            lambda scores: _softmax_less(scores, scores.mean(-1, keepdim=True)),
            "You subtract the mean of each row. The result is right, until one score is so far "
            "above the mean that its exponential overflows. Subtract the maximum: then no power is "
            "above 1.",
        ),
        "maximum_of_the_columns": (
            lambda scores: _softmax_less(scores, scores.amax(-2, keepdim=True)),
            "You subtract the maximum of each column. That is another number for each key, so it "
            "changes the weights. Only what is the same for a whole row cancels.",
        ),
        "shares_of_the_whole": (
            _softmax_of_all,
            "All the weights together sum to 1, and each row should. The sum in the denominator "
            "needs dim=-1, keepdim=True.",
        ),
        "no_exponential": (
            lambda scores: scores / scores.sum(dim=-1, keepdim=True),
            "The scores are divided by their sum, without the exponential. Negative scores then "
            "give negative weights, and a sum near 0 gives huge ones.",
        ),
        "not_divided": (
            lambda scores: (scores - scores.amax(dim=-1, keepdim=True)).exp(),
            "The powers are right, and not yet shares: each row should sum to 1. Divide by the sum "
            "of the row.",
        ),
        "clamped": (
            lambda scores: _softmax_less(scores.clamp(max=700), 0),
            "Large scores are cut off at a limit. No power is infinite then, but scores beyond "
            "the limit become equal, and so do their weights: 1000 and 999 should get 0.73 and "
            "0.27. Only what is the same for a whole row may be taken away.",
        ),
        "divided_by_the_maximum": (
            lambda scores: _softmax_less(scores / scores.amax(dim=-1, keepdim=True), 0),
            "The scores are divided by the largest of their row. That changes their differences, "
            "and so the weights. Subtract it: a difference is all that the softmax sees.",
        ),
        "above_only": (
            lambda scores: (
                (scores - scores.amax(-1, keepdim=True)).exp() / scores.exp().sum(-1, keepdim=True)
            ),
            "The maximum is subtracted above the fraction line and not below. Take the sum of the "
            "same powers that you divide.",
        ),
        "sum_of_the_columns": (
            lambda scores: _softmax_less(scores, scores.amax(-1, keepdim=True), axis=-2),
            "The sum runs down the columns. A row belongs to one query, and it is the row that "
            "should sum to 1: the last axis.",
        ),
    },
    accepted=[
        _softmax_by_row,
        lambda scores: scores.softmax(dim=-1),
        lambda scores: scores.log_softmax(dim=-1).exp(),
    ],
)

# --- 3.2 attend: one head, with other keys than queries


def _attend(q, k, v, scale=None, axis=-1, after=1.0):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = (q @ k.transpose(-2, -1) * scale).softmax(dim=axis)
    return weights * after @ v


def _attend_by_einsum(q, k, v):
    scores = einsum(q, k, "b n d, b m d -> b n m") / q.shape[-1] ** 0.5
    return einsum(scores.softmax(-1), v, "b n m, b m e -> b n e")


def _attend_by_loop(q, k, v):
    out = q.new_zeros(*q.shape[:-1], v.shape[-1])
    for b in range(q.shape[0]):
        for n in range(q.shape[1]):
            scores = torch.stack([q[b, n].dot(key) for key in k[b]]) / q.shape[-1] ** 0.5
            out[b, n] = (scores.softmax(0)[:, None] * v[b]).sum(0)
    return out


def _attend_cases(answer) -> Cases:
    q, k, v = numbers(2, 3, 4), numbers(2, 5, 4, seed=1), numbers(2, 5, 6, seed=2)
    yield "3 queries, 5 keys, d = 4, e = 6", lambda: call(answer, q, k, v)
    square = numbers(1, 4, 7, seed=3), numbers(1, 4, 7, seed=4), numbers(1, 4, 3, seed=5)
    yield "as many keys as queries, d = 7", lambda: call(answer, *square)
    yield (
        "a single key, which gets all the weight",
        lambda: call(answer, q, k[:, :1].clone(), v[:, :1].clone()),
    )


attend = Exercise(
    name="attend",
    chapter="03_attention",
    task="attend(q, k, v) -> (B, N, e), for q (B, N, d), k (B, M, d), v (B, M, e)",
    reference=_attend,
    cases=_attend_cases,
    mutants={
        "times_sqrt_d": (
            lambda q, k, v: _attend(q, k, v, q.shape[-1] ** 0.5),
            "The scores are multiplied by √d, and they should be divided by it: d ** -0.5. So the "
            "softmax gives nearly everything to one key, and hardly any gradient gets through.",
        ),
        "no_scale": (
            lambda q, k, v: _attend(q, k, v, 1.0),
            "The scale is missing. A score is a sum of d products, and its variance is about d. "
            "Divide the scores by √d, or the softmax gives nearly all to one key as d grows.",
        ),
        "divided_by_d": (
            lambda q, k, v: _attend(q, k, v, 1 / q.shape[-1]),
            "The scores are divided by d. It is the variance that grows like d, and the standard "
            "deviation like √d: divide by the root, or the weights come out too flat.",
        ),
        "softmax_over_queries": (
            lambda q, k, v: _attend(q, k, v, axis=-2),
            "The softmax runs over the queries, so the columns of the weights sum to 1. Each query "
            "shares out its attention over the keys: its row must sum to 1, dim=-1.",
        ),
        "root_of_the_number_of_keys": (
            lambda q, k, v: _attend(q, k, v, k.shape[-2] ** -0.5),
            "The number of keys stands under the root. It is how many numbers a query has that "
            "makes scores large, not how many keys it meets: q.shape[-1].",
        ),
        "width_of_the_values": (
            lambda q, k, v: _attend(q, k, v, v.shape[-1] ** -0.5),
            "The width of the values stands under the root. The scores are made from queries and "
            "keys, so it is theirs that counts: q.shape[-1].",
        ),
        "scaled_after_the_softmax": (
            lambda q, k, v: _attend(q, k, v, 1.0, after=q.shape[-1] ** -0.5),
            "The weights are scaled, not the scores: then the rows sum to 1/√d, and the softmax is "
            "as closed as without a scale. Divide before the softmax.",
        ),
        "root_of_the_number_of_queries": (
            lambda q, k, v: _attend(q, k, v, q.shape[-2] ** -0.5),
            "The number of queries stands under the root. It is how many numbers a query has that "
            "makes scores large: the last axis, q.shape[-1].",
        ),
        "no_softmax": (
            lambda q, k, v: q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 @ v,
            "The softmax is missing: the scores themselves are used as weights, negative ones too. "
            "Each row of the weights should sum to 1.",
        ),
    },
    accepted=[F.scaled_dot_product_attention, _attend_by_einsum, _attend_by_loop],
)

# --- 3.3 attention_entropy: a weight of 0


def _entropy(weights):
    return -torch.xlogy(weights, weights).sum(dim=-1).mean(dim=-1)


def _entropy_by_where(weights):
    logs = torch.where(weights > 0, weights, torch.ones_like(weights)).log()
    return (-weights * logs).flatten(2).sum(dim=-1) / weights.shape[-2]


def _entropy_by_entr(weights):
    return torch.special.entr(weights).mean(dim=-1).mul(weights.shape[-1]).mean(dim=-1)


def _entropy_cases(answer) -> Cases:
    # in float32, so that an answer that keeps away from log 0 by some 1e-9 is right as well
    even = torch.full((1, 2, 4, 4), 0.25)
    yield "equal weights on 4 keys: ln 4", lambda: call(answer, even)
    weights = (2 * numbers(2, 3, 5, 5, dtype=torch.float32)).softmax(dim=-1)
    yield "2 images, 3 heads, 5 tokens", lambda: call(answer, weights)
    sure = torch.eye(4).expand(2, 3, 4, 4).clone()
    sure[:, :, 0] = torch.tensor([0.5, 0.5, 0.0, 0.0])
    yield "weights of which many are 0", lambda: call(answer, sure)


attention_entropy = Exercise(
    name="attention_entropy",
    chapter="03_attention",
    task="attention_entropy(weights) -> (B, H): the entropy of each row of (B, H, N, N), averaged "
    "over the queries",
    reference=_entropy,
    cases=_entropy_cases,
    mutants={
        "nan_at_zero": (
            lambda w: -(w * w.log()).sum(dim=-1).mean(dim=-1),
            "Where a weight is 0 the result is nan: in floating point 0 · ln 0 is 0 · (−∞). Such a "
            "weight should contribute 0. Use torch.xlogy, or keep the logarithm away from 0.",
        ),
        "wrong_sign": (
            lambda w: -_entropy(w),
            "The minus sign is missing. ln w is negative for a weight below 1, and entropy is "
            "never negative.",
        ),
        "nan_to_zero_too_late": (
            lambda w: (-(w * w.log()).sum(dim=-1)).nan_to_num().mean(dim=-1),
            "The nan is replaced after the sum, and one weight of 0 then costs the entropy of the "
            "whole row. Only that one term w ln w should be 0.",
        ),
        "no_mean": (
            lambda w: -torch.xlogy(w, w).sum(dim=-1),
            "This is the entropy of every query, (B, H, N). The mean over the queries is missing.",
        ),
        "bits": (
            lambda w: _entropy(w) / torch.tensor(2.0).log(),
            "This is the entropy in bits, with log2. Here it is the natural logarithm: equal "
            "weights on N keys have an entropy of ln N.",
        ),
        "sum_over_queries": (
            lambda w: _entropy(w) * w.shape[-2],
            "The entropies of the queries are added up. Average them, so that heads can be "
            "compared whatever the number of tokens is.",
        ),
        "mean_over_keys": (
            lambda w: _entropy(w) / w.shape[-1],
            "There is a mean over both axes. The entropy is a sum over the keys (the last axis); "
            "only over the queries is it a mean.",
        ),
        "of_the_columns": (
            lambda w: _entropy(w / w.sum(dim=-2, keepdim=True)),
            "The columns are made to sum to 1 here, and their entropy is taken. A query's weights "
            "stand in a row, and sum to 1 already.",
        ),
        "of_the_mean_row": (
            lambda w: -torch.xlogy(w.mean(dim=-2), w.mean(dim=-2)).sum(dim=-1),
            "The rows are averaged before the entropy is taken. If each token looks at one other, "
            "and all at different ones, the mean row is flat although every row is sharp. First "
            "the entropy of each row, then the mean.",
        ),
    },
    accepted=[
        _entropy_by_where,
        _entropy_by_entr,
        lambda w: -(w * w.clamp_min(1e-12).log()).sum(-1).mean(-1),
    ],
)

# --- 3.4 split_heads: which piece is a head, and where it stands


def _split(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)


def _split_by_slices(x, num_heads):
    d = x.shape[-1] // num_heads
    heads = x.new_empty(x.shape[0], num_heads, x.shape[1], d)
    for h in range(num_heads):
        heads[:, h] = x[:, :, h * d : (h + 1) * d]
    return heads


def _split_by_reshape(x, num_heads):
    batch, tokens, width = x.shape
    return x.reshape(batch, tokens, num_heads, width // num_heads).transpose(1, 2)


def _split_pattern(pattern):
    return lambda x, num_heads: rearrange(x, pattern, h=num_heads)


def _split_cases(answer) -> Cases:
    toy = torch.arange(12.0, dtype=torch.float64).reshape(1, 3, 4)
    yield "3 tokens of the numbers 0 to 11, 2 heads", lambda: call(answer, toy, 2)
    yield "2 images, 5 tokens, width 12, 3 heads", lambda: call(answer, numbers(2, 5, 12), 3)
    yield "as many tokens as heads", lambda: call(answer, numbers(2, 4, 8), 4)
    yield "as many images as heads", lambda: call(answer, numbers(3, 5, 6), 3)


split_heads = Exercise(
    name="split_heads",
    chapter="03_attention",
    task="split_heads(x, num_heads): (B, N, D) -> (B, H, N, D/H); head h has D/H neighbouring "
    "channels, the first head the first ones",
    reference=_split,
    cases=_split_cases,
    mutants={
        "reshape_only": (
            lambda x, num_heads: x.reshape(len(x), num_heads, x.shape[1], -1),
            "The heads are cut by a reshape alone. It reads in the order of memory, token by "
            "token, so a “head” holds whole tokens instead of a piece of each. Split the last axis "
            "first, then bring the heads in front of the tokens.",
        ),
        "every_hth_channel": (
            _split_pattern("b n (d h) -> b h n d"),
            "A head takes every Hth channel. It should take D/H neighbours: head 0 the first D/H "
            "channels, and so on. That is where the trained weights of a head are.",
        ),
        "pieces_of_h_channels": (
            lambda x, num_heads: torch.stack(x.split(num_heads, dim=-1), dim=1),
            "There are D/H pieces of H channels. It should be H pieces of D/H channels. "
            "(Tensor.split takes the size of a piece, Tensor.chunk the number of pieces.)",
        ),
        "heads_behind_tokens": (
            _split_pattern("b n (h d) -> b n h d"),
            "The width is split, but the heads stand behind the tokens. In q @ kᵀ the heads of one "
            "token would then attend to each other, and no token to any other. Bring H in front of "
            "N.",
        ),
        "heads_last": (
            _split_pattern("b n (h d) -> b n d h"),
            "The heads are the last axis. The last two axes must be the tokens and the channels of "
            "one head, so that q @ kᵀ compares tokens: (B, H, N, d).",
        ),
        "heads_first": (
            _split_pattern("b n (h d) -> h b n d"),
            "The heads stand in front of everything, the images included. They belong directly in "
            "front of the tokens: (B, H, N, d).",
        ),
        "joined": (
            lambda x, num_heads: torch.cat(x.chunk(num_heads, dim=-1), dim=1),
            "The pieces are joined along the tokens, as if there were H times as many. torch.cat "
            "uses an axis that is there; torch.stack makes a new one for the heads.",
        ),
    },
    accepted=[_split_by_slices, _split_by_reshape, _split_pattern("b n (h d) -> b h n d")],
)

# --- 3.5 merge_heads: the transpose back


def _merge(x):
    return x.transpose(1, 2).flatten(2)


def _merge_pattern(pattern):
    return lambda x: rearrange(x, pattern)


def _merge_reshape(x, *axes):
    """Swap these two axes, if any, and read the numbers as (B, N, H·d)."""
    batch, heads, tokens, d = x.shape
    return (x.transpose(*axes) if axes else x).reshape(batch, tokens, heads * d)


def _merge_by_view(x):
    batch, heads, tokens, d = x.shape
    return x.transpose(1, 2).view(batch, tokens, heads * d)


def _merge_cases(answer) -> Cases:
    token, head, channel = torch.meshgrid(*(torch.arange(1, n) for n in (4, 3, 3)), indexing="ij")
    labels = (100.0 * token + 10 * head + channel).transpose(0, 1)[None].contiguous()
    yield "the labels: 3 tokens, 2 heads, d = 2", lambda: call(answer, labels)
    yield "2 images, 3 heads, 5 tokens, d = 4", lambda: call(answer, numbers(2, 3, 5, 4))
    yield "as many heads as tokens", lambda: call(answer, numbers(2, 3, 3, 4))
    yield "d = 1", lambda: call(answer, numbers(2, 3, 5, 1))


merge_heads = Exercise(
    name="merge_heads",
    chapter="03_attention",
    task="merge_heads(x): (B, H, N, d) -> (B, N, H·d), each token with its heads side by side",
    reference=_merge,
    cases=_merge_cases,
    mutants={
        "no_transpose": (
            _merge_reshape,
            "The transpose back is missing. The reshape reads head after head, so that a “token” "
            "of the result is made of several tokens of one head. Swap H and N first, (B, N, H, "
            "d), then join the last two axes.",
        ),
        "channels_first": (
            _merge_pattern("b h n d -> b n (d h)"),
            "The heads of a token are interleaved, channel by channel: (d, H) where it should be "
            "(H, d). Each head's d numbers belong side by side, or the output projection of "
            "trained weights meets the wrong ones.",
        ),
        "view_after_transpose": (
            _merge_by_view,
            "The idea is right. After a transpose the numbers are not in order in memory, and view "
            "refuses. Use reshape, which copies where it must, and keep the transpose.",
        ),
        "wrong_axes": (
            lambda x: _merge_reshape(x, 2, 3),
            "You swap the tokens with the channels. It is the heads and the tokens, axes 1 and 2, "
            "that must change places.",
        ),
        "not_joined": (
            _merge_pattern("b h n d -> b n h d"),
            "The heads are back behind the tokens, but not joined yet: (B, N, H, d). Join the last "
            "two axes.",
        ),
        "heads_added": (
            lambda x: x.sum(dim=1),
            "The heads are added up, and only d numbers are left for each token. Put them side by "
            "side instead; it is the output projection that mixes them.",
        ),
    },
    accepted=[
        _merge_pattern("b h n d -> b n (h d)"),
        lambda x: torch.cat([x[:, h] for h in range(x.shape[1])], dim=-1),
        lambda x: _merge_reshape(x, 1, 2),
    ],
)

# --- 3.6 pack_qkv: the order, the axis, and the bias that is not there


def _pack(w_q, w_k, w_v, b_q, b_v):
    return torch.cat([w_q, w_k, w_v]), torch.cat([b_q, torch.zeros_like(b_q), b_v])


def _pack_by_filling(w_q, w_k, w_v, b_q, b_v):
    width = len(b_q)
    weight, bias = w_q.new_empty(3 * width, width), b_q.new_zeros(3 * width)
    weight[:width], weight[width : 2 * width], weight[2 * width :] = w_q, w_k, w_v
    bias[:width], bias[2 * width :] = b_q, b_v
    return weight, bias


def _pack_by_stack(w_q, w_k, w_v, b_q, b_v):
    weight = rearrange(torch.stack([w_q, w_k, w_v]), "three out into -> (three out) into")
    return weight, torch.stack([b_q, 0 * b_q, b_v]).flatten()


def _pack_cases(answer) -> Cases:
    def given(width, seed, dtype=torch.float64):
        weights = [numbers(width, width, seed=seed + i, dtype=dtype) for i in range(3)]
        return *weights, numbers(width, seed=seed + 3, dtype=dtype), numbers(width, seed=seed + 4)

    def pair(result):
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Refused("your function should return a pair, first the weight and then the bias")
        weight, bias = result
        return {"weight": weight, "bias": bias}

    yield "D = 4", lambda: pair(call(answer, *given(4, 0)))
    yield "D = 5", lambda: pair(call(answer, *given(5, 10)))
    yield "D = 1", lambda: pair(call(answer, *given(1, 20)))


pack_qkv = Exercise(
    name="pack_qkv",
    chapter="03_attention",
    task="pack_qkv(w_q, w_k, w_v, b_q, b_v) -> weight (3D, D), bias (3D,), ordered q, k, v; the "
    "keys have a bias of zeros",
    reference=_pack,
    cases=_pack_cases,
    mutants={
        "keys_first": (
            lambda w_q, w_k, w_v, b_q, b_v: (
                torch.cat([w_k, w_q, w_v]),
                torch.cat([0 * b_q, b_q, b_v]),
            ),
            "The keys come first. The order is q, k, v; in another one the shape is right, nothing "
            "complains, and tokens ask with their keys.",
        ),
        "values_before_keys": (
            lambda w_q, w_k, w_v, b_q, b_v: (
                torch.cat([w_q, w_v, w_k]),
                torch.cat([b_q, b_v, 0 * b_q]),
            ),
            "Keys and values have changed places. The order is q, k, v.",
        ),
        "interleaved": (
            lambda w_q, w_k, w_v, b_q, b_v: (
                torch.stack([w_q, w_k, w_v], dim=1).flatten(0, 1),
                torch.stack([b_q, 0 * b_q, b_v], dim=1).flatten(),
            ),
            "The rows of q, k and v alternate. All of q comes first, then all of k, then all of v: "
            "stack along axis 0, or use torch.cat.",
        ),
        "side_by_side": (
            lambda w_q, w_k, w_v, b_q, b_v: (
                torch.cat([w_q, w_k, w_v], dim=1),
                torch.cat([b_q, 0 * b_q, b_v]),
            ),
            "The weights are joined along axis 1, to (D, 3D). That is right for matrices as in x @ "
            "W. nn.Linear keeps the transpose, one row for each output: join along axis 0.",
        ),
        "transposed": (
            lambda w_q, w_k, w_v, b_q, b_v: (
                torch.cat([w_q.T, w_k.T, w_v.T]),
                torch.cat([b_q, 0 * b_q, b_v]),
            ),
            "The matrices are transposed. They come as nn.Linear keeps them, one row for each "
            "output, and the packed weight is kept in the same way: join them as they are.",
        ),
        "bias_too_short": (
            lambda w_q, w_k, w_v, b_q, b_v: (torch.cat([w_q, w_k, w_v]), torch.cat([b_q, b_v])),
            "The bias has 2D numbers. The layer has 3D outputs, and those of the keys have a bias "
            "too, namely 0.",
        ),
        "zeros_at_the_end": (
            lambda w_q, w_k, w_v, b_q, b_v: (
                torch.cat([w_q, w_k, w_v]),
                torch.cat([b_q, b_v, 0 * b_q]),
            ),
            "The weights are in order and the bias is not: the bias of the values stands in the "
            "place of the keys. It is q, zeros, v.",
        ),
        "bias_of_the_queries_twice": (
            lambda w_q, w_k, w_v, b_q, b_v: (
                torch.cat([w_q, w_k, w_v]),
                torch.cat([b_q, b_q, b_v]),
            ),
            "The keys have got the bias of the queries. The softmax would not notice, since a key "
            "bias adds the same to every score of a query, but the layer would make other keys "
            "than before. Put zeros there.",
        ),
    },
    accepted=[_pack_by_filling, _pack_by_stack],
)

# --- 3.7 self_attention: the whole, from bare weights

ORDER = "b n (three h d) -> three b h n d"
MERGE = "b h n d -> b n (h d)"


def _whole(
    x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads,
    power=-0.5, factor=1.0, by_dim=False, axis=-1, order=ORDER, merge=MERGE, picked=(0, 1, 2),
):  # fmt: skip
    """Multi-head self-attention with a switch for each of its usual mistakes."""
    parts = rearrange(F.linear(x, qkv_weight, qkv_bias), order, three=3, h=num_heads)
    q, k, v = (parts[i] for i in picked)
    width = x.shape[-1] // (1 if by_dim else num_heads)
    scores = q @ k.transpose(-2, -1) * width**power * factor
    weights = scores if axis is None else scores.softmax(dim=axis)
    out = rearrange(weights @ v, merge) if merge else (weights @ v).reshape(x.shape)
    return F.linear(out, proj_weight, proj_bias)


def _whole_by_reshape(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads, back):
    """Heads that are split by a reshape alone, and merged so, too, or rightly."""
    batch, tokens, width = x.shape
    thirds = F.linear(x, qkv_weight, qkv_bias).chunk(3, dim=-1)
    out = _attend(*(t.reshape(batch, num_heads, tokens, width // num_heads) for t in thirds))
    return F.linear((out if back else out.transpose(1, 2)).reshape(x.shape), proj_weight, proj_bias)


def _whole_by_loop(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    width = x.shape[-1]
    d, heads = width // num_heads, []
    for h in range(num_heads):
        rows = [slice(part * width + h * d, part * width + (h + 1) * d) for part in range(3)]
        q, k, v = (x @ qkv_weight[r].T + (0 if qkv_bias is None else qkv_bias[r]) for r in rows)
        heads.append(_attend(q, k, v))
    return torch.cat(heads, dim=-1) @ proj_weight.T + proj_bias


def _whole_by_torch(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    tokens = x.transpose(0, 1)  # F.multi_head_attention_forward takes (N, B, D)
    out, _ = F.multi_head_attention_forward(
        tokens, tokens, tokens, x.shape[-1], num_heads, qkv_weight, qkv_bias, None, None, False,
        0.0, proj_weight, proj_bias,
    )  # fmt: skip
    return out.transpose(0, 1)


def _whole_by_module(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads):
    module = vitlib.Attention(x.shape[-1], num_heads, qkv_bias=qkv_bias is not None).to(x.dtype)
    state = {
        "qkv.weight": qkv_weight,
        "qkv.bias": qkv_bias,
        "proj.weight": proj_weight,
        "proj.bias": proj_bias,
    }
    module.load_state_dict({name: value for name, value in state.items() if value is not None})
    return module(x)


def _whole_cases(answer) -> Cases:
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


self_attention = Exercise(
    name="self_attention",
    chapter="03_attention",
    task="self_attention(x, qkv_weight, qkv_bias, proj_weight, proj_bias, num_heads) -> (B, N, D); "
    "the 3D outputs of qkv are ordered (3, H, d), and qkv_bias may be None",
    reference=_whole,
    cases=_whole_cases,
    mutants={
        "thrown_away": (
            lambda x, w, b, proj_weight, proj_bias, h: F.linear(x, proj_weight, proj_bias),
            "The attention has no effect: your output is the projection of the input x. Each token "
            "depends on itself alone. Give the projection the merged heads, not x.",
        ),
        "no_scale": (
            partial(_whole, power=0.0),
            "The scale is missing: multiply the scores by d ** -0.5, with d = D / H, before the "
            "softmax.",
        ),
        "times_sqrt_d": (
            partial(_whole, power=0.5),
            "The scores are multiplied by √d, and they should be divided by it: d ** -0.5. The "
            "softmax gives nearly everything to one key, and hardly any gradient gets through.",
        ),
        "scaled_by_dim": (
            partial(_whole, by_dim=True),
            "The scale is made from the whole width D. A score is a sum over one head, d = D / H "
            "products, so it is d ** -0.5. With D the maps come out too flat, by a factor √H in "
            "the scores.",
        ),
        "softmax_over_queries": (
            partial(_whole, axis=-2),
            "The softmax runs over the queries: the columns of the weights sum to 1, and the rows "
            "should. Use dim=-1.",
        ),
        "no_transpose_back": (
            partial(_whole, merge=None),
            "The heads are merged without moving them back behind the tokens, so that numbers of "
            "different tokens end up in one. From (B, H, N, d) to (B, N, H, d) first, then "
            "reshape.",
        ),
        "other_order": (
            partial(_whole, order="b n (h three d) -> three b h n d"),
            "The outputs of qkv are read as (H, 3, d). They are ordered (3, H, d): all of q, then "
            "all of k, then all of v. With random weights nobody would notice, with loaded ones "
            "nothing fits.",
        ),
        "keys_first": (
            partial(_whole, picked=(1, 0, 2)),
            "Queries and keys have changed places: the first third of qkv is q, the second k. The "
            "scores come out transposed, as if tokens asked with their keys.",
        ),
        "heads_not_in_front": (
            partial(_whole, order="b n (three h d) -> three b n h d", merge="b n h d -> b n (h d)"),
            "The heads still stand behind the tokens when q meets k: (B, N, H, d). So the heads of "
            "one token attend to each other, and no token to any other. Move H in front of N.",
        ),
        "values_before_keys": (
            partial(_whole, picked=(0, 2, 1)),
            "Keys and values have changed places: the second third of qkv is k, the last is v.",
        ),
        "no_qkv_bias": (
            lambda x, w, b, *rest: _whole(x, w, None, *rest),
            "The bias of qkv is left out. It is None in some models; where it is given, it must "
            "be added before q, k and v are split.",
        ),
        "no_softmax": (
            partial(_whole, axis=None),
            "The softmax is missing: the scores themselves are used as weights.",
        ),
        "divided_by_d": (
            partial(_whole, power=-1.0),
            "The scores are divided by d. It should be √d: d ** -0.5.",
        ),
        "root_of_the_number_of_heads": (
            lambda x, w, b, proj_weight, proj_bias, h: _whole(
                x, w, b, proj_weight, proj_bias, h, power=0.0, factor=h**-0.5
            ),
            "The number of heads stands under the root. (After the split it is axis 1 of q.) The "
            "scale is made from the width of one head, d = D / H: the last axis of q.",
        ),
        "every_hth_channel": (
            partial(_whole, order="b n (three d h) -> three b h n d"),
            "A head takes every Hth channel. Within q, k and v it should have d neighbours: the "
            "outputs are ordered (3, H, d).",
        ),
        "split_by_reshape_alone": (
            partial(_whole_by_reshape, back=False),
            "The heads are split by a reshape alone, to (B, H, N, d) at once. It reads token by "
            "token, so a “head” holds whole tokens. Split the width first, (B, N, H, d), then "
            "swap H and N.",
        ),
        "no_transpose_at_all": (
            partial(_whole_by_reshape, back=True),
            "The heads are split and merged by reshapes alone. What goes in comes out in order, "
            "but in between a “head” holds whole tokens, not a piece of each. Split the width "
            "first, (B, N, H, d), then swap H and N, and swap them back before the merge.",
        ),
        "merged_by_channel": (
            partial(_whole, merge="b h n d -> b n (d h)"),
            "The merge interleaves the heads, (d, H). Put each head's d numbers side by side, "
            "(H, d), or the output projection meets the wrong ones.",
        ),
        "no_projection": (
            lambda x, w, b, proj_weight, proj_bias, h: _whole(
                x, w, b, torch.eye(x.shape[-1], dtype=x.dtype), None, h
            ),
            "The output projection is missing: apply proj_weight and proj_bias to the merged "
            "heads.",
        ),
        "projection_transposed": (
            lambda x, w, b, proj_weight, proj_bias, h: _whole(x, w, b, proj_weight.T, proj_bias, h),
            "The output projection multiplies by proj_weight where it needs the transpose. "
            "nn.Linear keeps one row for each output: x @ weight.T, or F.linear.",
        ),
        "no_output_bias": (
            lambda x, w, b, proj_weight, proj_bias, h: _whole(x, w, b, proj_weight, None, h),
            "The bias of the output projection is missing.",
        ),
    },
    accepted=[_whole_by_loop, _whole_by_torch, _whole_by_module],
)

# --- 3.8 attention_module: what a class can do wrong, found by its behaviour


class _Attention(nn.Module):
    order = ORDER
    by_dim = False

    def __init__(self, dim, num_heads, attn_drop=0.0):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // (1 if self.by_dim else num_heads)) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = rearrange(self.qkv(x), self.order, three=3, h=self.num_heads)
        out = self.weigh(q @ k.transpose(-2, -1) * self.scale) @ v
        return self.project(self.merge(out), x)

    def merge(self, out):
        return rearrange(out, MERGE)

    def weigh(self, scores):
        return self.attn_drop(scores.softmax(dim=-1))

    def project(self, out, x):
        return self.proj(out)


class _ThrownAway(_Attention):
    def project(self, out, x):
        return x


class _NeverDropped(_Attention):
    def weigh(self, scores):
        return scores.softmax(dim=-1)


class _AlwaysDropped(_Attention):
    def weigh(self, scores):
        return F.dropout(scores.softmax(dim=-1), self.attn_drop.p)


class _NotEnlarged(_Attention):
    def weigh(self, scores):
        weights = scores.softmax(dim=-1)
        kept = torch.rand_like(weights) >= self.attn_drop.p
        return weights * kept if self.training else weights


class _DropsScores(_Attention):
    def weigh(self, scores):
        return self.attn_drop(scores).softmax(dim=-1)


class _DropsOutput(_NeverDropped):
    def project(self, out, x):
        return self.attn_drop(self.proj(out))


class _ByDim(_Attention):
    by_dim = True


class _NoScale(_Attention):
    def weigh(self, scores):
        return super().weigh(scores / self.scale)


class _TimesRoot(_Attention):
    def weigh(self, scores):
        return super().weigh(scores / self.scale**2)


class _OverQueries(_Attention):
    def weigh(self, scores):
        return self.attn_drop(scores.softmax(dim=-2))


class _OtherOrder(_Attention):
    order = "b n (h three d) -> three b h n d"


class _NoTransposeBack(_Attention):
    def merge(self, out):
        return _merge_reshape(out)


class _ProjectsInput(_Attention):
    def project(self, out, x):
        return self.proj(x)


class _NoProjection(_Attention):
    def project(self, out, x):
        return out


class _ByHead(nn.Module):
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


class _ByTorch(nn.Module):
    def __init__(self, dim, num_heads, attn_drop=0.0):
        super().__init__()
        self.torchs = nn.MultiheadAttention(dim, num_heads, dropout=attn_drop, batch_first=True)

    def forward(self, x):
        return self.torchs(x, x, x)[0]


def _module_cases(answer) -> Cases:
    def made(*dropout):  # none given: the default must be none
        return twin(answer, _Attention, 15, 3, *dropout)

    def listens():
        """Whether the output of the first token depends on the second."""
        module, x = made(), numbers(1, 4, 15)
        other = x.clone()
        other[:, 1] += 1
        before, after = call(module, x), call(module, other)
        if not isinstance(before, torch.Tensor):
            return before
        return not torch.allclose(before[:, 0], after[:, 0])

    def passes_equal(training):
        module, x = made(0.5).train(training), numbers(2, 7, 15)
        return torch.equal(call(module, x), call(module, x))

    def outputs_of_one_token():
        """A token alone has one weight a head, which is dropped or doubled: 2³ outputs.

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
    yield (
        "a test whether two passes in training are equal, with dropout 0.5",
        lambda: passes_equal(True),
    )
    yield (
        "a test whether two passes in evaluation are equal, with dropout 0.5",
        lambda: passes_equal(False),
    )
    yield (
        "one token alone, 400 times, with dropout 0.5",
        outputs_of_one_token,
    )


attention_module = Exercise(
    name="attention_module",
    chapter="03_attention",
    task="Attention(dim, num_heads, attn_drop=0.0), a module with the layers qkv and proj, both "
    "with a bias: (B, N, D) -> (B, N, D); dropout on the weights, in training only",
    reference=_Attention,
    cases=_module_cases,
    mutants={
        "thrown_away": (
            _ThrownAway,
            "The attention is computed and thrown away: what you return is the input x. No token "
            "hears of any other, and a class token never sees the image. Follow the result "
            "through the last lines of forward, up to the return.",
        ),
        "dropout_never_called": (
            _NeverDropped,
            "The dropout layer is built and never applied: two passes in training are equal. Call "
            "it in forward, on the weights, between the softmax and the product with v.",
        ),
        "dropout_in_evaluation": (
            _AlwaysDropped,
            "Weights are dropped in evaluation, too, so that the same image gives other answers "
            "each time. F.dropout is on unless it is told training=self.training; nn.Dropout knows "
            "by itself.",
        ),
        "dropout_before_the_softmax": (
            _DropsScores,
            "The dropout acts before the softmax, on the scores or on what they are made of. A "
            "score of 0 is not a weight of 0: the key is still looked at. Apply it to the weights, "
            "after the softmax.",
        ),
        "dropout_on_the_output": (
            _DropsOutput,
            "The dropout acts on single channels, of the output, the values or the input. "
            "attn_drop belongs on the weights, between the softmax and the product with v. (A "
            "dropout on the output is another layer, proj_drop.)",
        ),
        "not_enlarged": (
            _NotEnlarged,
            "Weights are dropped, and those that stay are not enlarged: in training the sums are "
            "smaller on average than in evaluation. Divide by 1 − p, or let nn.Dropout do both.",
        ),
        "no_scale": (
            _NoScale,
            "The scale is missing: multiply the scores by (dim // num_heads) ** -0.5, before the "
            "softmax.",
        ),
        "times_sqrt_d": (
            _TimesRoot,
            "The scores are multiplied by √d, and they should be divided by it: "
            "(dim // num_heads) ** -0.5.",
        ),
        "softmax_over_queries": (
            _OverQueries,
            "The softmax runs over the queries: the columns of the weights sum to 1, and the rows "
            "should. Use dim=-1.",
        ),
        "no_transpose_back": (
            _NoTransposeBack,
            "The heads are merged without moving them back behind the tokens. From (B, H, N, d) to "
            "(B, N, H, d) first, then reshape.",
        ),
        "projects_the_input": (
            _ProjectsInput,
            "The attention is computed and thrown away: proj is given the input x. Give it the "
            "merged heads.",
        ),
        "scaled_by_dim": (
            _ByDim,
            "The scale is made from the whole width: dim ** -0.5. A score is a sum over one head, "
            "so it is (dim // num_heads) ** -0.5. The maps come out too flat.",
        ),
        "other_order": (
            _OtherOrder,
            "The outputs of qkv are read as (H, 3, d). They are ordered (3, H, d): all of q, then "
            "all of k, then all of v. With random weights nobody would notice, with loaded ones "
            "nothing fits.",
        ),
        "no_projection": (
            _NoProjection,
            "The output projection is built and never applied, so that the heads are not mixed. "
            "Call proj on the merged heads.",
        ),
    },
    accepted=[
        _ByHead,
        _ByTorch,
        lambda dim, heads, attn_drop=0.0: vitlib.Attention(
            dim, heads, qkv_bias=True, attn_drop=attn_drop
        ),
    ],
)

EXERCISES = [
    softmax_rows,
    attend,
    attention_entropy,
    split_heads,
    merge_heads,
    pack_qkv,
    self_attention,
    attention_module,
]
