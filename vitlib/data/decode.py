"""Image files of any kind, size and colour mode to one array of bytes (n, C, H, W).

A file that can't be read is left out and named, with the reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps
from tqdm import tqdm

from vitlib.wording import first_few


@dataclass
class Pictures:
    """What was read: the images, which of the files they are, and (name, reason) of the others."""

    images: UInt8[np.ndarray, "n C H W"]
    kept: np.ndarray  # (n,) indices into the files, increasing
    broken: list[tuple[str, str]]


def read_images(
    files: Iterable[tuple[str, Path | bytes]],
    count: int,
    size: tuple[int, int] | None,
    what: str,
) -> Pictures:
    """Read `count` files, given as (name, path or content).

    C is 1 when every image is grey, else 3. With `size` (H, W) each is resized so that it covers
    the size, and its centre is cut out; without, all must have one size.
    Raises ValueError when sizes differ, and when more than half of the files can't be read.
    `what` names the files in messages.
    """
    images: np.ndarray | None = None  # allocated once, when the first image tells shape and colour
    first = ""
    kept: list[int] = []
    broken: list[tuple[str, str]] = []
    for number, (name, source) in enumerate(
        tqdm(files, desc=f"reading {what}", total=count, delay=2, leave=False)
    ):
        try:
            pixels = decode(source, size)
        except MemoryError:
            raise
        except Exception as error:  # a broken file can raise nearly anything in a decoder
            broken.append((name, f"{type(error).__name__}: {_without_address(error)}"))
            continue
        if images is None:
            images, first = _allocate(count, pixels.shape), name
        if pixels.shape[1:] != images.shape[2:]:
            raise ValueError(
                f"images differ in size: {first} is {_by(images)}, {name} is {_by(pixels)} "
                "(height × width). Pass img_size to bring all to one size."
            )
        if len(pixels) > images.shape[1]:  # grey so far, and here is a colour image
            images = np.repeat(images, 3, axis=1)
        images[len(kept)] = pixels
        kept.append(number)

    if images is None or len(broken) > len(kept):
        raise ValueError(
            f"{len(broken)} of {count} images of {what} can't be read, more than half: "
            f"{list_broken(broken)}"
        )
    return Pictures(images[: len(kept)], np.array(kept), broken)


def _allocate(count: int, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty((count, *shape), np.uint8)
    except MemoryError:
        raise ValueError(
            f"{count} images of {shape[1]}×{shape[2]} take {count * np.prod(shape) / 1e9:.0f} GB, "
            "more memory than there is. Pass a smaller img_size."
        ) from None


def decode(source: Path | bytes, size: tuple[int, int] | None) -> UInt8[np.ndarray, "C H W"]:
    """One image, upright as its EXIF orientation says, grey (C = 1) or RGB (C = 3).

    Transparent pixels become white. 16-bit grey is scaled by its full range, 65535 to 255. Of an
    animation the first frame counts. Raises whatever Pillow raises for a file that it can't read.
    """
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as opened:
        image: Image.Image = opened
        if size:  # a JPEG far larger than needed is decoded at a half, a quarter or an eighth
            image.draft(None, (2 * max(size), 2 * max(size)))
        image.load()  # before the file is closed
        ImageOps.exif_transpose(image, in_place=True)
        image = flatten(image)
    if size and (image.height, image.width) != size:
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def in_channels(pixels: UInt8[np.ndarray, "C H W"], channels: int) -> UInt8[np.ndarray, "c H W"]:
    """Grey (C = 1) or colour (C = 3) as `channels`, 1 or 3, of them."""
    if len(pixels) > channels:
        return np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))[None]
    return np.repeat(pixels, channels // len(pixels), axis=0)


def flatten(image: Image.Image) -> Image.Image:
    """Any colour mode as L (grey) or RGB, with nothing transparent."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it as 8 or 16 bit")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit pixels have no fixed range; save it as 8 or 16 bit")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer)
    return image if image.mode == mode else image.convert(mode)


def list_broken(broken: list[tuple[str, str]], most: int = 5) -> str:
    """The first few, with reasons."""
    return first_few([f"{name} ({reason})" for name, reason in broken], most, "; ")


def _without_address(error: Exception) -> str:
    """The reason alone: Pillow names a BytesIO by its address, and a path that we name anyway."""
    return str(error).split(" <_io")[0].split(" '")[0].rstrip(":")


def _by(pixels: np.ndarray) -> str:
    return f"{pixels.shape[-2]}×{pixels.shape[-1]}"
