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
    The frequencies fall half as fast as they should. The exponent of 10000 is 2i/D, where i counts
    *pairs* of channels: is the factor 2 missing, or the base another?
frequencies_fall_too_fast: 2 * i → 4 * i
    The frequencies fall twice as fast as they should. If you count the even channels, 0, 2, 4, …,
    then the factor 2 of 2i is in the count already.
one_frequency: i / dim → i // dim
    All pairs of channels turn at the same frequency, so that each row holds no more than two
    different numbers. Divide the position by 10000^(2i/D), and 2i by D with / and not with // or
    int().
reaches_the_end: 2 * i / dim → i / (dim // 2 - 1)
    Your slowest frequency is exactly 1/10000, as linspace or logspace would have it. In the formula
    the last exponent stays one step short of 1: i runs to D/2 − 1, and is divided by D/2.
counts_from_one: torch.arange(length) → torch.arange(1, length + 1)
    Positions count from 1. They should count from 0: the first row is 0, 1, 0, 1, …
frequencies_grow: / 10_000 → * 10_000
    The position is multiplied by 10000^(2i/D) where it should be divided. The angles become huge,
    and neighbouring positions have nothing in common.
base_1000: 10_000 → 1_000
base_100000: 10_000 → 100_000
    The frequencies fall at another pace: the base is 10000, with four zeros.
base_e: 10_000 ** (2 * i / dim) → (2 * i / dim).exp()
    The base is e. With exp, the exponent needs a factor: 10000^x = exp(x · ln 10000), where ln is
    math.log.
base_from_log10: 10_000 ** (2 * i / dim) → (4 * 2 * i / dim).exp()
    exp was given log10(10000) = 4 as its factor. It needs the natural logarithm: 10000^x =
    exp(x · ln 10000), where ln is math.log.
linear_frequencies: / 10_000 ** (2 * i / dim) → * torch.linspace(1, 1e-4, dim // 2)
    The frequencies are evenly spread, as by linspace. Each should be the same *factor* below the
    one before: 10000^(-2i/D).
divided_by_one_less: 2 * i / dim → 2 * i / (dim - 1)
    The exponent is divided by D − 1. It is 2i/D.
pairs_from_one: 2 * i / → 2 * (i + 1) /
    The pairs count from 1, so that the first frequency is 1 already divided. i starts at 0: the
    first pair turns at frequency 1.
power_before_the_division: ** (2 * i / dim) → ** (2 * i) / dim
power_before_the_division_in_brackets: ** (2 * i / dim) → ** (2 * i) * dim
    The power is taken before the division: a ** 2 * i / D is read as (a ** 2) * i / D, and
    a ** (2 * i) / D as (a ** (2i)) / D. The whole exponent, 2i/D, belongs in brackets.
turns_of_two_pi: (length)[:, None] → (length)[:, None] * 2 * torch.pi
    The angles are multiplied by 2π. In this table there is no π: the angle is n / 10000^(2i/D).
turns_of_pi: (length)[:, None] → (length)[:, None] * torch.pi
    The angles are multiplied by π. In this table there is no π: the angle is n / 10000^(2i/D).
degrees: (length)[:, None] → (length)[:, None] * torch.pi / 180
    The angles are turned from degrees into radians. They are radians already: n / 10000^(2i/D).
places_as_a_share: (length)[:, None] → (length)[:, None] / length
places_as_a_share_that_reaches_one: (length)[:, None] → (length)[:, None] / max(length - 1, 1)
    The places are divided by the length, so that they lie between 0 and 1. They are whole numbers:
    0, 1, 2, …
backwards_in_frequency: (2 * i / dim) → (2 * i.flip(0) / dim)
    The frequencies come in reverse order, the slowest first. The first pair turns fastest.
backwards_in_place: torch.arange(length) → torch.arange(length).flip(0)
    The places run backwards: row 0 should be place 0.
sines_only: angles.cos()] → angles.sin()]
    Sines stand in all channels. Channel 2i + 1 holds the cosine.
