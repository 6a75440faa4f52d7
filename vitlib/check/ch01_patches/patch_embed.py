"""1.7 PatchEmbed: a module that knows its sizes."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, build, call, numbers, twin
from vitlib.check.probing import draw, filled, forward, parameter_gradients, refuses


class PatchEmbed(nn.Module):
    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        super().__init__()
        if img_size % patch_size:
            raise ValueError(f"{patch_size} does not divide {img_size}")
        self.img_size, self.patch_size = img_size, patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)

    def forward(self, images):
        height, width = images.shape[-2:]
        if height != self.img_size or width != self.img_size:
            raise ValueError(f"expected sides of {self.img_size}, got {height} × {width} pixels")
        return self.proj(images).flatten(2).transpose(1, 2)


class LinearPatchEmbed(PatchEmbed):
    """With a matrix product on flattened patches."""

    def forward(self, images):
        if images.shape[-2:] != (self.img_size, self.img_size):
            raise ValueError(f"expected {self.img_size}, got {tuple(images.shape[-2:])}")
        patches = vitlib.patchify(images, self.patch_size)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def cases(answer) -> Cases:
    def refused(run):
        try:
            run()
        except ValueError:
            return "refused"
        raise Refused("no ValueError was raised")

    def embed(*sizes):
        module = twin(answer, PatchEmbed, *sizes)
        return call(module, numbers(2, sizes[2], sizes[0], sizes[0]))

    def with_a_second_model():
        first = twin(answer, PatchEmbed, 12, 4, 3, 7)
        build(answer, 12, 2, 3, 5)
        return call(first, numbers(2, 3, 12, 12))

    def other_image(height, width):
        model = build(answer, 32, 8, 1, 4)
        return refused(lambda: model(torch.zeros(1, 1, height, width)))

    # P = C: two swapped arguments of Conv2d cancel here
    yield "two images of 9 × 9 pixels, 3 channels, P = 3, D = 5", lambda: embed(9, 3, 3, 5)
    yield "two images of 20 × 20 pixels, 3 channels, P = 4, D = 7", lambda: embed(20, 4, 3, 7)
    yield "two models side by side, with different patch sizes", with_a_second_model
    label = "an image size that the patch does not divide: PatchEmbed(30, 8, 1, 4)"
    yield label, lambda: refused(lambda: build(answer, 30, 8, 1, 4))
    yield "a smaller image than the model was built for", lambda: other_image(16, 16)
    yield "an image of another size that no patch divides: 30 × 30", lambda: other_image(30, 30)
    yield "an image that is too wide: 32 × 40 for 32 × 32", lambda: other_image(32, 40)
    yield "an image that is too high: 40 × 32 for 32 × 32", lambda: other_image(40, 32)
    yield "an image with as many pixels: 16 × 64 for 32 × 32", lambda: other_image(16, 64)


MUTANTS = edits(PatchEmbed, """
arguments_swapped: in_chans, embed_dim, patch_size, stride=patch_size →
→ patch_size, embed_dim, in_chans, stride=in_chans
    Two arguments of nn.Conv2d are swapped: channels and kernel size. As long as both are 3 the
    mistake cancels. The order is in_channels, out_channels, kernel_size.
reads_a_global: self.patch_size = → PatchEmbed.patch_size =
and: self.proj(images) → F.conv2d(images, *self.proj.parameters(), stride=self.patch_size)
    The first model changes when a second one is built: your module reads a patch size that stands
    outside it. Keep it in self.
no_stride: , stride=patch_size →
    The kernel moves on by one pixel, so that the patches overlap: the stride is missing. It must be
    the patch size.
not_transposed: .transpose(1, 2) →
    This is (B, D, N). A Transformer reads tokens along the second axis: transpose the last two
    axes, to (B, N, D).
reshaped: .flatten(2).transpose(1, 2) → .reshape(len(images), -1, self.proj.out_channels)
    The feature map (B, D, H/P, W/P) is reshaped to (B, N, D). That mixes the channels of several
    places in one token: flatten the grid first, then transpose.
along_the_columns: .flatten(2) → .mT.flatten(2)
    The tokens are right, but counted down the columns of the grid. Count along the rows.
checks_the_area: height != self.img_size or width != self.img_size →
→ height * width != self.img_size**2
    forward compares the number of pixels only, and a long narrow image may have as many as a square
    one. Compare height and width, each with img_size.
no_bias: stride=patch_size → stride=patch_size, bias=False
    The convolution has no bias. ViT's has one: leave out bias=False, or published weights will not
    load.
drops_pixels: img_size % patch_size → False
    An image size that the patch does not divide is accepted, and the rest of the pixels is dropped
    in silence. Raise a ValueError in __init__.
checks_by_the_patch: height != self.img_size → height % self.patch_size
and: width != self.img_size → width % self.patch_size
    An image is refused if the patch does not divide it, but one of another size than the model was
    built for gets through. It would have another number of tokens. Compare its height and width
    with img_size.
checks_the_width_only: height != self.img_size or →
    forward compares the width of the image with img_size, and not its height. Check both.
checks_the_height_only: or width != self.img_size →
    forward compares the height of the image with img_size, and not its width. Check both.
asserts: raise ValueError(f"{patch_size} does not divide {img_size}") → assert False
and: raise ValueError(f"expected sides of {self.img_size}, got {height} × {width} pixels") →
→ assert False
    The right sizes are refused, but by an `assert`: it raises an AssertionError, and `python -O`
    leaves it out. Say `if ...: raise ValueError(...)`.
takes_any_image: height != self.img_size or width != self.img_size → False
    An image of another size than the model was built for is accepted. It makes another number of
    tokens, and what follows in the model counts on this one. Raise a ValueError in forward.
""")  # fmt: skip


def probe(answer):
    def beside_another():
        one = filled(answer, 10, 5, 2, 4)
        filled(answer, 12, 2, 3, 6)
        return one(draw(3, 2, 10, 10))

    accepts = [(6, 9), (9, 6), (12, 12), (3, 3)]
    return [
        forward(answer, (10, 5, 2, 4), draw(3, 2, 10, 10)),
        forward(answer, (6, 2, 4, 9), draw(2, 4, 6, 6)),
        parameter_gradients(answer, (6, 2, 4, 9), draw(2, 4, 6, 6)),
        beside_another,
        refuses(lambda: answer(10, 3, 1, 4), ValueError),
        refuses(lambda: answer(3, 10, 1, 4), ValueError),
        *[
            refuses(lambda size=size: answer(9, 3, 1, 4)(torch.zeros(1, 1, *size)), ValueError)
            for size in accepts
        ],
    ]


EXERCISE = Exercise(
    name="patch_embed",
    chapter="01_patches",
    task="PatchEmbed(img_size, patch_size, in_chans, embed_dim), a module with the convolution "
    "`proj`: images (B, C, H, W) -> (B, N, D); a ValueError where sizes do not divide or do not "
    "match",
    reference=PatchEmbed,
    cases=cases,
    mutants=MUTANTS,
    accepted=[LinearPatchEmbed, partial(vitlib.PatchEmbed, mode="unfold")],
    probe=probe,
)
