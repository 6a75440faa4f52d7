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


def by_sums(q, k, v):
    scores = (q[:, :, None] * k[:, None]).sum(-1) / q.shape[-1] ** 0.5  # (B, N, M)
    return (scores.softmax(-1)[..., None] * v[:, None]).sum(2)


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
    yield "scores of about 1,000", lambda: call(answer, 1000 * q, k, v)


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
divided_by_d_squared: -0.5 → -2
    The scores are divided by d². It should be √d: d ** -0.5.
root_of_the_number_of_images: q.shape[-1] → q.shape[0]
    The number of images stands under the root. (len(q) and q.shape[0] are the batch.) It is how
    many numbers a query has that makes scores large: q.shape[-1].
fixed_width: q.shape[-1] → 64
    The scale is always 64 ** -0.5 = 1/8. Take the width from the queries: q.shape[-1] ** -0.5.
softmax_over_images: dim=-1 → dim=0
    The softmax runs over axis 0, the images of the batch. (F.softmax without dim does so with three
    axes.) Each query shares out its attention over the keys: dim=-1.
softmax_over_everything: scores.softmax(dim=-1) →
→ scores.flatten(1).softmax(-1).reshape(scores.shape)
    All the weights of an image together sum to 1, and each query's row should: softmax(dim=-1).
overflows: scores.softmax(dim=-1) → scores.exp() / scores.exp().sum(-1, keepdim=True)
overflows_by_column: scores.softmax(dim=-1) → scores.exp() / scores.exp().sum(-2, keepdim=True)
    Your softmax overflows: for large scores exp(...) is infinite, and the result is nan. Subtract
    the largest score of each row first, as in exercise 3.1, or use softmax.
powers_not_divided: softmax(dim=-1) → exp()
    The exponentials are not divided by their sum. Each row of the weights should sum to 1.
softmax_twice: softmax(dim=-1) → softmax(dim=-1).softmax(dim=-1)
    The softmax is taken twice. The second flattens the weights: shares lie between 0 and 1.
log_softmax: scores.softmax → scores.log_softmax
    The logarithms of the weights multiply the values. Use softmax, not log_softmax.
sigmoid: softmax(dim=-1) → sigmoid()
    The sigmoid weighs each key by itself. The keys of a query share a sum of 1: use softmax.
relu: softmax(dim=-1) → relu()
    The scores become weights by a ReLU. The keys of a query share a sum of 1: use softmax.
only_the_best_key: scores.softmax(dim=-1) → (scores == scores.amax(-1, keepdim=True)).to(v)
    Each query takes the value of its best key alone. The softmax weighs all the values.
least_like_first: return scores → return (-scores)
    The sign of the scores is turned round: the key that fits least gets the most. Take softmax of
    the scores as they are.
by_distance: q @ k.transpose(-2, -1) → -torch.cdist(q, k)
    The scores are distances. A score is the dot product of a query and a key: q @ k.transpose(-2,
    -1).
lengths_taken_out: q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 →
→ F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
lengths_taken_out_and_scaled: q @ k.transpose(-2, -1) →
→ F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    Queries and keys are brought to length 1, and their cosines are the scores. Attention takes the
    dot product as it is, divided by √d.
keys_ask: q @ k.transpose → k @ q.transpose
    Queries and keys have changed places: the scores are (B, M, N). Each *query* has a row, with one
    score for each key: q @ k.transpose(-2, -1).
queries_as_keys: k.transpose → q.transpose
    The queries meet themselves: q @ qᵀ. Their partners are the keys: q @ k.transpose(-2, -1).
keys_as_queries: q @ → k @
    The keys meet themselves: k @ kᵀ. It is the queries that ask: q @ k.transpose(-2, -1).
values_as_keys: k.transpose → v.transpose
    The queries meet the values. Scores are made with the keys: q @ k.transpose(-2, -1).
keys_as_values: @ v → @ k
    The keys are averaged, (B, N, d). The weights belong to the values: weights @ v.
queries_as_values: @ v → @ q
    The queries are averaged. The weights belong to the values: weights @ v.
