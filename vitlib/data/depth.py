"""Pictures with 16 bits per channel -> bytes.

Cameras of 8, 10, 12 or 14 bits write their values into 16, and by 65535 such a picture is nearly
black. So the smallest of these ranges that holds a picture's values is taken for its white; over a
data set, it is the largest white of its pictures that counts (`share_white`). A file that states
its range is read by that: a PGM or PPM whose maximum is below 65535, a TIFF of 12 bits, and a
JPEG 2000 of 10 to 15.
"""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image, ImageFile

WHITES = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANES = 258, 262, 277, 284  # tags of TIFF
# raw mode: the white of what Pillow loads
_STATED = {"L;PNM": 65535, "L;J2K": 65535, "I;12": 4095}
_PLAIN, _J2K = "RGB;plain", "RGB;J2K"
_HIGH_BYTES = {  # raw mode: 16-bit colours of which Pillow loads no more
    _PLAIN: ("as text", "PNG, or as a PPM in bytes (P6)"),
    _J2K: ("in JPEG 2000", "PNG or TIFF"),
}
_SIZ, _BITS_AT = b"\xff\x4f\xff\x51", 42  # how a JPEG 2000 codestream begins; its depth (A.5.1)
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def raw_mode(opened: ImageFile.ImageFile) -> str:
    """How pixels lie in the file, mostly in Pillow's words, such as "RGB;16B"; before loading.

    At the end, ";I" means inverted: 0 is white. Of 16-bit TIFFs, Pillow does not heed that.
    "L;PNM" and "L;J2K" are grey that Pillow scales to 16 bits, from a range that the file states.
    Raises ValueError for 16-bit colours in separate planes and for a JPEG 2000 of 9 bits, which
    Pillow reads wrongly.
    """
    args = opened.tile[0][3] if opened.tile else ""
    mode = str(args if isinstance(args, str) else next(iter(args or ("",))))
    if opened.format == "PPM" and isinstance(args, tuple) and isinstance(args[-1], int):
        return _pnm_mode(opened, mode, args[-1])
    if opened.format == "JPEG2000":
        return _jpeg_2000_mode(opened, mode)
    tags = getattr(opened, "tag_v2", {})  # of TIFF
    if max(tags.get(_BITS, (8,))) > 8:
        if tags.get(_PLANES, 1) == 2 and tags.get(_SAMPLES, 1) > 1:
            raise ValueError(
                "16-bit colours in separate planes can't be read; save it with interleaved "
                "channels, or as PNG"
            )
        if tags.get(_PHOTOMETRIC, 1) == 0:
            mode += ";I"
    return mode


def _pnm_mode(opened: ImageFile.ImageFile, mode: str, most: int) -> str:
    """The raw mode of a PGM or PPM with this maximum, which Pillow scales to its own range.

    Of 65535 in colours, it would keep 8 bits, too few if they hold a camera's 12: they are made to
    be loaded as those of a PNG are.
    """
    decoder, box, offset, _ = opened.tile[0]
    if mode == "L" and 255 < most < 65535:
        return "L;PNM"
    if mode != "RGB" or most < 65535:
        return mode
    if decoder == "ppm_plain":
        return _PLAIN
    part: Any = ("raw", box, offset, ("RGB;16B", 0, 1))
    opened.tile = [type(opened.tile[0])(*part) if hasattr(opened.tile[0], "_fields") else part]
    return "RGB;16B"


def _jpeg_2000_mode(opened: ImageFile.ImageFile, mode: str) -> str:
    """The raw mode of a JPEG 2000, by the bits that its first channel states."""
    file: Any = opened.fp
    file.seek(0)
    data = file.read()
    start = data.find(_SIZ)
    bits = (data[start + _BITS_AT] & 127) + 1  # the eighth bit: with a sign, which Pillow heeds
    if bits == 9:
        raise ValueError("a JPEG 2000 of 9 bits per channel can't be read; save it as PNG")
    if opened.mode.startswith("I;16"):
        return mode if bits == 16 else "L;J2K"
    return _J2K if bits == 16 else mode


def read_low_bytes(opened: ImageFile.ImageFile) -> None:
    """Make `opened`, a picture in 16-bit colours, load the low bytes instead of the high ones."""

    tiles: list[Any] = []
    for part in opened.tile:  # a tuple, in later versions of Pillow a named one
        args: Any = part[3]
        swapped = _low_mode(args) if isinstance(args, str) else (_low_mode(args[0]), *args[1:])
        rest = (*part[:3], swapped)
        tiles.append(type(part)(*rest) if hasattr(part, "_fields") else rest)
    opened.tile = tiles


