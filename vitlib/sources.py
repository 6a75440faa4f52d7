"""Where labelled images come from: a folder of class folders, parquet files, the Hugging Face Hub.

Each reader returns a `Source`. Folders are read with Pillow alone: `datasets`' own folder reader
takes the label from the innermost folder, gives no labels at all when the depths differ, copies
everything into a cache, and stops at a broken file without saying which it was.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vitlib.read_images import Pictures, read_images

TRAIN = ("train", "training")
TEST = ("test", "testing", "validation", "valid", "val")  # the first that is there is taken
# What we take for an image by its name. Pillow can't read .heic without a plug-in: such a file is
# named as unreadable, which is better than to leave a phone's photos out without a word.
SUFFIXES: tuple[str, ...] = (
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".heif",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
)
SUFFIXES += (".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
Size = tuple[int, int] | None


@dataclass
class Labelled:
    """Images with class numbers."""

    images: np.ndarray  # (n, C, H, W), uint8
    labels: np.ndarray  # (n,), int64
    broken: list[tuple[str, str]]


@dataclass
class Source:
    """A data set as it was found; without a test set, one is to be split off."""

    train: Labelled
    test: Labelled | None
    classes: tuple[str, ...]


# A folder of class folders -----------------------------------------------------------------------


def read_folder(root: Path, size: Size) -> Source:
    """`root` holds one folder a class, or train and test folders that do.

    Names in `TRAIN` and `TEST` count in any case. Below a class folder, images may lie at any
    depth; hidden files and files that are no images by name are passed over.
    Raises ValueError for a layout without classes, with one class, with a class that has no image,
    and where train and test don't have the same classes.
    """
    inner = {folder.name.lower(): folder for folder in _folders(root)}
    # A class may itself be called "train": a folder of splits is one whose folders hold folders.
    splits = {name: folder for name, folder in inner.items() if _folders(folder)}
    train = next((splits[name] for name in TRAIN if name in splits), None)
    test = next((splits[name] for name in TEST if name in splits), None)
    if train is None:
        if test is not None and set(splits) <= {*TRAIN, *TEST}:
            raise ValueError(f"{root} has a folder {test.name!r} but no folder 'train' beside it")
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
            _refuse_classes(set(files), set(test_files))
        source.test = _read_classes(root, test_files, size)
    return source


def _folders(folder: Path) -> list[Path]:
    return sorted(
        inner
        for inner in folder.iterdir()
        if inner.is_dir() and not inner.name.startswith((".", "__"))
    )


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted."""
    files = {inner.name: _image_files(inner) for inner in _folders(folder)}
    wanted = f"{folder} should hold one folder of images for each class"
    if not files:
        loose = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
        raise ValueError(
            f"{wanted}, but "
            + (f"its {len(loose)} images lie in no folder" if loose else "has no folders")
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
            "If the class folders lie in that one, give its path."
        )
    if empty:
        raise ValueError(
            f"class folder {folder / empty[0]} holds no image ({', '.join(SUFFIXES)}); "
            "remove the folder or fill it"
        )
    return files


def _image_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    seen: set[str] = (
        set()
    )  # links are followed, so a link to a folder above must not go on for ever
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
    return _labelled(read_images(named, len(paths), size, root.name), labels, tuple(files))


# Parquet files and the Hub -----------------------------------------------------------------------


def read_parquet(root: Path, size: Size, image: str | None, label: str | None) -> Source:
    """`root` holds train*.parquet and test*.parquet (or val*.parquet), as the Hub stores images."""
    found = sorted(root.glob("*.parquet"))
    train = [path for path in found if path.name.startswith("train")]
    test = [path for path in found if path.name.startswith("test")]
    test = test or [path for path in found if path.name.startswith("val")]
    for files, missing in ((train, "train*.parquet"), (test, "test*.parquet (or val*.parquet)")):
        if not files:
            have = ", ".join(path.name for path in found)
            raise ValueError(f"{root} has no {missing}, only {have}")
    splits = {"train": _parquet_table(train), "test": _parquet_table(test)}
    return _read_splits(root.name, splits, size, image, label)


def _parquet_table(files: Sequence[Path]) -> Any:
    datasets = _datasets()
    import pyarrow
    import pyarrow.parquet

    tables = []
    for path in files:
        try:
            tables.append(pyarrow.parquet.ParquetFile(path).read())
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path} can't be read as parquet: {error}") from error
        if tables[-1].schema != tables[0].schema:
            raise ValueError(f"{files[0].name} and {path.name} have different columns")
    return datasets.Dataset(pyarrow.concat_tables(tables))


def read_hub(name: str, size: Size, image: str | None, label: str | None) -> Source:
    """The Hub's data set `name`, "owner/name"; its test split, else its validation split."""
    datasets = _datasets()
    try:
        found = dict(datasets.load_dataset(name))
    except Exception as error:  # no connection, no such name, no permission, several configurations
        raise ValueError(
            f"there is no folder {name!r} here, and the Hugging Face Hub's data set {name!r} "
            f"can't be reached ({type(error).__name__}: {error}). Check the name and the "
            "connection; or download its parquet files, and give the path of their folder."
        ) from error
    if "train" not in found:
        raise ValueError(f"data set {name!r} has no split 'train', only {', '.join(found)}")
    test = next((split for split in TEST if split in found), None)
    splits = {split: found[split] for split in ("train", test) if split}
    return _read_splits(name, splits, size, image, label)


