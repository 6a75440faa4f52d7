"""Chapter 1, pixels to patches: the exercises, their right answers and their usual mistakes."""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

import vitlib
from vitlib.check.exercise import Cases, Exercise, Refused, build, call, numbers, twin

# --- 1.1 count_patches: one that does not divide must be refused


def _count(height, width, patch_size):
    if height % patch_size or width % patch_size:
        raise ValueError(f"{height}×{width} pixels cannot be cut into patches of {patch_size}")
    return (height // patch_size) * (width // patch_size)


def _count_by_loop(height, width, patch_size):
    corners = [(y, x) for y in range(0, height, patch_size) for x in range(0, width, patch_size)]
    if len(corners) * patch_size**2 != height * width:
        raise ValueError(f"height {height} or width {width} is no multiple of {patch_size}")
    return len(corners)


def _count_by_module(height, width, patch_size):
    rows, columns = vitlib.patch.grid_of((height, width), patch_size)
    return rows * columns


def _refuse(height, width, patch_size, refused, number):
    if refused:
        raise ValueError(f"{number} pixels, patch {patch_size}")
    return height * width // patch_size**2


def _count_with_assert(height, width, patch_size):
    assert height % patch_size == 0, f"{height} is no multiple of {patch_size}"
    assert width % patch_size == 0, f"{width} is no multiple of {patch_size}"
    return (height // patch_size) * (width // patch_size)


def _count_cases(answer) -> Cases:
    def refusal(*sizes):
        try:
            result = call(answer, *sizes)
        except ValueError as error:
            missing = ", ".join(str(size) for size in sizes if str(size) not in str(error))
            if not missing:
                return "refused"
            reason = f"the message of your ValueError does not name {missing}"
            raise Refused(f"{reason}. It says “{error}”", reason) from None
        text = f"no ValueError was raised, and {result!r} came back"
        raise Refused(text)

    yield "28 × 28 pixels, P = 7", lambda: call(answer, 28, 28, 7)
    yield "32 × 48 pixels, P = 8", lambda: call(answer, 32, 48, 8)
    yield "5 × 3 pixels, P = 1", lambda: call(answer, 5, 3, 1)
    yield "30 × 32 pixels, P = 8, to be refused", (lambda: refusal(30, 32, 8))
    yield "32 × 30 pixels, P = 8, to be refused", (lambda: refusal(32, 30, 8))
    # P² divides the number of pixels, and P does not divide the sides
    yield "12 × 27 pixels, P = 18, to be refused", (lambda: refusal(12, 27, 18))


count_patches = Exercise(
    name="count_patches",
    chapter="01_patches",
    task="count_patches(height, width, patch_size) -> the number of patches, a whole number; "
    "a ValueError that names all three numbers if the patch does not divide both sides",
    reference=_count,
    cases=_count_cases,
    mutants={
        "drops_the_rest": (
            lambda height, width, patch_size: (height // patch_size) * (width // patch_size),
            "A size that the patch does not divide is accepted, and the pixels that are left over "
            "are dropped: no model will ever see them. Raise a ValueError instead.",
        ),
        "pads_the_rest": (
            lambda height, width, patch_size: -(-height // patch_size) * -(-width // patch_size),
            "A size that the patch does not divide is rounded up, so that patches are counted "
            "which reach beyond the image. Raise a ValueError instead.",
        ),
        "checks_the_area": (
            lambda h, w, p: _refuse(h, w, p, h * w % p**2, f"{h}×{w}"),
            "You check that P² divides the number of pixels. That is not enough: 12 × 27 pixels "
            "are as many as one patch of 18 × 18, which does not fit. Check both sides.",
        ),
        "checks_the_height_only": (
            lambda h, w, p: _refuse(h, w, p, h % p, f"{h}×{w}") and (h // p) * (w // p),
            "Only the height is checked. A width that the patch does not divide gets through, and "
            "its last columns of pixels are dropped.",
        ),
        "checks_the_width_only": (
            lambda h, w, p: _refuse(h, w, p, w % p, f"{h}×{w}") and (h // p) * (w // p),
            "Only the width is checked. A height that the patch does not divide gets through, and "
            "its last rows of pixels are dropped.",
        ),
        "and_for_or": (
            lambda h, w, p: _refuse(h, w, p, h % p and w % p, f"{h}×{w}") and (h // p) * (w // p),
            "An image is refused only if *both* its sides are wrong. One side that the patch does "
            "not divide is enough: `or`, not `and`.",
        ),
        "asserts": (
            _count_with_assert,
            "The right images are refused, but by an `assert`: it raises an AssertionError, and "
            "`python -O` leaves it out. Say `if ...: raise ValueError(...)`.",
        ),
        "names_the_product": (
            lambda h, w, p: _refuse(h, w, p, h % p or w % p, h * w),
            "The message names the product of height and width, which helps nobody to find what "
            "is wrong. Name the height, the width and the patch size.",
        ),
        "takes_it_to_be_square": (
            lambda h, w, p: _refuse(h, w, p, h % p or w % p, f"{h}×{w}") and (h // p) ** 2,
            "The rows of patches are squared. That is right for a square image only: there are "
            "H/P rows and W/P columns.",
        ),
    },
    accepted=[_count_by_loop, _count_by_module],
)

# --- 1.2 patchify: the permute that is forgotten


def _by_reshape(images, patch_size):
    batch, channels, height, width = images.shape
    p = patch_size
    x = images.reshape(batch, channels, height // p, p, width // p, p)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * p * p)


def _by_loop(images, patch_size):
    p, (height, width) = patch_size, images.shape[-2:]
    corners = [(y, x) for y in range(0, height, p) for x in range(0, width, p)]
    return torch.stack([images[:, :, y : y + p, x : x + p].flatten(1) for y, x in corners], 1)


def _by_unfold(images, patch_size):
    return F.unfold(images, patch_size, stride=patch_size).transpose(1, 2)


def _strips(images, patch_size):
    return images.reshape(len(images), -1, images.shape[1] * patch_size**2)


def _windows_by_reshape(images, patch_size, stride=None):
    stride = stride or patch_size
    windows = images.unfold(2, patch_size, stride).unfold(3, patch_size, stride)
    return windows.reshape(len(images), -1, images.shape[1] * patch_size**2)


def _pattern(pattern):
    return lambda images, patch_size: rearrange(images, pattern, p=patch_size, q=patch_size)


def _patchify_cases(answer) -> Cases:
    toy = torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 4, 6)
    yield "one grey image of 4 × 6 pixels, P = 2", lambda: call(answer, toy, 2)
    images = numbers(2, 3, 8, 12)
    yield "two colour images of 8 × 12 pixels, P = 4", lambda: call(answer, images, 4)
    yield "two colour images of 8 × 12 pixels, P = 2", lambda: call(answer, images, 2)
    yield "an image that is one patch", lambda: call(answer, numbers(2, 3, 5, 5), 5)


patchify = Exercise(
    name="patchify",
    chapter="01_patches",
    task="patchify(images, patch_size) -> (B, N, C·P·P): images (B, C, H, W) cut into square "
    "patches, counted along the rows, each flattened as (c, p, p)",
    reference=vitlib.patchify,
    cases=_patchify_cases,
    mutants={
        "no_permute": (
            _strips,
            "The patches are strips. A reshape alone cannot cut squares: it takes the pixels in "
            "the order in which they lie in memory, line by line. Split the axes into (B, C, H/P, "
            "P, W/P, P), and bring the two that say which patch together, with permute, before "
            "you flatten.",
        ),
        "channels_last": (
            _pattern("b c (h p) (w q) -> b (h w) (p q c)"),
            "Each patch is flattened as (p, p, c), and it should be (c, p, p). Both are patches, "
            "but a convolution's weight is (c, p, p), and weights learned in one order are "
            "nonsense in the other. Look at the order of the last three axes in your permute.",
        ),
        "along_the_columns": (
            _pattern("b c (h p) (w q) -> b (w h) (c p q)"),
            "The patches are counted down the columns of the grid. The order is as we read: along "
            "the rows. Look at which of H/P and W/P comes first.",
        ),
        "pixels_transposed": (
            _pattern("b c (h p) (w q) -> b (h w) (c q p)"),
            "Each patch is flipped at its diagonal: its columns are read as its rows. Look at the "
            "order of the two axes inside a patch.",
        ),
        "inside_and_outside_swapped": (
            _pattern("b c (p h) (q w) -> b (h w) (c p q)"),
            "The axes are split the wrong way round: (P, H/P) where it should be (H/P, P). So a "
            "patch takes every (H/P)th pixel instead of P neighbours. The outer factor of a split "
            "comes first.",
        ),
        "unfold_reshaped": (
            lambda images, patch_size: F.unfold(images, patch_size, stride=patch_size).reshape(
                len(images), -1, images.shape[1] * patch_size**2
            ),
            "F.unfold puts one patch in each *column*, and a reshape to (B, N, C·P·P) reads along "
            "the rows: it mixes all patches. Transpose the last two axes instead.",
        ),
        "channels_not_moved": (
            _windows_by_reshape,
            "With one channel this is right; with more, patches of one channel only are run "
            "together. Before you flatten, the axes should be (B, H/P, W/P, C, P, P): the channels "
            "belong inside the patch, behind the two axes of the grid.",
        ),
        "unfold_without_transpose": (
            lambda images, patch_size: F.unfold(images, patch_size, stride=patch_size),
            "This is what F.unfold returns: (B, C·P·P, N), with one patch in each column. "
            "Transpose the last two axes.",
        ),
        "overlapping": (
            lambda images, patch_size: F.unfold(images, patch_size).transpose(1, 2),
            "The patches overlap: the window moves on by one pixel. Its stride must be the patch "
            "size.",
        ),
    },
    accepted=[_by_reshape, _by_loop, _by_unfold],
)

# --- 1.3 unpatchify: the way back


def _back_by_fold(patches, patch_size, img_size):
    return F.fold(patches.transpose(1, 2), img_size, patch_size, stride=patch_size)


def _back_by_loop(patches, patch_size, img_size):
    p, (height, width) = patch_size, img_size
    channels = patches.shape[2] // p**2
    images = patches.new_zeros(len(patches), channels, height, width)
    for n in range(patches.shape[1]):
        y, x = p * (n // (width // p)), p * (n % (width // p))
        images[:, :, y : y + p, x : x + p] = patches[:, n].reshape(-1, channels, p, p)
    return images


def _back_pattern(pattern, swap=False):
    def back(patches, patch_size, img_size):
        rows, columns = (side // patch_size for side in img_size)
        rows, columns = (columns, rows) if swap else (rows, columns)
        return rearrange(patches, pattern, h=rows, w=columns, p=patch_size, q=patch_size)

    return back


def _back_reshape(patches, patch_size, img_size):
    return patches.reshape(len(patches), -1, *img_size)


def _back_unpermuted(patches, patch_size, img_size):
    pattern = "b n (c p q) -> b c n p q"
    return rearrange(patches, pattern, p=patch_size, q=patch_size).reshape(
        len(patches), -1, *img_size
    )


def _unpatchify_cases(answer) -> Cases:
    toy = torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 4, 6)
    yield (
        "the toy of 4 × 6 pixels, P = 2",
        (lambda: call(answer, vitlib.patchify(toy, 2), 2, (4, 6))),
    )
    patches = vitlib.patchify(numbers(2, 3, 8, 12), 2)
    yield "two colour images of 8 × 12 pixels, P = 2", lambda: call(answer, patches, 2, (8, 12))
    square = vitlib.patchify(numbers(2, 3, 10, 10), 5)
    yield "two square colour images, P = 5", lambda: call(answer, square, 5, (10, 10))


unpatchify = Exercise(
    name="unpatchify",
    chapter="01_patches",
    task="unpatchify(patches, patch_size, img_size) -> images (B, C, H, W): the inverse of "
    "patchify, with img_size = (H, W)",
    reference=vitlib.unpatchify,
    cases=_unpatchify_cases,
    mutants={
        "no_permute": (
            _back_reshape,
            "A reshape alone lays the first patch out along the first line of the image. Split the "
            "axes into (B, H/P, W/P, C, P, P), permute so that H/P stands beside its P and W/P "
            "beside its P, and only then reshape.",
        ),
        "not_interleaved": (
            _back_unpermuted,
            "The channels are in front, but each patch is still laid out in one piece, along a "
            "line. Before the last reshape, H/P must stand beside its P and W/P beside its P: "
            "(B, C, H/P, P, W/P, P).",
        ),
        "channels_last": (
            _back_pattern("b (h w) (p q c) -> b c (h p) (w q)"),
            "Each patch is read as (p, p, c), but patchify wrote it as (c, p, p): the channels of "
            "neighbouring pixels get mixed. Look at how you split the last axis.",
        ),
        "grid_by_columns": (
            _back_pattern("b (w h) (c p q) -> b c (h p) (w q)"),
            "The patches are put back down the columns of the grid, but they were counted along "
            "the rows. Split N into (H/P, W/P), rows first.",
        ),
        "pixels_transposed": (
            _back_pattern("b (h w) (c q p) -> b c (h p) (w q)"),
            "Every patch stands in its place, but flipped at its diagonal: the two axes inside a "
            "patch are swapped.",
        ),
        "height_and_width_swapped": (
            _back_pattern("b (h w) (c p q) -> b c (h p) (w q)", swap=True),
            "Height and width are swapped: the image lies on its side, and its rows of patches "
            "have the wrong length. img_size is (H, W), height first.",
        ),
    },
    accepted=[_back_by_fold, _back_by_loop],
)

# --- 1.4 overlapping_patches: a stride of its own


def _windows(images, patch_size, stride):
    return F.unfold(images, patch_size, stride=stride).transpose(1, 2)


def _windows_by_loop(images, patch_size, stride):
    p, (height, width) = patch_size, images.shape[-2:]
    tops, lefts = range(0, height - p + 1, stride), range(0, width - p + 1, stride)
    cut = [images[:, :, y : y + p, x : x + p].flatten(1) for y in tops for x in lefts]
    return torch.stack(cut, 1)


def _windows_by_view(images, patch_size, stride):
    windows = images.unfold(2, patch_size, stride).unfold(3, patch_size, stride)
    return rearrange(windows, "b c h w p q -> b (h w) (c p q)")


def _windows_beyond(images, patch_size, stride):
    p, (height, width) = patch_size, images.shape[-2:]
    images = F.pad(images, (0, p, 0, p))
    cut = [
        images[:, :, y : y + p, x : x + p].flatten(1)
        for y in range(0, height, stride)
        for x in range(0, width, stride)
    ]
    return torch.stack(cut, 1)


def _windows_pattern(pattern):
    def cut(images, patch_size, stride):
        windows = images.unfold(2, patch_size, stride).unfold(3, patch_size, stride)
        return rearrange(windows, pattern)

    return cut


def _windows_short(images, patch_size, stride):
    height, width = images.shape[-2:]
    rows, columns = (height - patch_size) // stride, (width - patch_size) // stride
    return _windows_by_loop(
        images[..., : (rows - 1) * stride + patch_size, : (columns - 1) * stride + patch_size],
        patch_size,
        stride,
    )


def _windows_cases(answer) -> Cases:
    toy = torch.arange(24.0, dtype=torch.float64).reshape(1, 1, 4, 6)
    yield "the toy of 4 × 6 pixels, P = 2, stride 1", lambda: call(answer, toy, 2, 1)
    images = numbers(2, 3, 8, 14)
    yield "two colour images of 8 × 14 pixels, P = 4, stride 2", lambda: call(answer, images, 4, 2)
    yield "the same images, P = 2, stride 3", lambda: call(answer, images, 2, 3)


overlapping_patches = Exercise(
    name="overlapping_patches",
    chapter="01_patches",
    task="overlapping_patches(images, patch_size, stride) -> (B, N, C·P·P): a window of P × P "
    "pixels that moves on by `stride`, along the rows, and never beyond the image",
    reference=_windows,
    cases=_windows_cases,
    mutants={
        "stride_is_the_patch_size": (
            lambda images, patch_size, stride: _windows(images, patch_size, patch_size),
            "The window moves on by the patch size, whatever the stride is: the patches do not "
            "overlap. Look at the stride that you pass on.",
        ),
        "stride_by_position": (
            lambda images, patch_size, stride: F.unfold(images, patch_size, stride).mT,
            "The third argument of F.unfold is not the stride but `dilation`, which pulls the "
            "pixels of a window apart. Name it: stride=stride.",
        ),
        "stride_one": (
            lambda images, patch_size, stride: _windows(images, patch_size, 1),
            "The window always moves on by one pixel. Pass the stride on: the default is 1.",
        ),
        "beyond_the_edge": (
            _windows_beyond,
            "Windows that reach beyond the edge are counted, with zeros where there is no image. "
            "The last one starts at H − P: there are (H − P) // stride + 1 of them.",
        ),
        "one_too_few": (
            _windows_short,
            "The last row and the last column of windows are missing: there are "
            "(H − P) // stride + 1, and the + 1 is forgotten.",
        ),
        "not_transposed": (
            lambda images, patch_size, stride: F.unfold(images, patch_size, stride=stride),
            "This is what F.unfold returns: (B, C·P·P, N), with one patch in each column. "
            "Transpose the last two axes.",
        ),
        "along_the_columns": (
            _windows_pattern("b c h w p q -> b (w h) (c p q)"),
            "The windows are right, but counted down the columns. Count along the rows: the loop "
            "over the columns is the inner one.",
        ),
        "channels_last": (
            _windows_pattern("b c h w p q -> b (h w) (p q c)"),
            "Each window is flattened as (p, p, c), and it should be (c, p, p): the channel first.",
        ),
        "no_permute": (
            _windows_by_reshape,
            "With one channel this is right; with more, the windows of one channel are run "
            "together with those of the next. images.unfold leaves (B, C, rows, columns, P, P): "
            "bring C behind the rows and columns before you flatten.",
        ),
        "patch_and_stride_swapped": (
            lambda images, patch_size, stride: _windows(images, stride, patch_size),
            "Patch size and stride are swapped: the windows have the size of the stride.",
        ),
    },
    accepted=[_windows_by_loop, _windows_by_view],
)

# --- 1.5 kernels_from_matrix: on which side the transpose stands, and where the channels do


def _kernels(matrix, in_chans, patch_size):
    """matrix (P*P*C, D)"""
    folded = matrix.reshape(patch_size, patch_size, in_chans, -1)  # (P, P, C, D)
    return folded.permute(3, 2, 0, 1)


def _kernels_by_einops(matrix, in_chans, patch_size):
    return rearrange(matrix, "(p q c) d -> d c p q", c=in_chans, p=patch_size)


def _kernels_by_loop(matrix, in_chans, patch_size):
    columns = [matrix[:, d] for d in range(matrix.shape[1])]
    folded = [c.reshape(patch_size, patch_size, in_chans) for c in columns]
    return torch.stack([kernel.permute(2, 0, 1) for kernel in folded])


def _kernels_cases(answer) -> Cases:
    yield "a matrix of 12 × 5: 3 channels, P = 2, D = 5", lambda: call(answer, numbers(12, 5), 3, 2)
    # P·P·C = D: here a missing transpose does not even change a shape
    yield "a matrix of 18 × 18: 2 channels, P = 3", lambda: call(answer, numbers(18, 18), 2, 3)
    # C = P: nor does a missing permute
    yield "a matrix of 27 × 4: 3 channels, P = 3", lambda: call(answer, numbers(27, 4), 3, 3)


kernels_from_matrix = Exercise(
    name="kernels_from_matrix",
    chapter="01_patches",
    task="kernels_from_matrix(matrix, in_chans, patch_size) -> (D, C, P, P): the convolution "
    "weight that does what patches @ matrix does, for a matrix (P·P·C, D) and patches that are "
    "flattened as (p, p, c)",
    reference=_kernels,
    cases=_kernels_cases,
    mutants={
        "channels_first": (
            lambda matrix, c, p: matrix.T.reshape(-1, c, p, p),
            "The columns are folded as (c, p, p), as in the chapter. But this matrix was made for "
            "patches flattened as (p, p, c): fold a column as (P, P, C), then move C to the front.",
        ),
        "no_transpose": (
            lambda matrix, c, p: matrix.reshape(-1, p, p, c).permute(0, 3, 1, 2),
            "The transpose is missing. One kernel is one *column* of the matrix, and a reshape to "
            "(D, ...) without .T cuts kernels out of its rows. The shape is right all the same.",
        ),
        "neither": (
            lambda matrix, c, p: matrix.reshape(-1, c, p, p),
            "Two things are missing. One kernel is one *column* of the matrix, and a reshape cuts "
            "it out of the rows. And a column is in the order (p, p, c), not (c, p, p).",
        ),
        "not_moved": (
            lambda matrix, c, p: matrix.T.reshape(-1, p, p, c),
            "This is (D, P, P, C). Each kernel is folded as it should be, but its channels still "
            "come last, and a convolution's weight has them first: permute.",
        ),
        "axes_reversed": (
            lambda matrix, c, p: matrix.reshape(p, p, c, -1).permute(3, 2, 1, 0),
            "The two pixel axes are swapped: each kernel is flipped at its diagonal. Reversing all "
            "four axes swaps these two as well; they should keep their order.",
        ),
        "flipped": (
            lambda matrix, c, p: _kernels(matrix, c, p).flip(-2, -1),
            "The kernels are turned by 180°. A mathematical convolution does that, but what "
            "PyTorch calls one does not: it lays the kernel on the image as it is.",
        ),
    },
    accepted=[_kernels_by_einops, _kernels_by_loop],
)

# --- 1.6 embed_patches: one matrix for every patch, and its bias


def _embed_by_einsum(images, weight, bias):
    x = rearrange(images, "b c (h p) (w q) -> b (h w) c p q", p=weight.shape[2], q=weight.shape[3])
    return torch.einsum("bncpq,dcpq->bnd", x, weight) + bias


def _embed_by_loop(images, weight, bias):
    patches = vitlib.patchify(images, weight.shape[-1])  # (B, N, C*P*P)
    kernels = weight.flatten(1)
    return torch.stack([patches @ kernel for kernel in kernels], dim=-1) + bias


def _embed_pattern(pattern):
    def embed(images, weight, bias):
        p = weight.shape[-1]
        return F.linear(rearrange(images, pattern, p=p, q=p), weight.flatten(1), bias)

    return embed


def _embed_wrong_side(images, weight, bias):
    patches = vitlib.patchify(images, weight.shape[-1])
    return patches @ weight.reshape(-1, len(weight)) + bias


def _embed_mean(images, weight, bias):
    return vitlib.embed_conv(images, weight) / weight[0].numel() + bias


def _embed_cases(answer) -> Cases:
    images, weight, bias = numbers(2, 3, 8, 12), numbers(7, 3, 4, 4, seed=1), numbers(7, seed=2)
    yield (
        "two images of 8 × 12 pixels, 3 channels, P = 4, D = 7",
        (lambda: call(answer, images, weight, bias)),
    )

    def gradient():
        kernel = weight.clone().requires_grad_()
        out = (answer() if isinstance(answer, type) else answer)(images, kernel, bias)
        found = None
        if out.requires_grad:
            (found,) = torch.autograd.grad(out.square().sum(), kernel, allow_unused=True)
        if found is None:
            raise Refused("no gradient reaches the weight")
        return found

    yield "the gradient that reaches the weight", gradient


embed_patches = Exercise(
    name="embed_patches",
    chapter="01_patches",
    task="embed_patches(images, weight, bias) -> (B, N, D): what a convolution with kernels "
    "(D, C, P, P), bias (D,) and stride P computes, as a sequence",
    reference=vitlib.embed_conv,
    cases=_embed_cases,
    mutants={
        "no_bias": (
            lambda images, weight, bias: vitlib.embed_conv(images, weight),
            "The bias is missing. In a fresh layer it is small, so that a loose tolerance would "
            "have hidden this. Add it to every token.",
        ),
        "no_permute": (
            lambda images, weight, bias: F.linear(
                _strips(images, weight.shape[-1]), weight.flatten(1), bias
            ),
            "The patches are strips: the pixels were reshaped without a permute. The kernels are "
            "multiplied with the wrong pixels.",
        ),
        "wrong_side": (
            _embed_wrong_side,
            "The weight is reshaped where it should be transposed. weight.flatten(1) is (D, C·P·P) "
            "and must be transposed to stand on the right of @; a reshape to (C·P·P, D) has the "
            "same shape and other numbers.",
        ),
        "channels_last": (
            _embed_pattern("b c (h p) (w q) -> b (h w) (p q c)"),
            "The patches are flattened as (p, p, c), and the kernels as (c, p, p): each number is "
            "multiplied with a weight that belongs to another pixel.",
        ),
        "along_the_columns": (
            _embed_pattern("b c (h p) (w q) -> b (w h) (c p q)"),
            "The tokens are right, but counted down the columns of the grid. Count along the rows.",
        ),
        "flattened_without_transpose": (
            lambda images, weight, bias: F.conv2d(
                images, weight, bias, stride=weight.shape[-1]
            ).reshape(len(images), -1, len(weight)),
            "The feature map (B, D, H/P, W/P) is reshaped to (B, N, D). That mixes the channels of "
            "several places in one token: flatten the grid first, then transpose.",
        ),
        "mean": (
            _embed_mean,
            "The products are averaged instead of added up: everything but the bias is C·P² times "
            "too small.",
        ),
        "weight_detached": (
            lambda images, weight, bias: vitlib.embed_conv(images, weight.detach(), bias),
            "The numbers are right, but no gradient reaches the weight: it would never learn. Look "
            "for .data, .detach(), .numpy(), torch.tensor(...) or nn.Parameter(...) around it.",
        ),
    },
    accepted=[_embed_by_einsum, _embed_by_loop],
)

# --- 1.7 PatchEmbed: a module that knows its sizes


class _PatchEmbed(nn.Module):
    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        super().__init__()
        if img_size % patch_size:
            raise ValueError(f"{patch_size} does not divide {img_size}")
        self.img_size, self.patch_size = img_size, patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)

    def check(self, images):
        if images.shape[-2:] != (self.img_size, self.img_size):
            raise ValueError(f"expected {self.img_size}, got {tuple(images.shape[-2:])}")

    def forward(self, images):
        self.check(images)
        return self.proj(images).flatten(2).transpose(1, 2)


class _LinearPatchEmbed(_PatchEmbed):
    """With nn.Linear on flattened patches: the weight has two axes instead of four."""

    def forward(self, images):
        self.check(images)
        weight = self.proj.weight.flatten(1)
        return F.linear(_by_reshape(images, self.patch_size), weight, self.proj.bias)


class _ForgetsToCheckTheImage(_PatchEmbed):
    def check(self, images):
        pass


class _ChecksOneSide(_PatchEmbed):
    def check(self, images):
        if images.shape[-1] != self.img_size:
            raise ValueError(f"expected {self.img_size}, got {images.shape[-1]}")


class _ChecksTheHeight(_PatchEmbed):
    def check(self, images):
        if images.shape[-2] != self.img_size:
            raise ValueError(f"expected {self.img_size}, got {images.shape[-2]}")


class _ChecksByThePatch(_PatchEmbed):
    """Refuses only what the patch does not divide, in forward and not in __init__."""

    def check(self, images):
        if images.shape[-1] % self.patch_size or images.shape[-2] % self.patch_size:
            raise ValueError(f"{self.patch_size} does not divide {tuple(images.shape[-2:])}")


class _ForgetsToCheckTheSizes(_PatchEmbed):
    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        super().__init__(patch_size, patch_size, in_chans, embed_dim)
        self.img_size = img_size


class _Asserts(_PatchEmbed):
    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        assert img_size % patch_size == 0
        super().__init__(img_size, patch_size, in_chans, embed_dim)

    def check(self, images):
        assert images.shape[-2:] == (self.img_size, self.img_size)


class _ArgumentsSwapped(_PatchEmbed):
    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        super().__init__(img_size, patch_size, in_chans, embed_dim)
        # kernel size and channels swapped: the same layer as long as both are 3
        self.proj = nn.Conv2d(patch_size, embed_dim, in_chans, stride=in_chans)


class _StrideOfTheFirst(_PatchEmbed):
    """Reads a patch size that stands outside the class, and that another model has set."""

    patch_size_outside = 0

    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        super().__init__(img_size, patch_size, in_chans, embed_dim)
        _StrideOfTheFirst.patch_size_outside = patch_size

    def forward(self, images):
        self.check(images)
        p = _StrideOfTheFirst.patch_size_outside
        return F.conv2d(images, self.proj.weight, self.proj.bias, stride=p).flatten(2).mT


class _NoStride(_PatchEmbed):
    def forward(self, images):
        self.check(images)
        return F.conv2d(images, self.proj.weight, self.proj.bias).flatten(2).mT


class _NotTransposed(_PatchEmbed):
    def forward(self, images):
        self.check(images)
        return self.proj(images).flatten(2)


class _Reshaped(_PatchEmbed):
    def forward(self, images):
        self.check(images)
        x = self.proj(images)
        return x.reshape(len(x), -1, x.shape[1])


class _AlongTheColumns(_PatchEmbed):
    def forward(self, images):
        self.check(images)
        return rearrange(self.proj(images), "b d h w -> b (w h) d")


class _ChecksTheArea(_PatchEmbed):
    def check(self, images):
        if images[0, 0].numel() != self.img_size**2:
            raise ValueError(f"expected {self.img_size**2} pixels, got {images[0, 0].numel()}")


class _NoBias(_PatchEmbed):
    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        super().__init__(img_size, patch_size, in_chans, embed_dim)
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size, bias=False)


def _patch_embed_cases(answer) -> Cases:
    def refused(run):
        try:
            run()
        except ValueError:
            return "refused"
        raise Refused("no ValueError was raised")

    def embed(*sizes):
        module = twin(answer, _PatchEmbed, *sizes)
        return call(module, numbers(2, sizes[2], sizes[0], sizes[0]))

    def with_a_second_model():
        first = twin(answer, _PatchEmbed, 12, 4, 3, 7)
        build(answer, 12, 2, 3, 5)
        return call(first, numbers(2, 3, 12, 12))

    # P = C: two swapped arguments of Conv2d cancel here
    yield "two images of 9 × 9 pixels, 3 channels, P = 3, D = 5", lambda: embed(9, 3, 3, 5)
    yield "two images of 20 × 20 pixels, 3 channels, P = 4, D = 7", lambda: embed(20, 4, 3, 7)
    yield "two models side by side, with different patch sizes", with_a_second_model
    yield (
        "an image size that the patch does not divide: PatchEmbed(30, 8, 1, 4)",
        (lambda: refused(lambda: build(answer, 30, 8, 1, 4))),
    )

    def other_image(height, width):
        model = build(answer, 32, 8, 1, 4)
        return refused(lambda: model(torch.zeros(1, 1, height, width)))

    yield "a smaller image than the model was built for", lambda: other_image(16, 16)
    yield "an image of another size that no patch divides: 30 × 30", lambda: other_image(30, 30)
    yield "an image that is too wide: 32 × 40 for 32 × 32", lambda: other_image(32, 40)
    yield "an image that is too high: 40 × 32 for 32 × 32", lambda: other_image(40, 32)
    yield "an image with as many pixels: 16 × 64 for 32 × 32", lambda: other_image(16, 64)


patch_embed = Exercise(
    name="patch_embed",
    chapter="01_patches",
    task="PatchEmbed(img_size, patch_size, in_chans, embed_dim), a module with the convolution "
    "`proj`: images (B, C, H, W) -> (B, N, D); a ValueError where sizes do not divide or do not "
    "match",
    reference=_PatchEmbed,
    cases=_patch_embed_cases,
    mutants={
        "arguments_swapped": (
            _ArgumentsSwapped,
            "Two arguments of nn.Conv2d are swapped: channels and kernel size. As long as both are "
            "3 the mistake cancels. The order is in_channels, out_channels, kernel_size.",
        ),
        "reads_a_global": (
            _StrideOfTheFirst,
            "The first model changes when a second one is built: your module reads a patch size "
            "that stands outside it. Keep it in self.",
        ),
        "no_stride": (
            _NoStride,
            "The kernel moves on by one pixel, so that the patches overlap: the stride is missing. "
            "It must be the patch size.",
        ),
        "not_transposed": (
            _NotTransposed,
            "This is (B, D, N). A Transformer reads tokens along the second axis: transpose the "
            "last two axes, to (B, N, D).",
        ),
        "reshaped": (
            _Reshaped,
            "The feature map (B, D, H/P, W/P) is reshaped to (B, N, D). That mixes the channels of "
            "several places in one token: flatten the grid first, then transpose.",
        ),
        "along_the_columns": (
            _AlongTheColumns,
            "The tokens are right, but counted down the columns of the grid. Count along the rows.",
        ),
        "checks_the_area": (
            _ChecksTheArea,
            "forward compares the number of pixels only, and a long narrow image may have as many "
            "as a square one. Compare height and width, each with img_size.",
        ),
        "no_bias": (
            _NoBias,
            "The convolution has no bias. ViT's has one: leave out bias=False, or published "
            "weights will not load.",
        ),
        "drops_pixels": (
            _ForgetsToCheckTheSizes,
            "An image size that the patch does not divide is accepted, and the rest of the pixels "
            "is dropped in silence. Raise a ValueError in __init__.",
        ),
        "checks_by_the_patch": (
            _ChecksByThePatch,
            "An image is refused if the patch does not divide it, but one of another size than the "
            "model was built for gets through. It would have another number of tokens. Compare its "
            "height and width with img_size.",
        ),
        "checks_the_width_only": (
            _ChecksOneSide,
            "forward compares the width of the image with img_size, and not its height. Check "
            "both.",
        ),
        "checks_the_height_only": (
            _ChecksTheHeight,
            "forward compares the height of the image with img_size, and not its width. Check "
            "both.",
        ),
        "asserts": (
            _Asserts,
            "The right sizes are refused, but by an `assert`: it raises an AssertionError, and "
            "`python -O` leaves it out. Say `if ...: raise ValueError(...)`.",
        ),
        "takes_any_image": (
            _ForgetsToCheckTheImage,
            "An image of another size than the model was built for is accepted. It makes another "
            "number of tokens, and what follows in the model counts on this one. Raise a "
            "ValueError in forward.",
        ),
    },
    accepted=[_LinearPatchEmbed, partial(vitlib.PatchEmbed, mode="unfold")],
)

EXERCISES = [
    count_patches,
    patchify,
    unpatchify,
    overlapping_patches,
    kernels_from_matrix,
    embed_patches,
    patch_embed,
]
