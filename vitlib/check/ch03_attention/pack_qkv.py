"""3.6 pack_qkv: the order, the axis, and the bias that is not there."""

import torch
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers
from vitlib.check.probing import draw


def pack_qkv(w_q, w_k, w_v, b_q, b_v):
    b_k = torch.zeros_like(b_q)
    weight = torch.cat([w_q, w_k, w_v])
    bias = torch.cat([b_q, b_k, b_v])
    return weight, bias


def by_filling(w_q, w_k, w_v, b_q, b_v):
    D = len(b_q)
    weight, bias = w_q.new_empty(3 * D, D), b_q.new_zeros(3 * D)
    weight[:D], weight[D : 2 * D], weight[2 * D :] = w_q, w_k, w_v
    bias[:D], bias[2 * D :] = b_q, b_v
    return weight, bias


def by_stack(w_q, w_k, w_v, b_q, b_v):
    weight = rearrange(torch.stack([w_q, w_k, w_v]), "three out into -> (three out) into")
    return weight, torch.stack([b_q, 0 * b_q, b_v]).flatten()


def cases(answer) -> Cases:
    def given(width, seed, dtype=torch.float64):
        weights = [numbers(width, width, seed=seed + i, dtype=dtype) for i in range(3)]
        return *weights, numbers(width, seed=seed + 3, dtype=dtype), numbers(width, seed=seed + 4)

    def pair(result):
        if result is None:
            raise Refused("None came back (is a `return` missing?) instead of a pair", "nothing")
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Refused("your function should return a pair, first the weight and then the bias")
        weight, bias = result
        return {"weight": weight, "bias": bias}

    yield "D = 4", lambda: pair(call(answer, *given(4, 0)))
    yield "D = 5", lambda: pair(call(answer, *given(5, 10)))
    yield "D = 1", lambda: pair(call(answer, *given(1, 20)))