def _datasets() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            'parquet files and the Hub need the package datasets: pip install "vitlib[hub]"'
        ) from error
    return datasets


def _read_splits(
    name: str, splits: dict[str, Any], size: Size, image: str | None, label: str | None
) -> Source:
    """`splits` are one or two `datasets.Dataset`, train first."""
    train_name, *_ = splits
    train = splits[train_name]
    image, label = _columns(f"{name}, split {train_name}", train.features, image, label)
    for split, table in splits.items():
        if missing := {image, label} - set(table.features):
            raise ValueError(f"split {split!r} of {name} has no column {', '.join(missing)}")
        if not len(table):
            raise ValueError(f"split {split!r} of {name} has no rows")

    values = {split: _column(table, label) for split, table in splits.items()}
    for split, column in values.items():
        for row, value in enumerate(column):
            if value is None or (isinstance(value, int) and value < 0):
                raise ValueError(
                    f"label {value} in row {row} of {split!r} of {name}: labels start at 0, and "
                    "the Hub marks images without a label by -1. Use a split that has labels."
                )
    named = [getattr(table.features[label], "names", None) for table in splits.values()]
    if named[0]:
        if any(names and names != named[0] for names in named):
            _refuse_classes(set(named[0]), set(named[-1] or ()))
        order: list[Any] = list(range(len(named[0])))
    else:  # no names: the values are the names, and their order is the order of the classes
        order = sorted(set(values[train_name]))
    number = {value: k for k, value in enumerate(order)}
    read = []
    for split, table in splits.items():
        if strange := sorted(set(values[split]) - number.keys()):
            raise ValueError(
                f"label {strange[0]!r} in {split!r} of {name} is none of the {len(order)} classes"
                + (f", whose labels are 0 to {len(order) - 1}" if named[0] else " of 'train'")
            )
        labels = np.array([number[value] for value in values[split]])
        pictures = read_images(_rows(split, table, image), len(table), size, f"{name}, {split}")
        read.append(_labelled(pictures, labels))
    classes = tuple(named[0] or map(str, order))
    return Source(read[0], read[1] if len(read) > 1 else None, classes)


def _columns(
    where: str, features: dict[str, Any], image: str | None, label: str | None
) -> tuple[str, str]:
    """The image column and the label column: as asked for, or the only one that can be meant."""

    def is_image(feature: Any) -> bool:
        return type(feature).__name__ == "Image" or (
            isinstance(feature, dict) and "bytes" in feature
        )

    def is_label(feature: Any) -> bool:
        dtype = str(getattr(feature, "dtype", ""))
        return dtype.removeprefix("large_").startswith(("int", "uint", "string", "bool"))

    images = [name for name, feature in features.items() if is_image(feature)]
    labels = [name for name, feature in features.items() if is_label(feature)]
    # Beside the label there may be ids and file names: class names tell it, or else its own name.
    certain = [name for name in labels if hasattr(features[name], "names")] or [
        name for name in labels if name.lower().endswith(("label", "labels", "class", "target"))
    ]
    labels = labels if label else (certain or labels)
    chosen = []
    for kind, asked, found in (("image", image, images), ("label", label, labels)):
        if asked is None and len(found) != 1:
            some = f"has several that may hold it: {', '.join(found)}" if found else "has none"
            raise ValueError(
                f"which column holds the {kind}? {where} {some}. "
                f"Its columns are {', '.join(features)}; name one with {kind}_column."
            )
        if asked is not None and asked not in found:
            raise ValueError(
                f"{kind}_column {asked!r} is no column of {kind}s of {where}, "
                f"whose columns are {', '.join(features)}"
            )
        chosen.append(asked or found[0])
    return chosen[0], chosen[1]


def _column(table: Any, name: str) -> list[Any]:
    values: list[Any] = table.select_columns([name]).with_format("arrow")[:][name].to_pylist()
    return values


def _rows(split: str, table: Any, column: str) -> Iterator[tuple[str, Path | bytes]]:
    """(name, content or path) of each row; as arrow, so that nothing decodes an image before us."""
    row = 0
    for batch in table.select_columns([column]).with_format("arrow").iter(batch_size=256):
        for value in batch[column].to_pylist():
            value = value or {}
            path = value.get("path")
            content = value.get("bytes")
            named = f"{split} row {row}" + (f", {Path(path).name}" if path else "")
            yield named, Path(path) if content is None and path else content or b""
            row += 1


# Both --------------------------------------------------------------------------------------------


def _labelled(pictures: Pictures, labels: np.ndarray, classes: tuple[str, ...] = ()) -> Labelled:
    labels = labels[pictures.kept].astype(np.int64)
    gone = [name for k, name in enumerate(classes) if k not in set(labels.tolist())]
    if gone:
        raise ValueError(f"no image of class {gone[0]!r} can be read")
    return Labelled(pictures.images, labels, pictures.broken)


def _refuse_classes(train: set[str], test: set[str]) -> None:
    only = [
        f"only in {split}: {', '.join(sorted(names))}"
        for split, names in (("train", train - test), ("test", test - train))
        if names
    ]
    raise ValueError(
        "train and test have different classes; " + ("; ".join(only) or "their order differs")
    )
