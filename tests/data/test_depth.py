"""Pictures of 16 bits per channel: what becomes white, in one picture and in a data set."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile  # which scikit-image needs, too
import torch
from PIL import Image

from vitlib.data import load_data
from vitlib.data.decode import decode
from vitlib.data.depth import raw_mode, share_white, to_8_bits, white_of


def values(bits: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Random values (5, 4) or (5, 4, channels) of so many bits, the greatest among them."""
    made = np.random.default_rng(seed).integers(0, 2**bits, (5, 4, channels), dtype=np.uint16)
    made[0, 0] = 2**bits - 1
    return made if channels > 1 else made[..., 0]


def expected(array: np.ndarray, white: int) -> np.ndarray:
    """The bytes (C, H, W), rounded."""
    scaled = np.floor(array * 255.0 / white + 0.5).astype(int)
    return scaled[None] if scaled.ndim == 2 else scaled.transpose(2, 0, 1)


def png(array: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, which Pillow writes in grey only."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[array.shape[2] if array.ndim == 3 else 1]
    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)), (b"IEND", b""),
    )  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def tiff(array: np.ndarray, order: str = "<", deflate: bool = False, **options: str) -> bytes:
    """A TIFF in either byte order."""
    buffer = BytesIO()
    options = {"photometric": "rgb" if array.ndim == 3 else "minisblack"} | options
    compression = "zlib" if deflate else None
    tifffile.imwrite(buffer, array, byteorder=order, compression=compression, **options)
    return buffer.getvalue()


def pnm(array: np.ndarray, white: int, as_text: bool = False) -> bytes:
    """A PGM or PPM with this maximum, in bytes (P5, P6) or as text (P2, P3)."""
    kind = (3 if array.ndim == 3 else 2) + (0 if as_text else 3)
    head = f"P{kind} {array.shape[1]} {array.shape[0]} {white}\n".encode()
    return head + (
        " ".join(map(str, array.flat)).encode() if as_text else array.astype(">u2").tobytes()
    )


def tiff_of_12_bits(array: np.ndarray) -> bytes:
    """A grey TIFF in which two values share three bytes, as some cameras write them."""
    a, b = array[:, ::2].astype(int), array[:, 1::2].astype(int)
    rows = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8).tobytes()
    height, width = array.shape
    tags = ((256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1),
            (278, height), (279, len(rows)))  # fmt: skip
    rows += b"\0" * (len(rows) % 2)
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(rows))
    return start + rows + struct.pack("<H", len(tags)) + listed + bytes(4)


def jpeg_2000(array: np.ndarray, bits: int) -> bytes:
    """A grey JPEG 2000 that states this depth: one of 16 bits without loss, its header changed.

    Its numbers are stored by their distance from the middle of the range, which becomes another.
    """
    file = BytesIO()
    moved = (array.astype(int) - 2 ** (bits - 1) + 2**15).astype(np.uint16)
    Image.fromarray(moved).save(file, "JPEG2000")
    data = bytearray(file.getvalue())
    data[data.find(b"\xff\x4f\xff\x51") + 42] = bits - 1
    data[data.find(b"ihdr") + 14] = bits - 1
    return bytes(data)


@pytest.mark.parametrize("white", [256, 1023, 3000, 4095, 65534])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_ppm_that_states_its_range_is_read_by_it(white, channels, dark, as_text, recwarn):
    """A dark picture stays dark, and nothing is guessed."""
    array = values(16, channels).astype(int) * white // 65535 // (6 if dark else 1)
    got = decode(pnm(array, white, as_text), None).astype(int)
    assert np.abs(got - expected(array, white)).max() <= 1  # Pillow rounds once more
    assert list(recwarn) == []


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.filterwarnings("ignore:a picture has 16 bits")
def test_a_ppm_of_16_bits_may_hold_fewer(bits, channels):
    """OpenCV and Pillow write 65535 for the maximum, whatever the picture holds."""
    array = values(bits, channels)
    got = decode(pnm(array, 65535), None).astype(int)
    within = 1 if bits == 16 and channels == 3 else 0  # as of a PNG
    assert np.abs(got - expected(array, 2**bits - 1)).max() <= within
    if channels == 1:
        assert (decode(pnm(array, 65535, as_text=True), None) == got).all()


