"""Image files of any kind, size and colour mode -> one array of bytes (n, C, H, W).

A file that can't be read is left out and reported, with the reason.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from vitlib.data.depth import WHITES, describe_depth, raw_mode, read_low_bytes, to_8_bits
from vitlib.data.formats import advice_on, first_bytes, format_of, register_plugin
from vitlib.wording import first_few

# What turns a picture upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_ANIMATED = ("GIF", "PNG", "TIFF", "WEBP", "AVIF")


@dataclass
class Pictures:
    """The images that were read, which files they come from, and (name, reason) of the others."""

    images: UInt8[np.ndarray, "n C H W"]
    whites: np.ndarray  # (n,) the 16-bit value that became 255, 0 for images of 8 bits
    kept: np.ndarray  # (n,) indices into the files, increasing
    broken: list[tuple[str, str]]
    first_only: list[str]  # files of which only the first frame or page was read


def read_images(
    files: Iterable[tuple[str, Path | bytes]],
    count: int,
    size: tuple[int, int] | None,
    what: str,
) -> Pictures:
    """Read `count` files, each given as (name, path or content); messages call them `what`.

    C is 1 if every image is grey, else 3. With `size` (H, W), each image is resized to cover it and
    its centre is cut out; without, all images must have one size.
    Raises ValueError if the sizes differ, if more than half of the files can't be read, and if the
    images do not fit into memory.
    """
    images: np.ndarray | None = None  # allocated when the first image tells the shape
    first = ""
    kept: list[int] = []
    whites: list[int] = []
    first_only: list[str] = []
    broken: list[tuple[str, str]] = []
    for number, (name, source) in enumerate(
        tqdm(files, desc=f"reading {what}", total=count, delay=2, leave=False)
    ):
        try:
            pixels, white, holds_more = decode_fully(source, size)
        except MemoryError:
            raise
        except Exception as error:  # a broken file can raise nearly anything in a decoder
            broken.append((name, describe_error(error)))
            continue
        if images is None:
            images, first = _allocate(count, pixels.shape), name
        if pixels.shape[1:] != images.shape[2:]:
            raise ValueError(
                f"images differ in size: {first} is {_size(images)}, {name} is {_size(pixels)} "
                "(height × width). Pass img_size to bring all to one size."
            )
        if len(pixels) > images.shape[1]:  # grey so far, and here is a colour image
            images = np.repeat(images, 3, axis=1)
        images[len(kept)] = pixels
        kept.append(number)
        whites.append(white)
        if holds_more:
            first_only.append(name)

    if images is None or len(broken) > len(kept):
        raise ValueError(
            f"{len(broken)} of {count} images of {what} can't be read, more than half: "
            f"{list_broken(broken)}"
        )
    return Pictures(images[: len(kept)], np.array(whites), np.array(kept), broken, first_only)


def _allocate(count: int, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty((count, *shape), np.uint8)
    except MemoryError:
        raise ValueError(
            f"{count} images of {shape[1]}×{shape[2]} take {count * np.prod(shape) / 1e9:.0f} GB, "
            "more memory than there is. Pass a smaller img_size, or stream=True."
        ) from None


def decode(source: Path | bytes, size: tuple[int, int] | None) -> UInt8[np.ndarray, "C H W"]:
    """One image, turned upright as its EXIF orientation says, in grey (C = 1) or RGB (C = 3).

    With `size` (H, W), it is resized to cover that size and its centre is cut out. Transparent
    pixels become white. Of an animation, the first frame is used. An EXIF that can't be read is
    ignored. 16-bit values become bytes, and 65535 becomes 255; but if none is above 4095, as from a
    camera of 12 bits, 4095 becomes 255, and a warning says so; likewise with 8, 10 and 14 bits. A
    range that the file states is taken as it is.
    Raises whatever Pillow raises for a file that it can't read, and ValueError for an empty file,
    for one that needs a plug-in or has more pixels than Pillow's limit, and for pixels without a
    fixed range.
    """
    decoded = decode_fully(source, size)
    if 0 < decoded.white < WHITES[-1]:
        warnings.warn(describe_depth("a picture has", decoded.white), stacklevel=2)
    return decoded.pixels


class Decoded(NamedTuple):
    """The pixels (C, H, W) as in `decode`, and what else is to be known about the file."""

    pixels: np.ndarray
    white: int  # the 16-bit value that became 255, 0 for an 8-bit image
    holds_more: bool  # further frames or pages


def decode_fully(source: Path | bytes, size: tuple[int, int] | None) -> Decoded:
    """As `decode`, without its warning."""
    image, mode, holds_more = _load(source, size)
    image, white = to_8_bits(image, mode, lambda: _load(source, size, low_bytes=True)[0])
    image = to_grey_or_rgb(image)
    if size and (image.height, image.width) != size:
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return Decoded(pixels, white, holds_more)


def read_size(source: Path | bytes) -> tuple[int, int]:
    """The (height, width) of an image once it is upright, without decoding its pixels.

    Raises what `decode` raises for a file that is no image.
    """
    with _open(source) as opened:
        width, height = opened.size
        return (width, height) if _orientation(opened) >= 5 else (height, width)


def _load(
    source: Path | bytes, size: tuple[int, int] | None, low_bytes: bool = False
) -> tuple[Image.Image, str, bool]:
    """The image, upright and in memory, its raw mode, and whether there are more in the file.

    16-bit colours come as their high bytes, or as the others with `low_bytes`.
    """
    with _open(source) as opened:
        mode = raw_mode(opened)
        # A telephone's MPO and HEIC hold previews besides.
        animated = opened.format in _ANIMATED and getattr(opened, "is_animated", False)
        if low_bytes:
            read_low_bytes(opened)
        if size:  # a JPEG far larger than needed is decoded at a half, a quarter or an eighth
            opened.draft(None, (2 * max(size), 2 * max(size)))
        opened.load()  # before the file is closed
        turn = _TURNS.get(_orientation(opened))
        return opened if turn is None else opened.transpose(turn), mode, animated


def _open(source: Path | bytes) -> ImageFile.ImageFile:
    """Open with Pillow, and with its plug-in where the format needs one and it is installed."""

    def file() -> Path | BytesIO:
        return BytesIO(source) if isinstance(source, bytes) else source

    try:
        with warnings.catch_warnings():  # of half its limit, which cameras do exceed
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file())
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"more than {limit:,} pixels, Pillow's limit: save it smaller") from error
    except UnidentifiedImageError as error:
        start = first_bytes(source)
        if not start:
            raise ValueError("the file is empty") from error
        name = format_of(start)
        if register_plugin(name):
            return Image.open(file())
        if advice := advice_on(name):
            raise ValueError(advice) from error
        raise


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, if the EXIF can't be read: the pixels still can."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises SyntaxError, struct.error and more
        return 1


def to_channels(pixels: UInt8[np.ndarray, "C H W"], channels: int) -> UInt8[np.ndarray, "c H W"]:
    """Convert grey (C = 1) or colour (C = 3) pixels to `channels`, which is 1 or 3."""
    if len(pixels) > channels:
        return np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))[None]
    return np.repeat(pixels, channels // len(pixels), axis=0)


def to_grey_or_rgb(image: Image.Image) -> Image.Image:
    """Convert any colour mode of 8 bits to L (grey) or RGB; what is transparent becomes white."""
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer)
    return image if image.mode == mode else image.convert(mode)


def list_broken(broken: list[tuple[str, str]], most: int = 5) -> str:
    """The first few of the (name, reason) pairs, for a message; each reason is given once."""
    names: dict[str, list[str]] = {}
    for name, reason in broken:
        names.setdefault(reason, []).append(name)
    return first_few([f"{first_few(some, 3)} ({why})" for why, some in names.items()], most, "; ")


def describe_error(error: Exception) -> str:
    """Why a file can't be read: the kind of error, and its text without the file that Pillow names,
    by its path or a BytesIO's address."""
    reason = str(error).split(" <_io")[0].split(" '")[0].rstrip(":")
    return f"{type(error).__name__}: {reason}"


def _size(pixels: np.ndarray) -> str:
    """Height × width, for messages."""
    return f"{pixels.shape[-2]}×{pixels.shape[-1]}"
