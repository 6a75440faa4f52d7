"""1.6 embed_patches: one matrix for every patch, and its bias."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers, single
from vitlib.check.probing import draw, gradient, returns


def embed_patches(images, weight, bias):
    P = weight.shape[-1]
    patches = rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=P, q=P)
    return patches @ weight.flatten(1).T + bias


def by_convolution(images, weight, bias):
    feature_map = F.conv2d(images, weight, bias, stride=weight.shape[-1])  # (B, D, H/P, W/P)
    return feature_map.flatten(2).transpose(1, 2)


def by_einsum(images, weight, bias):
    x = rearrange(images, "b c (h p) (w q) -> b (h w) c p q", p=weight.shape[2], q=weight.shape[3])
    return torch.einsum("bncpq,dcpq->bnd", x, weight) + bias


def by_unfold(images, weight, bias):
    columns = F.unfold(images, weight.shape[-1], stride=weight.shape[-1])  # (B, C*P*P, N)
    return F.linear(columns.transpose(1, 2), weight.flatten(1), bias)


def by_loop(images, weight, bias):
    patches = vitlib.patchify(images, weight.shape[-1])  # (B, N, C*P*P)
    return torch.stack([patches @ kernel.flatten() for kernel in weight], dim=-1) + bias


def cases(answer) -> Cases:
    images, weight, bias = numbers(2, 3, 8, 12), numbers(7, 3, 4, 4, seed=1), numbers(7, seed=2)

    def gradient_of(place):
        given = [images, weight.clone(), bias.clone()]
        given[place].requires_grad_()
        out = call(answer, *given)
        if out.requires_grad:
            out.square().sum().backward()
        if given[place].grad is None:
            raise Refused(f"no gradient reaches the {['images', 'weight', 'bias'][place]}")
        return single(given[place].grad)

    label = "two images of 8 × 12 pixels, 3 channels, P = 4, D = 7"
    yield label, lambda: single(call(answer, images, weight, bias))
    yield "the gradient that reaches the weight", lambda: gradient_of(1)
    yield "the gradient that reaches the bias", lambda: gradient_of(2)


MUTANTS = edits(embed_patches, """
no_bias: + bias →
    The bias is missing. In a fresh layer it is small, so that a loose tolerance would have hidden
    this. Add it to every token.
no_permute: rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=P, q=P) →
→ images.reshape(len(images), -1, weight[0].numel())
    The patches are strips: the pixels were reshaped without a permute. The kernels are multiplied
    with the wrong pixels.
wrong_side: .flatten(1).T → .reshape(-1, len(weight))
    The weight is reshaped where it should be transposed. weight.flatten(1) is (D, C·P·P) and must
    be transposed to stand on the right of @; a reshape to (C·P·P, D) has the same shape and other
    numbers.
channels_last: (c p q) → (p q c)
    The patches are flattened as (p, p, c), and the kernels as (c, p, p): each number is multiplied
    with a weight that belongs to another pixel.
along_the_columns: (h w) → (w h)
    The tokens are right, but counted down the columns of the grid. Count along the rows.
mean: + bias → / weight[0].numel() + bias
    The products are averaged instead of added up: everything but the bias is C·P² times too small.
kernels_channels_last: weight.flatten(1) → weight.permute(0, 2, 3, 1).flatten(1)
    The kernels are flattened as (p, p, c) and the patches as (c, p, p): each number is multiplied
    with a weight that belongs to another pixel. weight is (D, C, P, P): flatten(1) makes (c, p, p)
    of it.
pixels_transposed: (c p q) → (c q p)
    Patches and kernels do not lie the same way: one is flipped at its diagonal, as rows and columns
    of pixels have changed places in it.
channels_between: (c p q) → (p c q)
    Patches and kernels do not lie the same way: in one of them the channel stands between the rows
    and the columns of pixels. Flatten both as (c, p, p).
all_three_reversed: (c p q) → (q p c)
    Patches and kernels do not lie the same way: in one of them the three axes are reversed, as
    columns, rows, channels. Flatten both as (c, p, p).
inside_and_outside_swapped: (h p) (w q) → (p h) (q w)
    The axes are split the wrong way round, as (P, H/P): a patch takes every (H/P)th pixel instead
    of P neighbours. The outer factor of a split comes first.
rows_inside_out: (h p) → (p h)
    The rows are split the wrong way round, as (P, H/P): a patch takes every (H/P)th row instead of
    P neighbours. The outer factor of a split comes first.
columns_inside_out: (w q) → (q w)
    The columns are split the wrong way round, as (P, W/P): a patch takes every (W/P)th column
    instead of P neighbours. The outer factor of a split comes first.
grid_kept: (h w) (c p q) → h w (c p q)
    The tokens still stand in their grid, (B, H/P, W/P, D). Join its two axes, to (B, N, D).
tokens_last: return patches @ weight.flatten(1).T + bias →
→ return (patches @ weight.flatten(1).T + bias).transpose(1, 2)
    This is (B, D, N). A Transformer reads tokens along the second axis: transpose the last two
    axes, to (B, N, D).
kernels_turned: weight.flatten → weight.flip(-2, -1).flatten
    The kernels are turned by 180°. A mathematical convolution does that, but what PyTorch calls one
    does not: it lays the kernel on the image as it is.
not_transposed: .T →
    The weight is (D, C·P·P) here, and patches @ weight wants C·P·P first: transpose it.