def test_dark_16_bit_colours_as_text_are_refused_and_read_when_saved_otherwise(recwarn):
    bright, dark = values(16, 3), values(12, 3)
    assert (
        np.abs(decode(pnm(bright, 65535, as_text=True), None) - expected(bright, 65535)).max() <= 1
    )
    with pytest.raises(
        ValueError, match="too few to tell what is white; save it as PNG, or as a P"
    ):
        decode(pnm(dark, 65535, as_text=True), None)
    assert list(recwarn) == []
    with pytest.warns(UserWarning, match="taken as 12 bits"):
        assert (decode(pnm(dark, 65535), None) == expected(dark, 4095)).all()


def test_a_ppm_that_is_cut_off_is_refused():
    with pytest.raises(OSError, match="truncated"):
        decode(pnm(values(16, 3), 65535)[:-5], None)


@pytest.mark.parametrize("dark", [1, 6])
def test_a_tiff_of_12_bits_states_its_range(dark, recwarn):
    array = values(12) // dark
    assert (decode(tiff_of_12_bits(array), None) == expected(array, 4095)).all()
    assert list(recwarn) == []


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("dark", [1, 6])
def test_a_jpeg_2000_that_states_its_range_is_read_by_it(tmp_path, bits, dark, recwarn):
    """A dark picture stays dark, and nothing is guessed."""
    array = values(bits) // dark
    (tmp_path / "a.jp2").write_bytes(jpeg_2000(array, bits))
    got = decode(tmp_path / "a.jp2", None).astype(int)
    assert np.abs(got - expected(array, 2**bits - 1)).max() <= 1  # Pillow shifts, and rounds not
    assert list(recwarn) == []


def test_a_jpeg_2000_of_16_bits_that_holds_12_is_told_of():
    with pytest.warns(UserWarning, match="taken as 12 bits"):
        assert (decode(jpeg_2000(values(12), 16), None) == expected(values(12), 4095)).all()


def test_a_jpeg_2000_of_9_bits_which_pillow_reads_wrongly_is_refused():
    with pytest.raises(ValueError, match="of 9 bits per channel can't be read; save it as PNG"):
        decode(jpeg_2000(values(8), 9), None)


