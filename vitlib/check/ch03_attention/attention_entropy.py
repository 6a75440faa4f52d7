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
no_mean: .mean(dim=-1) →
    This is the entropy of every query, (B, H, N). The mean over the queries is missing.
sum_over_queries: mean → sum
    The entropies of the queries are added up. Average them, so that heads can be compared whatever
    the number of tokens is.
mean_over_keys: sum → mean
    There is a mean over both axes. The entropy is a sum over the keys (the last axis); only over
    the queries is it a mean.
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
""") | edits(by_where, """
bits: .log() → .log2()
    This is the entropy in bits, with log2. Here it is the natural logarithm: equal weights on N
    keys have an entropy of ln N.
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
