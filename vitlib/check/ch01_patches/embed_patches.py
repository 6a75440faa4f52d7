"""1.6 embed_patches: one matrix for every patch, and its bias."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers
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


def by_loop(images, weight, bias):
    patches = vitlib.patchify(images, weight.shape[-1])  # (B, N, C*P*P)
    return torch.stack([patches @ kernel.flatten() for kernel in weight], dim=-1) + bias


def cases(answer) -> Cases:
    images, weight, bias = numbers(2, 3, 8, 12), numbers(7, 3, 4, 4, seed=1), numbers(7, seed=2)

    def the_gradient():
        kernel = weight.clone().requires_grad_()
        out = call(answer, images, kernel, bias)
        if out.requires_grad:
            out.square().sum().backward()
        if kernel.grad is None:
            raise Refused("no gradient reaches the weight")
        return kernel.grad

    label = "two images of 8 × 12 pixels, 3 channels, P = 4, D = 7"
    yield label, lambda: call(answer, images, weight, bias)
    yield "the gradient that reaches the weight", the_gradient


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
weight_detached: weight.flatten → weight.detach().flatten
    The numbers are right, but no gradient reaches the weight: it would never learn. Look for .data,
    .detach(), .numpy(), torch.tensor(...) or nn.Parameter(...) around it.
""") | edits(by_convolution, """
flattened_without_transpose: .flatten(2).transpose(1, 2) → .reshape(len(images), -1, len(weight))
    The feature map (B, D, H/P, W/P) is reshaped to (B, N, D). That mixes the channels of several
    places in one token: flatten the grid first, then transpose.
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
    accepted=[by_convolution, by_einsum, by_loop, vitlib.embed_conv],
    probe=probe,
)
