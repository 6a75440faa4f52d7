"""3.1 softmax_rows: large scores, and the axis."""

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def softmax_rows(scores):
    highest = scores.amax(dim=-1, keepdim=True)
    powers = (scores - highest).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def row_by_row(scores):
    rows = [torch.exp(row - torch.logsumexp(row, 0)) for row in scores.flatten(0, -2)]
    return torch.stack(rows).reshape(scores.shape)


def cases(answer) -> Cases:
    toy = torch.tensor([[3.0, 4.0, 2.0], [3.0, 2.0, 1.0], [2.0, 3.0, 1.0]], dtype=torch.float64)
    yield "nine scores", lambda: call(answer, toy)
    yield "3 queries and 5 keys, in 2 sets", lambda: call(answer, numbers(2, 3, 5))
    high = torch.tensor([[1000.0, 999.0], [998.0, 1000.0]], dtype=torch.float64)
    yield "scores of about 1,000", lambda: call(answer, high)
    apart = torch.tensor([[800.0, 802.0], [-800.0, -801.0]], dtype=torch.float64)
    yield "one row near 800 and one near −800", lambda: call(answer, apart)
    wide = torch.tensor([[1000.0, -1000.0, -999.0]], dtype=torch.float64)
    yield "1,000 and −1,000 in one row", lambda: call(answer, wide)
    yield "float32", lambda: call(answer, numbers(4, 3, dtype=torch.float32))


MUTANTS = edits(softmax_rows, """
overflows: - highest →
    The formula is right, and for large scores it fails: exp(1000) is infinite, and infinity divided
    by infinity is nan. Subtract the largest score of each row first; that changes nothing in the
    result.
wrong_axis: amax(dim=-1 → amax(dim=-2
and: sum(dim=-1 → sum(dim=-2
    The columns sum to 1, and the rows should. A row belongs to one query, and its weights say how
    much that query takes from each key: the softmax runs over the last axis.
one_maximum_for_all: amax(dim=-1, keepdim=True) → max()
    You subtract the largest score of the whole tensor. A row that lies far below it becomes all
    zeros, and 0/0 is nan. Each row needs its own maximum: amax(dim=-1, keepdim=True).
minus_the_mean: amax → mean
    You subtract the mean of each row. The result is right, until one score is so far above the mean
    that its exponential overflows. Subtract the maximum: then no power is above 1.
maximum_of_the_columns: amax(dim=-1 → amax(dim=-2
    You subtract the maximum of each column. That is another number for each key, so it changes the
    weights. Only what is the same for a whole row cancels.
shares_of_the_whole: sum(dim=-1, keepdim=True) → sum()
    All the weights together sum to 1, and each row should. The sum in the denominator needs dim=-1,
    keepdim=True.
no_exponential: (scores - highest).exp() → scores
    The scores are divided by their sum, without the exponential. Negative scores then give negative
    weights, and a sum near 0 gives huge ones.
not_divided: / powers.sum(dim=-1, keepdim=True) →
    The powers are right, and not yet shares: each row should sum to 1. Divide by the sum of the
    row.
clamped: scores - highest → scores.clamp(max=700)
    Large scores are cut off at a limit. No power is infinite then, but scores beyond the limit
    become equal, and so do their weights: 1000 and 999 should get 0.73 and 0.27. Only what is the
    same for a whole row may be taken away.
divided_by_the_maximum: scores - highest → scores / highest
    The scores are divided by the largest of their row. That changes their differences, and so the
    weights. Subtract it: a difference is all that the softmax sees.
above_only: powers.sum → scores.exp().sum
    The maximum is subtracted above the fraction line and not below. Take the sum of the same powers
    that you divide.
sum_of_the_columns: sum(dim=-1 → sum(dim=-2
    The sum runs down the columns. A row belongs to one query, and it is the row that should sum to
    1: the last axis.
""")  # fmt: skip


def probe(answer):
    odd = torch.tensor([[900.0, -900.0], [-900.0, -905.0], [0.0, 720.0]], dtype=torch.float64)
    single = draw(3, 5, dtype=torch.float32)
    return [returns(answer, x) for x in (draw(4, 3, 2), draw(2, 6), odd, single)]


EXERCISE = Exercise(
    name="softmax_rows",
    chapter="03_attention",
    task="softmax_rows(scores) -> the softmax over the last axis, same shape and dtype, without "
    "overflow",
    reference=softmax_rows,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        row_by_row,
        lambda scores: scores.softmax(dim=-1),
        lambda scores: scores.log_softmax(dim=-1).exp(),
    ],
    probe=probe,
)
