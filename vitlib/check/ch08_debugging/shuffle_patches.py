"""8.4 shuffle_patches: the same patches in another order."""

import torch
import torch.nn.functional as F
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import changes, draw, returns


def shuffle_patches(images, patch_size, order):
    B, C, H, W = images.shape
    P = patch_size
    rows, columns = H // P, W // P
    grid = images.reshape(B, C, rows, P, columns, P)
    patches = grid.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (B, N, C, P, P)
    moved = patches[:, order].reshape(B, rows, columns, C, P, P)
    return moved.permute(0, 3, 1, 4, 2, 5).reshape(B, C, H, W)


def by_loop(images, patch_size, order):
    P = patch_size
    columns = images.shape[3] // P
    moved = torch.zeros_like(images)
    for place, number in enumerate(order.tolist()):
        y, x = divmod(place, columns)
        from_y, from_x = divmod(number, columns)
        patch = images[:, :, from_y * P : from_y * P + P, from_x * P : from_x * P + P]
        moved[:, :, y * P : y * P + P, x * P : x * P + P] = patch
    return moved


def by_fold(images, patch_size, order):
    columns = F.unfold(images, patch_size, stride=patch_size)  # (B, C·P·P, N)
    moved = columns[:, :, order]
    return F.fold(moved, images.shape[2:], patch_size, stride=patch_size)


def by_einops(images, patch_size, order):
    patches = rearrange(images, "b c (h p) (w q) -> (h w) b c p q", p=patch_size, q=patch_size)
    rows = images.shape[2] // patch_size
    return rearrange(patches[order], "(h w) b c p q -> b c (h p) (w q)", h=rows)


def cases(answer) -> Cases:
    def run(shape, patch_size, order, dtype=torch.float64):
        images = numbers(*shape, seed=3).to(dtype)
        return call(answer, images, patch_size, torch.tensor(order))

    yield "2 wide images, 3 patches of 2 × 2 side by side", lambda: run((2, 3, 2, 6), 2, [1, 2, 0])
    yield "a grid of 2 × 3 patches", lambda: run((2, 3, 4, 6), 2, [3, 5, 0, 1, 4, 2])
    yield "a grid of 3 × 2 patches of 3 × 3", lambda: run((2, 1, 9, 6), 3, [2, 0, 5, 1, 3, 4])
    # on a square grid, rows and columns can change places
    yield "a square grid", lambda: run((1, 2, 6, 6), 2, [4, 0, 7, 8, 2, 1, 3, 6, 5])
    yield (
        "as many channels as pixels, P = 1",
        lambda: run((3, 4, 2, 4), 1, [6, 0, 3, 1, 7, 2, 5, 4]),
    )
    yield "two patches change places", lambda: run((1, 2, 4, 8), 4, [1, 0])
    yield "an order that leaves all in place", lambda: run((2, 2, 4, 6), 2, [0, 1, 2, 3, 4, 5])
    yield (
        "images in float32",
        lambda: run((2, 1, 4, 4), 2, [2, 3, 1, 0], torch.float32),
    )


