"""3.3 attention_entropy: a weight of 0."""

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw


def attention_entropy(weights):
    return -torch.xlogy(weights, weights).sum(dim=-1).mean(dim=-1)


def by_where(weights):
    logs = torch.where(weights > 0, weights, torch.ones_like(weights)).log()
    return (-weights * logs).flatten(2).sum(dim=-1) / weights.shape[-2]


def by_entr(weights):
    return torch.special.entr(weights).mean(dim=-1).mul(weights.shape[-1]).mean(dim=-1)


def cases(answer) -> Cases:
    # in float32, so that an answer that keeps away from log 0 by some 1e-9 is right as well
    even = torch.full((1, 2, 4, 4), 0.25)
    yield "equal weights on 4 keys: ln 4", lambda: call(answer, even)
    weights = (2 * numbers(2, 3, 5, 5, dtype=torch.float32)).softmax(dim=-1)
    yield "2 images, 3 heads, 5 tokens", lambda: call(answer, weights)
    sure = torch.eye(4).expand(2, 3, 4, 4).clone()
    sure[:, :, 0] = torch.tensor([0.5, 0.5, 0.0, 0.0])
    yield "weights of which many are 0", lambda: call(answer, sure)
    mixed = weights.clone()
    mixed[:, :, 1:3] = torch.eye(5)[:2]
    yield "zeros in some rows only", lambda: call(answer, mixed)