def _low_mode(mode: str) -> str:
    # "LA;16L" does not exist; read as four bytes, the grey value's low one is the second.
    return "RGBA" if mode == "LA;16B" else mode[:-1] + _OTHER_BYTE[mode[-1]]


def to_8_bits(
    image: Image.Image, mode: str, load_low_bytes: Callable[[], Image.Image]
) -> tuple[Image.Image, int]:
    """The image with 8 bits per channel, and the 16-bit value that is white, 0 if it had 8 bits.

    Pillow loads 16-bit grey whole, but of 16-bit colours the high bytes only, which is enough for
    true 16 bits. `load_low_bytes` reads the file again, for the others.
    A range that the file states counts as 8 bits do. Raises ValueError for pixels without a fixed
    range, and for dark 16-bit colours that are written as text or in JPEG 2000.
    """
    if image.mode == "F" or image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            kind = "floating-point" if image.mode == "F" else "32-bit"
            raise ValueError(
                f"{kind} pixels, here from {values.min():g} to {values.max():g}, have no fixed "
                "range; save it as 8 or 16 bit"
            )
        stated = _STATED.get(mode.removesuffix(";I"), 0)
        white = stated or white_of(int(values.max()))
        scaled = scale(values, white)
        image = Image.fromarray(255 - scaled if mode.endswith(";I") else scaled)
        return image, 0 if stated else white
    enough = WHITES[-2] * 255 // WHITES[-1]
    if mode in _HIGH_BYTES and np.asarray(image.convert("RGB")).max() <= enough:
        where, instead = _HIGH_BYTES[mode]
        raise ValueError(
            f"16-bit colours {where}, here none above a quarter of the range, are read with 8 bits "
            f"only, too few to tell what is white; save it as {instead}"
        )
    if not re.fullmatch(r"(RGB[AXa]?|LA);16[BLN]", mode):
        return image, 0
    if mode.startswith("LA"):
        image = image.convert("LA")
    bands = image.split()
    colours = 1 if image.mode == "LA" else 3
    high = np.stack([np.asarray(band) for band in bands[:colours]], -1).astype(np.uint16)
    if high.max() > WHITES[-2] >> 8:
        return image, WHITES[-1]
    loaded = load_low_bytes().split()
    lower = loaded[1:2] if colours == 1 else loaded[:3]
    values = high * 256 + np.stack([np.asarray(band) for band in lower], -1)
    white = white_of(int(values.max()))
    planes = [Image.fromarray(band) for band in np.moveaxis(scale(values, white), -1, 0)]
    return Image.merge(image.mode, [*planes, *bands[colours:]]), white


def white_of(peak: int) -> int:
    """The smallest white that is at least `peak`; 65535 for a picture that is all black."""
    return next(white for white in WHITES if peak <= white) if peak else WHITES[-1]


def scale(values: Integer[np.ndarray, "*any"], white: int) -> UInt8[np.ndarray, "*any"]:
    """Values from 0 to `white` as bytes, rounded."""
    return ((values.astype(np.int64) * 255 + white // 2) // white).astype(np.uint8)


def share_white(parts: Sequence[tuple[np.ndarray, np.ndarray]], least: int = 0) -> int:
    """Bring all 16-bit pictures to one white, in place, and return it; 0 if all have 8 bits.

    It is the largest among them, and at least `least`.

    `parts` are images (n, C, H, W) and the white of each (n,), 0 for those of 8 bits. Pictures that
    were read by a smaller white are scaled down, which costs at most one grey level.
    """
    white = max((int(whites.max(initial=0)) for _, whites in parts), default=0)
    white = max(white, least) if white else 0
    for images, whites in parts:
        for number in np.flatnonzero((whites > 0) & (whites < white)):
            values = images[number].astype(np.int64) * int(whites[number])
            images[number] = (values + white // 2) // white
    return white


def describe_greater_white(before: int, now: int) -> str:
    """The words about pictures that need a greater white than the training images had."""
    return (
        f"in the training images, {before:,} of 16 bits was white; here it is {now:,}, since there "
        "are greater values: these images may be darker"
    )


def describe_depth(who: str, white: int) -> str:
    """The words about values of less than 16 bits: whose they are, and what is taken for white."""
    bits = white.bit_length()
    return (
        f"{who} 16 bits per channel but no value above {white:,}: taken as {bits} bits, so that "
        f"{white:,} is white"
    )
