"""1.3 unpatchify: the way back."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, single
from vitlib.check.probing import draw, returns


def unpatchify(patches, patch_size, img_size):
    (H, W), P = img_size, patch_size
    x = patches.reshape(len(patches), H // P, W // P, -1, P, P)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, H, W)


def by_rearrange(patches, patch_size, img_size):
    pattern = "b (h w) (c p q) -> b c (h p) (w q)"
    return rearrange(patches, pattern, h=img_size[0] // patch_size, p=patch_size, q=patch_size)


def by_loop(patches, patch_size, img_size):
    p, (height, width) = patch_size, img_size
    channels = patches.shape[2] // p**2
    images = patches.new_zeros(len(patches), channels, height, width)
    for n in range(patches.shape[1]):
        y, x = p * (n // (width // p)), p * (n % (width // p))
        images[:, :, y : y + p, x : x + p] = patches[:, n].reshape(-1, channels, p, p)
    return images


def by_fold(patches, patch_size, img_size):
    columns = patches.transpose(1, 2)  # (B, C*P*P, N)
    return F.fold(columns, img_size, patch_size, stride=patch_size)


def in_float32(patches, p, img_size):
    (H, W), B = img_size, len(patches)
    images = torch.zeros(B, patches.shape[2] // p**2, H, W)
    corners = [(y, x) for y in range(0, H, p) for x in range(0, W, p)]
    for n, (y, x) in enumerate(corners):
        images[:, :, y : y + p, x : x + p] = patches[:, n].reshape(B, -1, p, p)
    return images


def cases(answer) -> Cases:
    toy = vitlib.patchify(torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 4, 6), 2)
    yield "the toy of 4 × 6 pixels, P = 2", lambda: single(call(answer, toy, 2, (4, 6)))
    patches = vitlib.patchify(numbers(2, 3, 8, 12), 2)
    yield (
        "two colour images of 8 × 12 pixels, P = 2",
        lambda: single(call(answer, patches, 2, (8, 12))),
    )
    square = vitlib.patchify(numbers(2, 3, 10, 10), 5)
    yield "two square colour images, P = 5", lambda: single(call(answer, square, 5, (10, 10)))


AXES = ["B", "H/P", "W/P", "C", "P of the rows", "P of the columns"]
# what a permute is likely to get wrong and no mistake below names better
LIKELY = "32415 31254 32514 32154 14253 14325 13425 14235 31542"
LIKELY += " 34512 32145 51324 13245 12453 41523 23145 21345 14523"
ORDERS = "\n".join(
    f"""order_{order}: 0, 3, 1, 4, 2, 5 → 0, {", ".join(order)}
    Before the last reshape the axes are in the wrong order. They should be (B, C,
    H/P, P of the rows, W/P, P of the columns). Your numbers lie as if they were (B,
    {", ".join(AXES[int(axis)] for axis in order)})."""
    for order in LIKELY.split()
)

MUTANTS = edits(unpatchify, ORDERS) | edits(unpatchify, """
no_permute: .permute(0, 3, 1, 4, 2, 5) →
    A reshape alone lays the first patch out along the first line of the image. Split the axes into
    (B, H/P, W/P, C, P, P), permute so that H/P stands beside its P and W/P beside its P, and only
    then reshape.
not_interleaved: 0, 3, 1, 4, 2, 5 → 0, 3, 1, 2, 4, 5
    The channels are in front, but each patch is still laid out in one piece, along a line. Before
    the last reshape, H/P must stand beside its P and W/P beside its P: (B, C, H/P, P, W/P, P).
channels_split_off_first: H // P, W // P, -1, P, P) → -1, H // P, W // P, P, P)
and: 0, 3, 1, 4, 2, 5 → 0, 1, 2, 4, 3, 5
    The patches are split as if the channels came before the grid. patches is (B, N, C·P·P): N is
    (H/P, W/P), and the channels are inside, so split into (B, H/P, W/P, C, P, P).