cosines_only: [angles.sin() → [angles.cos()
    Cosines stand in all channels. Channel 2i holds the sine.
angles_only: [angles.sin(), angles.cos()] → [angles, angles]
    The angles themselves come back. Take their sine and cosine.
sign_of_the_sine: [angles.sin() → [-angles.sin()
    The sines have the wrong sign.
sign_of_the_cosine: , angles.cos()] → , -angles.cos()]
    The cosines have the wrong sign.
stacked_in_front: return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1) →
→ return torch.stack([angles.sin(), angles.cos()]).reshape(length, dim)
    Sines and cosines are stacked along a new *first* axis, and then reshaped, which mixes the
    places. Stack along a new last axis: torch.stack([sin, cos], dim=-1).flatten(1).
pairs_not_joined: .flatten(1) →
    Sine and cosine have an axis of their own: (length, D/2, 2). Join it with the pairs: flatten(1).
too_flat: .flatten(1) → .flatten()
    All the numbers stand in one row. Only the last two axes are joined: flatten(1).
an_axis_too_many: .flatten(1) → .flatten(1)[None]
    There is an axis for the batch in front. Asked for is (length, dim).
transposed: .flatten(1) → .flatten(1).T
    The table lies on its side: (dim, length). Places are rows: (length, dim).
one_place_too_many: torch.arange(length) → torch.arange(length + 1)
    There is a row too many. There are `length` places: 0 to length − 1.
one_place_too_few: torch.arange(length) → torch.arange(length - 1)
    A row is missing. There are `length` places: 0 to length − 1.
arguments_swapped: i = torch → length, dim = dim, length
→ i = torch
    length and dim have changed places: (dim, length) comes back.
as_many_pairs_as_channels: torch.arange(dim // 2 → torch.arange(dim
    The table is twice as wide as asked. There are D/2 pairs, i = 0 to D/2 − 1, of two channels
    each.
no_new_axis: (length)[:, None] → (length)
and: dim=2 → dim=-1
    Places and frequencies are both rows, and do not broadcast. Make the places a column:
    torch.arange(length)[:, None], or use torch.outer.
divided_by_the_length: 2 * i / dim → 2 * i / length
    The exponent is divided by the length. It is 2i/D, with D = dim.
added_to_the_frequencies: / 10_000 ** (2 * i / dim) → + 10_000 ** (-2 * i / dim)
    Places and frequencies are added. The angle is their product, n · 10000^(-2i/D).
angles_of_nearly_zero: / 10_000 ** (2 * i / dim) → / 10_000**2 * 2 * i / dim
    The angles are 0, or so near to it that all sines are 0 and all cosines 1. Mind the brackets:
    10000 ** 2 * i / D is read as (10000 ** 2) * i / D. The whole exponent, 2i/D, belongs in them.
one_below_the_other: return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1) →
→ return torch.cat([angles.sin(), angles.cos()])
    Sines and cosines stand one below the other, (2 · length, D/2). They are channels, in turn:
    torch.stack([sin, cos], dim=-1).flatten(1).
a_list: .flatten(1) → .flatten(1).tolist()
    A list comes back. Make a tensor of it: torch.tensor(...).
nothing_returned: return torch → torch
    The table is computed and not returned. The last line needs `return`.
""") | edits(by_slices, """
frequency_for_each_channel: torch.arange(0, dim, 2) → torch.arange(dim)
and: angles.sin(), angles.cos() → angles[:, 0::2].sin(), angles[:, 1::2].cos()
frequency_for_each_channel_doubled: torch.arange(0, dim, 2) → 2 * torch.arange(dim)
and: angles.sin(), angles.cos() → angles[:, 0::2].sin(), angles[:, 1::2].cos()
    Each cosine turns at another frequency than the sine before it. Channels 2i and 2i + 1 share one
    angle: count pairs of channels, not channels.
frequencies_grow_in_single: ** (-torch → ** (torch
frequencies_grow_in_single_by_exp: 10_000.0 ** (-torch.arange(0, dim, 2) / dim) →
→ torch.exp(torch.arange(0, dim, 2) * 9.210340371976184 / dim)
    The position is multiplied by 10000^(2i/D) where it should be divided. The angles become huge,
    and neighbouring positions have nothing in common. The exponent needs a minus.
pairs_overwritten: table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos() →
→ for i in range(dim // 2):
→     table[:, i], table[:, i + 1] = angles[:, i].sin(), angles[:, i].cos()
    Pair i is written into channels i and i + 1, so that each pair covers half of the one before. It
    belongs into channels 2i and 2i + 1.
first_row_empty: return table → table[0] = 0
→ return table
    The first row stays 0. Place 0 has a row, too: 0, 1, 0, 1, …
half_left_at_zero: table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos() →
→ for i in range(0, dim // 2, 2):
→     table[:, i], table[:, i + 1] = angles[:, i // 2].sin(), angles[:, i // 2].cos()
    The right half of the channels stays 0. If you walk over the channels in steps of 2, go to D; if
    over pairs, to D/2.
cosines_left_at_zero: table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos() →
→ table[:, 0::2] = angles.sin()
    The odd channels stay 0. They hold the cosines: table[:, 1::2].
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
