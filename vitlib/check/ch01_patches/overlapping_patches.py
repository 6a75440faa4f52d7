"""1.4 overlapping_patches: a stride of its own."""

import torch
import torch.nn.functional as F
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, single
from vitlib.check.probing import draw, returns


def overlapping_patches(images, patch_size, stride):
    return F.unfold(images, patch_size, stride=stride).transpose(1, 2)


def by_loop(images, patch_size, stride):
    p, (height, width) = patch_size, images.shape[-2:]
    tops, lefts = range(0, height - p + 1, stride), range(0, width - p + 1, stride)
    cut = [images[:, :, y : y + p, x : x + p].flatten(1) for y in tops for x in lefts]
    return torch.stack(cut, 1)


def by_view(images, patch_size, stride):
    windows = images.unfold(2, patch_size, stride).unfold(3, patch_size, stride)
    return rearrange(windows, "b c h w p q -> b (h w) (c p q)")


def in_float32(images, p, stride):
    B, C, H, W = images.shape
    rows, columns = (H - p) // stride + 1, (W - p) // stride + 1
    patches = torch.zeros(B, rows * columns, C * p * p)
    for n in range(rows * columns):
        y, x = n // columns * stride, n % columns * stride
        patches[:, n] = images[:, :, y : y + p, x : x + p].reshape(B, -1)
    return patches


def cases(answer) -> Cases:
    def cut(*given):
        return lambda: single(call(answer, *given))

    toy = torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 4, 6)
    images = numbers(2, 3, 8, 14)
    yield "the toy of 4 × 6 pixels, P = 2, stride 1", cut(toy, 2, 1)
    yield "two colour images of 8 × 14 pixels, P = 4, stride 2", cut(images, 4, 2)
    yield "the same images, P = 2, stride 3", cut(images, 2, 3)
    # pixels are left over at the edges; in turn, fewer and more than half a stride
    yield "the same images, P = 3, stride 2", cut(images, 3, 2)
    yield "two colour images of 9 × 12 pixels, P = 3, stride 4", cut(numbers(2, 3, 9, 12), 3, 4)
    square = numbers(2, 3, 10, 10)
    yield "two square colour images of 10 × 10 pixels, P = 5, stride 3", cut(square, 5, 3)