split_like_the_image: H // P, W // P, -1, P, P) → H // P, P, W // P, P, -1)
and: 0, 3, 1, 4, 2, 5 → 0, 5, 1, 2, 3, 4
    The patches are split as if they lay like the image. patches is (B, N, C·P·P), so that the
    split is (B, H/P, W/P, C, P, P).
patchify_again: H // P, W // P, -1, P, P) → -1, H // P, P, W // P, P)
and: 0, 3, 1, 4, 2, 5 → 0, 2, 4, 1, 3, 5
    This is patchify once more, done to numbers that are patches already. The way back starts from
    (B, H/P, W/P, C, P, P), and permutes to (B, C, H/P, P, W/P, P).
channels_from_one_side: -1, P, P) → patches.shape[2] // P, P, P)
    The number of channels is taken for the last axis divided by P. That axis is C·P·P long: divide
    by P².
forward_again: 0, 3, 1, 4, 2, 5 → 0, 2, 4, 1, 3, 5
    This is the permute of patchify once more, and the way back needs the opposite one. You start
    from (B, H/P, W/P, C, P, P) and want (B, C, H/P, P, W/P, P): write down which axis goes where.
three_channels: // P, -1, P, P) → // P, 3, P, P)
    The number of channels is fixed at 3, and a grey image has one. Work it out: the last axis of
    the patches is C·P·P long.
rows_and_columns_swapped: H // P, W // P → W // P, H // P
    The numbers of rows and columns have changed places: the grid has H/P rows of W/P patches. On a
    square picture you would never see it.
square_grid: H // P, W // P → *2 * [int(patches.shape[1] ** 0.5)]
    The grid is taken to be square: its sides are the root of the number of patches, or one side is
    used for both. There are H/P rows and W/P columns.
view: .reshape(len(patches), -1, H, W) → .view(len(patches), -1, H, W)
    After a permute the numbers do not lie in memory in their new order, and .view cannot join such
    axes. Use .reshape, or .contiguous() before .view.
six_axes: .reshape(len(patches), -1, H, W) →
    All six axes come back. The last step is missing: join H/P with its P, and W/P with its P, to
    (B, C, H, W).
sizes_in_patches: H // P, W // P → H, W
    img_size is in pixels, and the grid is cut as if it were in patches: there are H // P rows of
    patches, and W // P columns.
height_and_width_swapped: (H, W) → (W, H)
    Height and width are swapped: the image lies on its side, and its rows of patches have the wrong
    length. img_size is (H, W), height first.
""") | edits(by_rearrange, """
channels_last: (c p q) → (p q c)
    Each patch is read as (p, p, c), but patchify wrote it as (c, p, p): the channels of
    neighbouring pixels get mixed. Look at how you split the last axis.
grid_by_columns: (h w) → (w h)
    The patches are put back down the columns of the grid, but they were counted along the rows.
    Split N into (H/P, W/P), rows first.
pixels_transposed: (c p q) → (c q p)
    Every patch stands in its place, but flipped at its diagonal: the two axes inside a patch are
    swapped.
width_then_channels: (c p q) → (p c q)
    Each patch is read as (p, c, p), but patchify wrote it as (c, p, p): the channel is the outer
    one of the three.
channels_last_and_transposed: (c p q) → (q p c)
    Each patch is read with its three axes reversed, as columns, rows, channels. patchify wrote it
    as (c, p, p): channels, rows, columns.
channels_between: (c p q) → (q c p)
    Each patch is read as columns, channels, rows. patchify wrote it as (c, p, p): channels, rows,
    columns.
inside_and_outside_swapped: (h p) (w q) → (p h) (q w)
    The axes are joined the wrong way round: (P, H/P) where it should be (H/P, P), and the same in
    the width. So the pixels of one patch are scattered over the image. The outer factor comes
    first: (h p) (w q).
rows_inside_out: (h p) → (p h)
    The rows are joined the wrong way round, as (P, H/P): the rows of one patch are scattered over
    the image. The outer factor comes first: (h p).
columns_inside_out: (w q)" → (q w)"
    The columns are joined the wrong way round, as (P, W/P): the columns of one patch are scattered
    over the image. The outer factor comes first: (w q).
