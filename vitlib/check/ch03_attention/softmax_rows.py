"""3.1 softmax_rows: large scores, and the axis."""

from itertools import product

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


def in_loops(scores):
    result = torch.empty_like(scores)
    for where in product(*map(range, scores.shape[:-1])):
        powers = torch.exp(scores[where] - max(scores[where]))
        result[where] = powers / sum(powers)
    return result


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
    uneven = torch.tensor([[700.0, 600.0, -100.0]], dtype=torch.float64)  # no mean is far away
    yield "700, 600 and −100 in one row", lambda: call(answer, uneven)
    low = torch.tensor([[-900.0, -901.0]], dtype=torch.float64)
    yield "one row near −900", lambda: call(answer, low)
    yield "float32", lambda: call(answer, numbers(4, 3, dtype=torch.float32))


MUTANTS = edits(softmax_rows, """
overflows: - highest →
overflows_all_the_more: - highest → + highest
    The powers overflow: for large scores exp(...) is infinite, and infinity divided by infinity is
    nan. Subtract the largest score of each row first; that changes nothing in the result.
nan_made_zero: - highest →
and: powers / powers.sum(dim=-1, keepdim=True) →
→ (powers / powers.sum(dim=-1, keepdim=True)).nan_to_num()
    For large scores exp(...) is infinite, and the nan that comes of it is replaced. So a key that
    should get nearly everything gets 0. Subtract the largest score of each row: then there is no
    nan.
infinite_sum: powers / powers.sum(dim=-1, keepdim=True) →
→ (scores - scores.exp().sum(dim=-1, keepdim=True).log()).exp()
    The logarithm comes too late: the sum of the exponentials is infinite (or 0) before. Subtract
    the largest score of each row first, as logsumexp does.
wrong_axis: amax(dim=-1 → amax(dim=-2
and: sum(dim=-1 → sum(dim=-2
    The columns sum to 1, and the rows should. A row belongs to one query, and its weights say how
    much that query takes from each key: the softmax runs over the last axis.
axis_0: amax(dim=-1 → amax(dim=0
and: sum(dim=-1 → sum(dim=0
axis_0_in_the_sum: sum(dim=-1 → sum(dim=0
    Your sum runs along axis 0. That is the batch, or the queries if there is no batch. The keys are
    the last axis, however many stand before it: dim=-1.
axis_1: amax(dim=-1 → amax(dim=1
and: sum(dim=-1 → sum(dim=1
axis_1_in_the_sum: sum(dim=-1 → sum(dim=1
    Your sum runs along axis 1. The keys are the last axis, and that is axis 1 only if the scores
    have two. Use dim=-1.
maximum_of_the_columns: amax(dim=-1 → amax(dim=-2
maximum_of_the_columns_axis_0: amax(dim=-1 → amax(dim=0
maximum_of_the_columns_axis_1: amax(dim=-1 → amax(dim=1
    You take the maximum along another axis than the sum, and subtract another number from each key,
    which changes the weights. Only what is the same for a whole row cancels: dim=-1 in both.
one_maximum_for_all: amax(dim=-1, keepdim=True) → max()
    You subtract the largest score of the whole tensor. A row that lies far below it becomes all
    zeros, and 0/0 is nan. Each row needs its own maximum: amax(dim=-1, keepdim=True).
minus_the_mean: amax → mean
    You subtract the mean of each row. The result is right, until one score is so far above the mean
    that its exponential overflows. Subtract the maximum: then no power is above 1.
minus_the_minimum: amax → amin
    You subtract the smallest score of each row. The result is right, until one score is so far
    above it that its exponential overflows. Subtract the largest: then no power is above 1.
largest_without_its_sign: scores.amax → scores.abs().amax
    You subtract the largest *absolute* value. A row of very negative scores is pushed further down,
    all its powers become 0, and 0/0 is nan. Take the maximum without abs.
maximum_without_keepdim: amax(dim=-1, keepdim=True) → amax(dim=-1)
    The maxima have lost an axis: from (N, M) to (N,), and broadcasting lays them along the keys.
    Where N = M this even runs, with wrong numbers. Use keepdim=True.
sum_without_keepdim: sum(dim=-1, keepdim=True) → sum(dim=-1)
    The sums have lost an axis: from (N, M) to (N,), and broadcasting lays them along the keys.
    Where N = M this even runs, with wrong numbers. Use keepdim=True.
max_is_a_pair: amax → max
    Tensor.max with a dim returns a pair, the values and their places. Take .values, or use
    amax.
shares_of_the_whole: sum(dim=-1, keepdim=True) → sum()
shares_of_the_whole_set: sum(dim=-1, → sum(dim=(-2, -1),
    All the weights together sum to 1, and each row should. The sum in the denominator needs dim=-1,
    keepdim=True.
first_axis_taken_for_rows: amax(dim=-1, keepdim=True) →
→ flatten(1).amax(1).reshape(-1, *[1] * (scores.ndim - 1))
and: sum(dim=-1, keepdim=True) → flatten(1).sum(1).reshape(-1, *[1] * (scores.ndim - 1))
    Each index of axis 0 is taken for a row (as by `for row in scores`). With sets of rows that is a
    whole matrix, and all of it sums to 1. The rows are the last axis, however many stand before it.
standardised: (scores - highest) →
→ ((scores - scores.mean(-1, keepdim=True)) / scores.std(-1, keepdim=True))
    The scores are divided by their standard deviation. That changes their differences, and so the
    weights. Subtract the largest score of the row, and no more.
squeezed: (scores - highest) → ((scores - highest) / (highest - scores.amin(-1, keepdim=True)))
    The scores are squeezed between 0 and 1. That changes their differences, and so the weights.
    Subtract the largest score of the row, and no more.
fixed_number_subtracted: - highest → - 1000
fixed_number_subtracted_700: - highest → - 700
    A fixed number is subtracted. Scores far below it have powers that are all 0, and 0/0 is nan;
    scores far above it overflow. Subtract the largest score of each row.
no_exponential: (scores - highest).exp() → scores
no_exponential_after_all: .exp() →
    The numbers are divided by their sum, without the exponential. Negative ones then give negative
    weights, and a sum near 0 gives huge ones.
not_divided: / powers.sum(dim=-1, keepdim=True) →
    The powers are right, and not yet shares: each row should sum to 1. Divide by the sum of the
    row.
divided_by_the_mean: powers.sum → powers.mean
    The powers are divided by their mean, so that each row sums to M. Divide by their sum.
divided_by_the_length: powers.sum → powers.norm
    The powers are divided by the root of the sum of their squares. It is the plain sum of a row
    that should be 1.
clamped: scores - highest → scores.clamp(max=700)
clamped_early: scores - highest → scores.clamp(max=80)
clamped_on_both_sides: scores - highest → scores.clamp(-700, 700)
clamped_early_on_both_sides: scores - highest → scores.clamp(-80, 80)
    Large scores are cut off at a limit. No power is infinite then, but scores beyond the limit
    become equal, and so do their weights: 1000 and 999 should get 0.73 and 0.27. Only what is the
    same for a whole row may be taken away.
divided_by_the_maximum: scores - highest → scores / highest
divided_by_the_maximum_of_all: (scores - highest) → (scores / scores.max())
    The scores are divided by the largest. That changes their differences, and so the weights.
    Subtract it: a difference is all that the softmax sees.
divided_by_a_number: scores - highest → scores / 1000
divided_by_a_number_100: scores - highest → scores / 100
    The scores are made smaller by a fixed divisor. That changes their differences, and so the
    weights. Subtract the largest score of the row: a difference is all that the softmax sees.
scaled: scores - highest → (scores - highest) / scores.shape[-1] ** 0.5
    The scores are divided by √M. These scores are to be taken as they are. (In attention √d is
    divided by, before the softmax, and d is the width of a head.)
above_only: powers.sum → scores.exp().sum
    The maximum is subtracted above the fraction line and not below. Take the sum of the same powers
    that you divide.
below_only: return powers → return scores.exp()
    The maximum is subtracted below the fraction line and not above. Divide the same powers that you
    have added up.
sum_of_the_columns: sum(dim=-1 → sum(dim=-2
    The sum runs down the columns. A row belongs to one query, and it is the row that should sum to
    1: the last axis.
sum_of_the_scores: powers.sum → scores.sum
    The powers are divided by the sum of the *scores*. Divide by the sum of the powers.
smallest_first: scores - highest → highest - scores
smallest_first_overflowing: scores - highest → -scores
smallest_first_without_overflow: amax → amin
and: scores - highest → highest - scores
    The sign of the scores is turned round: the smallest score gets the largest weight. The exponent
    is score minus maximum.
powers_of_two: (scores - highest).exp() → 2 ** (scores - highest)
    These are powers of 2. The softmax takes powers of e: torch.exp.
logarithms: return powers → return scores - highest - powers
and: / powers.sum(dim=-1, keepdim=True) → .sum(dim=-1, keepdim=True).log()
logarithms_of_the_shares: return powers → return 0 + (powers
and: sum(dim=-1, keepdim=True) → sum(dim=-1, keepdim=True)).log()
    These are the logarithms of the weights, the log-softmax. Take exp of them, or leave out the
    log.
sigmoids: (scores - highest).exp() → scores.sigmoid()
    The sigmoid stands where the exponential belongs. It levels off, so that large scores become
    alike.
sigmoids_only: return powers / powers.sum(dim=-1, keepdim=True) → return scores.sigmoid()
    This is the sigmoid of each score by itself. In a softmax the keys of a row share a sum of 1.
only_the_largest: return powers / powers.sum(dim=-1, keepdim=True) → return powers.floor()
    The largest score of a row gets everything, and all others 0. A softmax gives each key its share
    exp(score) / sum.
taken_twice: return powers → powers = (powers / powers.sum(dim=-1, keepdim=True)).exp()
→ return powers
    The softmax is taken twice. The second flattens the weights: shares lie between 0 and 1.
tiny_number: powers.sum(dim=-1, keepdim=True) →
→ (powers.sum(dim=-1, keepdim=True) + 1e-6)
tiny_number_1e_5: powers.sum(dim=-1, keepdim=True) →
→ (powers.sum(dim=-1, keepdim=True) + 1e-5)
tiny_number_1e_3: powers.sum(dim=-1, keepdim=True) →
→ (powers.sum(dim=-1, keepdim=True) + 1e-3)
    A small number is added to the sum, and the rows sum to a little less than 1. It is not needed:
    with the maximum subtracted, the sum is at least 1.
changed_in_place: powers = (scores - highest).exp() → scores -= highest
→ powers = scores.exp()
    You change the scores that you are given (-=, exp_() or an assignment), and the caller's numbers
    with them. Write scores = scores - highest, which makes a new tensor.
other_precision: scores.amax → scores.double().amax
other_precision_float32: return powers → powers = powers.float()
→ return powers
    The weights come back in another precision than the scores. Keep the dtype that is given.
nothing_returned: return powers → powers
    The result is computed and not returned. The last line needs `return`.
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
    excluded=["torch.softmax", "torch.log_softmax", "torch.logsumexp"],
    accepted=[
        row_by_row,
        in_loops,
        lambda scores: scores.softmax(dim=-1),
        lambda scores: scores.log_softmax(dim=-1).exp(),
    ],
    probe=probe,
)
