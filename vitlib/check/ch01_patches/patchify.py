"""1.2 patchify: the permute that is forgotten."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
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
    yield "one grey image of 4 × 6 pixels, P = 2", lambda: call(answer, toy, 2)
    images = numbers(2, 3, 8, 12)
    yield "two colour images of 8 × 12 pixels, P = 4", lambda: call(answer, images, 4)
    yield "two colour images of 8 × 12 pixels, P = 2", lambda: call(answer, images, 2)
    yield "an image that is one patch", lambda: call(answer, numbers(2, 3, 5, 5), 5)


MUTANTS = edits(patchify, """
no_permute: .permute(0, 2, 4, 1, 3, 5) →
    The patches are strips. A reshape alone cannot cut squares: it takes the pixels in the order in
    which they lie in memory, line by line. Split the axes into (B, C, H/P, P, W/P, P), and bring
    the two that say which patch together, with permute, before you flatten.
channels_not_moved: 0, 2, 4, 1, 3, 5 → 0, 1, 2, 4, 3, 5
    With one channel this is right; with more, patches of one channel only are run together. Before
    you flatten, the axes should be (B, H/P, W/P, C, P, P): the channels belong inside the patch,
    behind the two axes of the grid.
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
""") | edits(by_unfold, """
unfold_reshaped: .transpose(1, 2) → .reshape(len(images), -1, images.shape[1] * patch_size**2)
    F.unfold puts one patch in each *column*, and a reshape to (B, N, C·P·P) reads along the rows:
    it mixes all patches. Transpose the last two axes instead.
unfold_without_transpose: .transpose(1, 2) →
    This is what F.unfold returns: (B, C·P·P, N), with one patch in each column. Transpose the last
    two axes.
overlapping: , stride=patch_size →
    The patches overlap: the window moves on by one pixel. Its stride must be the patch size.
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
