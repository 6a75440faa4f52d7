"""Patches: three ways to cut and project an image are one linear map, in one pinned order."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from vitlib import PatchEmbed, embed_conv, embed_unfold, patchify, unpatchify
from vitlib.patch import grid_of, pair

# (batch, channels, height, width), (patch height, patch width), embed_dim
CASES = [
    ((2, 3, 8, 12), (4, 4), 7),  # D != C·P², H != W, C != P
    ((3, 2, 6, 15), (2, 5), 11),  # patches that are not square
    ((1, 1, 5, 5), (5, 5), 4),  # one patch
]


def random_case(shape, patch, dim):
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return draw(shape), draw(dim, shape[1], *patch), draw(dim)


def test_patchify_order_is_row_major_and_channel_first():
    images = torch.arange(48.0).reshape(1, 2, 4, 6)
    patches = patchify(images, (2, 3))
    assert patches.tolist() == [
        [
            [0, 1, 2, 6, 7, 8, 24, 25, 26, 30, 31, 32],
            [3, 4, 5, 9, 10, 11, 27, 28, 29, 33, 34, 35],
            [12, 13, 14, 18, 19, 20, 36, 37, 38, 42, 43, 44],
            [15, 16, 17, 21, 22, 23, 39, 40, 41, 45, 46, 47],
        ]
    ]


@pytest.mark.parametrize(("shape", "patch", "dim"), CASES)
def test_unpatchify_is_the_inverse(shape, patch, dim):
    images, *_ = random_case(shape, patch, dim)
    patches = patchify(images, patch)
    assert torch.equal(unpatchify(patches, patch, shape[2:]), images)
    assert torch.equal(patchify(unpatchify(patches, patch, shape[2:]), patch), patches)


def test_unpatchify_takes_the_grid_to_be_square():
    images = torch.randn(2, 3, 6, 6)
    assert torch.equal(unpatchify(patchify(images, 2), 2), images)


@pytest.mark.parametrize(("shape", "patch", "dim"), CASES)
def test_unfold_conv_and_matmul_are_the_patch_loop(shape, patch, dim):
    images, weight, bias = random_case(shape, patch, dim)
    (ph, pw), (height, width) = patch, shape[2:]
    tokens = [
        torch.einsum("bchw,dchw->bd", images[..., y : y + ph, x : x + pw], weight) + bias
        for y in range(0, height, ph)
        for x in range(0, width, pw)
    ]
    expected = torch.stack(tokens, dim=1)
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
    close(embed_unfold(images, weight, bias), expected)
    close(embed_conv(images, weight, bias), expected)
    close(patchify(images, patch) @ weight.flatten(1).T + bias, expected)
    close(embed_unfold(images, weight), expected - bias)
    close(embed_conv(images, weight), expected - bias)
    for mode in ("conv", "unfold"):
        module = PatchEmbed(shape[2:], patch, shape[1], dim, mode=mode).double()
        module.load_state_dict({"proj.weight": weight, "proj.bias": bias})
        close(module(images), expected)


@pytest.mark.parametrize("mode", ["conv", "unfold"])
def test_patch_embed_contract(mode):
    module = PatchEmbed((8, 12), 4, in_chans=2, embed_dim=5, mode=mode)
    assert (module.grid_size, module.num_patches) == ((2, 3), 6)
    shapes = {name: tuple(p.shape) for name, p in module.state_dict().items()}
    assert shapes == {"proj.weight": (5, 2, 4, 4), "proj.bias": (5,)}
    tokens = module(torch.randn(3, 2, 8, 12))
    assert tokens.shape == (3, 6, 5)
    tokens.square().sum().backward()
    assert all(p.grad.abs().min() > 0 for p in module.parameters())
    assert module(torch.zeros(0, 2, 8, 12)).shape == (0, 6, 5)


@pytest.mark.parametrize(("mode", "calls"), [("conv", 0), ("unfold", 1)])
def test_patch_embed_mode_says_what_runs(mode, calls, monkeypatch):
    seen, unfold = [], nn.functional.unfold
    monkeypatch.setattr(
        nn.functional, "unfold", lambda *args, **kwargs: seen.append(1) or unfold(*args, **kwargs)
    )
    PatchEmbed(8, 4, 1, 5, mode=mode)(torch.randn(1, 1, 8, 8))
    assert len(seen) == calls


def test_patch_embed_norm_layer_acts_on_each_token():
    module = PatchEmbed(8, 4, 2, 6, norm_layer=nn.LayerNorm)
    images = torch.randn(2, 2, 8, 8)
    tokens = embed_conv(images, module.proj.weight, module.proj.bias)
    torch.testing.assert_close(module(images), nn.functional.layer_norm(tokens, (6,)))


def test_patch_embed_without_img_size_takes_every_size_that_divides():
    module = PatchEmbed(None, 4, 1, 6)
    assert module.grid_size is None
    assert module.num_patches is None
    assert module(torch.randn(1, 1, 8, 8)).shape == (1, 4, 6)
    assert module(torch.randn(1, 1, 4, 12)).shape == (1, 3, 6)
    with pytest.raises(ValueError, match="10×8 is not divisible by patch size 4×4"):
        module(torch.randn(1, 1, 10, 8))


@pytest.mark.parametrize("size", [3, np.int64(3), [3, 3], torch.Size((3, 3))])
@pytest.mark.usefixtures("unchecked")
def test_pair_accepts_sides_and_sequences(size):
    assert pair(size) == (3, 3)
    assert all(type(side) is int for side in pair(size))


@pytest.mark.parametrize("size", [0, -4, (4, 0), (1, 2, 3), 4.0, (4.0, 4), None, "16"])
@pytest.mark.usefixtures("unchecked")
def test_pair_refuses_what_is_not_a_size(size):
    with pytest.raises(ValueError, match="patch_size must be a positive integer") as error:
        pair(size, "patch_size")
    assert repr(size) in str(error.value)


IMAGES = torch.zeros(1, 3, 10, 9)


@pytest.mark.parametrize(
    "cut",
    [
        lambda: grid_of((10, 9), 4),
        lambda: patchify(IMAGES, 4),
        lambda: unpatchify(torch.zeros(1, 4, 48), 4, (10, 9)),
        lambda: embed_unfold(IMAGES, torch.zeros(5, 3, 4, 4)),
        lambda: embed_conv(IMAGES, torch.zeros(5, 3, 4, 4)),
        lambda: PatchEmbed((10, 9), 4),
    ],
)
def test_a_size_that_does_not_divide_is_refused(cut):
    message = "10×9 is not divisible by patch size 4×4: 2 rows and 1 columns of pixels"
    with pytest.raises(ValueError, match=message):
        cut()


@pytest.mark.parametrize("height_width", [(8, 9), (9, 8)])
def test_one_side_that_does_not_divide_is_enough(height_width):
    with pytest.raises(ValueError, match="is not divisible"):
        grid_of(height_width, 4)


def test_unpatchify_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"6 patches do not fill a 2×2 grid: give img_size"):
        unpatchify(torch.zeros(1, 6, 12), 2)
    with pytest.raises(ValueError, match=r"6 patches do not fill a 2×2 grid: img_size=4"):
        unpatchify(torch.zeros(1, 6, 12), 2, 4)
    with pytest.raises(ValueError, match=r"length 10 does not hold whole 2×2 channels \(4 values"):
        unpatchify(torch.zeros(1, 4, 10), 2)


@pytest.mark.parametrize(
    "cut",
    [
        partial(patchify, patch_size=4),
        partial(embed_unfold, weight=torch.zeros(5, 3, 4, 4)),
        partial(embed_conv, weight=torch.zeros(5, 3, 4, 4)),
        PatchEmbed(8, 4, 3, 5),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_images_out_of_a_batch_are_refused(cut):
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got \(3, 8, 8\); .* images\[None\]"):
        cut(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got \(8, 8\)$"):
        cut(torch.zeros(8, 8))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 8, 12), r"expected 3 channels, got 1 in shape \(2, 1, 8, 12\)$"),
        (torch.zeros(2, 8, 12, 3), r"expected 3 channels, got 8 .* images.permute\(0, 3, 1, 2\)"),
        (torch.zeros(2, 3, 12, 8), "expected images of 8×12 pixels, got 12×8.*dynamic_img_size"),
        (torch.zeros(2, 3, 8, 12, dtype=torch.uint8), "floating-point images, got torch.uint8"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_patch_embed_refuses_images_that_do_not_fit(images, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbed((8, 12), 4, 3, 5)(images)


def test_patch_embed_refuses_an_unknown_mode():
    with pytest.raises(ValueError, match='mode must be "conv" or "unfold", got \'linear\''):
        PatchEmbed(8, 4, mode="linear")


@pytest.mark.parametrize("embed", [embed_conv, embed_unfold])
def test_embedding_images_of_other_channels_says_so(embed, unchecked):
    with pytest.raises(ValueError, match=r"expected 3 channels, got 1 in shape \(2, 1, 8, 8\)"):
        embed(torch.rand(2, 1, 8, 8), torch.rand(5, 3, 4, 4))


def test_unpatchify_wants_a_batch(unchecked):
    with pytest.raises(ValueError, match=r"expected patches \(B, N, C\*P\*P\), got .*\(16, 49\)"):
        unpatchify(torch.rand(16, 49), 7)


def test_patch_embed_needs_channels_and_width():
    with pytest.raises(ValueError, match="in_chans must be at least 1, got 0"):
        PatchEmbed(8, 4, in_chans=0, embed_dim=8)
