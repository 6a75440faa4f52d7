"""Made pictures, as files in class folders and as tables in the Hub's image schema."""

from pathlib import Path
from zlib import crc32

import datasets
import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Image.Image:
    """A random picture of `size` (H, W)."""
    shape = size if mode == "L" else (*size, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def make_folder(root: Path, classes: dict[str, int], mode: str = "RGB", **keywords) -> Path:
    """`classes`: name -> number of images."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            noise(crc32(f"{name}{k}".encode()), mode=mode, **keywords).save(
                root / name / f"{k}.png"
            )
    return root


def make_folders(root: Path, counts: dict[str, int]) -> Path:
    """`counts`: folder below `root` -> number of pictures in it, no two of them alike."""
    for name, count in counts.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(count):
            path = folder / f"{name.replace('/', '-').strip('.')}{k}.png"
            noise(crc32(f"{root}{path}".encode())).save(path)
    return root


def table(
    labels: list, names: list[str] | None = None, seed: int = 0, image: str = "image"
) -> datasets.Dataset:
    """A data set in the Hub's image schema."""
    kind = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    if labels and isinstance(labels[0], str):
        kind = datasets.Value("string")
    return datasets.Dataset.from_dict(
        {image: [noise(seed + k) for k in range(len(labels))], "label": labels},
        features=datasets.Features({image: datasets.Image(), "label": kind}),
    )


def write(data: datasets.Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.to_parquet(path)
    return path.parent


def break_files(folder: Path) -> list[str]:
    """A truncated JPEG, text called .png, an empty file, floats, a photo format without reader."""
    noise(1, (64, 64)).save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(content[: len(content) // 2])
    (folder / "whole.jpg").unlink()
    (folder / "text.png").write_text("I am no image")
    (folder / "empty.gif").write_bytes(b"")
    Image.fromarray(np.zeros((12, 12), np.float32)).save(folder / "float.tiff")
    (folder / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    return ["half.jpg", "text.png", "empty.gif", "float.tiff", "phone.HEIC"]
