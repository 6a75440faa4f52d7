"""1.2 patchify: the permute that is forgotten."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, single
from vitlib.check.probing import changes, draw, returns


def patchify(images, patch_size):
    B, C, H, W = images.shape
    P = patch_size
    x = images.reshape(B, C, H // P, P, W // P, P)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C * P * P)


def by_rearrange(images, patch_size):
    pattern = "b c (h p) (w q) -> b (h w) (c p q)"
    return rearrange(images, pattern, p=patch_size, q=patch_size)


def by_unfold(images, patch_size):
    return F.unfold(images, patch_size, stride=patch_size).transpose(1, 2)


def by_loop(images, patch_size):
    p, (height, width) = patch_size, images.shape[-2:]
    corners = [(y, x) for y in range(0, height, p) for x in range(0, width, p)]
    return torch.stack([images[:, :, y : y + p, x : x + p].flatten(1) for y, x in corners], 1)


def cases(answer) -> Cases:
    toy = torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 4, 6)
    yield "one grey image of 4 × 6 pixels, P = 2", lambda: single(call(answer, toy, 2))
    images = numbers(2, 3, 8, 12)
    yield "two colour images of 8 × 12 pixels, P = 4", lambda: single(call(answer, images, 4))
    yield "two colour images of 8 × 12 pixels, P = 2", lambda: single(call(answer, images, 2))
    yield "an image that is one patch", lambda: single(call(answer, numbers(2, 3, 5, 5), 5))


AXES = ["B", "C", "H/P", "P of the rows", "W/P", "P of the columns"]
# what a permute is likely to get wrong and no mistake below names better
LIKELY = "14235 21435 23145 25134 24315 24531 24513 23415 32415"
LIKELY += " 35124 35241 23451 12453 31425 21345 41235 13245 21453"
ORDERS = "\n".join(
    f"""order_{order}: 0, 2, 4, 1, 3, 5 → 0, {", ".join(order)}
    Before the last reshape the axes are in the wrong order. They should be (B, H/P,
    W/P, C, P of the rows, P of the columns). Your numbers lie as if they were (B,
    {", ".join(AXES[int(axis)] for axis in order)})."""
    for order in LIKELY.split()
)

MUTANTS = edits(patchify, ORDERS) | edits(patchify, """
no_permute: .permute(0, 2, 4, 1, 3, 5) →
    The patches are strips. A reshape alone cannot cut squares: it takes the pixels in the order in
    which they lie in memory, line by line. Split the axes into (B, C, H/P, P, W/P, P), and bring
    the two that say which patch together, with permute, before you flatten.
channels_not_moved: 0, 2, 4, 1, 3, 5 → 0, 1, 2, 4, 3, 5
    With one channel this is right; with more, patches of one channel only are run together. Before
    you flatten, the axes should be (B, H/P, W/P, C, P, P): the channels belong inside the patch,
    behind the two axes of the grid.
grid_split_off_first: H // P, P, W // P, P) → H // P, W // P, P, P)
and: 0, 2, 4, 1, 3, 5 → 0, 2, 3, 1, 4, 5
    The axes are split as (B, C, H/P, W/P, P, P). But a reshape can split an axis only into its own
    factors: H into (H/P, P), and W into (W/P, P), so that it is (B, C, H/P, P, W/P, P).
height_and_width_swapped: B, C, H, W = → B, C, W, H =
    Height and width are swapped: images.shape is (B, C, H, W), height first.
rows_for_columns: H // P, P, W // P, P) → H // P, P, H // P, P)
    The picture is taken to be square: the number of rows, H/P, stands for the columns as well.
    There are W/P of them.
patch_and_grid_swapped: H // P, P, W // P, P) → P, H // P, P, W // P)
    Height and width are split into P parts each, so that the patches have H/P × W/P pixels. Split
    them into (H/P, P) and (W/P, P): the number of patches first, then their size.
