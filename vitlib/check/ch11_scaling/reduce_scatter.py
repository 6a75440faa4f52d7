"""11.5 reduce_scatter: to each process its piece of the mean."""

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw


def reduce_scatter(gradients):
    mean = torch.stack(gradients).mean(dim=0)
    count = len(gradients)
    size = -(-len(mean) // count)
    return [mean[rank * size : (rank + 1) * size] for rank in range(count)]


def by_chunk(gradients):
    mean = sum(gradients) / len(gradients)
    pieces = list(mean.chunk(len(gradients)))
    while len(pieces) < len(gradients):
        pieces.append(mean[:0])
    return pieces


def by_pieces(gradients):
    """As it is sent: piece by piece, to the process that keeps it."""
    rows, count = len(gradients[0]), len(gradients)
    size = (rows + count - 1) // count
    kept = []
    for rank in range(count):
        piece = torch.zeros_like(gradients[0][rank * size : (rank + 1) * size])
        for gradient in gradients:
            piece = piece + gradient[rank * size : (rank + 1) * size]
        kept.append(piece / count)
    return kept


def rest_to_the_last(gradients):
    mean = torch.stack(gradients).mean(dim=0)
    count = len(gradients)
    size = len(mean) // count
    ends = [*range(size, size * count, size or 1), len(mean)]
    return [mean[rank * size : end] for rank, end in enumerate([0] * (count - len(ends)) + ends)]


def cases(answer) -> Cases:
    def run(count, *shape):
        pieces = call(answer, [numbers(*shape, seed=10 * count + i) for i in range(count)])
        return list(pieces) if isinstance(pieces, list | tuple) else pieces

    yield "2 processes, 6 × 3", lambda: run(2, 6, 3)
    yield "3 processes, 7 × 4: pieces of 3, 3 and 1 rows", lambda: run(3, 7, 4)
    yield "4 processes, 5 numbers: the last one keeps none", lambda: run(4, 5)
    yield "2 processes, one row", lambda: run(2, 1, 3)
    yield "3 processes, 4 × 3 × 2", lambda: run(3, 4, 3, 2)
    yield "one process", lambda: run(1, 3, 2)


MUTANTS = edits(reduce_scatter, """
sum: .mean(dim=0) → .sum(dim=0)
    The pieces are those of the sum. The gradient of the whole batch is the mean over the processes.
first_process: torch.stack(gradients).mean(dim=0) → gradients[0]
    The pieces are those of the first process's gradient. They should be those of the mean.
own_pieces: mean[rank * size → gradients[rank][rank * size
    Each process keeps a piece of its own gradient. What the others found is lost: take the mean
    first.
nobody_gets_a_piece: mean[rank * size : (rank + 1) * size] → mean
    Every process gets the whole mean. That is an all-reduce. Here each one keeps its piece alone.
rounded_down: -(-len(mean) // count) → len(mean) // count
    The number of rows per piece is rounded down, and the rows that are left belong to nobody. Round
    up: the last pieces may be shorter, or empty.
rest_to_the_last:
    The number of rows per piece is rounded down, and the last process gets the rest. FSDP rounds
    up, as chunk does, so that the pieces at the end are the shorter ones.
evenly: [mean[rank * size : (rank + 1) * size] for rank in range(count)] →
→ list(mean.tensor_split(count))
    The rows are spread evenly, as tensor_split does: 7 rows for 3 make 3, 2 and 2. FSDP cuts as
    chunk does, into 3, 3 and 1.
too_few_pieces: [mean[rank * size : (rank + 1) * size] for rank in range(count)] →
→ list(mean.chunk(count))
    chunk returns fewer pieces where the rows do not suffice. Every process needs one, if only an
    empty one: the last ones have 0 rows.
every_nth: mean[rank * size : (rank + 1) * size] → mean[rank::count]
    The rows are dealt out in turn, like cards. FSDP gives each process rows that follow one
    another.
backwards: for rank in range(count) → for rank in reversed(range(count))
    The pieces are in reverse order. Process 0 keeps the first rows.
one_row_each: size = -(-len(mean) // count) → size = 1
    Each piece has one row. The rows are to be divided among the processes, all of them.
overlapping: (rank + 1) * size] → (rank + 1) * size + 1]
    The pieces overlap by a row. A slice ends before its second number.
a_row_short: (rank + 1) * size] → (rank + 1) * size - 1]
    Each piece lacks its last row. A slice ends before its second number, so (rank + 1) * size is
    right.
wrong_axis: torch.stack(gradients).mean(dim=0) → torch.stack(gradients, dim=-1).mean(dim=0)
    The mean is taken over the rows of the gradients. Stack them along a new first axis, and take
    the mean over that one.
stacked: return [ → return torch.stack([
and: for rank in range(count)] → for rank in range(count)])
    The pieces are stacked, which fails where their sizes differ. Return them as a list.
joined: return [ → return torch.cat([
and: for rank in range(count)] → for rank in range(count)])
    The pieces are joined again, so this is the whole mean. Return them as a list.
last_process_forgotten: for rank in range(count) → for rank in range(max(count - 1, 1))
    The last process gets no piece.
divided_by_rows: .mean(dim=0) → .sum(dim=0) / len(gradients[0])
    The sum is divided by the number of rows. The mean is over the processes: divide by how many
    they are.
""")  # fmt: skip


def probe(answer):
    shapes = [(2, 5, 2), (3, 8, 3), (5, 6), (4, 2, 3), (1, 4)]
    return [
        lambda s=s: list(answer([draw(*s[1:], seed=7 * i) for i in range(s[0])])) for s in shapes
    ]


EXERCISE = Exercise(
    name="reduce_scatter",
    chapter="11_scaling",
    task="reduce_scatter(gradients), one tensor for each process -> a list with one piece for "
    "each: the mean, cut along its first axis into pieces of equally many rows, rounded up; the "
    "last pieces have what is left, or 0 rows",
    reference=reduce_scatter,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_chunk, by_pieces],
    probe=probe,
)