MUTANTS = edits(attention_entropy, """
nan_at_zero: torch.xlogy(weights, weights) → (weights * weights.log())
    Where a weight is 0 the result is nan: in floating point 0 · ln 0 is 0 · (−∞). Such a weight
    should contribute 0. Use torch.xlogy, or keep the logarithm away from 0.
wrong_sign: -torch → torch
    The minus sign is missing. ln w is negative for a weight below 1, and entropy is never negative.
nan_to_zero_too_late: torch.xlogy(weights, weights) → (weights * weights.log())
and: .mean → .nan_to_num().mean
    The nan is replaced after the sum, and one weight of 0 then costs the entropy of the whole row.
    Only that one term w ln w should be 0.
nan_to_zero_in_the_end: -torch.xlogy(weights, weights) → -(weights * weights.log())
and: .mean(dim=-1) → .mean(dim=-1).nan_to_num()
    The nan is replaced at the very end, and one weight of 0 then costs the entropy of the whole
    head. Only that one term w ln w should be 0.
rows_left_out: -torch.xlogy(weights, weights) → -(weights * weights.log())
and: .mean → .nanmean
    The rows that hold a 0 are nan, and are left out of the mean (nanmean). Only the one term w ln w
    should be 0; the row counts.
zeros_changed: return → weights[weights == 0] = 1
→ return
    You change the weights that you are given. Work on a copy: torch.where(weights > 0, weights, 1),
    or torch.xlogy.
no_mean: .mean(dim=-1) →
    This is the entropy of every query, (B, H, N). The mean over the queries is missing, or it runs
    along an axis of size 1 that keepdim=True has left.
no_mean_but_a_sum_over_queries: sum(dim=-1).mean(dim=-1) → sum(dim=-2)
    You add up over the queries, and a number for each *key* comes back, (B, H, N). Add up over the
    keys, dim=-1, and average over the queries.
sum_over_queries: mean → sum
    The entropies of the queries are added up. Average them, so that heads can be compared whatever
    the number of tokens is.
mean_over_keys: sum → mean
    There is a mean over both axes. The entropy is a sum over the keys (the last axis); only over
    the queries is it a mean.
mean_over_heads: mean(dim=-1) → mean(dim=1)
    The mean is over the heads, and a number for each query is left, (B, N). Average over the
    queries: dim=-1 after the sum.
mean_over_images: mean(dim=-1) → mean(dim=0)
    The mean is over the images, and (H, N) is left. Average over the queries: dim=-1 after the sum.
mean_over_images_too: mean(dim=-1) → mean(dim=(0, 2))
    The mean is over the images, too, and one number for each head is left. Each image keeps its
    own: (B, H).
mean_over_heads_too: mean(dim=-1) → mean(dim=(1, 2))
    The mean is over the heads, too, and one number for each image is left. Each head keeps its own:
    (B, H).
mean_over_all: mean(dim=-1) → mean()
    One number comes back, the mean over everything. Each image and each head keeps its own: (B, H).
sum_over_all: sum(dim=-1).mean(dim=-1) → sum()
    One number comes back, the sum over everything. Each image and each head has its own, (B, H):
    the sum over the keys, averaged over the queries.
axis_kept: mean(dim=-1) → mean(dim=-1, keepdim=True)
axis_kept_twice: sum(dim=-1).mean(dim=-1) → sum(dim=-1, keepdim=True).mean(dim=-2, keepdim=True)
    An axis of size 1 is left over from keepdim=True. The result is (B, H).
divided_by_images: sum(dim=-1).mean(dim=-1) → sum((-1, -2)) / len(weights)
    The sum is divided by the number of images. Divide by the number of queries, N.
divided_by_heads: sum(dim=-1).mean(dim=-1) → sum((-1, -2)) / weights.shape[1]
    The sum is divided by the number of heads. Divide by the number of queries, N.
divided_by_weights_above_0: sum(dim=-1).mean(dim=-1) →
→ sum((-1, -2)) / (weights > 0).sum((-1, -2))
    The sum is divided by the number of weights above 0. Divide by the number of queries, N.
first_query: mean(dim=-1) → select(-1, 0)
    You take the entropy of the first query alone. Average over all the queries.
last_query: mean(dim=-1) → select(-1, -1)
    You take the entropy of the last query alone. Average over all the queries.
extreme: mean(dim=-1) → amax(dim=-1)
extreme_smallest: mean(dim=-1) → amin(dim=-1)
    You take the extreme among the queries. Average over all of them.
median: mean(dim=-1) → median(dim=-1).values
    You take the median of the queries. Average over all of them.
shares_of_the_maximum: dim=-1).mean(dim=-1) →
→ dim=-1).mean(dim=-1) / torch.tensor(float(weights.shape[-1])).log()
    The entropy is divided by its largest possible value, ln N. It is the entropy itself that is
    asked for: equal weights on 4 keys have ln 4.
softmax_again: return → weights = weights.softmax(dim=-1)
→ return
    The softmax is taken again. (Categorical(logits=...) takes it, too.) The weights are
    probabilities already, and a second softmax flattens them.
no_weight: xlogy(weights, weights) → log(weights)
no_weight_but_a_clamp: xlogy(weights, weights) → log(weights.clamp(min=1e-12))
    The logarithms are added up without their weights. Each term is w ln w.
weight_squared: xlogy(weights, weights) → xlogy(weights**2, weights)
    The weight stands twice in each term, w² ln w. The term is w ln w.
logarithm_of_one_more: xlogy(weights, weights) → xlogy(weights, 1 + weights)
    This is ln(1 + w) (log1p), not ln w: it is not an entropy, and its sign is wrong. Use
    torch.xlogy, or keep the logarithm away from 0 by a tiny number.
number_too_large: xlogy(weights, weights) → xlogy(weights, weights + 1e-3)
number_too_large_1e_2: xlogy(weights, weights) → xlogy(weights, weights + 1e-2)
number_too_large_1e_4: xlogy(weights, weights) → xlogy(weights, weights + 1e-4)
number_too_large_as_a_clamp: torch.xlogy(weights, weights) → torch.xlogy(
→ weights.clamp(min=1e-2), weights.clamp(min=1e-2))
number_too_large_as_a_clamp_1e_3: torch.xlogy(weights, weights) → torch.xlogy(
→ weights.clamp(min=1e-3), weights.clamp(min=1e-3))
number_too_large_twice: torch.xlogy(weights, weights) → torch.xlogy(
→ weights + 1e-3, weights + 1e-3)
    What keeps the logarithm away from 0 is too large, and changes the result. 1e-12 is enough; with
    torch.xlogy you need none.
perplexity: return -torch.xlogy(weights, weights).sum(dim=-1) →
→ return (-torch.xlogy(weights, weights).sum(dim=-1)).exp()
perplexity_of_the_mean: return -torch → return 1 / torch.exp(torch
and: mean(dim=-1) → mean(dim=-1))
    This is exp(entropy), the perplexity: a number of keys. The entropy itself is asked for.
gini: -torch.xlogy(weights, weights).sum(dim=-1) → (1 - (weights**2).sum(dim=-1))
    This is 1 − Σ w², the Gini impurity. The entropy is −Σ w ln w.
heads_first: mean(dim=-1) → mean(dim=-1).T
    The axes of the result are swapped: (H, B). It is one row for each image, (B, H).
of_the_columns: return → weights = weights / weights.sum(dim=-2, keepdim=True)
→ return
    The columns are made to sum to 1 here, and their entropy is taken. A query's weights stand in a
    row, and sum to 1 already.
of_the_mean_row: .mean(dim=-1) →
and: return → weights = weights.mean(dim=-2)
→ return
    The rows are averaged before the entropy is taken. If each token looks at one other, and all at
    different ones, the mean row is flat although every row is sharp. First the entropy of each row,
    then the mean.
of_the_mean_column: .mean(dim=-1) →
and: return → weights = weights.mean(dim=-1)
→ return
    The weights are averaged over the keys first, and every row then has the same mean, 1/N. First
    the entropy of each row, then the mean.
mean_over_heads_first: return → weights = weights.mean(dim=1)
→ return
    The weights are averaged over the heads first, and one number for each image is left. Each head
    has an entropy of its own: (B, H).
zeros_dropped: .sum(dim=-1).mean(dim=-1) → [weights > 0].mean()
    weights[weights > 0] is one long row: images, heads and queries are lost, and one number comes
    back. Keep the axes: torch.where, or torch.xlogy.
as_a_list: mean(dim=-1) → mean(dim=-1).tolist()
    The numbers are right, and come back as a list. Return a tensor, (B, H).
nothing_returned: return →
    The result is computed and not returned. The last line needs `return`.
""") | edits(by_where, """
bits: .log() → .log2()
    This is the entropy in bits, with log2. Here it is the natural logarithm: equal weights on N
    keys have an entropy of ln N.
decimal: .log() → .log10()
    This is the entropy with log10. Here it is the natural logarithm: equal weights on N keys have
    an entropy of ln N.
""")  # fmt: skip


def probe(answer):
    def run(weights):
        return lambda: answer(weights.clone()).round(decimals=4)

    hard = F.one_hot(torch.arange(5) % 3, 5).float().expand(2, 1, 5, 5)
    soft = [draw(*shape, dtype=torch.float32).softmax(-1) for shape in [(3, 2, 4, 4), (1, 4, 6, 6)]]
    return [run(w) for w in (*soft, hard)]


EXERCISE = Exercise(
    name="attention_entropy",
    chapter="03_attention",
    task="attention_entropy(weights) -> (B, H): the entropy of each row of (B, H, N, N), averaged "
    "over the queries",
    reference=attention_entropy,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        by_where,
        by_entr,
        lambda w: -(w * w.clamp_min(1e-12).log()).sum(-1).mean(-1),
    ],
    probe=probe,
)
