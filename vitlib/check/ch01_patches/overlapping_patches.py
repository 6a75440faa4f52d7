"""1.4 overlapping_patches: a stride of its own."""

import torch
import torch.nn.functional as F
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
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


def cases(answer) -> Cases:
    toy = torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 4, 6)
    yield "the toy of 4 × 6 pixels, P = 2, stride 1", lambda: call(answer, toy, 2, 1)
    images = numbers(2, 3, 8, 14)
    yield "two colour images of 8 × 14 pixels, P = 4, stride 2", lambda: call(answer, images, 4, 2)
    yield "the same images, P = 2, stride 3", lambda: call(answer, images, 2, 3)


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
    accepted=[by_loop, by_view],
    probe=probe,
)
