"""Labelled images from a folder of class folders.

Folders are read with Pillow alone. The folder reader of `datasets` takes the label from the
innermost folder, gives no labels at all if the depths differ, copies everything into a cache, and
stops at a broken file without saying which one it was.
"""

import os
from pathlib import Path

import numpy as np

from vitlib.data.decode import read_images
from vitlib.data.source import Labelled, Size, Source, labelled, refuse_different_classes

TRAIN = ("train", "training")
TEST = ("test", "testing", "validation", "valid", "val")  # the first one that exists is used
# Files with these suffixes count as images. Pillow can't read .heic without a plug-in, so such a
# file is reported as unreadable; that is better than silently leaving out a phone's photos.
SUFFIXES = frozenset((
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))  # fmt: skip


def read_folder(root: Path, size: Size) -> Source:
    """Read `root`, which holds one folder per class, or train and test folders that do.

    The names in `TRAIN` and `TEST` may be in upper or lower case. Inside a class folder, images may
    lie at any depth; hidden files and files without an image's suffix are skipped.
    Raises ValueError for a layout without classes or with only one, for a class without images, and
    if train and test do not have the same classes.
    """
    inner = {folder.name.lower(): folder for folder in _folders(root)}
    # A class may be called "train", too; a split differs from a class in that it holds folders.
    splits = {name: folder for name, folder in inner.items() if _folders(folder)}
    train = next((splits[name] for name in TRAIN if name in splits), None)
    test = next((splits[name] for name in TEST if name in splits), None)
    if train is None:
        if test is not None and set(splits) <= {*TRAIN, *TEST}:
            raise ValueError(f"{root} has a folder {test.name!r} but no folder 'train' next to it")
        files = _class_files(root)
        return Source(_read_classes(root, files, size), None, tuple(files))

    unlabelled = [inner[name].name for name in TEST if name in inner]
    if test is None and unlabelled:
        raise ValueError(
            f"{root / unlabelled[0]} has no class folders, so its images have no labels; "
            "move it away, and a test set is split off the training images"
        )
    files = _class_files(train)
    source = Source(_read_classes(root, files, size), None, tuple(files))
    if test is not None:
        test_files = _class_files(test)
        if test_files.keys() != files.keys():
            refuse_different_classes(set(files), set(test_files))
        source.test = _read_classes(root, test_files, size)
    return source


def _folders(folder: Path) -> list[Path]:
    return sorted(
        inner
        for inner in folder.iterdir()
        if inner.is_dir() and not inner.name.startswith((".", "__"))
    )


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted; a ValueError unless each class has some."""
    files = {inner.name: _image_files(inner) for inner in _folders(folder)}
    wanted = f"{folder} should hold one folder of images for each class"
    if not files:
        loose = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
        raise ValueError(
            f"{wanted}, but "
            + (f"its {len(loose)} images are in no folder" if loose else "has no folders")
        )
    empty = [name for name, found in files.items() if not found]
    if len(empty) == len(files):
        deeper = next(folder.rglob("*.parquet"), None)
        raise ValueError(
            f"{wanted}, but there is no image in {', '.join(map(repr, empty))}"
            + (f"; there are parquet files in {deeper.parent}: give that path" if deeper else "")
        )
    if len(files) == 1:
        raise ValueError(
            f"{wanted}, at least two, but has only {next(iter(files))!r}. "
            "If the class folders are inside that one, give its path."
        )
    if empty:
        raise ValueError(
            f"class folder {folder / empty[0]} holds no image ({', '.join(sorted(SUFFIXES))}); "
            "remove the folder or fill it"
        )
    return files


def _image_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    seen: set[str] = set()  # links are followed, and one to a folder above must not loop for ever
    for here, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        inner[:] = [] if real in seen else [name for name in inner if not name.startswith(".")]
        if real not in seen:
            visible = [name for name in names if not name.startswith(".")]
            found += [Path(here, name) for name in visible if Path(name).suffix.lower() in SUFFIXES]
        seen.add(real)
    return sorted(found)


def _read_classes(root: Path, files: dict[str, list[Path]], size: Size) -> Labelled:
    paths = [path for found in files.values() for path in found]
    labels = np.repeat(np.arange(len(files)), [len(found) for found in files.values()])
    named = ((path.relative_to(root).as_posix(), path) for path in paths)
    return labelled(read_images(named, len(paths), size, root.name), labels, tuple(files))
