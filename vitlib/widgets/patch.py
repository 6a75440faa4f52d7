"""PatchFigure: how a picture becomes the rows of a matrix, in two right ways and a wrong one."""

from typing import Any

import numpy as np
import torch
from traitlets import Bytes, Int, List, Unicode, observe, validate

from vitlib.widgets.figure import Figure, check_choice, check_index, pixels_of

MODES = ("unfold", "conv", "view")
DIM = 8  # kernels, and so numbers per token: few enough to read
_MAX_SIDE = 256  # pixels; a larger picture would make the page heavy and its patches tiny


class PatchFigure(Figure, script="patch.js"):
    """Choose a patch of a picture: its pixels, its flattened vector, its row of the matrix.

    `mode` says how the rows are made: "unfold" cuts and flattens each patch in the order (c, p, p)
    of `torch.nn.functional.unfold`; "conv" slides 8 kernels with the patch size as their stride;
    "view" is the mistake `image.reshape(N, -1)`, which has the right shape and the wrong pixels.
    Below each row is the token that the same 8 kernels, random from a fixed seed, make of it.

    Args:
        image: anything that `pixels_of` takes; both sides at most 256 pixels.
        patch_size: one of `patch_sizes`, the sizes from 2 that divide both sides and leave at
            least 4 patches. Default: the one nearest to a quarter of the shorter side.
        patch: index of the patch, row-major.

    Pixels are stored as bytes, so the numbers shown are within 1/510 of the picture's.
    Raises ValueError for a picture that cannot be shown, and for values that do not fit it.
    """

    mode = Unicode("unfold").tag(sync=True)
    patch_size = Int().tag(sync=True)
    patch = Int(0).tag(sync=True)
    patch_sizes = List(Int()).tag(sync=True)
    height = Int().tag(sync=True)
    width = Int().tag(sync=True)
    channels = Int().tag(sync=True)
    pixels = Bytes(help="uint8 (C, H, W)").tag(sync=True)
    dim = Int(DIM).tag(sync=True)
    kernels = Bytes(help="float32, for each patch size (dim, C·P·P)").tag(sync=True)

    def __init__(
        self, image: Any, patch_size: int | None = None, patch: int = 0, mode: str = "unfold"
    ):
        pixels = pixels_of(image)
        height, width, channels = pixels.shape
        if max(height, width) > _MAX_SIDE:
            raise ValueError(
                f"the picture is {height}×{width}: make it at most {_MAX_SIDE} pixels a side"
            )
        sizes = [
            p for p in range(2, min(height, width) + 1)
            if height % p == 0 and width % p == 0 and height * width // p**2 >= 4
        ]  # fmt: skip
        if not sizes:
            raise ValueError(
                f"no patch size from 2 divides {height}×{width} into at least 4 patches"
            )
        if patch_size is None:
            patch_size = min(sizes, key=lambda p: abs(p - min(height, width) / 4))
        super().__init__(
            title="A picture cut into patches",
            alt=f"A picture of {height}×{width} pixels, cut into patches. Choose the patch size "
            "and a patch to see its pixels, its vector and its row in the matrix of all patches.",
            height=height,
            width=width,
            channels=channels,
            pixels=pixels.transpose(2, 0, 1).tobytes(),
            patch_sizes=sizes,
            kernels=b"".join(_kernels(channels, p).tobytes() for p in sizes),
        )
        self.mode, self.patch_size = mode, patch_size
        self.patch = patch

    @property
    def count(self) -> int:
        """N, the number of patches."""
        return self.height * self.width // self.patch_size**2

    @validate("mode")
    def _check_mode(self, proposal: Any) -> str:
        return check_choice("mode", proposal.value, MODES)

    @validate("patch_size")
    def _check_patch_size(self, proposal: Any) -> int:
        which = f", which divide {self.height}×{self.width}"
        return check_choice("patch_size", proposal.value, self.patch_sizes, which)

    @validate("patch")
    def _check_patch(self, proposal: Any) -> int:
        return check_index("patch", proposal.value, self.count, "patches") if self.count else 0

    @observe("patch_size")
    def _stay_inside(self, change: Any) -> None:
        if change.old and self.patch >= self.count:
            self.patch = 0


def _kernels(channels: int, patch_size: int) -> np.ndarray:
    """(dim, C·P·P) float32, normal, scaled so that tokens are about as large as pixels."""
    generator = torch.Generator().manual_seed(patch_size)
    length = channels * patch_size**2
    return (torch.randn(DIM, length, generator=generator) / length**0.5).numpy()
