"""1.3 unpatchify: the way back."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
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


def cases(answer) -> Cases:
    toy = vitlib.patchify(torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 4, 6), 2)
    yield "the toy of 4 × 6 pixels, P = 2", lambda: call(answer, toy, 2, (4, 6))
    patches = vitlib.patchify(numbers(2, 3, 8, 12), 2)
    yield "two colour images of 8 × 12 pixels, P = 2", lambda: call(answer, patches, 2, (8, 12))
    square = vitlib.patchify(numbers(2, 3, 10, 10), 5)
    yield "two square colour images, P = 5", lambda: call(answer, square, 5, (10, 10))


MUTANTS = edits(unpatchify, """
no_permute: .permute(0, 3, 1, 4, 2, 5) →
    A reshape alone lays the first patch out along the first line of the image. Split the axes into
    (B, H/P, W/P, C, P, P), permute so that H/P stands beside its P and W/P beside its P, and only
    then reshape.
not_interleaved: 0, 3, 1, 4, 2, 5 → 0, 3, 1, 2, 4, 5
    The channels are in front, but each patch is still laid out in one piece, along a line. Before
    the last reshape, H/P must stand beside its P and W/P beside its P: (B, C, H/P, P, W/P, P).
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
        vitlib.unpatchify,
        lambda patches, P, img_size: F.fold(patches.transpose(1, 2), img_size, P, stride=P),
    ],
    probe=probe,
)
