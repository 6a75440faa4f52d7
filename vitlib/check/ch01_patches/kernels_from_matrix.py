"""1.5 kernels_from_matrix: on which side the transpose stands, and where the channels do."""

import torch
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def kernels_from_matrix(matrix, in_chans, patch_size):
    kernels = matrix.T.reshape(-1, patch_size, patch_size, in_chans)  # (D, P, P, C)
    return kernels.permute(0, 3, 1, 2)


def folded_first(matrix, in_chans, patch_size):
    folded = matrix.reshape(patch_size, patch_size, in_chans, -1)  # (P, P, C, D)
    return folded.permute(3, 2, 0, 1)


def cases(answer) -> Cases:
    yield "a matrix of 12 × 5: 3 channels, P = 2, D = 5", lambda: call(answer, numbers(12, 5), 3, 2)
    # P·P·C = D: here a missing transpose does not even change a shape
    yield "a matrix of 18 × 18: 2 channels, P = 3", lambda: call(answer, numbers(18, 18), 2, 3)
    # C = P: nor does a missing permute
    yield "a matrix of 27 × 4: 3 channels, P = 3", lambda: call(answer, numbers(27, 4), 3, 3)


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
""") | edits(folded_first, """
axes_reversed: 3, 2, 0, 1 → 3, 2, 1, 0
    The two pixel axes are swapped: each kernel is flipped at its diagonal. Reversing all four axes
    swaps these two as well; they should keep their order.
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
        lambda matrix, c, p: rearrange(matrix, "(p q c) d -> d c p q", c=c, p=p),
    ],
    probe=probe,
)
