"""2.5 sincos_2d: half of the channels for the column, half for the row."""

import torch

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, single
from vitlib.check.probing import in_single, returns


def sincos_2d(embed_dim, rows, columns):
    quarter = embed_dim // 4
    omega = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    n = torch.arange(rows * columns)[:, None]  # the number of each patch
    y, x = n // columns * omega, n % columns * omega  # the angles of its row and its column
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)


def by_loop(embed_dim, rows, columns):
    def vector(place):
        angles = [place / 10_000 ** (4 * k / embed_dim) for k in range(embed_dim // 4)]
        return torch.cat([torch.tensor(angles).sin(), torch.tensor(angles).cos()])

    grid = [(y, x) for y in range(rows) for x in range(columns)]
    return torch.stack([torch.cat([vector(x), vector(y)]) for y, x in grid])


def by_broadcast(embed_dim, rows, columns):
    def half(length):
        k = torch.arange(embed_dim // 4, dtype=torch.float64)
        angles = torch.arange(length)[:, None] * 10_000.0 ** (-4 * k / embed_dim)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    x = half(columns).expand(rows, -1, -1)  # (rows, columns, D/2)
    y = half(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([x, y], dim=2).flatten(0, 1)


def cases(answer) -> Cases:
    yield "2 rows and 3 columns of patches, D = 8", lambda: single(call(answer, 8, 2, 3))
    yield "5 rows and 4 columns, D = 24", lambda: single(call(answer, 24, 5, 4))
    yield "3 rows and 3 columns, D = 16", lambda: single(call(answer, 16, 3, 3))


MUTANTS = edits(sincos_2d, """
row_first: y, x = → x, y =
    Row and column are swapped: the first half of the channels should describe x, the column, and
    the second half y, the row.
down_the_columns: n // columns → n % rows
and: n % columns → n // rows
    The patches are counted down the columns of the grid, but tokens run along its rows: every token
    gets the position of another. Look at indexing="ij" in meshgrid, and at which of rows and
    columns you flatten last.
frequencies_fall_too_slowly: / quarter → / (2 * quarter)
    The frequencies fall half as fast as they should. Each direction has D/4 of them, so the
    exponent of 10000 is k / (D/4): is it divided by D/2, or the base another?
frequencies_fall_too_fast: / quarter → / (quarter / 2)
    The frequencies fall twice as fast as they should. Each direction has D/4 of them, so the
    exponent is k / (D/4), without a further factor of 2.
reaches_the_end: / quarter → / (quarter - 1)
    Your slowest frequency is exactly 1/10000, as linspace or logspace would have it. In the formula
    the last exponent stays one step short of 1: k runs to D/4 − 1, and is divided by D/4.
divided_by_rows: n // columns → n // rows
and: n % columns → n % rows
    The grid is walked as if a row of it held as many tokens as there are rows. Rows and columns
    have changed places, in a division, in meshgrid or in a call. Token n stands in row n // columns
    and column n % columns. On a square grid you would never see it.
row_from_rows: n // columns → n // rows
    The row is the token's number divided by the number of rows. A row of the grid holds as many
    tokens as there are columns: token n stands in row n // columns.
column_from_rows: n % columns → n % rows
    The column is the rest of a division by the number of rows. A row of the grid holds as many
    tokens as there are columns: token n stands in column n % columns.
row_not_whole: n // columns → n / columns
    The row is not a whole number: divide with // and not with /.
divided_by_the_whole_width: / quarter) → / embed_dim)
    The frequencies fall a quarter as fast as they should: the exponent is divided by D. Each
    direction has D/4 frequencies, so it is k / (D/4).
frequencies_grow: -torch.arange → torch.arange
frequencies_grow_in_single: -torch.arange(quarter, dtype=torch.float64) → torch.arange(quarter)
    The places are multiplied by a power of 10000 where they should be divided: the exponent of
    omega needs a minus.
base_1000: 10_000.0 → 1_000.0
base_100000: 10_000.0 → 100_000.0
    The frequencies fall at another pace: the base is 10000, with four zeros.
base_e: 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter) →
→ torch.exp(-torch.arange(quarter, dtype=torch.float64) / quarter)
    The base is e. With exp, the exponent needs a factor: 10000^x = exp(x · ln 10000), where ln is
    math.log.
linear_frequencies: 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter) →
→ torch.linspace(1, 1e-4, quarter)
    The frequencies are evenly spread, as by linspace. Each should be the same *factor* below the
    one before: 10000^(-k/(D/4)).
frequencies_from_one_on: -torch.arange(quarter, dtype=torch.float64) →
→ -torch.arange(1, quarter + 1, dtype=torch.float64)
    The frequencies count from 1, so that the first is divided already. k starts at 0: the first
    frequency is 1.
frequencies_reversed: dtype=torch.float64) / quarter) → dtype=torch.float64).flip(0) / quarter)
    The frequencies come in reverse order, the slowest first. The first is 1.
no_frequencies: 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter) →
→ torch.ones(quarter)
    There is one frequency, 1, for all. Multiply the places by omega, D/4 numbers that fall from 1:
    10000^(-k/(D/4)).
turns_of_two_pi: 10_000.0 ** → 2 * torch.pi * 10_000.0 **
    The angles are multiplied by 2π. In this table there is no π: the angle is x · omega.
turns_of_pi: 10_000.0 ** → torch.pi * 10_000.0 **
    The angles are multiplied by π. In this table there is no π: the angle is x · omega.
counts_from_one: n // columns * omega, n % columns * omega →
→ (n // columns + 1) * omega, (n % columns + 1) * omega
    Rows and columns count from 1. The first patch stands at row 0 and column 0.
sequence_from_one: columns)[:, None] → columns)[:, None] + 1
    The tokens count from 1, so that each gets the position of the one behind it. The first patch
    is number 0, at row 0 and column 0.
centres: n // columns * omega, n % columns * omega →
→ (n // columns + 0.5) * omega, (n % columns + 0.5) * omega
    Half a step is added to row and column. They are whole numbers: 0, 1, 2, …
centred: n // columns * omega, n % columns * omega →
→ (n // columns - rows / 2) * omega, (n % columns - columns / 2) * omega
    Rows and columns are counted from the middle of the grid. They count from 0, at the top left.
places_as_a_share: n // columns * omega, n % columns * omega →
→ n // columns / rows * omega, n % columns / columns * omega
places_as_a_share_up_to_one: n // columns * omega, n % columns * omega →
→ n // columns / max(rows - 1, 1) * omega, n % columns / max(columns - 1, 1) * omega
    The places are divided by the size of the grid, so that they lie between 0 and 1. They are whole
    numbers: 0, 1, 2, …
places_from_minus_one_to_one: n // columns * omega, n % columns * omega →
→ (2 * (n // columns) / (rows - 1) - 1) * omega, (2 * (n % columns) / (columns - 1) - 1) * omega
    The places run from −1 to 1. They are whole numbers: 0, 1, 2, …
rows_repeated_as_the_columns: n // columns → n % rows
    Rows and columns run at the same time, so that the tokens go down a diagonal. While the column
    runs, the row stays: repeat_interleave for one and repeat for the other.
row_stays_with_the_column: n % columns → n // columns % columns
    The column stays while the row stays, so that all tokens of one row get one position. While the
    row stays, the column runs from 0 to columns − 1.
backwards: columns)[:, None] → columns).flip(0)[:, None]
    The patches are counted backwards, from the last to the first.
counts_the_sequence_twice: n // columns * omega, n % columns * omega → n * omega, n * omega
    Both halves hold the token's number in the sequence. It has to be taken apart first, into the
    row, n // columns, and the column, n % columns.
sequence_for_the_column: n % columns → n
    The first half holds the token's number in the sequence, and should hold its column: n %
    columns.
sequence_for_the_row: n // columns → n
    The second half holds the token's number in the sequence, and should hold its row: n // columns.
counts_the_sequence: embed_dim // 4 → embed_dim // 2
and: [x.sin(), x.cos(), y.sin(), y.cos()] → [(n * omega).sin(), (n * omega).cos()]
    This is a one-dimensional table, of the token's number in the sequence: a patch and the one
    below it seem far apart. Give half of the channels to the row and half to the column.
cosine_first: [x.sin(), x.cos(), y.sin(), y.cos()] → [x.cos(), x.sin(), y.cos(), y.sin()]
    Sine and cosine are swapped in both halves. The first patch, at row 0 and column 0, has sines of
    0 in its first quarter.
sines_first: x.cos(), y.sin() → y.sin(), x.cos()
    Both sines come first and both cosines after them. The numbers are right; asked for are sine and
    cosine of the column, and then sine and cosine of the row.
sines_first_row_first: [x.sin(), x.cos(), y.sin(), y.cos()] →
→ [y.sin(), x.sin(), y.cos(), x.cos()]
    Both sines come first and both cosines after them, and the row stands before the column. Asked
    for are sine and cosine of the column, and then sine and cosine of the row.
row_cosine_first: y.sin(), y.cos()] → y.cos(), y.sin()]
    In the second half sine and cosine are swapped: the third quarter is sin y, the last cos y.
column_cosine_first: [x.sin(), x.cos() → [x.cos(), x.sin()
    In the first half sine and cosine are swapped: the first quarter is sin x, the second cos x.
cosine_first_row_first: [x.sin(), x.cos(), y.sin(), y.cos()] → [y.cos(), y.sin(), x.cos(), x.sin()]
    The row stands before the column, and the cosine before the sine. The quarters are sin x, cos x,
    sin y, cos y, with the column x and the row y.
sine_of_one_cosine_of_the_other: x.cos(), y.sin(), y.cos() → y.cos(), y.sin(), x.cos()
    The first half mixes sin x with cos y, the second sin y with cos x. The quarters are sin x,
    cos x, sin y, cos y.
sines_only: x.cos(), y.sin(), y.cos() → x.sin(), y.sin(), y.sin()
    There are sines in all four quarters. The second and the last hold the cosines.
cosines_only: x.sin(), x.cos(), y.sin() → x.cos(), x.cos(), y.cos()
    There are cosines in all four quarters. The first and the third hold the sines.
angles_only: [x.sin(), x.cos(), y.sin(), y.cos()] → [x, x, y, y]
    The angles themselves come back. Take their sine and cosine.
in_turn_of_four: torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1) →
→ torch.stack([x.sin(), x.cos(), y.sin(), y.cos()], dim=2).flatten(1)
    The four alternate from channel to channel. Each should fill a quarter of its own: join them
    with torch.cat along dim=1.
stacked: torch.cat → torch.stack
    The four quarters have an axis of their own: (rows · columns, 4, D/4). Join them with torch.cat
    along dim=1.
stacked_in_front: torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1) →
→ torch.stack([x.sin(), x.cos(), y.sin(), y.cos()]).reshape(rows * columns, -1)
    The quarters are put one behind the other along axis 0, and then reshaped, which mixes the
    tokens. Join them along the channels: torch.cat(..., dim=1).
joined_along_the_tokens: dim=1 → dim=0
    torch.cat joins along axis 0, which is also what it does if it is told no axis. The quarters
    belong side by side, as channels: dim=1.
grid_kept: y.cos()], dim=1) → y.cos()], dim=1).reshape(rows, columns, -1)
    The table is still a grid, (rows, columns, D). Flatten its first two axes: (rows · columns, D).
grid_kept_on_its_side: y.cos()], dim=1) →
→ y.cos()], dim=1).reshape(rows, columns, -1).transpose(0, 1)
    The table is still a grid, and on its side: (columns, rows, D). Asked for is (rows · columns,
    D), row by row.
an_axis_too_many: y.cos()], dim=1) → y.cos()], dim=1)[None]
    There is an axis for the batch in front. Asked for is (rows · columns, embed_dim).
transposed: y.cos()], dim=1) → y.cos()], dim=1).T
    The table lies on its side: tokens are rows, (rows · columns, embed_dim).
half_as_wide: embed_dim // 4 → embed_dim // 8
    The table is half as wide as it should be. There are D/4 frequencies, and four quarters.
twice_as_wide: embed_dim // 4 → embed_dim // 2
    The table is twice as wide as it should be. There are D/4 frequencies, and four quarters.
four_times_as_wide: embed_dim // 4 → embed_dim
    The table is four times as wide as it should be. There are D/4 frequencies, and four quarters.
added_in_quarters: [x.sin(), x.cos(), y.sin(), y.cos()] → [x.sin() + y.sin(), x.cos() + y.cos()]
    The vectors of row and column are added, and the table is half as wide as it should be. Join
    them: torch.cat along dim=1.
column_alone: x.cos(), y.sin(), y.cos()] → x.cos()]
    Only the column is there. Two more quarters, sin y and cos y, describe the row.
row_alone: [x.sin(), x.cos(), y.sin() → [y.sin()
    Only the row is there. Two quarters before it, sin x and cos x, describe the column.
as_if_square: rows * columns → rows * rows
as_if_square_by_the_columns: rows * columns → columns * columns
    The number of tokens is wrong: there are rows · columns of them, and the grid need not be
    square.
rows_and_columns_added: rows * columns → rows + columns
    There are rows + columns vectors, one for each line of the grid. Every patch needs one, rows ·
    columns of them.
no_new_axis: columns)[:, None] → columns)
    Places and frequencies are both rows, and do not broadcast. Make the places a column, with
    [:, None], or use torch.outer.
frequencies_fall_far_too_fast: / quarter) → / (quarter / 4))
    The frequencies fall four times as fast as they should. Each direction has D/4 of them, and the
    exponent is k / (D/4): a factor 4 is in the count already.
rows_backwards: n // columns → rows - 1 - n // columns
    The rows are counted from below. Row 0 is the first one.
columns_backwards: n % columns → columns - 1 - n % columns
    The columns are counted from the right. Column 0 is the first one.
one_line_too_many: n = torch → rows, columns = rows + 1, columns + 1
→ n = torch
    The grid has a row and a column too many. Rows count from 0 to rows − 1: torch.arange(rows).
one_line_too_few: x.cos(), y.sin(), y.cos()], dim=1) →
→ x.cos(), y.sin(), y.cos()], dim=1).reshape(rows, columns, -1)[1:, 1:].flatten(0, 1)
    The first row and the first column are missing. They are counted from 0: torch.arange(rows).
nothing_returned: return torch → torch
    The table is computed and not returned. The last line needs `return`.
in_turn: [x.sin(), x.cos(), y.sin(), y.cos()] →
→ [torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1) for angle in (x, y)]
    Sine and cosine alternate from channel to channel, as in the exercise before. Here all sines of
    a direction come first, and then its cosines.
column_twice: y.sin(), y.cos() → x.sin(), x.cos()
    Both halves describe the column. All the patches of one column get the same position, and the
    row is lost.
row_twice: x.sin(), x.cos() → y.sin(), y.cos()
    Both halves describe the row. All the patches of one row get the same position, and the column
    is lost.
added: embed_dim // 4 → embed_dim // 2
and: [x.sin(), x.cos(), y.sin(), y.cos()] → [x.sin() + y.sin(), x.cos() + y.cos()]
    The vectors of row and column are added instead of joined. Row 1, column 2 and row 2, column 1
    then have the same position.
""")  # fmt: skip


def probe(answer):
    runs = [returns(answer, *g) for g in [(12, 3, 4), (4, 5, 2), (20, 1, 6), (8, 2, 2)]]
    return [in_single(run) for run in runs]


EXERCISE = Exercise(
    name="sincos_2d",
    chapter="02_tokens",
    task="sincos_2d(embed_dim, rows, columns) -> (rows · columns, embed_dim): for each patch, row "
    "by row, sin and cos of its column, then sin and cos of its row, a quarter of the width each; "
    "the angles are the place times 10000^(-k / (embed_dim/4)), k = 0, 1, …",
    reference=sincos_2d,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_loop, by_broadcast, lambda dim, *grid: vitlib.sincos_2d(dim, grid)],
    probe=probe,
)
