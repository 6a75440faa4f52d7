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
            raise ValueError(f"expected {self.img_size}, got {height} × {width}")
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
            result = run()
        except ValueError:
            return "refused"
        except RuntimeError as error:
            raise Refused(f"a RuntimeError was raised: {error}", "RuntimeError") from None
        if isinstance(result, torch.Tensor):
            shape = tuple(result.shape)
            raise Refused(f"no ValueError was raised, and tokens of shape {shape} came back")
        if isinstance(result, BaseException):
            raise Refused("the error is returned, and should be raised")
        raise Refused("no ValueError was raised")

    def named():
        names = [name for name, _ in build(answer, 12, 4, 3, 7).named_parameters()]
        if not names:
            raise Refused("nothing is learned in it")
        if "proj.weight" not in names:
            text = f"there is no `proj.weight`; the learned parameters are {', '.join(names)}"
            nested = any(name.startswith("proj.") for name in names)
            raise Refused(text, "nested" if nested else "another name")
        return "proj.weight"

    def embed(*sizes):
        module = twin(answer, PatchEmbed, *sizes)
        return call(module, numbers(2, sizes[2], sizes[0], sizes[0]))

    def with_a_second_model(of_the_size):
        first = twin(answer, PatchEmbed, 12, 4, 3, 7)
        build(answer, of_the_size, 2, 3, 5)
        return call(first, numbers(2, 3, 12, 12))

    def the_gradient():
        module = twin(answer, PatchEmbed, 9, 3, 3, 5)
        out = call(module, numbers(2, 3, 9, 9))
        if out.requires_grad:
            out.square().sum().backward()
        gradients = [parameter.grad for parameter in module.parameters()]
        if any(gradient is None for gradient in gradients):
            raise Refused("no gradient reaches the parameters")
        return sorted((g.flatten() for g in gradients), key=len)

    def other_image(height, width):
        model = build(answer, 32, 8, 1, 4)
        of_its_size = ""
        try:
            model(torch.zeros(1, 1, 32, 32))
        except ValueError:
            of_its_size = "one of the right size is refused"
        except Exception:  # what it is about, other cases tell
            pass
        try:
            seen = refused(lambda: model(torch.zeros(1, 1, height, width)))
        except Refused as wrong:
            text = f"{wrong}, and {of_its_size}" if of_its_size else str(wrong)
            raise Refused(text, wrong.reason + of_its_size) from None
        if of_its_size:
            raise Refused(of_its_size)
        return seen

    # P = C: two swapped arguments of Conv2d cancel here
    yield "two images of 9 × 9 pixels, 3 channels, P = 3, D = 5", lambda: embed(9, 3, 3, 5)
    yield "two images of 20 × 20 pixels, 3 channels, P = 4, D = 7", lambda: embed(20, 4, 3, 7)
    yield "two grey images of 10 × 10 pixels, P = 5, D = 6", lambda: embed(10, 5, 1, 6)
    yield "the name of the convolution", named
    label = "two models side by side, with different patch sizes"
    yield label, lambda: with_a_second_model(12)
    label = "two models side by side, with different image sizes"
    yield label, lambda: with_a_second_model(20)
    yield "the gradient that reaches the parameters", the_gradient
    label = "an image size that the patch does not divide: PatchEmbed(30, 8, 1, 4)"
    yield label, lambda: refused(lambda: build(answer, 30, 8, 1, 4))
    # P divides the number of pixels
    label = "an image size that the patch does not divide: PatchEmbed(12, 8, 1, 4)"
    yield label, lambda: refused(lambda: build(answer, 12, 8, 1, 4))
    label = "a patch that is larger than the image: PatchEmbed(4, 8, 1, 4)"
    yield label, lambda: refused(lambda: build(answer, 4, 8, 1, 4))
    yield "a smaller image than the model was built for", lambda: other_image(16, 16)
    yield "a larger image than the model was built for", lambda: other_image(64, 64)
    yield "an image that is too wide: 32 × 40 for 32 × 32", lambda: other_image(32, 40)
    yield "an image that is too high: 40 × 32 for 32 × 32", lambda: other_image(40, 32)
    yield "an image with as many pixels: 16 × 64 for 32 × 32", lambda: other_image(16, 64)
    yield "an image one pixel too high: 33 × 32 for 32 × 32", lambda: other_image(33, 32)


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
and: raise ValueError(f"expected {self.img_size}, got {height} × {width}") →
→ assert False
    The right sizes are refused, but by an `assert`: it raises an AssertionError, and `python -O`
    leaves it out. Say `if ...: raise ValueError(...)`.
takes_any_image: height != self.img_size or width != self.img_size → False
    An image of another size than the model was built for is accepted. It makes another number of
    tokens, and what follows in the model counts on this one. Raise a ValueError in forward.