image_channels_last: c (h p) (w q) → (h p) (w q) c
    The image is right, but its channels come last, as matplotlib likes them. PyTorch wants (B, C,
    H, W).
image_transposed: (h p) (w q) → (w q) (h p)
    The image lies on its side: it is (B, C, W, H). The rows come first: (B, C, H, W).
square_grid_of_einops: h=img_size[0] // patch_size →
→ **dict.fromkeys("hw", int(patches.shape[1] ** 0.5))
    The grid is taken to be square: its sides are the root of the number of patches, or one side is
    used for both. There are H/P rows and W/P columns.
three_channels_for_einops: h=img_size[0] // patch_size → c=3, h=img_size[0] // patch_size
    The number of channels is fixed at 3, and a grey image has one. Work it out: the last axis of
    the patches is C·P·P long.
sizes_in_patches_for_einops: h=img_size[0] // patch_size → h=img_size[0], w=img_size[1]
    img_size is in pixels, and the grid is cut as if it were in patches: there are H // P rows of
    patches, and W // P columns.
rows_first_in_a_line: b c (h p) (w q)" → b c (h w p) q"
    The patches stand one below the other, in one column. There are W/P of them side by side.
columns_in_a_line: b c (h p) (w q)" → b c p (h w q)"
    The patches stand side by side, all in one line. There are W/P in a line, and H/P lines.
""") | edits(by_loop, """
columns_of_the_grid_from_the_height: // (width // p)), p * (n % (width // p)) →
→ // (height // p)), p * (n % (height // p))
    Patch n is looked for in rows of H/P patches. A row has as many patches as fit side by side: n
    // (W // P) is its row, and n % (W // P) its column.
row_and_column_swapped: y, x = → x, y =
    Row and column of the patch have changed places: n // (W // P) says which row it stands in, and
    n % (W // P) which column.
places_in_patches: p * (n // (width // p)), p * (n % (width // p)) →
→ n // (width // p), n % (width // p)
    Row and column of the patch are used as if they were pixels, so that each patch covers the one
    before. Multiply them by the patch size.
last_patch_missing: range(patches.shape[1]) → range(patches.shape[1] - 1)
    The last patch is not put back. There are N of them: range(N) ends at N − 1 by itself.
all_channels_alike: patches[:, n].reshape(-1, channels, p, p) →
→ patches[:, n, None, : p * p].unflatten(-1, (p, p))
    All channels show the first one. Each patch holds C·P·P numbers: reshape it to (C, P, P).
""") | edits(in_float32, """
rows_as_long_as_columns: patches[:, n] → patches[:, y // p * (H // p) + x // p]
    The number of a patch is counted with H/P patches in a row. A row has W/P of them: patch (i, j)
    is number i · W/P + j.
""") | edits(by_fold, """
columns_not_transposed: .transpose(1, 2) →
    F.fold expects one patch in each *column*, (B, C·P·P, N), and gets the patches as rows.
    Transpose the last two axes before.
columns_reshaped: .transpose(1, 2) → .reshape(len(patches), patches.shape[2], -1)
    F.fold expects (B, C·P·P, N), and a reshape to that shape mixes all patches. Transpose the last
    two axes instead.
stride_missing: , stride=patch_size →
    F.fold moves on by one pixel if nothing is said, and then other numbers of patches would fit.
    Its stride must be the patch size.
""")  # fmt: skip


def probe(answer):
    given = [
        (draw(3, 6, 18), 3, (6, 9)),
        (draw(1, 10, 16), 2, (10, 4)),
        (draw(2, 1, 25), 5, (5, 5)),
    ]
    return [returns(answer, *g) for g in given]


EXERCISE = Exercise(
    name="unpatchify",
    chapter="01_patches",
    task="unpatchify(patches, patch_size, img_size) -> images (B, C, H, W): the inverse of "
    "patchify, with img_size = (H, W)",
    reference=unpatchify,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        by_rearrange,
        by_loop,
        by_fold,
        in_float32,
        vitlib.unpatchify,
    ],
    probe=probe,
)
