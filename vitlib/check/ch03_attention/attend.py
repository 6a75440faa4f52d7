"""3.2 attend: one head, with other keys than queries."""

import torch
import torch.nn.functional as F
from einops import einsum

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, gradient, returns


def attend(q, k, v):
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ v


def by_einsum(q, k, v):
    scores = einsum(q, k, "b n d, b m d -> b n m") / q.shape[-1] ** 0.5
    return einsum(scores.softmax(-1), v, "b n m, b m e -> b n e")


def by_loop(q, k, v):
    out = q.new_zeros(*q.shape[:-1], v.shape[-1])
    for b in range(q.shape[0]):
        for n in range(q.shape[1]):
            scores = torch.stack([q[b, n].dot(key) for key in k[b]]) / q.shape[-1] ** 0.5
            out[b, n] = (scores.softmax(0)[:, None] * v[b]).sum(0)
    return out


def cases(answer) -> Cases:
    q, k, v = numbers(2, 3, 4), numbers(2, 5, 4, seed=1), numbers(2, 5, 6, seed=2)
    yield "3 queries, 5 keys, d = 4, e = 6", lambda: call(answer, q, k, v)
    square = numbers(1, 4, 7, seed=3), numbers(1, 4, 7, seed=4), numbers(1, 4, 3, seed=5)
    yield "as many keys as queries, d = 7", lambda: call(answer, *square)
    yield (
        "a single key, which gets all the weight",
        lambda: call(answer, q, k[:, :1].clone(), v[:, :1].clone()),
    )


MUTANTS = edits(attend, """
times_sqrt_d: -0.5 → 0.5
    The scores are multiplied by √d, and they should be divided by it: d ** -0.5. So the softmax
    gives nearly everything to one key, and hardly any gradient gets through.
no_scale: * q.shape[-1] ** -0.5 →
    The scale is missing. A score is a sum of d products, and its variance is about d. Divide the
    scores by √d, or the softmax gives nearly all to one key as d grows.
divided_by_d: -0.5 → -1
    The scores are divided by d. It is the variance that grows like d, and the standard deviation
    like √d: divide by the root, or the weights come out too flat.
softmax_over_queries: dim=-1 → dim=-2
    The softmax runs over the queries, so the columns of the weights sum to 1. Each query shares out
    its attention over the keys: its row must sum to 1, dim=-1.
root_of_the_number_of_keys: q.shape[-1] → k.shape[-2]
    The number of keys stands under the root. It is how many numbers a query has that makes scores
    large, not how many keys it meets: q.shape[-1].
width_of_the_values: q.shape[-1] → v.shape[-1]
    The width of the values stands under the root. The scores are made from queries and keys, so it
    is theirs that counts: q.shape[-1].
scaled_after_the_softmax: * q.shape[-1] ** -0.5 →
and: softmax(dim=-1) → softmax(dim=-1) * q.shape[-1] ** -0.5
    The weights are scaled, not the scores: then the rows sum to 1/√d, and the softmax is as closed
    as without a scale. Divide before the softmax.
root_of_the_number_of_queries: q.shape[-1] → q.shape[-2]
    The number of queries stands under the root. It is how many numbers a query has that makes
    scores large: the last axis, q.shape[-1].
no_softmax: .softmax(dim=-1) →
    The softmax is missing: the scores themselves are used as weights, negative ones too. Each row
    of the weights should sum to 1.
""")  # fmt: skip


def probe(answer):
    given = [
        (draw(3, 2, 5), draw(3, 4, 5, seed=1), draw(3, 4, 7, seed=2)),
        (draw(1, 3, 3), draw(1, 3, 3, seed=1), draw(1, 3, 3, seed=2)),
    ]
    gradients = [gradient(answer, *given[0], of=i) for i in range(3)]
    return [returns(answer, *g) for g in given] + gradients


EXERCISE = Exercise(
    name="attend",
    chapter="03_attention",
    task="attend(q, k, v) -> (B, N, e), for q (B, N, d), k (B, M, d), v (B, M, e)",
    reference=attend,
    cases=cases,
    mutants=MUTANTS,
    accepted=[F.scaled_dot_product_attention, by_einsum, by_loop],
    probe=probe,
)