other_name: self.proj = → self.conv =
and: self.proj(images) → self.conv(images)
    The convolution has another name. Call it `proj`, as timm does: published weights are stored as
    proj.weight and proj.bias, and are looked for by these names.
proj_is_a_sequence: nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size) →
→ nn.Sequential(nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size))
    proj is not the convolution itself, but something that holds it. Published weights are stored as
    proj.weight and proj.bias: let self.proj be the nn.Conv2d.
image_size_on_the_class: self.img_size, self.patch_size = →
→ PatchEmbed.img_size, self.patch_size =
    The first model refuses its own images when a second one is built: your module reads an image
    size that stands outside it, in the class or in a global variable. Keep it in self.
three_channels: in_chans, embed_dim, → 3, embed_dim,
    The number of channels is fixed at 3. Pass in_chans on: a grey image has one.
channels_and_width_swapped: in_chans, embed_dim, → embed_dim, in_chans,
    Two arguments of nn.Conv2d are swapped: in_channels is what the image has, in_chans, and
    out_channels is embed_dim.
patch_size_16: patch_size, stride=patch_size → 16, stride=16
    The patch size is fixed at 16. Pass patch_size on, as kernel size and as stride.
width_768: embed_dim, patch_size, → 768, patch_size,
    The width is fixed at 768. Pass embed_dim on.
always_refuses: self.img_size, self.patch_size = img_size, →
→ self.img_size, self.patch_size = 224,
    Images of the size that the model was built for are refused, too. Keep img_size in __init__, and
    compare both height and width with it, each a number with a number.
detached: return self.proj(images) → return self.proj(images).detach()
    The numbers are right, but no gradient reaches the convolution: it would never learn. Look for
    no_grad, .data or .detach().
a_linear_layer: nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size) →
→ nn.Linear(in_chans * patch_size**2, embed_dim)
    proj is a linear layer on flattened patches. That can compute the same, but the task asks for a
    convolution: its weight is (D, C, P, P), as published weights have it.
made_in_forward: self.proj = → self.make = lambda:
and: self.proj(images) → self.make()(images)
    The module has no parameters of its own, so that nothing is learned. Make the convolution once,
    in __init__, as self.proj.
with_a_norm: self.img_size, self.patch_size = →
→ self.norm = nn.LayerNorm(embed_dim)
→ self.img_size, self.patch_size =
and: return self.proj(images).flatten(2).transpose(1, 2) →
→ return self.norm(self.proj(images).flatten(2).transpose(1, 2))
    The tokens pass through a LayerNorm, which the task does not ask for. Leave it out: the
    convolution alone makes the tokens.
padded_by_half: stride=patch_size → stride=patch_size, padding=patch_size // 2
    The image is padded with P // 2 zeros on each side, so that the patches do not start at its
    corner. Leave out the padding.
padded_by_one: stride=patch_size → stride=patch_size, padding=1
    The image is padded with a zero on each side, so that the patches do not start at its corner.
    Leave out the padding.
stride_is_the_grid: stride=patch_size → stride=img_size // patch_size
    The stride is the number of patches in a row. It must be the patch size: the kernel moves on by
    its own width.
sequence_first: .flatten(2).transpose(1, 2) → .flatten(2).permute(2, 0, 1)
    This is (N, B, D): the tokens come first. The batch should: (B, N, D).
