"""Images to tokens: cut an image into patches, and map each patch to a vector.

    images (B, C, H, W)  ->  patches (B, N, C*P*P)  ->  tokens (B, N, D),    N = (H/P) * (W/P)

Patches are counted row by row, and one patch is flattened as (c, p, p): all of the first channel,
then all of the second. `F.unfold` and `conv.weight.flatten(1)` use the same order, which is why
the two embeddings below are the same linear map.

Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1, equation 1.
"""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.wording import check_count

Size = int | Sequence[int]  # a side, or (height, width)


def pair(size: Size, name: str = "size") -> tuple[int, int]:
    """A side, or (height, width), as (height, width).

    Raises ValueError, calling it `name`, unless both are positive integers.
    """
    sides: tuple[Any, ...] = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, Integral) and int(side) > 0 for side in sides):
        raise ValueError(f"{name} must be a positive integer or (height, width), got {size!r}")
    return int(sides[0]), int(sides[1])


def grid_of(img_size: Size, patch_size: Size) -> tuple[int, int]:
    """How many rows and columns of patches an image has.

    Raises ValueError if the patch size does not divide the image size.
    """
    (height, width), (ph, pw) = pair(img_size, "img_size"), pair(patch_size, "patch_size")
    if height % ph or width % pw:
        raise ValueError(
            f"image size {height}×{width} is not divisible by patch size {ph}×{pw}: "
            f"{height % ph} rows and {width % pw} columns of pixels would be left over. "
            f"Crop or resize the image to a multiple of the patch size."
        )
    return height // ph, width // pw


def patchify(images: Float[Tensor, "B C H W"], patch_size: Size) -> Float[Tensor, "B N patch"]:
    """Cut images into non-overlapping patches, each flattened as (c, p, p).

    Returns (B, N, C*P*P), patches in row-major order.
    Raises ValueError if the patch size does not divide the image.
    """
    check_batch(images)
    ph, pw = pair(patch_size, "patch_size")
    grid_of(images.shape[-2:], (ph, pw))
    return rearrange(images, "b c (gh ph) (gw pw) -> b (gh gw) (c ph pw)", ph=ph, pw=pw)


def unpatchify(
    patches: Float[Tensor, "B N patch"], patch_size: Size, img_size: Size | None = None
) -> Float[Tensor, "B C H W"]:
    """The inverse of `patchify`: patches (B, N, C*P*P) back to images (B, C, H, W).

    Without `img_size`, the grid of patches is assumed to be square.
    Raises ValueError if the number of patches or their length does not fit the sizes.
    """
    ph, pw = pair(patch_size, "patch_size")
    if patches.ndim != 3:
        raise ValueError(f"expected patches (B, N, C*P*P), got shape {tuple(patches.shape)}")
    num_patches, length = patches.shape[1:]
    side = round(num_patches**0.5)
    grid = (side, side) if img_size is None else grid_of(img_size, (ph, pw))
    if grid[0] * grid[1] != num_patches:
        hint = "give img_size=(height, width)" if img_size is None else f"img_size={img_size}"
        raise ValueError(f"{num_patches} patches do not fill a {grid[0]}×{grid[1]} grid: {hint}")
    if length % (ph * pw):
        raise ValueError(
            f"a patch of length {length} does not hold whole {ph}×{pw} channels ({ph * pw} values)"
        )
    return rearrange(
        patches, "b (gh gw) (c ph pw) -> b c (gh ph) (gw pw)", gh=grid[0], ph=ph, pw=pw
    )


def embed_unfold(
    images: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "D C P Q"],
    bias: Float[Tensor, " D"] | None = None,
) -> Float[Tensor, "B N D"]:
    """Patch embedding in two visible steps: `F.unfold` cuts, a matrix product projects.

    Raises ValueError for images whose channels do not match `weight` or that its patches do not
    divide.
    """
    check_images(images, weight.shape[1], None)
    patch_size = weight.shape[-2:]
    grid_of(images.shape[-2:], patch_size)
    patches = F.unfold(images, kernel_size=patch_size, stride=patch_size)  # (B, C*P*P, N)
    return F.linear(patches.transpose(1, 2), weight.flatten(1), bias)  # (B, N, D)


