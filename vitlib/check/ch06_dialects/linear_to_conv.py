"""6.3 linear_to_conv: patches flattened with the channels last."""

import torch
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import changes, draw, returns


def linear_to_conv(weight, patch_size):
    return rearrange(weight, "d (p q c) -> d c p q", p=patch_size, q=patch_size)


def by_permute(weight, patch_size):
    return weight.reshape(len(weight), patch_size, patch_size, -1).permute(0, 3, 1, 2)


def by_channel(weight, patch_size):
    channels = weight.shape[1] // patch_size**2
    planes = [weight[:, c::channels] for c in range(channels)]  # each (D, P·P)
    return torch.stack(planes, dim=1).reshape(len(weight), channels, patch_size, patch_size)


def by_loop(weight, patch_size):
    width, inputs = weight.shape
    channels = inputs // (patch_size * patch_size)
    kernel = weight.new_empty(width, channels, patch_size, patch_size)
    for y in range(patch_size):
        for x in range(patch_size):
            first = (y * patch_size + x) * channels
            kernel[:, :, y, x] = weight[:, first : first + channels]
    return kernel


def cases(answer) -> Cases:
    counted = torch.arange(12.0, dtype=torch.float64).reshape(1, 12)
    yield "the numbers 0 to 11 as one row, P = 2, C = 3", lambda: call(answer, counted, 2)
    yield "D = 5, P = 3, C = 2", lambda: call(answer, numbers(5, 18), 3)
    yield "D = 4, P = 2, C = 5", lambda: call(answer, numbers(4, 20), 2)
    yield "D = P·P·C = 12", lambda: call(answer, numbers(12, 12), 2)
    yield "P = C = 3", lambda: call(answer, numbers(4, 27), 3)
    yield "one channel, P = 5", lambda: call(answer, numbers(3, 25), 5)


MUTANTS = edits(linear_to_conv, """
channels_first: (p q c) → (c p q)
    The columns are read as (c, p1, p2), which is the kernel's own order. In this dialect the
    channels run fastest: (p1 p2 c). The shape is right, and with one channel the numbers are, too.
    Split the columns in their own order, then move the channels.
pixels_transposed: d c p q → d c q p
    The channels are where they belong, but each kernel is flipped at its diagonal: its rows and
    columns have changed places. p1 counts lines and comes before p2.
all_axes_reversed: (p q c) -> d c p q → (c p q) -> d c q p
    The columns are read as (c, p1, p2), and the pixels are transposed as well. Split them in the
    order in which they lie, (p1, p2, c), and move only the channels.
split_as_p_c_p: (p q c) → (p c q)
    The columns are split as (p1, c, p2). They lie as (p1, p2, c): the channels of one pixel are
    neighbours.
wrong_side: rearrange(weight → rearrange(weight.T.reshape(weight.shape)
    The weight is transposed first. nn.Linear keeps its weight as (outputs, inputs), so each row is
    one kernel already; only a matrix that stands on the right, as in x @ W, needs the transpose.
transposed: rearrange(weight → rearrange(weight.T
    The weight is transposed first. nn.Linear keeps its weight as (outputs, inputs), so each row is
    one kernel already. (Where D = P·P·C even the shape would be right.)
turned_round: q=patch_size) → q=patch_size).flip(2, 3)
    The kernels are turned by 180°. A mathematician's convolution does that; PyTorch's Conv2d does
    not flip anything.
three_channels_by_einops: q=patch_size) → q=patch_size, c=3)
    The number of channels is fixed at 3, and einops refuses any other. Leave c out: it follows from
    the shape.
channels_last: d c p q → d p q c
    The columns are split in the right order, and the channels left at the end. A convolution's
    kernel is (D, C, P, P): move them to axis 1.
third_argument: (weight, patch_size) → (weight, patch_size, channels)
    Your function asks for a third argument. The number of channels is not given: it follows from
    the shape.
one_side_unknown: , q=patch_size →
    einops is told one side of the patch and cannot work out the other and the channels together.
    Give it both sides.
channels_first_of_all: d c p q → c d p q
    The axes come back as (C, D, P, P). Outputs stand before inputs in a kernel: (D, C, P, P).
one_row_per_channel: d c p q → d c (p q)
    The pixels of each channel lie in one row, (D, C, P·P). A kernel has four axes, (D, C, P, P).
one_row_per_kernel: d c p q → d (c p q)
    The numbers are in the order of a kernel, but in one row for each output. Give the kernel its
    four axes, (D, C, P, P).
kernels_last: d c p q → p q c d
    The axes come back as Flax keeps them, (P, P, C, D). PyTorch's kernels are (D, C, P, P).
""") | edits(by_permute, """
transposed_and_read: weight.reshape(len(weight), → weight.T.reshape(weight.shape[1],
    The weight is transposed first. nn.Linear keeps its weight as (outputs, inputs), so each row is
    one kernel already.
read_as_flax: len(weight), patch_size, patch_size, -1 → patch_size, patch_size, -1, len(weight)
and: 0, 3, 1, 2 → 3, 2, 0, 1
    The weight is read as (p1, p2, c, D), with the outputs last: so Flax keeps its kernels.
    nn.Linear keeps the outputs first, (D, p1·p2·c).
three_channels_first: patch_size, patch_size, -1).permute(0, 3, 1, 2) → 3, patch_size, patch_size)
    The columns are read as (c, p1, p2), and c is fixed at 3. In this dialect the channels run
    fastest, (p1 p2 c). How many there are follows from the shape.
divided_by_one_side: patch_size, -1 → patch_size, weight.shape[1] // patch_size
    The number of columns is divided by P once to get the channels. There are P·P·C columns: divide
    by P·P.
three_channels: -1 → 3
    The number of channels is fixed at 3. It is what is left of the columns: their number divided by
    P·P.
""")  # fmt: skip


def probe(answer):
    given = [(draw(3, 32), 4), (draw(7, 12), 2), (draw(18, 18), 3), (draw(2, 5), 1)]
    return [*[returns(answer, *g) for g in given], changes(answer, *given[0])]


EXERCISE = Exercise(
    name="linear_to_conv",
    chapter="06_dialects",
    task="linear_to_conv(weight, patch_size) -> (D, C, P, P), a convolution's kernel: from the "
    "weight (D, P·P·C) of a linear layer on patches flattened as (p1 p2 c)",
    reference=linear_to_conv,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_permute, by_channel, by_loop],
    probe=probe,
)
