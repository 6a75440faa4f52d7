"""2.4 sincos_1d: sine and cosine in turn, as in the first Transformer."""

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, single
from vitlib.check.probing import in_single, returns


def sincos_1d(length, dim):
    i = torch.arange(dim // 2, dtype=torch.float64)
    angles = torch.arange(length)[:, None] / 10_000 ** (2 * i / dim)  # (length, dim / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def by_slices(length, dim):
    table = torch.zeros(length, dim)
    omega = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)
    angles = torch.outer(torch.arange(length).float(), omega)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


def by_loop(length, dim):
    place = torch.arange(length, dtype=torch.float64)
    columns = []
    for i in range(dim // 2):
        angle = place / 10_000 ** (2 * i / dim)
        columns += [angle.sin(), angle.cos()]
    return torch.stack(columns, dim=1)


def cases(answer) -> Cases:
    yield "6 positions, D = 8", lambda: single(call(answer, 6, 8))
    yield "50 positions, D = 12", lambda: single(call(answer, 50, 12))
    yield "one position, D = 4", lambda: single(call(answer, 1, 4))


MUTANTS = edits(sincos_1d, """
in_halves: dim=2 → dim=1
    All sines come first and all cosines after them. The numbers are the right ones, and it is
    vitlib's order; asked for is the older one, sine and cosine in turn. Stack them along a new last
    axis and flatten, or write into table[:, 0::2] and table[:, 1::2].
cosine_first: [angles.sin(), angles.cos()] → [angles.cos(), angles.sin()]
    Sine and cosine are swapped: channel 0 is a sine, which is 0 at position 0.
frequencies_fall_too_slowly: 2 * i → i
    The frequencies fall half as fast as they should: the exponent is 2i/D, where i counts *pairs*
    of channels. The factor 2 is missing.
frequencies_fall_too_fast: 2 * i → 4 * i
    The frequencies fall twice as fast as they should. If you count the even channels, 0, 2, 4, …,
    then the factor 2 of 2i is in the count already.
one_frequency: i / dim → i // dim
    All pairs of channels turn at the same frequency, so that each row holds no more than two
    different numbers. Divide the position by 10000^(2i/D), and 2i by D with / and not with //.
reaches_the_end: 2 * i / dim → i / (dim // 2 - 1)
    Your slowest frequency is exactly 1/10000, as linspace or logspace would have it. In the formula
    the last exponent stays one step short of 1: i runs to D/2 − 1, and is divided by D/2.
counts_from_one: torch.arange(length) → torch.arange(1, length + 1)
    Positions count from 1. They should count from 0: the first row is 0, 1, 0, 1, …
frequencies_grow: / 10_000 → * 10_000
    The position is multiplied by 10000^(2i/D) where it should be divided. The angles become huge,
    and neighbouring positions have nothing in common.
""") | edits(by_slices, """
frequency_for_each_channel: torch.arange(0, dim, 2) → torch.arange(dim)
and: angles.sin(), angles.cos() → angles[:, 0::2].sin(), angles[:, 1::2].cos()
frequency_for_each_channel_doubled: torch.arange(0, dim, 2) → 2 * torch.arange(dim)
and: angles.sin(), angles.cos() → angles[:, 0::2].sin(), angles[:, 1::2].cos()
    Each cosine turns at another frequency than the sine before it. Channels 2i and 2i + 1 share one
    angle: count pairs of channels, not channels.
""")  # fmt: skip


def probe(answer):
    runs = [returns(answer, *g) for g in [(7, 6), (1, 2), (30, 10), (4, 4)]]
    return [in_single(run) for run in runs]


EXERCISE = Exercise(
    name="sincos_1d",
    chapter="02_tokens",
    task="sincos_1d(length, dim) -> (length, dim): sine in the even channels and cosine in the odd "
    "ones, sin(pos / 10000^(2i/dim)) in channel 2i",
    reference=sincos_1d,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_slices, by_loop],
    probe=probe,
)
