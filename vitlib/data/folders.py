"""Labelled images from a folder of class folders.

    folder -> layout.py: splits, classes, their picture files -> decode.py: pixels -> Source

Folders are read with Pillow alone. The folder reader of `datasets` takes the label from the
innermost folder, gives no labels at all if the depths differ, copies everything into a cache, and
stops at a broken file without saying which one it was.
"""

from pathlib import Path

import numpy as np

from vitlib.data.classes import Classes
from vitlib.data.decode import read_images
from vitlib.data.layout import find_layout
from vitlib.data.rows import Files
from vitlib.data.source import Labelled, Listed, Listing, Size, Source, labelled


def read_folder(root: Path, size: Size) -> Source:
    """Read `root`, in one of the layouts of layout.py; `find_layout` says what is refused.

    Inside a class folder, images may lie at any depth and take the class of the outermost folder.
    """
    layout = find_layout(root)
    return Source(
        _read_classes(root, layout.train, size),
        None if layout.test is None else _read_classes(root, layout.test, size),
        tuple(layout.train),
        notes=layout.notes,
        warnings=layout.warnings,
    )


def list_folder(root: Path) -> Listing:
    """The same, without reading any picture."""
    layout = find_layout(root)
    return Listing(
        _list_classes(root, layout.train),
        None if layout.test is None else _list_classes(root, layout.test),
        tuple(layout.train),
        notes=layout.notes,
        warnings=layout.warnings,
    )


def _list_classes(root: Path, files: Classes) -> Listed:
    paths, labels = _paths_and_labels(files)
    return Listed(Files(root, paths), labels)


def _paths_and_labels(files: Classes) -> tuple[list[Path], np.ndarray]:
    paths = [path for found in files.values() for path in found]
    return paths, np.repeat(np.arange(len(files)), [len(found) for found in files.values()])


def _read_classes(root: Path, files: Classes, size: Size) -> Labelled:
    paths, labels = _paths_and_labels(files)
    named = ((path.relative_to(root).as_posix(), path) for path in paths)
    return labelled(read_images(named, len(paths), size, root.name), labels, tuple(files))
