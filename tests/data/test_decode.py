"""Picture files of any size, colour mode and orientation as bytes, and those that can't be read."""

import struct
import warnings
import zlib
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from data.pictures import break_files, make_folder, noise
from PIL import ExifTags, Image, ImageOps

from vitlib.data import load_data
from vitlib.data.decode import decode, read_images, read_size


def test_mostly_broken_folders_are_refused(tmp_path):
    make_folder(tmp_path, {"cat": 2, "dog": 2})
    break_files(tmp_path / "dog")
    with pytest.raises(ValueError, match=r"5 of 9 images of .* more than half: dog/") as caught:
        load_data(tmp_path)
    assert caught.value.args[0].count("dog/") == 5


def test_a_folder_of_only_broken_images_is_refused(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(4):
            (tmp_path / name / f"{k}.png").write_text("no image")
    with pytest.raises(
        ValueError,
        match=r"8 of 8 images .* cat/0.png, cat/1.png, cat/2.png and 5 more \(Unident\w+: [^(]*\)$",
    ):
        load_data(tmp_path)


def test_different_sizes_need_img_size(tmp_path):
    make_folder(tmp_path, {"cat": 3}, size=(20, 30))
    make_folder(tmp_path, {"dog": 3}, size=(64, 48))
    with pytest.raises(ValueError, match=r"cat/0.png is 20×30, dog/0.png is 64×48.*img_size"):
        load_data(tmp_path)
    assert load_data(tmp_path, img_size=16).train.images.shape[1:] == (3, 16, 16)
    assert load_data(tmp_path, img_size=(10, 40)).test.images.shape[1:] == (3, 10, 40)


def test_more_images_than_memory_are_refused(tmp_path):
    noise(0, (40, 30)).save(tmp_path / "a.png")
    files = iter([("a.png", tmp_path / "a.png")])
    message = "images of 40×30 take 3600000000 GB, more memory than there is.*smaller img_size"
    with pytest.raises(ValueError, match=message):
        read_images(files, 10**15, None, "many")


def test_resizing_keeps_proportions_and_the_centre(tmp_path):
    picture = Image.new("L", (300, 100), 0)
    picture.paste(255, (100, 0, 200, 100))  # a white square in the middle third
    picture.save(tmp_path / "wide.png")
    square = decode(tmp_path / "wide.png", (20, 20))
    assert (square[:, :, 1:-1] == 255).all()
    assert (square > 220).all()  # at the edge, the filter sees a little of what was cut off
    tall = decode(tmp_path / "wide.png", (20, 40))
    assert tall.shape == (1, 20, 40)
    assert (tall[0, :, 11:29] == 255).all()
    assert (tall[0, :, :8] == 0).all()


def test_a_large_jpeg_decoded_small_looks_the_same(tmp_path):
    gradient = np.add.outer(np.arange(800), np.arange(1200))[..., None] * np.array([1, 0.5, 0.2])
    Image.fromarray((gradient / 8).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    small = decode(tmp_path / "a.jpg", (32, 32)).astype(int)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")
    assert np.abs(small - decode(tmp_path / "a.png", (32, 32))).max() <= 3


def test_exif_orientation_is_obeyed(tmp_path):
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90° clockwise
    picture.save(tmp_path / "a.jpg", exif=exif)
    pixels = decode(tmp_path / "a.jpg", None)
    assert pixels.shape == (3, 40, 20)
    assert pixels[:, :18].min() > 200
    assert pixels[:, 22:].max() < 50


def two_pixels(mode: str) -> Image.Image:
    """Opaque dark, and wholly transparent with a colour hidden under it."""
    picture = Image.new(mode, (2, 1))
    picture.putpixel((0, 0), (10, 255) if mode == "LA" else (10, 20, 30, 255))
    picture.putpixel((1, 0), (77, 0) if mode == "LA" else (200, 0, 0, 0))
    return picture


def palette_with_transparency() -> Image.Image:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.putpixel((1, 0), 1)
    picture.info["transparency"] = 1
    return picture


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(np.array([[0, 1000, 65535]], np.uint16)), [[0, 4, 255]]),
        (Image.fromarray(np.array([[True, False]])), [[255, 0]]),
        (two_pixels("LA"), [[10, 255]]),
        (two_pixels("RGBA"), [[10, 255], [20, 255], [30, 255]]),
        (palette_with_transparency(), [[10, 255], [20, 255], [30, 255]]),
    ],
    ids=["16 bit", "1 bit", "LA", "RGBA", "palette"],
)
def test_every_colour_mode_becomes_grey_or_rgb(tmp_path, picture, expected):
    picture.save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", None)[:, 0].tolist() == expected


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = decode(tmp_path / "a.jpg", None)[:, 4, 4].tolist()
    assert red > 200
    assert max(green, blue) < 60


def with_exif(format: str, exif: bytes) -> bytes:
    """A red picture in `format` that holds these bytes as its EXIF; Pillow writes no bad PNG."""
    buffer = BytesIO()
    picture = Image.new("RGB", (20, 10), (200, 30, 30))
    if format != "PNG":
        picture.save(buffer, format, exif=exif)
        return buffer.getvalue()
    picture.save(buffer, format)
    content, exif = buffer.getvalue(), exif.removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
    return content[:33] + chunk + struct.pack(">I", zlib.crc32(b"eXIf" + exif)) + content[33:]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(
    "exif",
    [b"hello world", b"", b"b'Exif\\x00\\x00MM'", b"II*\0\xff\xff\xff\xff",
     b"MM\0*\0\0\0\x08\0\x05", b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0x\0\0\0\0\0\0\0"],
    ids=["text", "empty", "printed", "offset beyond the end", "cut off", "orientation in letters"],
)  # fmt: skip
def test_an_exif_that_cannot_be_read_is_ignored(format, exif):
    for size in (None, (10, 20)):
        pixels = decode(with_exif(format, b"Exif\0\0" + exif), size)
        assert pixels.shape == (3, 10, 20)
        assert np.abs(pixels[:, 5, 5].astype(int) - (200, 30, 30)).max() < 8


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(format, orientation):
    """As ImageOps.exif_transpose does it."""
    picture = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12) * 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = BytesIO()
    options = {"lossless": True} if format == "WEBP" else {}
    picture.save(buffer, format, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(buffer)).convert("RGB")
    pixels = np.broadcast_to(decode(buffer.getvalue(), None), (3, upright.height, upright.width))
    assert (pixels == np.asarray(upright).transpose(2, 0, 1)).all()


def png_header(path, width, height):
    """A PNG file that states a size and holds no pixels."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", b""), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_more_pixels_than_are_read_are_refused_before_any_is_decoded(tmp_path, monkeypatch):
    path = png_header(tmp_path / "huge.png", 20_000, 20_000)
    for read in (read_size, partial(decode, size=(8, 8))):
        with pytest.raises(
            ValueError, match=r"^more than 178,956,970 pixels, Pillow's limit: save"
        ):
            read(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    noise(0, (15, 20)).save(tmp_path / "large.png")  # between the limit and twice that
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(tmp_path / "large.png", None).shape == (3, 15, 20)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_picture(tmp_path, orientation):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    noise(0, (10, 30)).save(path, exif=exif)
    assert read_size(path) == decode(path, None).shape[1:]
    assert read_size(path.read_bytes()) == read_size(path)


def test_an_empty_file_is_called_empty():
    with pytest.raises(ValueError, match="the file is empty"):
        decode(b"", None)