view: .reshape(B, -1, → .view(B, -1,
    After a permute the numbers do not lie in memory in their new order, and .view cannot join such
    axes. Use .reshape, or .contiguous() before .view.
six_axes: .reshape(B, -1, C * P * P) →
    All six axes come back. The last step is missing: join H/P with W/P, and C, P and P, to
    (B, N, C·P·P).
grid_kept: (B, -1, C * P * P) → (B, H // P, W // P, C * P * P)
    The patches still stand in their grid, (B, H/P, W/P, C·P·P). A Transformer wants a sequence:
    join the two axes of the grid, to (B, N, C·P·P).
patches_kept: (B, -1, C * P * P) → (B, -1, C, P, P)
    The patches are right, but not flattened: this is (B, N, C, P, P). Join the last three axes.
batch_joined: (B, -1, C * P * P) → (-1, C * P * P)
    The patches of all images stand in one list, (B·N, C·P·P). Keep the batch as an axis of its own:
    (B, N, C·P·P).
""") | edits(by_rearrange, """
channels_last: (c p q) → (p q c)
    Each patch is flattened as (p, p, c), and it should be (c, p, p). Both are patches, but a
    convolution's weight is (c, p, p), and weights learned in one order are nonsense in the other.
    Look at the order of the last three axes in your permute.
along_the_columns: (h w) → (w h)
    The patches are counted down the columns of the grid. The order is as we read: along the rows.
    Look at which of H/P and W/P comes first.
pixels_transposed: (c p q) → (c q p)
    Each patch is flipped at its diagonal: its columns are read as its rows. Look at the order of
    the two axes inside a patch.
inside_and_outside_swapped: (h p) (w q) → (p h) (q w)
    The axes are split the wrong way round: (P, H/P) where it should be (H/P, P). So a patch takes
    every (H/P)th pixel instead of P neighbours. The outer factor of a split comes first.
rows_inside_out: (h p) → (p h)
    The rows are split the wrong way round, as (P, H/P): a patch takes every (H/P)th row instead of
    P neighbours. The outer factor of a split comes first.
columns_inside_out: (w q) → (q w)
    The columns are split the wrong way round, as (P, W/P): a patch takes every (W/P)th column
    instead of P neighbours. The outer factor of a split comes first.
pixels_apart_from_channels: (c p q)" → c (p q)"
    The patches are right, but their channels still stand apart: this is (B, N, C, P·P). Join the
    last two axes, too.
first_image_only: (images, pattern → (images[:1], pattern
    Only the first image of the batch is cut. Keep the axis B.
""") | edits(by_unfold, """
unfold_reshaped: .transpose(1, 2) → .reshape(len(images), -1, images.shape[1] * patch_size**2)
    F.unfold puts one patch in each *column*, and a reshape to (B, N, C·P·P) reads along the rows:
    it mixes all patches. Transpose the last two axes instead.
unfold_without_transpose: .transpose(1, 2) →
    This is what F.unfold returns: (B, C·P·P, N), with one patch in each column. Transpose the last
    two axes.
overlapping: , stride=patch_size →
    The patches overlap: the window moves on by one pixel. Its stride must be the patch size.
""") | edits(by_loop, """
stacked_first: flatten(1) for y, x in corners], 1) → flatten(1) for y, x in corners])
    The patches are stacked along a new first axis: this is (N, B, C·P·P). Stack along axis 1, to
    (B, N, C·P·P).
joined: torch.stack( → torch.cat(
    The patches of an image are joined to one long vector. Stack them, so that they have an axis of
    their own: (B, N, C·P·P).
""")  # fmt: skip


def probe(answer):
    images = [(draw(3, 2, 6, 9), 3), (draw(1, 4, 10, 4), 2), (draw(2, 1, 4, 4), 1)]
    return [returns(answer, *given) for given in images] + [changes(answer, *images[0])]


EXERCISE = Exercise(
    name="patchify",
    chapter="01_patches",
    task="patchify(images, patch_size) -> (B, N, C·P·P): images (B, C, H, W) cut into square "
    "patches, counted along the rows, each flattened as (c, p, p)",
    reference=patchify,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_rearrange, by_unfold, by_loop, vitlib.patchify],
    probe=probe,
)
