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
    exponent is k / (D/4).
frequencies_fall_too_fast: / quarter → / (quarter / 2)
    The frequencies fall twice as fast as they should. Each direction has D/4 of them, so the
    exponent is k / (D/4), without a further factor of 2.
reaches_the_end: / quarter → / (quarter - 1)
    Your slowest frequency is exactly 1/10000, as linspace or logspace would have it. In the formula
    the last exponent stays one step short of 1: k runs to D/4 − 1, and is divided by D/4.
divided_by_rows: n // columns → n // rows
and: n % columns → n % rows
    You divide the token's number by the number of rows. A row of the grid holds as many tokens as
    there are columns: token n stands in row n // columns. On a square grid you would never see it.
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
    "by row, sin and cos of its column, then sin and cos of its row, a quarter of the width each",
    reference=sincos_2d,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_loop, by_broadcast, lambda dim, *grid: vitlib.sincos_2d(dim, grid)],
    probe=probe,
)