bias_subtracted: + bias → - bias
    The bias is subtracted. It is added to every token.
bias_twice: + bias → + 2 * bias
    The bias is added twice. F.linear adds it by itself, if it gets one.
bias_multiplied: + bias → * bias
    The tokens are multiplied by the bias. It is added to every token.
bias_for_each_channel: + bias → + images.shape[1] * bias
    The bias is added once for each channel of the image. Add the channels up first, and then the
    bias, once.
bias_for_each_pixel: + bias → + weight[0].numel() * bias
    The bias is added once for each product. Add these up first, and then the bias, once.
bias_averaged: + bias → + bias.mean()
    All channels get the same bias, the mean. Each of the D has its own.
bias_along_the_tokens: + bias → + bias[:, None]
    The bias is laid along the tokens. It belongs to the D channels, which are the last axis: + bias
    is enough.
mean_of_everything: + bias → + bias) / weight[0].numel()
and: return → return (
    Products and bias are averaged instead of added up: the result is C·P² times too small.
channels_averaged: + bias → / images.shape[1] + bias
    The channels are averaged instead of added up: everything but the bias is C times too small.
pixels_averaged: + bias → / P**2 + bias
    The pixels of a patch are averaged instead of added up: everything but the bias is P² times too
    small.
first_channel_only: return → patches, weight = patches[..., : P * P], weight[:, :1]
→ return
    Only the first channel of the image has a part in it. A kernel has a layer for each channel:
    multiply each with its own, and add up.
summed_over_the_batch: patches @ → patches.sum(0, keepdim=True).expand_as(patches) @
    The products are added up over the images of the batch as well. Each image has its own tokens:
    keep the axis B.
relu: return → return torch.relu(
and: + bias → + bias)
    Negative numbers are set to 0. An embedding is a linear map, without ReLU: return what the
    matrix product gives, plus the bias.
first_image_only: rearrange(images → rearrange(images[:1]
    Only the first image of the batch is embedded. Keep the axis B.
weight_detached: weight.flatten → weight.detach().flatten
    The numbers are right, but no gradient reaches the weight: it would never learn. Look for .data,
    .detach(), .numpy(), torch.tensor(...) or nn.Parameter(...) around it.
bias_detached: + bias → + bias.detach()
    The numbers are right, but no gradient reaches the bias: it would never learn. Look for .data,
    .detach(), .numpy(), torch.tensor(...) or nn.Parameter(...) around it.
nothing_learns: return patches @ weight.flatten(1).T + bias →
→ return (patches @ weight.flatten(1).T + bias).detach()
    The numbers are right, but no gradient reaches weight or bias: they would never learn. Look for
    no_grad, .data, .detach() or .numpy().
""") | edits(by_convolution, """
flattened_without_transpose: .flatten(2).transpose(1, 2) → .reshape(len(images), -1, len(weight))
    The feature map (B, D, H/P, W/P) is reshaped to (B, N, D). That mixes the channels of several
    places in one token: flatten the grid first, then transpose.
""") | edits(by_unfold, """
unfold_reshaped: columns.transpose(1, 2) → columns.reshape(len(images), -1, columns.shape[1])
    F.unfold puts one patch in each *column*, and a reshape to (B, N, C·P·P) reads along the rows:
    it mixes all patches. Transpose the last two axes instead.
unfold_not_transposed: columns.transpose(1, 2) → columns
    F.unfold puts one patch in each *column*: (B, C·P·P, N). Transpose its last two axes before you
    multiply.
unfold_times_kernels: F.linear(columns.transpose(1, 2), weight.flatten(1), bias) →
→ columns.transpose(1, 2) @ weight.flatten(1) + bias
    The weight is (D, C·P·P) after flatten(1), and on the right of @ it must have C·P·P first: it is
    its transpose that belongs there.
no_stride: , stride=weight.shape[-1] →
    The window moves on by one pixel, so that the patches overlap. Its stride must be the patch
    size.
patch_size_from_the_channels: images, weight.shape[-1], stride=weight.shape[-1] →
→ images, weight.shape[1], stride=weight.shape[1]
    The patch size is read from the axis of the channels. weight is (D, C, P, P): P is
    weight.shape[-1].
patch_size_from_the_kernels: images, weight.shape[-1], stride=weight.shape[-1] →
→ images, weight.shape[0], stride=weight.shape[0]
    The patch size is read from the axis of the kernels. weight is (D, C, P, P): P is
    weight.shape[-1].
""")  # fmt: skip


def probe(answer):
    given = draw(3, 2, 9, 6), draw(5, 2, 3, 3), draw(5, seed=1)
    square = draw(1, 3, 4, 4), draw(12, 3, 2, 2), draw(12, seed=1)
    gradients = [gradient(answer, *given, of=i) for i in range(3)]
    return [returns(answer, *given), returns(answer, *square), *gradients]


EXERCISE = Exercise(
    name="embed_patches",
    chapter="01_patches",
    task="embed_patches(images, weight, bias) -> (B, N, D): what a convolution with kernels "
    "(D, C, P, P), bias (D,) and stride P computes, as a sequence",
    reference=embed_patches,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_convolution, by_einsum, by_unfold, by_loop, vitlib.embed_conv],
    excluded=["torch.nn.functional.conv2d"],
    probe=probe,
)
