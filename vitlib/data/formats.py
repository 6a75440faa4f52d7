"""Kinds of files: which are pictures, by their ending or else by their first bytes.

Endings are not enough: downloaded pictures are called "a.jpg?w=200" or have no ending at all, and a
telephone's HEIC is called .jpg. So a file with an ending that is not listed here is looked into.
"""

import importlib
import re
from pathlib import Path

PICTURE = "picture"


def _endings(text: str) -> frozenset[str]:
    return frozenset(f".{ending}" for ending in text.split())


# With these endings a file counts as a picture; if it is none, it is reported as unreadable.
SUFFIXES = _endings(
    "apng avif avifs bmp dds dib gif heic heics heif heifs hif icns ico j2c j2k jfif jp2 jpe jpeg "
    "jpf jpg jpx jxl mpo pbm pcx pfm pgm png pnm ppm psd qoi sgi tga tif tiff webp"
)
# What may hold pictures but is not read: kind -> (endings, advice).
UNREADABLE = {
    "camera raw file": (
        _endings("3fr arw cr2 cr3 crw dng erf kdc mef mrw nef nrw orf pef raf raw rw2 srw x3f"),
        "export them as JPEG",
    ),
    "video": (
        _endings("3gp avi flv m2ts m4v mkv mov mp4 mpeg mpg mts webm wmv"),
        "save single frames as JPEG",
    ),
    "vector drawing": (_endings("ai emf eps ps svg svgz wmf"), "export them as PNG"),
    "drawing program's file": (_endings("indd kra psb xcf"), "export them as PNG"),
    "PDF": (_endings("pdf"), "export their pages as PNG"),
    "medical or scientific file": (
        _endings("czi dcm dicom exr fit fits hdr lif mat mha nd2 nii npy npz nrrd svs"),
        "convert them to PNG or TIFF",
    ),
    "archive": (_endings("7z bz2 gz rar tar tgz xz zip zst"), "unpack them"),
}
_UNREADABLE_ENDINGS = {end: kind for kind, (ends, _) in UNREADABLE.items() for end in ends}
_LOOK_AT = 160  # bytes; DICOM names itself after 128
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_STARTS = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF", b"II*\0": "TIFF",
    b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF", b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000", b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "PSD", b"qoif": "QOI", b"DDS ": "DDS", b"icns": "ICNS",
    b"%PDF": "PDF", b"\x1aE\xdf\xa3": "video", b"%!PS": "vector drawing", b"<svg": "vector drawing",
}  # fmt: skip
# Formats that Pillow reads with another package: module that is imported, and what to install.
_PLUGINS = {
    "HEIC": ("pillow_heif", "pillow-heif"),
    "AVIF": ("pillow_avif", "pillow-avif-plugin"),
    "JPEG XL": ("pillow_jxl", "pillow-jxl-plugin"),
}


def kind_of(path: str) -> str | None:
    """`PICTURE`, a key of `UNREADABLE`, or None for anything else, which holds no picture."""
    suffix = Path(path).suffix.lower()
    if suffix in SUFFIXES:
        return PICTURE
    named = _UNREADABLE_ENDINGS.get(suffix)
    content = format_of(first_bytes(path))
    if content is None or (named == "camera raw file" and content == "TIFF"):
        return named
    return content if content in UNREADABLE else PICTURE


def first_bytes(source: Path | str | bytes) -> bytes:
    """The beginning of a file or content; nothing if the file can't be opened."""
    if isinstance(source, bytes):
        return source[:_LOOK_AT]
    try:
        with open(source, "rb") as file:
            return file.read(_LOOK_AT)
    except OSError:
        return b""


def format_of(start: bytes) -> str | None:
    """The format that a file has which begins with `start`, as far as that shows it."""
    for magic, name in _STARTS.items():
        if start.startswith(magic):
            return name
    if start[4:8] == b"ftyp":
        brands = [start[k : k + 4] for k in range(8, len(start), 4)]  # the third is a version
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIC" if brands[0] in _HEIF_BRANDS else "video"
    if start.startswith(b"RIFF"):
        return {b"WEBP": "WebP", b"AVI ": "video"}.get(start[8:12])
    if start[128:132] == b"DICM":
        return "medical or scientific file"
    if re.match(rb"P[1-6]\s+[#\d]", start):
        return "PNM"
    if start.startswith(b"BM") and start[6:10] == bytes(4):  # reserved: text does not hold zeros
        return "BMP"
    if start.startswith(b"<?xml") and b"<svg" in start:
        return "vector drawing"
    return None


def register_plugin(name: str | None) -> bool:
    """Whether a plug-in that reads format `name` is installed; it is then known to Pillow."""
    return name in _PLUGINS and _import_plugin(_PLUGINS[name][0])


def _import_plugin(module: str) -> bool:
    try:
        plugin = importlib.import_module(module)  # most register themselves when imported
    except ImportError:
        return False
    if hasattr(plugin, "register_heif_opener"):
        plugin.register_heif_opener()
    return True


def advice_on(name: str | None) -> str:
    """What helps with a picture in format `name` that can't be read, or nothing."""
    if name not in _PLUGINS:
        return ""
    return f"{name} needs a plug-in: pip install {_PLUGINS[name][1]}, or save it as JPEG or PNG"