any_exception_in_init: raise ValueError(f"{patch_size} does → raise Exception(f"{patch_size} does
    For a size that does not divide, a plain Exception is raised. A caller that waits for a
    ValueError does not catch it: raise ValueError(...).
any_exception_in_forward: raise ValueError(f"expected → raise Exception(f"expected
    For an image of another size, a plain Exception is raised. A caller that waits for a ValueError
    does not catch it: raise ValueError(...).
a_map: .flatten(2).transpose(1, 2) →
    This is the feature map (B, D, H/P, W/P), as the convolution leaves it. Flatten its grid, and
    move D to the end: (B, N, D).
a_map_with_channels_last: .flatten(2).transpose(1, 2) → .permute(0, 2, 3, 1)
    The tokens still stand in their grid, (B, H/P, W/P, D). Join its two axes, to (B, N, D).
one_long_vector: .flatten(2).transpose(1, 2) → .flatten(1)
    All tokens of an image are joined to one long vector. Flatten the grid only, from axis 2 on, and
    then transpose.
batch_joined: .flatten(2).transpose(1, 2) → .permute(0, 2, 3, 1).flatten(0, 2)
    The tokens of all images stand in one list, (B·N, D). Keep the batch as an axis of its own: (B,
    N, D).
relu: return self.proj(images) → return self.proj(images).relu()
    Negative numbers are set to 0. An embedding is a linear map, without ReLU: return what the
    convolution gives.
nothing_returned: return self → self
    forward returns nothing: the `return` is missing.
and_for_or: height != self.img_size or → height != self.img_size and
    An image is refused only if *both* its sides are wrong. One wrong side is enough: `or`, not
    `and`.
squares_only: height != self.img_size or width != self.img_size → height != width
    forward asks only whether the image is square, and a square of another size gets through.
    Compare height and width with img_size.
smaller_only: height != self.img_size or width != self.img_size →
→ height < self.img_size or width < self.img_size
    Too small an image is refused, and too large a one gets through. Compare with !=.
larger_only: height != self.img_size or width != self.img_size →
→ height > self.img_size or width > self.img_size
    Too large an image is refused, and too small a one gets through. Compare with !=.
counts_the_tokens: height != self.img_size or width != self.img_size →
→ (height // self.patch_size) * (width // self.patch_size) != (self.img_size // self.patch_size)**2
    forward compares the number of tokens only. A long narrow image may have as many, and one that
    is a pixel too high has, too. Compare height and width, each with img_size.
compares_the_grid: height != self.img_size or width != self.img_size →
→ {height // self.patch_size, width // self.patch_size} != {self.img_size // self.patch_size}
    forward compares the rows and columns of patches only. An image that is a pixel too high has as
    many, and its last pixels are dropped. Compare height and width, each with img_size.
the_wrong_way_round: height != self.img_size or width != self.img_size →
→ height == self.img_size or width == self.img_size
the_wrong_way_round_for_both: height != self.img_size or width != self.img_size →
→ height == self.img_size and width == self.img_size
    It is the wrong way round: images of the right size are refused, and others are accepted. Raise
    the error where a side is *not* img_size.
cut_to_size: raise ValueError(f"expected {self.img_size}, got {height} × {width}") →
→ images = images[..., : self.img_size, : self.img_size]
    An image of another size is cut where it is too large, and nobody hears of it. Refuse it, with a
    ValueError.
resized: raise ValueError(f"expected {self.img_size}, got {height} × {width}") →
→ images = F.interpolate(images, size=(self.img_size, self.img_size))
    An image of another size is made to fit: as many tokens come out as for one of the right size.
    Refuse it, with a ValueError.
error_returned: raise ValueError(f"expected → return ValueError(f"expected
    The error is returned, and the caller takes it for the tokens. Errors are raised: raise
    ValueError(...).
nothing_for_an_error: raise ValueError(f"expected {self.img_size}, got {height} × {width}") →
→ return None
    Nothing is raised for an image of another size, and nothing comes back: the error will show up
    somewhere else. Raise a ValueError in forward.
asserts_in_init: raise ValueError(f"{patch_size} does → raise AssertionError(f"{patch_size} does
    A patch size that does not divide is refused, but by an `assert`: it raises an AssertionError,
    and `python -O` leaves it out. Say `if ...: raise ValueError(...)`.
asserts_in_forward: raise ValueError(f"expected → raise AssertionError(f"expected
    An image of another size is refused, but by an `assert`: it raises an AssertionError, and
    `python -O` leaves it out. Say `if ...: raise ValueError(...)`.
other_error_in_init: raise ValueError(f"{patch_size} does → raise TypeError(f"{patch_size} does
    A TypeError is for values of a wrong type, and this is a wrong value: raise a ValueError in
    __init__.
other_error_in_forward: raise ValueError(f"expected → raise TypeError(f"expected
    A TypeError is for values of a wrong type, and this is a wrong value: raise a ValueError in
    forward.
runtime_error_in_init: raise ValueError(f"{patch_size} does → raise RuntimeError(f"{patch_size} does
    For a size that does not divide, a RuntimeError is raised in __init__. A caller that waits for
    a ValueError does not catch it: raise ValueError(...).
runtime_error_in_forward: raise ValueError(f"expected → raise RuntimeError(f"expected
    For an image of another size, a RuntimeError is raised. A caller that waits for a ValueError
    does not catch it: compare the sizes first, and raise ValueError(...).
larger_patches_refused_only: img_size % patch_size → img_size < patch_size
    Only a patch that is larger than the image is refused. One that leaves a rest of pixels is to be
    refused, too: look at the remainder, img_size % patch_size.
divides_the_area: img_size % patch_size → img_size**2 % patch_size
    You ask whether P divides img_size², which it may do without dividing a side. Look at img_size %
    patch_size.
divided_the_other_way: img_size % patch_size → patch_size % img_size
    The remainder is taken the wrong way round, so that sizes are refused that fit. It is img_size %
    patch_size that is 0 where the patch fits.
refuses_what_fits: if img_size % patch_size → if not img_size % patch_size
    It is the wrong way round: what the patch divides is refused. img_size % patch_size is 0 where
    the patch fits, and the error belongs to the other case.
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
    "`proj`: images (B, C, H, W) -> (B, N, D); a ValueError where sizes do not divide, or "
    "height or width do not match",
    reference=PatchEmbed,
    cases=cases,
    mutants=MUTANTS,
    accepted=[LinearPatchEmbed, partial(vitlib.PatchEmbed, mode="unfold")],
    probe=probe,
)
