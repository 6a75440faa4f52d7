"""4.4 drop_path_rates: from 0 to the rate."""

import numpy
import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call


def drop_path_rates(rate, depth):
    if depth == 1:
        return [0.0]
    return [rate * i / (depth - 1) for i in range(depth)]


def by_max(rate, depth):
    return [rate * i / max(1, depth - 1) for i in range(depth)]


def cases(answer) -> Cases:
    def run(rate, depth):
        result = call(answer, rate, depth)
        return [float(r) for r in result] if isinstance(result, list | tuple) else result

    yield "rate 0.3, 4 blocks", lambda: run(0.3, 4)
    yield "rate 0.1, 12 blocks", lambda: run(0.1, 12)
    yield "rate 0, 3 blocks", lambda: run(0.0, 3)
    yield "two blocks", lambda: run(0.2, 2)
    yield "one block only", lambda: run(0.2, 1)


MUTANTS = edits(by_max, """
never_reaches_the_rate: max(1, depth - 1) → depth
    The last block does not reach the rate: you divide by depth. Between `depth` blocks there are
    depth − 1 steps.
last_one_set_by_hand: [rate * i / max(1, depth - 1) for i in range(depth)] →
→ [*[rate * i / depth for i in range(depth - 1)], rate]
    The steps are rate / depth, and the last rate is set by hand, so that the last step is larger
    than the others; and a single block gets the whole rate. Between `depth` blocks there are depth
    − 1 equal steps.
starts_above_zero: i / max(1, depth - 1) → (i + 1) / depth
    The first block is dropped already. That is the rule of the first paper, l/L for l = 1 … L; ViT
    code starts at 0 and makes depth − 1 steps.
backwards: range(depth) → reversed(range(depth))
    The rates fall with depth. The first blocks should be dropped least: everything after them
    builds on what they find.
the_same_everywhere: rate * i / max(1, depth - 1) → rate
    Every block has the same rate. It should grow from 0 in the first block to the rate in the last.
rate_forgotten: rate * i → i
    The last block has 1, whatever the rate is: it would always be dropped. Multiply by rate.
chance_to_be_kept: rate * i → 1 - rate * i
    These are the probabilities to be *kept*. The rate is the probability to be dropped.
no_steps_for_one_block: max(1, depth - 1) → (depth - 1)
    It divides by depth − 1, which is 0 for a single block. Treat that case, or use torch.linspace.
steps_rounded_down_even_for_one: rate * i / max(1, depth - 1) → rate * (i // (depth - 1))
    Two things. // divides and drops what is behind the point, so that all blocks but the last get
    0: use /. And for a single block it divides by 0.
whole_division_even_for_one: rate * i / max(1, depth - 1) → rate * i // (depth - 1)
    Two things. // divides and drops what is behind the point: use /. And for a single block it
    divides by 0.
""") | edits(drop_path_rates, """
steps_rounded_down: rate * i / (depth - 1) → rate * (i // (depth - 1))
    i // (depth − 1) drops what is behind the point: it is 0 for all blocks but the last. Use /.
added_up: return [rate * i / (depth - 1) for i in range(depth)]
→ rates, now = [], 0.0
→ while now <= rate and len(rates) < 99:
→     rates.append(now)
→     now += rate / (depth - 1)
→ return rates
added_up_below: return [rate * i / (depth - 1) for i in range(depth)]
→ rates, now = [], 0.0
→ while now < rate:
→     rates.append(now)
→     now += rate / (depth - 1)
→ return rates
    The steps are added up until the sum reaches the rate. Sums of floats are a little off, 0.1 +
    0.1 + 0.1 is more than 0.3, so that the last rate is missing, and where the rate is 0 such a
    loop ends at once or never. Let i count the blocks: rate * i / (depth − 1).
in_steps_of_arange: return [rate * i / (depth - 1) for i in range(depth)]
→ return numpy.arange(0, rate, rate / (depth - 1)).tolist()
in_steps_of_arange_by_torch: return [rate * i / (depth - 1) for i in range(depth)]
→ return torch.arange(0, rate, rate / (depth - 1)).tolist()
    arange stops before its end, so that the last rate is missing, and where the rate is 0 it has no
    step. Let i count the blocks: rate * i / (depth − 1).
in_steps_to_the_end: return [rate * i / (depth - 1) for i in range(depth)]
→ return numpy.arange(0, rate + 1e-9, rate / (depth - 1)).tolist()
    Where the rate is 0, the step is 0 as well, and arange cannot go on. Let i count the blocks:
    rate * i / (depth − 1).
begins_at_one: range(depth) → range(1, depth)
    There is one rate too few: range(1, depth) leaves out block 0, whose rate is 0.
begins_at_one_over_depth: (depth - 1) for i in → depth for i in
and: range(depth) → range(1, depth)
    There is one rate too few, and none is the full rate: i runs from 0 to depth − 1, and is divided
    by depth − 1.
one_too_many: range(depth) → range(depth + 1)
    There is one rate too many: blocks are counted from 0 to depth − 1, which is range(depth).
begins_and_ends_one_later: range(depth) → range(1, depth + 1)
    The rates are those of the next block: the first is not 0, and the last is more than rate. Count
    from 0: range(depth).
over_one_more: depth == 1 → depth == 0
and: i / (depth - 1) → (i + 1) / (depth + 1)
over_one_more_but_for_one: i / (depth - 1) → (i + 1) / (depth + 1)
    You divide by depth + 1 steps, with one before the first block and one after the last. The first
    block gets 0 and the last rate: depth − 1 steps.
whole_division: rate * i / (depth - 1) → rate * i // (depth - 1)
    // divides and drops what is behind the point. Use /.
rounded: rate * i / (depth - 1) → round(rate * i / (depth - 1), 2)
rounded_to_one: rate * i / (depth - 1) → round(rate * i / (depth - 1), 1)
    The rates are rounded. Return them as they are.
one_step_for_all: rate * i / (depth - 1) → rate / (depth - 1)
    Every block gets one step, rate / (depth − 1). Multiply it by the number of the block.
zero_then_the_rate: rate * i / (depth - 1) → rate * (i > 0)
    All blocks but the first get the whole rate. It should grow in equal steps.
squares: rate * i / (depth - 1) → rate * (i / (depth - 1)) ** 2
    The rates grow with the square of the block's number. Equal steps are asked for.
powers: rate * i / (depth - 1) → rate ** (depth - 1 - i)
    These are powers of the rate. Equal steps are asked for: rate · i / (depth − 1).
nothing_for_one_block: [0.0] → []
    For a single block an empty list comes back. It needs a rate as well: [0.0].
number_for_one_block: [0.0] → 0.0
    For a single block a number comes back. A list is asked for, also of one: [0.0].
two_blocks_alike: depth == 1 → depth <= 2
and: [0.0] → [0.0] * depth
    Two blocks both get 0. The last of them gets the rate.
one_block_gets_the_rate: [0.0] → [rate]
    A single block gets the whole rate. It is the first block, and the first gets 0.
""")  # fmt: skip


def probe(answer):
    given = [(0.2, 3), (0.5, 2), (0.4, 1), (0.0, 5), (0.3, 24)]
    return [lambda g=g: [round(float(rate), 6) for rate in answer(*g)] for g in given]


EXERCISE = Exercise(
    name="drop_path_rates",
    chapter="04_block",
    task="drop_path_rates(rate, depth) -> a list of `depth` numbers: 0 for the first block, rate "
    "for the last, equal steps between; a single block gets 0; without torch or NumPy",
    reference=drop_path_rates,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        by_max,
        lambda rate, depth: torch.linspace(0, rate, depth, dtype=torch.float64).tolist(),
        lambda rate, depth: numpy.linspace(0, rate, depth).tolist(),
    ],
    excluded=[
        *[f"torch.{name}" for name in ("linspace", "arange", "tensor", "cumsum")],
        *[f"numpy.{name}" for name in ("linspace", "arange", "array", "cumsum")],
    ],
    probe=probe,
)