not_transposed: k.transpose(-2, -1) → k
    The keys are not transposed: q is (B, N, d), and k must be (B, d, M) in this product:
    k.transpose(-2, -1).
wrong_axes_swapped: transpose(-2, -1) → transpose(0, 1)
    The keys' axes 0 and 1 are swapped, the images and the keys. Swap the last two:
    k.transpose(-2, -1).
all_axes_turned: k.transpose(-2, -1) → k.T
    k.T turns round *all* the axes, the images too. Swap only the last two: k.transpose(-2, -1), or
    k.mT.
reshaped_keys: k.transpose(-2, -1) → k.reshape(len(k), k.shape[2], k.shape[1])
    The keys are brought to (B, d, M) by a reshape. The shape is right and the numbers are mixed,
    since a reshape does not swap axes. Use k.transpose(-2, -1).
weights_transposed: dim=-1) → dim=-1).transpose(-2, -1)
    The weights are transposed before the values are averaged. They are (B, N, M) already, as
    weights @ v needs them.
result_transposed: return scores.softmax(dim=-1) @ v →
→ return (scores.softmax(dim=-1) @ v).transpose(-2, -1)
    The result is transposed, (B, e, N). One row for each query comes back: (B, N, e).
weights_returned: @ v →
    The weights come back, (B, N, M). Multiply them by the values: weights @ v.
scores_returned: return scores.softmax(dim=-1) @ v → return scores
    The scores come back, (B, N, M). Take their softmax over the keys, and multiply by the values.
weights_too: @ v → @ v, scores.softmax(dim=-1)
    The weights come back beside the result. Only the result, (B, N, e), is asked for.
no_future: return scores → later = torch.ones_like(scores).triu(1).bool()
→ scores = scores.masked_fill(later, -torch.inf)
→ return scores
    A mask keeps each query from the keys behind its own place, as in a language model. Here each
    query may look at all the keys.
input_added: return scores → return q + scores
input_added_last: @ v → @ v + q
    The queries are added to the result. The residual belongs to the block, not to the attention;
    and q is (B, N, d), the result (B, N, e).
first_image_only: q @ k.transpose(-2, -1) → q[0] @ k[0].transpose(-2, -1)
and: @ v → @ v[0]
    Only the first image is computed. Matrix products take the batch along by themselves: leave out
    [0].
last_image_only: q @ k.transpose(-2, -1) → q[-1] @ k[-1].transpose(-2, -1)
and: @ v → @ v[-1]
    Only the last image comes back. A loop must collect the results of all images (torch.stack);
    without a loop, matrix products take the batch along by themselves.
images_behind_queries: return scores.softmax(dim=-1) @ v →
→ return (scores.softmax(dim=-1) @ v).transpose(0, 1)
    The images stand behind the queries, (N, B, e). They come first: (B, N, e). (torch.stack of the
    images needs dim=0.)
images_joined: return scores.softmax(dim=-1) @ v → return (scores.softmax(dim=-1) @ v).flatten(0, 1)
    The images are joined, (B·N, e). torch.cat puts them one after the other; torch.stack gives them
    an axis: (B, N, e).
mean_of_the_queries: return scores.softmax(dim=-1) @ v →
→ return (scores.softmax(dim=-1) @ v).mean(dim=1)
    The results of the queries are averaged. One row for each query comes back: (B, N, e).
changed_in_place: scores = q @ → q *= 1
→ q += 1
→ scores = q @
    You change the queries that you are given (*=, or an assignment), and the caller's numbers with
    them. Write q = q * scale, which makes a new tensor.
added_up_over_queries: scores.softmax(dim=-1) @ v → scores.softmax(-1).sum(-2)[..., None] * v
    You add up over the queries, and each *key* gets a row, (B, M, e). Add up over the keys:
    weights @ v.
mean_over_keys: @ v → @ v / v.shape[-2]
    The weighted values are averaged over the keys. The weights sum to 1 already: add up.
nothing_returned: return scores → scores
    The result is computed and not returned. The last line needs `return`.
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
    excluded=["torch.nn.functional.scaled_dot_product_attention"],
    accepted=[F.scaled_dot_product_attention, by_einsum, by_sums, by_loop],
    probe=probe,
)