@pytest.mark.parametrize("brightest", [40, 255])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_dark_16_bit_colours_in_jpeg_2000_are_refused(brightest, mode):
    """Pillow writes 8 bits in colours, so the header is changed here, and not what it loads."""
    pixels = np.linspace(0, brightest, 192).reshape(8, 8, 3).astype(np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    file = BytesIO()
    image.save(file, "JPEG2000")
    assert np.abs(decode(file.getvalue(), None).transpose(1, 2, 0) - pixels.astype(int)).max() <= 1
    data = bytearray(file.getvalue())
    data[data.find(b"\xff\x4f\xff\x51") + 42] = 15
    with Image.open(BytesIO(data)) as opened:
        raw = raw_mode(opened)
    if brightest == 255:
        assert to_8_bits(image, raw, lambda: image) == (image, 0)
        return
    with pytest.raises(
        ValueError, match=r"in JPEG 2000, here none above .* save it as PNG or TIFF"
    ):
        to_8_bits(image, raw, lambda: image)


def test_a_stated_range_needs_no_other_pictures(tmp_path):
    """In a data set, it is white by itself; what the others hold is guessed from them alone."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(5):
            (tmp_path / name / f"{k}.pgm").write_bytes(pnm(values(10, seed=k), 4095))
    data = load_data(tmp_path, whole=True)
    assert (data.white, data.warned) == (0, ())
    got = data.train.images[0].numpy().astype(int)
    assert np.abs(got - expected(values(10), 4095)).max() <= 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("file", ["png", "tiff <", "tiff >", "tiff < deflate", "tiff > deflate"])
@pytest.mark.filterwarnings("ignore:a picture has 16 bits")
def test_16_bits_become_bytes(bits, channels, file):
    array = values(bits, channels)
    kind, *rest = file.split()
    content = png(array) if kind == "png" else tiff(array, rest[0], "deflate" in rest)
    pixels = decode(content, None).astype(int)
    # Of 16-bit colours, Pillow keeps the high byte: it rounds down.
    within = 1 if bits == 16 and channels == 3 else 0
    assert np.abs(pixels - expected(array, 2**bits - 1)).max() <= within


@pytest.mark.filterwarnings("ignore:a picture has 16 bits")
def test_12_bits_with_transparency():
    """What is transparent becomes white; alpha has its own range."""
    opaque, clear = np.full((5, 4, 1), 65535, np.uint16), np.zeros((5, 4, 1), np.uint16)
    for array in (values(12)[..., None], values(12, 3)):
        pixels = decode(png(np.concatenate([array, opaque], -1)), None)
        plain = array[..., 0] if array.shape[-1] == 1 else array
        assert (pixels == expected(plain, 4095)).all()
        assert (decode(png(np.concatenate([array, clear], -1)), None) == 255).all()


@pytest.mark.filterwarnings("ignore:a picture has 16 bits")
@pytest.mark.parametrize("bits", [12, 16])
def test_in_some_tiffs_0_is_white(bits):
    array = values(bits)
    got = decode(tiff(array, photometric="miniswhite"), None).astype(int)
    assert (got == 255 - expected(array, 2**bits - 1)).all()


def test_16_bit_colours_in_planes_are_refused_and_read_when_saved_otherwise():
    """Pillow reads them, but wrongly."""
    array = values(16, 3)
    with pytest.raises(ValueError, match="in separate planes can't be read; save it with interl"):
        decode(tiff(array.transpose(2, 0, 1), planarconfig="separate"), None)
    got = decode(tiff(array), None).astype(int)
    assert np.abs(got - expected(array, 65535)).max() <= 1


def test_a_single_picture_of_12_bits_is_told_of():
    with pytest.warns(UserWarning, match=r"no value above 4,095: taken as 12 bits, .* is white"):
        decode(png(values(12)), None)


def test_all_pictures_of_a_data_set_have_the_same_white(tmp_path):
    """A dark picture stays dark beside bright ones, in training and test images alike."""
    for part in ("train", "test"):
        for name, bits in (("bright", 12 if part == "train" else 10), ("dark", 8)):
            (tmp_path / part / name).mkdir(parents=True)
            array = values(bits, seed=bits)
            Image.fromarray(array).save(tmp_path / part / name / "0.png")
            Image.fromarray((values(8) // 2).astype(np.uint8)).save(
                tmp_path / part / name / f"{name}8bit.png"
            )
    match = "4 pictures of .* have 16 bits per channel but no value above 4,095: taken as 12 bits"
    with pytest.warns(UserWarning, match=match):
        data = load_data(tmp_path)
    for part, bits in ((data.train, (12, 8)), (data.test, (10, 8))):
        for k, deep in enumerate(bits):
            got = part.images[2 * k].numpy().astype(int)
            assert np.abs(got - expected(values(deep, seed=deep), 4095)).max() <= 1
            assert torch.equal(part.images[2 * k + 1][0], torch.from_numpy(values(8) // 2).byte())


def test_whites():
    assert [white_of(peak) for peak in (0, 1, 255, 256, 1023, 4095, 4096, 16384, 65535)] == [
        65535, 255, 255, 1023, 1023, 4095, 16383, 65535, 65535,
    ]  # fmt: skip
    assert share_white([(np.zeros((2, 1, 1, 1), np.uint8), np.zeros(2, np.int64))]) == 0


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (values(12).astype(np.float32), "floating-point pixels, here from .* to 4095"),
        (values(8).astype(np.float32) / 255, "floating-point pixels, here from .* to 1, have no"),
        (values(16).astype(np.int32) * 9, "32-bit pixels, here from .* to 589815, have no fixed"),
        (values(8).astype(np.int32) - 9, "32-bit pixels, here from -.* to 246, have no fixed"),
    ],
)
def test_pixels_without_a_range_are_refused_and_saved_as_8_bits_they_are_read(array, said):
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "TIFF")
    with pytest.raises(ValueError, match=said + ".*save it as 8 or 16 bit"):
        decode(buffer.getvalue(), None)
    scaled = ((array - array.min()) * 255 / np.ptp(array)).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(scaled).save(buffer, "TIFF")
    assert (decode(buffer.getvalue(), None)[0] == scaled).all()
