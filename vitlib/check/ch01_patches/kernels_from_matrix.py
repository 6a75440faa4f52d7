"""1.5 kernels_from_matrix: on which side the transpose stands, and where the channels do."""

from itertools import permutations

import torch
from einops import rearrange
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers, single
from vitlib.check.probing import draw, returns


def kernels_from_matrix(matrix, in_chans, patch_size):
    kernels = matrix.T.reshape(-1, patch_size, patch_size, in_chans)  # (D, P, P, C)
    return kernels.permute(0, 3, 1, 2)


def folded_first(matrix, in_chans, patch_size):
    folded = matrix.reshape(patch_size, patch_size, in_chans, -1)  # (P, P, C, D)
    return folded.permute(3, 2, 0, 1)


def by_einops(matrix, in_chans, patch_size):
    return rearrange(matrix, "(p q c) d -> d c p q", c=in_chans, p=patch_size)


def by_loop(matrix, c, p):
    kernels = torch.zeros(matrix.shape[1], c, p, p)  # in float32
    for row in range(len(matrix)):
        kernels[:, row % c, row // (p * c), row // c % p] = matrix[row]
    return kernels


def cases(answer) -> Cases:
    def kernels(*given):
        result = call(answer, *given)
        if isinstance(result, nn.Module):
            raise Refused(
                f"a module came back, {type(result).__name__}, and its weight should", "module"
            )
        return single(result)

    yield "a matrix of 12 × 5: 3 channels, P = 2, D = 5", lambda: kernels(numbers(12, 5), 3, 2)
    # P·P·C = D: here a missing transpose does not even change a shape
    yield "a matrix of 18 × 18: 2 channels, P = 3", lambda: kernels(numbers(18, 18), 2, 3)
    # C = P: nor does a missing permute
    yield "a matrix of 27 × 4: 3 channels, P = 3", lambda: kernels(numbers(27, 4), 3, 3)
    yield "a matrix of 9 × 6: 1 channel, P = 3", lambda: kernels(numbers(9, 6), 1, 3)


AXES = ["P of the rows", "P of the columns", "C", "D"]
NAMED = ["3201", "3210", "3012"]  # the right order, and two that have a name below
ORDERS = "\n".join(
    f"""order_{"".join(order)}: 3, 2, 0, 1 → {", ".join(order)}
    The axes are in the wrong order. They should be (D, C, P of the rows, P of the columns), and
    yours are ({", ".join(AXES[int(axis)] for axis in order)})."""
    for order in permutations("0123")
    if "".join(order) not in NAMED
)

MUTANTS = edits(kernels_from_matrix, """
channels_first: patch_size, patch_size, in_chans) → in_chans, patch_size, patch_size)
and: .permute(0, 3, 1, 2) →
    The columns are folded as (c, p, p), as in the chapter. But this matrix was made for patches
    flattened as (p, p, c): fold a column as (P, P, C), then move C to the front.
no_transpose: .T →
    The transpose is missing. One kernel is one *column* of the matrix, and a reshape to (D, ...)
    without .T cuts kernels out of its rows. The shape is right all the same.
neither: .T →
and: patch_size, patch_size, in_chans) → in_chans, patch_size, patch_size)
and: .permute(0, 3, 1, 2) →
    Two things are missing. One kernel is one *column* of the matrix, and a reshape cuts it out of
    the rows. And a column is in the order (p, p, c), not (c, p, p).
not_moved: .permute(0, 3, 1, 2) →
    This is (D, P, P, C). Each kernel is folded as it should be, but its channels still come last,
    and a convolution's weight has them first: permute.
flipped: 3, 1, 2) → 3, 1, 2).flip(-2, -1)
    The kernels are turned by 180°. A mathematical convolution does that, but what PyTorch calls one
    does not: it lays the kernel on the image as it is.
axes_reversed: 3, 1, 2) → 3, 2, 1)
    The two pixel axes are swapped: each kernel is flipped at its diagonal. Reversing all four axes
    swaps these two as well; they should keep their order.
pixels_joined: 3, 1, 2) → 3, 1, 2).flatten(2)
    The two axes of pixels are joined: this is (D, C, P·P). A convolution's weight has four axes:
    leave them apart.
upside_down: 3, 1, 2) → 3, 1, 2).flip(-2)
    The rows of each kernel run from bottom to top. Keep their order.
mirrored: 3, 1, 2) → 3, 1, 2).flip(-1)
    The columns of each kernel run from right to left. Keep their order.
channels_reversed: 3, 1, 2) → 3, 1, 2).flip(1)
    The channels run backwards, from the last to the first. Keep their order.
three_channels: patch_size, in_chans) → patch_size, 3)
three_channels_for_so_many_kernels: -1, patch_size, patch_size, in_chans) →
→ matrix.shape[1], patch_size, patch_size, 3)
    The number of channels is fixed at 3. Take in_chans: a grey image has one.
arguments_swapped: patch_size, patch_size, in_chans) → in_chans, in_chans, patch_size)
    Channels and patch size are swapped: a column of the matrix is P·P·C long.
scaled: return kernels → return kernels / matrix.shape[0]
    The kernels are divided by P·P·C. A convolution adds up the products, just as `patches @ E`
    does: leave the numbers as they are.
a_convolution: return kernels.permute(0, 3, 1, 2) →
→ return nn.Conv2d(in_chans, len(kernels), patch_size, patch_size)
    A convolution comes back. Asked for is its weight alone, a tensor of shape (D, C, P, P).
""") | edits(folded_first, ORDERS) | edits(by_einops, """
channels_between: (p q c) → (p c q)
    A column of the matrix is read as (p, c, p), but the patches were flattened as (p, p, c): the
    channel runs fastest.
channels_between_transposed: (p q c) → (q c p)
    A column of the matrix is read as columns, channels, rows of pixels. The patches were flattened
    as (p, p, c): rows, columns, channels.
channels_first_transposed: (p q c) → (c q p)
    A column of the matrix is read as channels, columns, rows of pixels. The patches were flattened
    as (p, p, c): rows, columns, channels.
""")  # fmt: skip


def probe(answer):
    given = [(draw(27, 4), 3, 3), (draw(8, 3), 2, 2), (draw(4, 4), 1, 2), (draw(20, 9), 5, 2)]
    return [returns(answer, *g) for g in given]


EXERCISE = Exercise(
    name="kernels_from_matrix",
    chapter="01_patches",
    task="kernels_from_matrix(matrix, in_chans, patch_size) -> (D, C, P, P): the convolution "
    "weight that does what patches @ matrix does, for a matrix (P·P·C, D) and patches that are "
    "flattened as (p, p, c)",
    reference=kernels_from_matrix,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        folded_first,
        lambda matrix, c, p: torch.stack([k.reshape(p, p, c).permute(2, 0, 1) for k in matrix.T]),
        by_einops,
        by_loop,
    ],
    probe=probe,
)