MUTANTS = edits(pack_qkv, """
keys_first: [w_q, w_k → [w_k, w_q
and: [b_q, b_k → [b_k, b_q
    The keys come first. The order is q, k, v; in another one the shape is right, nothing complains,
    and tokens ask with their keys.
values_before_keys: w_k, w_v] → w_v, w_k]
and: b_k, b_v → b_v, b_k
    Keys and values have changed places. The order is q, k, v.
backwards: w_q, w_k, w_v] → w_v, w_k, w_q]
and: b_q, b_k, b_v → b_v, b_k, b_q
    Queries and values have changed places: the order is v, k, q. It should be q, k, v.
other_order: w_q, w_k, w_v] → w_k, w_v, w_q]
and: b_q, b_k, b_v → b_k, b_v, b_q
other_order_values_first: w_q, w_k, w_v] → w_v, w_q, w_k]
and: b_q, b_k, b_v → b_v, b_q, b_k
    The parts stand in another order. It is q, k, v, in the weight and in the bias.
weight_in_another_order: w_q, w_k, w_v] → w_k, w_q, w_v]
weight_in_another_order_qvk: w_q, w_k, w_v] → w_q, w_v, w_k]
weight_in_another_order_vkq: w_q, w_k, w_v] → w_v, w_k, w_q]
weight_in_another_order_kvq: w_q, w_k, w_v] → w_k, w_v, w_q]
weight_in_another_order_vqk: w_q, w_k, w_v] → w_v, w_q, w_k]
    The bias is in order and the weight is not. The order is q, k, v in both.
zeros_first: b_q, b_k, b_v → b_k, b_q, b_v
    The weights are in order and the bias is not: the zeros come first. It is q, zeros, v.
zeros_at_the_end: b_k, b_v → b_v, b_k
    The weights are in order and the bias is not: the bias of the values stands in the place of the
    keys. It is q, zeros, v.
biases_swapped: b_q, b_k, b_v → b_v, b_k, b_q
    The biases of queries and values have changed places. It is q, zeros, v.
biases_in_another_order: b_q, b_k, b_v → b_k, b_v, b_q
biases_in_another_order_vq0: b_q, b_k, b_v → b_v, b_q, b_k
    The weights are in order and the bias is not. It is q, zeros, v.
side_by_side: w_v] → w_v], dim=1
    The weights are joined along axis 1, to (D, 3D). That is right for matrices as in x @ W.
    nn.Linear keeps the transpose, one row for each output: join along axis 0.
transposed: [w_q, w_k, w_v] → [w_q.T, w_k.T, w_v.T]
    The matrices are transposed. They come as nn.Linear keeps them, one row for each output, and the
    packed weight is kept in the same way: join them as they are.
whole_transposed: w_k, w_v]) → w_k, w_v]).T
    The packed weight is transposed, (D, 3D). nn.Linear keeps one row for each output: (3D, D).
stacked: weight = torch.cat → weight = torch.stack
    The matrices lie on each other, (3, D, D): torch.stack makes a new axis. Join them along axis 0,
    to (3D, D), with torch.cat.
biases_stacked: bias = torch.cat → bias = torch.stack
    The biases lie on each other, (3, D): torch.stack makes a new axis. Join them to one row of 3D
    numbers, with torch.cat.
biases_in_a_column: b_v]) → b_v])[:, None]
    The bias is a column, (3D, 1). It has one axis, (3D,), as in nn.Linear.
biases_in_a_row: b_v]) → b_v])[None]
    The bias is a row of a matrix, (1, 3D). It has one axis, (3D,), as in nn.Linear.
weight_flat: w_v]) → w_v]).flatten()
    The weight has lost an axis. It is a matrix, (3D, D): leave out the last flatten or reshape.
bias_too_short: b_k, b_v → b_v
    The bias has 2D numbers. The layer has 3D outputs, and those of the keys have a bias too, namely
    0.
one_zero_only: zeros_like(b_q) → zeros(1, dtype=b_q.dtype)
    The keys have got a single 0. They have D outputs, and each one needs its 0:
    torch.zeros_like(b_q).
zeros_as_a_matrix: zeros_like(b_q) → zeros_like(w_k)
    The zeros for the keys are a matrix. A bias has one axis: torch.zeros_like(b_q), D zeros.
fixed_number_of_zeros: zeros_like(b_q) → zeros(192, dtype=b_q.dtype)
fixed_number_of_zeros_768: zeros_like(b_q) → zeros(768, dtype=b_q.dtype)
    The number of zeros is fixed. The keys have D outputs: torch.zeros_like(b_q).
bias_of_the_queries_twice: torch.zeros_like(b_q) → b_q
    The keys have got the bias of the queries. The softmax would not notice, since a key bias adds
    the same to every score of a query, but the layer would make other keys than before. Put zeros
    there.
bias_of_the_values_twice: torch.zeros_like(b_q) → b_v
    The keys have got the bias of the values. The softmax would not notice, since a key bias adds
    the same to every score of a query, but the layer would make other keys than before. Put zeros
    there.
mean_of_the_biases: torch.zeros_like(b_q) → (b_q + b_v) / 2
    The keys have got the mean of the other biases. They have none: put zeros there.
queries_bias_for_values: b_k, b_v] → b_k, b_q]
    The values have got the bias of the queries. It is b_q, zeros, b_v.
values_bias_for_queries: [b_q, b_k → [b_v, b_k
    The queries have got the bias of the values. It is b_q, zeros, b_v.
ones: zeros_like → ones_like
    The keys have got a bias of ones. No bias is a bias of 0: torch.zeros_like(b_q).
random_bias: zeros_like → randn_like
random_bias_uniform: zeros_like → rand_like
    The keys have got random numbers for a bias. No bias is a bias of 0: torch.zeros_like(b_q).
no_bias_at_all: return weight, bias → return weight, 0 * bias
    All of the bias is 0. Only the keys have none: it is b_q, zeros, b_v.
none_for_the_bias: return weight, bias → return weight, None
    There is no bias. Queries and values have one: it is b_q, zeros, b_v.
weight_alone: return weight, bias → return weight
    What comes back is not a pair. Return two things, first the weight and then the bias: return
    weight, bias.
bias_first: return weight, bias → return bias, weight
    The bias comes first. It is the weight first, then the bias.
nothing_returned: return weight → weight
    The result is computed and not returned. The last line needs `return`.
scaled: cat([w_q → cat([w_q * len(b_q) ** -0.5
scaled_with_its_bias: cat([w_q → cat([w_q * len(b_q) ** -0.5
and: cat([b_q → cat([b_q * len(b_q) ** -0.5
    The queries are scaled. The scale is no part of qkv: it comes with the scores. Pack the weights
    as they are.
queries_three_times: w_q, w_k, w_v] → w_q, w_q, w_q]
    All three parts of the weight are w_q. Give each its own: w_q, w_k, w_v.
queries_for_keys: w_q, w_k, w_v] → w_q, w_q, w_v]
    The keys have got the weights of the queries. Each part has its own: w_q, w_k, w_v.
keys_for_values: w_q, w_k, w_v] → w_q, w_k, w_k]
    The values have got the weights of the keys. Each part has its own: w_q, w_k, w_v.
values_for_keys: w_q, w_k, w_v] → w_q, w_v, w_v]
    The keys have got the weights of the values. Each part has its own: w_q, w_k, w_v.
no_weight_for_keys: [w_q, w_k, w_v] → [w_q, torch.zeros_like(w_k), w_v]
    The keys have lost their *weights*, which are 0 here. It is only the bias that they do not have.
weights_added: torch.cat([w_q, w_k, w_v]) → w_q + w_k + w_v
    The matrices are added up. Each has its own outputs: join them along axis 0, to (3D, D).
""") | edits(by_stack, """
interleaved: w_v] → w_v], dim=1
and: b_v] → b_v], dim=1
    The rows of q, k and v alternate. All of q comes first, then all of k, then all of v: stack
    along axis 0, or use torch.cat.
weight_interleaved: w_v] → w_v], dim=1
    The rows of q, k and v alternate in the weight. All of q comes first, then all of k, then all of
    v: stack along axis 0, or use torch.cat.
bias_interleaved: b_v] → b_v], dim=1
    The numbers of q, k and v alternate in the bias. All of q comes first, then all of k, then all
    of v: stack along axis 0, or use torch.cat.
""")  # fmt: skip


def probe(answer):
    def given(d):
        return [draw(d, d, seed=i) for i in range(3)] + [draw(d, seed=i) for i in (3, 4)]

    return [lambda d=d: list(answer(*given(d))) for d in (3, 6, 1)]


EXERCISE = Exercise(
    name="pack_qkv",
    chapter="03_attention",
    task="pack_qkv(w_q, w_k, w_v, b_q, b_v) -> weight (3D, D), bias (3D,), ordered q, k, v; the "
    "keys have a bias of zeros",
    reference=pack_qkv,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_filling, by_stack],
    probe=probe,
)