MUTANTS = edits(overlapping_patches, """
stride_is_the_patch_size: stride=stride → stride=patch_size
    The window moves on by the patch size, whatever the stride is: the patches do not overlap. Look
    at the stride that you pass on.
stride_by_position: stride=stride → stride
    The third argument of F.unfold is not the stride but `dilation`, which pulls the pixels of a
    window apart. Name it: stride=stride.
stride_one: , stride=stride →
    The window always moves on by one pixel. Pass the stride on: the default is 1.
not_transposed: .transpose(1, 2) →
    This is what F.unfold returns: (B, C·P·P, N), with one patch in each column. Transpose the last
    two axes.
patch_and_stride_swapped: patch_size, stride=stride → stride, stride=patch_size
    Patch size and stride are swapped: the windows have the size of the stride.
unfold_reshaped: .transpose(1, 2) → .reshape(len(images), -1, images.shape[1] * patch_size**2)
    F.unfold puts one window in each *column*, and a reshape to (B, N, C·P·P) reads along the rows:
    it mixes all windows. Transpose the last two axes instead.
stride_is_the_overlap: stride=stride → stride=patch_size - stride
    The third argument is taken for the overlap: your windows move on by P − stride pixels. They
    should move on by `stride`.
stride_is_the_overlap_or_one: stride=stride → stride=max(1, patch_size - stride)
    The third argument is taken for the overlap: your windows move on by P − stride pixels, and one
    at least. They should move on by `stride`.
padded_by_half: stride=stride → padding=patch_size // 2, stride=stride
    The image is padded with P // 2 zeros on each side, so that there are more windows, which reach
    beyond the edge. Leave out the padding.
padded_by_all_but_one: stride=stride → padding=patch_size - 1, stride=stride
    The image is padded with P − 1 zeros on each side, so that windows reach beyond the edge. Leave
    out the padding.
padded_by_one: stride=stride → padding=1, stride=stride
    The image is padded with a zero on each side, so that windows reach beyond the edge. Leave out
    the padding.
padded_by_the_overlap: stride=stride →
→ padding=max(0, patch_size - stride) // 2, stride=stride
padded_by_the_overlap_or_less: stride=stride → padding=(patch_size - stride) // 2, stride=stride
    The image is padded with half of what the windows overlap, so that they reach beyond the edge.
    Leave out the padding.
padded_by_all_of_the_overlap: stride=stride → padding=max(0, patch_size - stride), stride=stride
padded_by_all_of_the_overlap_or_less: stride=stride → padding=patch_size - stride, stride=stride
    The image is padded with P − stride zeros on each side, as much as the windows overlap, so that
    they reach beyond the edge. Leave out the padding.
padded_to_the_same_size: stride=stride → padding=(patch_size - 1) // 2, stride=stride
    The image is padded with (P − 1) // 2 zeros on each side, as "same" convolutions do, so that
    windows reach beyond the edge. Leave out the padding.
padded_to_patches: unfold(images, patch_size →
→ unfold(F.pad(
→     images, [v for n in (3, 2) for v in (0, -images.shape[n] % patch_size)]
→ ), patch_size
    The image is padded to a multiple of P, so that windows reach beyond its edge. Leave out the
    padding: what no window reaches is left out.
padded_by_the_stride: stride=stride → padding=stride, stride=stride
    The image is padded with `stride` zeros on each side, so that windows reach beyond the edge.
    Leave out the padding.
padded_to_fit: unfold(images, patch_size →
→ unfold(F.pad(
→     images, [v for n in (3, 2) for v in (0, (patch_size - images.shape[n]) % stride)]
→ ), patch_size
    Where pixels are left over, a last window is added that reaches beyond the image. They are left
    out: there are (H − P) // stride + 1 rows of windows, rounded down.
first_image_only: unfold(images → unfold(images[:1]
    Only the first image of the batch is cut. Keep the axis B.
""") | edits(by_loop, """
beyond_the_edge: height - p + 1 → height
and: width - p + 1 → width
and: images[:, :, → F.pad(images, (0, p, 0, p))[:, :,
    Windows that reach beyond the edge are counted, with zeros where there is no image. The last one
    starts at H − P: there are (H − P) // stride + 1 of them.
one_too_few: in tops → in tops[:-1]
and: in lefts → in lefts[:-1]
    The last row and the last column of windows are missing: there are (H − P) // stride + 1, and
    the + 1 is forgotten.
one_row_too_few: in tops → in tops[:-1]
    The last row of windows is missing, and no column: there are (H − P) // stride + 1 rows.
one_column_too_few: in lefts → in lefts[:-1]
    The last column of windows is missing, and no row: there are (W − P) // stride + 1 columns.
last_only_where_pixels_are_left: height - p + 1 → height - p
and: width - p + 1 → width - p
    The window that ends exactly at the edge is missing. The last one may start at H − P itself, and
    range(0, H − P) ends before it: range(0, H − P + 1, stride).
last_row_only_where_pixels_are_left: height - p + 1 → height - p
    The row of windows that ends exactly at the lower edge is missing. The last one may start at
    H − P itself: range(0, H − P + 1, stride).
last_column_only_where_pixels_are_left: width - p + 1 → width - p
    The column of windows that ends exactly at the right edge is missing. The last one may start at
    W − P itself: range(0, W − P + 1, stride).
no_room_left: height - p + 1 → height
and: width - p + 1 → width
    Windows start up to the edge of the image, and the last ones find no P pixels there, so that the
    pieces differ in size. A window may start at H − P at the latest.
as_many_as_strides: height - p + 1 → height // stride * stride
and: width - p + 1 → width // stride * stride
    H // stride windows are cut in each column, and the last ones find no P pixels at the edge.
    There are (H − P) // stride + 1 of them.
as_many_as_patches: height - p + 1 → height // p * stride
and: width - p + 1 → width // p * stride
    As many windows are cut as there are patches side by side, H // P. With a stride of its own,
    there are (H − P) // stride + 1.
square_grid: range(0, width - p + 1, stride) → range(0, height - p + 1, stride)
    As many columns as rows are cut. The image may be wide: its width gives the number of columns,
    (W − P) // stride + 1.
height_and_width_swapped: p, (height, width) = → p, (width, height) =
    Height and width are swapped: images.shape is (B, C, H, W), height first.
rows_by_the_patch: height - p + 1, stride → height - p + 1, p
    From row to row the window moves on by P pixels, not by the stride. It is the same stride in
    both directions.
columns_by_the_patch: width - p + 1, stride → width - p + 1, p
    From column to column the window moves on by P pixels, not by the stride. It is the same stride
    in both directions.
moved_by_one: images[:, :, y : y + p, x : x + p] →
→ images[:, :, y // stride :, x // stride :][:, :, :p, :p]
    There are as many windows as there should be, but they start one pixel after the other. Window
    (i, j) starts at (i · stride, j · stride).
moved_by_the_patch: images[:, :, y : y + p, x : x + p] →
→ images[:, :, y // stride * p :, x // stride * p :][:, :, :p, :p]
    There are as many windows as there should be, but they start P pixels after each other, and so
    they run over the edge. Window (i, j) starts at (i · stride, j · stride).
stacked_first: torch.stack(cut, 1) → torch.stack(cut)
    The windows are stacked along a new first axis: this is (N, B, C·P·P). Stack along axis 1, to
    (B, N, C·P·P).
joined: torch.stack(cut, 1) → torch.cat(cut, 1)
    The windows of an image are joined to one long vector. Stack them, so that they have an axis of
    their own: (B, N, C·P·P).
list_returned: torch.stack(cut, 1) → cut
    A list comes back. Make one tensor of it: torch.stack(windows, 1).
not_flattened: .flatten(1) →
    The windows are right, but not flattened: this is (B, N, C, P, P). Join the last three axes.
last_at_the_edge: in tops → in sorted({*tops, height - p})
and: in lefts → in sorted({*lefts, width - p})
    A window more is cut at the edge, so that no pixels are left over. It does not follow the
    stride: leave it out. There are (H − P) // stride + 1 rows.
""") | edits(by_view, """
along_the_columns: (h w) → (w h)
    The windows are right, but counted down the columns. Count along the rows: the loop over the
    columns is the inner one.
channels_last: (c p q) → (p q c)
    Each window is flattened as (p, p, c), and it should be (c, p, p): the channel first.
no_permute: rearrange(windows, "b c h w p q -> b (h w) (c p q)") →
→ windows.reshape(len(images), -1, images.shape[1] * patch_size**2)
    With one channel this is right; with more, the windows of one channel are run together with
    those of the next. images.unfold leaves (B, C, rows, columns, P, P): bring C behind the rows and
    columns before you flatten.
channels_behind_the_rows: rearrange(windows, "b c h w p q -> b (h w) (c p q)") →
→ windows.transpose(1, 2).reshape(len(images), -1, images.shape[1] * patch_size**2)
    The channels are brought behind the rows of the grid, and they belong behind its columns, too:
    the axes should be (B, rows, columns, C, P, P).
pixels_transposed: (c p q) → (c q p)
    Each window is flipped at its diagonal: its columns are read as its rows. Look at the order of
    the two axes inside a window.
channels_between: (c p q) → (p c q)
    Each window is flattened as (p, c, p), and it should be (c, p, p): the channel first.
channels_last_and_transposed: (c p q) → (q p c)
    Each window is flattened with its three axes reversed, as columns, rows, channels. It should be
    (c, p, p): channels, rows, columns.
grid_kept: b (h w) (c p q) → b h w (c p q)
    The windows still stand in their grid, (B, rows, columns, C·P·P). Join the two axes of the grid,
    to (B, N, C·P·P).
inside_first: b (h w) (c p q) → b (p q) (c h w)
    What is joined to N is the place *inside* a window, and what is joined to the numbers is the
    place in the grid: it is the other way round.
rows_of_pixels: b (h w) (c p q) → b (h p w) (c q)
    Each row of each window stands alone, as C·P numbers. All pixels of a window belong together,
    in C·P·P.
""")  # fmt: skip


def probe(answer):
    given = [(draw(3, 2, 7, 9), 3, 2), (draw(1, 2, 9, 8), 2, 2), (draw(2, 1, 10, 13), 4, 3)]
    return [returns(answer, *g) for g in given] + [returns(answer, draw(1, 2, 5, 6), 5, 1)]


EXERCISE = Exercise(
    name="overlapping_patches",
    chapter="01_patches",
    task="overlapping_patches(images, patch_size, stride) -> (B, N, C·P·P): a window of P × P "
    "pixels that moves on by `stride`, along the rows, and never beyond the image",
    reference=overlapping_patches,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_loop, by_view, in_float32],
    probe=probe,
)
