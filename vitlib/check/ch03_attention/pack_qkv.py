"""3.6 pack_qkv: the order, the axis, and the bias that is not there."""

import torch
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers
from vitlib.check.probing import draw


def pack_qkv(w_q, w_k, w_v, b_q, b_v):
    b_k = torch.zeros_like(b_q)
    return torch.cat([w_q, w_k, w_v]), torch.cat([b_q, b_k, b_v])


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
side_by_side: w_v] → w_v], dim=1
    The weights are joined along axis 1, to (D, 3D). That is right for matrices as in x @ W.
    nn.Linear keeps the transpose, one row for each output: join along axis 0.
transposed: [w_q, w_k, w_v] → [w_q.T, w_k.T, w_v.T]
    The matrices are transposed. They come as nn.Linear keeps them, one row for each output, and the
    packed weight is kept in the same way: join them as they are.
bias_too_short: b_k, b_v → b_v
    The bias has 2D numbers. The layer has 3D outputs, and those of the keys have a bias too, namely
    0.
zeros_at_the_end: b_k, b_v → b_v, b_k
    The weights are in order and the bias is not: the bias of the values stands in the place of the
    keys. It is q, zeros, v.
bias_of_the_queries_twice: torch.zeros_like(b_q) → b_q
    The keys have got the bias of the queries. The softmax would not notice, since a key bias adds
    the same to every score of a query, but the layer would make other keys than before. Put zeros
    there.
""") | edits(by_stack, """
interleaved: w_v] → w_v], dim=1
and: b_v] → b_v], dim=1
    The rows of q, k and v alternate. All of q comes first, then all of k, then all of v: stack
    along axis 0, or use torch.cat.
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