MUTANTS = edits(shuffle_patches, """
inverse: [:, order] → [:, order.argsort()]
    The order is applied the wrong way round: patch i goes to place order[i]. Place i should hold
    patch order[i]: new[i] = old[order[i]]. As indices on the right, `patches[:, order]`, the order
    does just that; on the left, or after argsort, it does the opposite.
not_shuffled: [:, order] →
    Nothing is shuffled: the images come back as they were. Index the patches with `order`.
order_of_your_own: [:, order] → [:, torch.randperm(len(order))]
    The patches are shuffled in an order of your own. Use the one that you are given.
one_place_only: [:, order] → [:, order[:1]].repeat(1, len(order), 1, 1, 1)
    The same patch stands everywhere. Index with the whole order.
shifted_order: [:, order] → [:, order - 1]
    The order is read as if it counted from 1. Its numbers begin with 0.
images_indexed: patches[:, order] → patches[order]
    The order is applied to the first axis, the images. Index the axis of the patches.
images_shuffled: patches[:, order] → patches[:, order][torch.arange(B).roll(1)]
    The images change places, too. Each keeps its place in the batch.
no_permute: grid.permute(0, 2, 4, 1, 3, 5).flatten(1, 2) → grid.reshape(B, rows * columns, C, P, P)
and: moved.permute(0, 3, 1, 4, 2, 5).reshape → moved.reshape
    There is no permute: a reshape alone reads the pixels row by row across the whole image, so what
    you move are pieces of rows, not patches. Split the axes H and W into (rows, P) and (columns, P)
    first, and bring rows and columns to the front.
no_permute_channels_first: grid.permute(0, 2, 4, 1, 3, 5).flatten(1, 2) →
→ grid.reshape(B, C, rows * columns, P, P)
and: [:, order] → [:, :, order]
and: moved.permute(0, 3, 1, 4, 2, 5).reshape → moved.reshape
    There is no permute: a reshape alone reads the pixels row by row across the whole image, so what
    you move are pieces of rows, not patches. Split the axes H and W into (rows, P) and (columns, P)
    first, and bring rows and columns next to each other.
no_way_back: .permute(0, 3, 1, 4, 2, 5) →
no_way_back_from_channels: permute(0, 2, 4, 1, 3, 5).flatten(1, 2) →
→ permute(0, 1, 2, 4, 3, 5).flatten(2, 3)
and: [:, order] → [:, :, order]
and: .permute(0, 3, 1, 4, 2, 5) →
no_way_back_from_channels_last: permute(0, 2, 4, 1, 3, 5) → permute(0, 2, 4, 3, 5, 1)
and: reshape(B, rows, columns, C, P, P) → reshape(B, rows, columns, P, P, C)
and: .permute(0, 3, 1, 4, 2, 5) →
    The patches are shuffled as they should be, but the way back is not the way there in reverse, so
    the pixels end up in wrong places. Before the last reshape the axes have to be (B, C, rows, P,
    columns, P): then each row of pixels lies beside that of the next patch.
pixels_in_another_order: permute(0, 2, 4, 1, 3, 5) → permute(0, 2, 4, 3, 5, 1)
pixels_in_another_order_back: rows, columns, C, P, P) → rows, columns, P, P, C)
and: permute(0, 3, 1, 4, 2, 5) → permute(0, 5, 1, 3, 2, 4)
    On the way back, the numbers within a patch are read in another order than the one in which they
    were written: channel, row, column one way, and row, column, channel the other. Use the same.
pixels_from_afar: reshape(B, C, rows, P, columns, P) → reshape(B, C, P, rows, P, columns)
and: permute(0, 2, 4, 1, 3, 5) → permute(0, 3, 5, 1, 2, 4)
and: permute(0, 3, 1, 4, 2, 5) → permute(0, 3, 4, 1, 5, 2)
    A patch of yours is made of pixels that lie far apart, one from each part of the image. Split
    the axis H into (rows, P), in this order, and W into (columns, P).
column_by_column: permute(0, 2, 4, 1, 3, 5) → permute(0, 4, 2, 1, 3, 5)
and: reshape(B, rows, columns, C, P, P) → reshape(B, columns, rows, C, P, P)
and: permute(0, 3, 1, 4, 2, 5) → permute(0, 3, 2, 4, 1, 5)
    The patches are numbered column by column. Number them row by row: left to right, then down.
taken_column_by_column: permute(0, 2, 4, 1, 3, 5) → permute(0, 4, 2, 1, 3, 5)
    The patches are taken column by column and put down row by row. Number them row by row both
    times.
put_down_column_by_column: reshape(B, rows, columns, C, P, P) → reshape(B, columns, rows, C, P, P)
and: permute(0, 3, 1, 4, 2, 5) → permute(0, 3, 2, 4, 1, 5)
    The patches are taken row by row and put down column by column. Number them row by row both
    times.
grid_on_its_side: reshape(B, rows, columns, C, P, P) → reshape(B, columns, rows, C, P, P)
and: reshape(B, C, H, W) → reshape(B, C, W, H)
    Height and width are swapped on the way back: the grid has `rows` rows and `columns` columns.
sides_swapped_at_the_end: reshape(B, C, H, W) → reshape(B, C, W, H)
    The pixels are in the right order, but height and width are swapped in the last reshape.
rows_and_columns_swapped: rows, columns = H // P, W // P → rows, columns = W // P, H // P
    Rows and columns are swapped: there are H // P rows of patches, and W // P in each.
square_grid: rows, columns = H // P, W // P → rows = columns = int(len(order) ** 0.5)
    You take the grid for a square. Height and width may differ: there are H // P rows and W // P
    columns.
patches_turned: permute(0, 3, 1, 4, 2, 5) → permute(0, 3, 1, 5, 2, 4)
    Each patch is mirrored along its diagonal: the rows of its pixels have become columns. Keep the
    order of the two inner axes on both ways.
patches_come_back: .permute(0, 3, 1, 4, 2, 5).reshape(B, C, H, W) → .flatten(1, 2)
    The patches came back. Put them together to images again, (B, C, H, W).
patches_come_back_flat: .permute(0, 3, 1, 4, 2, 5).reshape(B, C, H, W) → .flatten(1, 2).flatten(2)
    The patches came back. Put them together to images again, (B, C, H, W).
first_image_only: [:, order] → [:1, order].expand(B, -1, -1, -1, -1)
    Every image is the first one. Shuffle each with its own pixels.
each_channel_its_own: patches[:, order] →
→ torch.stack([patches[:, order.roll(c), c] for c in range(C)], dim=2)
    The channels are shuffled differently. Move each patch with all its channels.
""") | edits(by_loop, """
reads_what_is_overwritten: torch.zeros_like(images) → images.clone()
and: patch = images[ → patch = moved[
    You read from the tensor into which you write: a patch that was overwritten before is lost, and
    another one is there twice. Read from `images`, and write into a new tensor.
in_place: torch.zeros_like(images) → images
    You write into the images that you are given, and read from them what you have overwritten. Read
    from `images`, and write into a new tensor, such as torch.empty_like(images).
always_float32: torch.zeros_like(images) → torch.zeros(images.shape)
    The result is in float32, whatever the images are. torch.empty_like(images) has their dtype.
swapped_one_by_one: torch.zeros_like(images) → images.clone()
and: patch = images[:, :, from_y * P : from_y * P + P, from_x * P : from_x * P + P] →
→ there = (..., slice(from_y * P, from_y * P + P), slice(from_x * P, from_x * P + P))
→ patch = moved[there].clone()
→ moved[there] = moved[:, :, y * P : y * P + P, x * P : x * P + P].clone()
    Two patches at a time change places. After the first swap, a patch need not be where `order`
    looks for it. Read from `images`, and write into a new tensor.
counted_by_the_height: images.shape[3] // P → images.shape[2] // P
counted_by_the_height_in_a_copy: torch.zeros_like(images) → images.clone()
and: images.shape[3] // P → images.shape[2] // P
    Row and column of a patch are computed with the number of *rows*. A row has as many patches as
    the image is wide: divmod(i, W // P).
place_counted_by_the_height: enumerate(order.tolist()): → enumerate(order.tolist()):
→     number = order.tolist()[place // columns * (images.shape[2] // P) + place % columns]
    The number of the place (i, j) is computed with the number of *rows*. It is i · (W // P) + j.
rows_for_columns: y, x = divmod(place, columns) → x, y = divmod(place, columns)
and: from_y, from_x = divmod(number, columns) → from_x, from_y = divmod(number, columns)
    Row and column are swapped: divmod(i, columns) gives the row first, then the column.
not_times_the_size: y * P : y * P + P, x * P : x * P + P → y : y + P, x : x + P
and: from_y * P : from_y * P + P, from_x * P : from_x * P + P →
→ from_y : from_y + P, from_x : from_x + P
    Rows and columns of patches are taken for those of pixels. Patch (y, x) begins at pixel
    (y · P, x · P).
""") | edits(by_fold, """
patches_come_back_in_columns: F.fold(moved, images.shape[2:], patch_size, stride=patch_size) → moved
    The patches came back. Put them together to images again, (B, C, H, W).
pixels_shuffled: [:, :, order] → [:, order]
    F.unfold gives (B, C·P·P, N): the patches are its *last* axis, and you index the one before, the
    pixels. Write [:, :, order].
unfolded_without_stride: (images, patch_size, stride=patch_size) → (images, patch_size)
    F.unfold moves on by one pixel if it is not told otherwise, and its patches overlap. Give it
    stride=patch_size.
folded_without_stride: [2:], patch_size, stride=patch_size → [2:], patch_size
    F.fold expects patches one pixel apart if it is not told otherwise. Give it stride=patch_size.
""")  # fmt: skip


def probe(answer):
    given = [((3, 2, 4, 10), 2), ((2, 4, 9, 6), 3), ((1, 3, 8, 8), 2), ((2, 1, 3, 5), 1)]
    runs = []
    for seed, (shape, P) in enumerate(given):
        count = shape[2] // P * (shape[3] // P)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        images = draw(*shape, seed=seed)
        runs += [returns(answer, images, P, order), changes(answer, images, P, order)]
    return runs


EXERCISE = Exercise(
    name="shuffle_patches",
    chapter="08_debugging",
    task="shuffle_patches(images, patch_size, order) -> new images of the same shape and "
    "dtype: cut into patches, numbered row by row, with patch order[i] at place i",
    reference=shuffle_patches,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_loop, by_fold, by_einops],
    probe=probe,
)
