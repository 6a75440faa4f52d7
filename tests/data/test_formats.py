"""Which files are pictures by their contents, and the plug-ins that the messages advise."""

import sys
from io import BytesIO
from types import ModuleType

import numpy as np
import pytest
from data.pictures import make_folders, noise
from PIL import Image, features

from vitlib.data import load_data
from vitlib.data.decode import decode
from vitlib.data.formats import PICTURE, kind_of

WRITABLE = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "ICO", "ICNS", "DDS"]
OPTIONAL = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def write(format: str) -> bytes:
    buffer = BytesIO()
    noise(0, (32, 32)).save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("format", [*WRITABLE[:6], *OPTIONAL])
@pytest.mark.parametrize("name", ["none", "a.jpg?w=200", "a.JPG.download", "a.dat"])
def test_pictures_are_known_by_their_contents(tmp_path, format, name):
    if not features.check(OPTIONAL.get(format, "zlib")):
        pytest.skip(f"this Pillow is built without {format}")
    root = make_folders(tmp_path, {"cat": 4, "dog": 0})
    for k in range(4):
        (root / "dog" / f"{k}{name}").write_bytes(write(format) if k == 0 else write("PNG"))
    data = load_data(root, img_size=12)
    assert len(data.train) + len(data.test) == 8
    assert data.skipped == ()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", None), (b"text", None), (b"BM is how this text begins, and it goes on", None),
        (b"P1 is text, too", None), (b"RIFF\0\0\0\0WAVE", None), (b"<?xml version='1.0'?>", None),
        (b"P5 12 12 255\n", PICTURE), (b"P2\n# made by hand\n", PICTURE),
        (b"RIFF\0\0\0\0AVI LIST", "video"), (b"\x1aE\xdf\xa3", "video"), (b"%PDF-1", "PDF"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "video"), (b"<?xml?><svg>", "vector drawing"),
        (bytes(128) + b"DICM", "medical or scientific file"), (b"PK\3\4", None),
        (HEIC, PICTURE), (b"\0\0\0\x1cftypmif1\0\0\0\0avif", PICTURE), (b"\xff\x0a", PICTURE),
    ],
)  # fmt: skip
def test_kinds_of_files_without_an_ending(tmp_path, content, kind):
    (tmp_path / "file").write_bytes(content)
    assert kind_of(str(tmp_path / "file")) == kind


def test_a_jpeg_that_is_called_raw_or_video_is_a_picture(tmp_path):
    for name, kind in (("a.dng", PICTURE), ("a.mp4", PICTURE), ("b.dng", "camera raw file")):
        (tmp_path / name).write_bytes(write("JPEG" if name[0] == "a" else "TIFF"))
        assert kind_of(str(tmp_path / name)) == kind


def test_of_several_frames_or_pages_the_first_is_used_with_a_word(tmp_path):
    root = make_folders(tmp_path, {"cat": 4, "dog": 4})
    for k, format in enumerate(("GIF", "TIFF")):
        first, second = Image.new("RGB", (12, 12), (9, 9, k)), Image.new("RGB", (12, 12), "white")
        first.save(root / "cat" / f"{k}.x", format, save_all=True, append_images=[second])
    with pytest.warns(UserWarning, match="the first is used, 2: cat/0.x, cat/1.x$"):
        data = load_data(root, whole=True)
    assert [image[:, 3, 3].tolist() for image in data.train.images[:2]] == [[9, 9, 0], [9, 9, 1]]


@pytest.fixture
def no_plugin(monkeypatch):
    for module in ("pillow_heif", "pillow_jxl", "pillow_avif"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed


def test_a_telephones_photos_need_a_plug_in(no_plugin, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(3):  # some programs call them .jpg
            (tmp_path / name / f"IMG_{k}.{'jpg' if k else 'HEIC'}").write_bytes(HEIC)
    match = r"HEIC needs a plug-in: pip install pillow-heif, or save it as JPEG or PNG\)$"
    with pytest.raises(ValueError, match=match):
        load_data(tmp_path)
    for path in tmp_path.rglob("IMG_*"):
        noise(hash(path) % 1000).save(path, "JPEG")
    assert len(load_data(tmp_path).train) == 4


def test_a_class_of_a_telephones_photos_beside_others(no_plugin, tmp_path):
    root = make_folders(tmp_path, {"cat": 4, "dog": 0})
    for k in range(3):
        (root / "dog" / f"{k}.HEIC").write_bytes(HEIC)
    match = r"no image of class 'dog' can be read: dog/0.HEIC, .* pip install pillow-heif"
    with pytest.raises(ValueError, match=match):
        load_data(root)


def test_jpeg_xl_needs_a_plug_in(no_plugin):
    with pytest.raises(ValueError, match="JPEG XL needs a plug-in: pip install pillow-jxl-plugin"):
        decode(b"\xff\x0a" + bytes(100), None)


def test_the_advised_plug_in_is_found_once_it_is_installed(no_plugin, monkeypatch):
    """It must be asked to register, which "pip install" alone does not do."""
    with pytest.raises(ValueError, match="pip install pillow-heif"):
        decode(HEIC, None)
    plugin = ModuleType("pillow_heif")

    def register_heif_opener():
        def open_heic(file, name=None):
            return Image.open(BytesIO(write("PNG")))

        Image.register_open("HEIF", open_heic, lambda start: start[4:12] == b"ftypheic")

    plugin.register_heif_opener = register_heif_opener
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    assert (decode(HEIC, None) == np.asarray(noise(0, (32, 32))).transpose(2, 0, 1)).all()


def test_the_real_plug_in_for_heic():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 40), (200, 30, 30))).save(buffer)
    pixels = decode(buffer.getvalue(), None)
    assert pixels.shape == (3, 40, 64)
    assert np.abs(pixels[:, 20, 30].astype(int) - (200, 30, 30)).max() < 6