def embed_conv(
    images: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "D C P Q"],
    bias: Float[Tensor, " D"] | None = None,
) -> Float[Tensor, "B N D"]:
    """Patch embedding in one step: a convolution whose stride is its kernel size.

    It computes the same as `embed_unfold`, and raises the same errors.
    """
    check_images(images, weight.shape[1], None)
    patch_size = weight.shape[-2:]
    grid_of(images.shape[-2:], patch_size)
    feature_map = F.conv2d(images, weight, bias, stride=patch_size)  # (B, D, H/P, W/P)
    return feature_map.flatten(2).transpose(1, 2)  # (B, N, D)


class PatchEmbed(nn.Module):
    """Images (B, C, H, W) to tokens (B, N, D), by convolution or by unfold.

    Both modes hold the same parameters, `proj.weight` (D, C, P, P) and `proj.bias` (D), and
    compute the same function.

    Args:
        img_size: the one image size accepted, a side or (height, width), in pixels; None accepts
            every size that the patch divides.
        patch_size: side of a patch or (height, width), in pixels.
        in_chans: channels C.
        embed_dim: width D of a token.
        norm_layer: called with D, makes a norm for the tokens; None, as in ViT and DeiT, leaves
            them as they are.
        mode: "conv" or "unfold".

    Raises ValueError for an image size that the patch size does not divide, for an unknown mode,
    and for channels or a width below 1; and in `forward` for images that do not fit.
    """

    def __init__(
        self,
        img_size: Size | None = 224,
        patch_size: Size = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        norm_layer: Callable[[int], nn.Module] | None = None,
        mode: str = "conv",
    ):
        super().__init__()
        if mode not in ("conv", "unfold"):
            raise ValueError(f'mode must be "conv" or "unfold", got {mode!r}')
        check_count("in_chans", in_chans)
        check_count("embed_dim", embed_dim)
        self.patch_size = pair(patch_size, "patch_size")
        self.img_size = None if img_size is None else pair(img_size, "img_size")
        self.grid_size = None if img_size is None else grid_of(img_size, patch_size)
        self.num_patches = None if self.grid_size is None else self.grid_size[0] * self.grid_size[1]
        self.in_chans = in_chans
        self.mode = mode
        self.proj = nn.Conv2d(in_chans, embed_dim, self.patch_size, stride=self.patch_size)
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N D"]:
        check_images(images, self.in_chans, self.img_size)
        embed = embed_conv if self.mode == "conv" else embed_unfold
        return self.norm(embed(images, self.proj.weight, self.proj.bias))


def check_batch(images: Tensor) -> None:
    """Raise a ValueError unless the images are a batch, (B, C, H, W)."""
    if images.ndim != 4:
        hint = "; for one image add the batch axis: images[None]" if images.ndim == 3 else ""
        raise ValueError(f"expected images of shape (B, C, H, W), got {tuple(images.shape)}{hint}")


def check_images(images: Tensor, in_chans: int, img_size: tuple[int, int] | None) -> None:
    """Raise a ValueError unless the images are a batch of floats with `in_chans` channels.

    With `img_size`, they must also have that height and width.
    """
    check_batch(images)
    shape = tuple(images.shape)
    if shape[1] != in_chans:
        last = shape[-1] == in_chans
        hint = "; channels seem to come last: use images.permute(0, 3, 1, 2)" if last else ""
        raise ValueError(f"expected {in_chans} channels, got {shape[1]} in shape {shape}{hint}")
    if not images.is_floating_point():
        raise ValueError(
            f"expected floating-point images, got {images.dtype}: scale to [0, 1] and normalise"
        )
    if img_size is not None and shape[2:] != img_size:
        raise ValueError(
            f"expected images of {img_size[0]}×{img_size[1]} pixels, got {shape[2]}×{shape[3]}: "
            f"resize them, or build the model with that img_size or with dynamic_img_size=True"
        )
