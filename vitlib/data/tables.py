"""Labelled images from tables in the Hub's image schema: parquet files, and the Hub itself.

parquet files, or a Hub id -> one table per split -> columns of images and labels -> Source
the same for a stream: -> footers of the files, and the column of labels -> Listing
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from vitlib.checkpoints.hub import quiet_hub
from vitlib.data.columns import find_columns, number_labels
from vitlib.data.decode import read_images
from vitlib.data.shards import TableRows, open_shard
from vitlib.data.source import Listed, Listing, Size, Source, labelled
from vitlib.data.splits import choose_splits, parse_split
from vitlib.wording import first_few

Found = TypeVar("Found", Source, Listing)


def read_parquet(root: Path, size: Size, image: str | None, label: str | None) -> Source:
    """Read `root`, which holds parquet files whose names tell the split, such as train-0.parquet.

    The names are those of splits.py; a test set goes before a validation set. `image` and `label`
    name columns; None means the only one that can be meant. The files have the schema in which the
    Hub stores images. Raises ValueError for files that are missing or broken, for columns that are
    not there, and for rows without a label.
    """
    files, notes, unused = _choose_files(root)
    tables = {split: _parquet_table(paths) for split, paths in files.items()}
    source = _read_splits(root.name, tables, size, image=image, label=label)
    source.notes += notes
    return _note_unused(source, unused)


def list_parquet(root: Path, image: str | None, label: str | None) -> Listing:
    """The same, but of the pictures nothing is read, only their labels."""
    files, notes, unused = _choose_files(root)
    places = {split: [str(path) for path in paths] for split, paths in files.items()}
    listing = _list_splits(root.name, places, image, label)
    listing.notes += notes
    return _note_unused(listing, unused)


def _choose_files(root: Path) -> tuple[dict[str, list[Path]], list[str], list[str]]:
    """The files of each split, notes about them, and the names of the others."""
    found = sorted(root.glob("*.parquet"))
    train, test = choose_splits(_without_shard(path) for path in found)
    for names, missing in ((train, "train*.parquet"), (test, "test*.parquet (or val*.parquet)")):
        if not names:
            have = ", ".join(path.name for path in found)
            raise ValueError(f"{root} has no {missing}, only {have}")
    if len(train) > 1:
        raise ValueError(
            f"{root} has parquet files of {first_few(train)}, which all look like training sets: "
            "move all but one away"
        )
    splits = {
        split: [path for path in found if _without_shard(path) == name]
        for split, name in (("train", train[0]), ("test", test[0]))
    }
    unused = [path.name for path in found if _without_shard(path) not in (train[0], test[0])]
    return splits, [f"training images from {train[0]}, test images from {test[0]}"], unused


def _without_shard(path: Path) -> str:
    """The name without its ending and the numbers of a part, such as "-00000-of-00002"."""
    return re.sub(r"[-_. ]?\d+([-_. ]?of[-_. ]?\d+)?$", "", path.stem) or path.stem


def _note_unused(source: Found, names: list[str]) -> Found:
    known = [name for name in names if parse_split(name)]
    for some, where in ((known, source.notes), (set(names) - set(known), source.warnings)):
        if some:
            where.append(f"not used: {first_few(sorted(some))}")
    return source


def _parquet_table(files: Sequence[Path]) -> Any:
    datasets = _import_datasets()
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
    """Read the Hub's data set `name`, "owner/name": its train and test (or validation) splits.

    `image` and `label` are as in `read_parquet`.
    Raises ValueError if the data set cannot be reached or has no training split, and ImportError
    without the package `datasets`.
    """
    datasets = _import_datasets(f"there is no folder {name!r} here. ")
    found = _ask_hub(name, lambda: dict(datasets.load_dataset(name)))
    chosen, note, unused = _choose_hub_splits(name, found)
    splits = {split: found[split] for split in chosen}
    source = _read_splits(name, splits, size, image=image, label=label)
    source.notes.append(note)
    return _note_unused(source, unused)


def list_hub(name: str, image: str | None, label: str | None) -> Listing:
    """The same, but of the pictures nothing is read, only their labels.

    Raises ValueError, too, for a data set that is not stored as parquet.
    """
    datasets = _import_datasets(f"there is no folder {name!r} here. ")
    config = _ask_hub(name, lambda: datasets.load_dataset_builder(name).config)
    found = {str(split): list(files) for split, files in (config.data_files or {}).items()}
    if not found or not all(f.endswith(".parquet") for files in found.values() for f in files):
        raise ValueError(
            f"data set {name!r} is not stored as parquet files, and only these can be streamed: "
            "load it without stream"
        )
    chosen, note, unused = _choose_hub_splits(name, found)
    listing = _list_splits(name, {split: found[split] for split in chosen}, image, label)
    listing.notes.append(note)
    return _note_unused(listing, unused)


def _ask_hub(name: str, ask: Callable[[], Any]) -> Any:
    try:
        with quiet_hub():
            return ask()
    except Exception as error:  # no connection, no such name, no permission, several configurations
        raise ValueError(
            f"there is no folder {name!r} here, and the Hugging Face Hub's data set of that name "
            f"can't be reached ({type(error).__name__}: {error}). Check the name and the "
            "connection; or download its parquet files, and give the path of their folder."
        ) from error


def _choose_hub_splits(name: str, found: Iterable[str]) -> tuple[list[str], str, list[str]]:
    """The training split and, if there is one, the test split; a note about them; the others."""
    found = list(found)
    train, test = choose_splits(found)
    if "train" not in found and len(train) != 1:
        raise ValueError(f"data set {name!r} has no split 'train', only {', '.join(found)}")
    chosen = ["train" if "train" in found else train[0], *test[:1]]
    roles = zip(("training", "test"), chosen, strict=False)
    note = ", ".join(f"{role} images from {split}" for role, split in roles)
    return chosen, note, [split for split in found if split not in chosen]


def _import_datasets(instead: str = "") -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"{instead}Parquet files and the Hub need the package datasets: "
            'pip install "vitlib[hub]"'
        ) from error
    return datasets


def _read_splits(
    name: str, splits: dict[str, Any], size: Size, image: str | None, label: str | None
) -> Source:
    """Images and labels of `splits`, one or two `datasets.Dataset`, of which train is the first."""
    features = {split: table.features for split, table in splits.items()}
    image, label = find_columns(name, features, image, label)
    values = {split: _column_values(table, label) for split, table in splits.items()}
    labels, classes = number_labels(name, features, label, values)
    read = []
    for split, table in splits.items():
        rows = _image_rows(split, table, image)
        pictures = read_images(rows, len(table), size, f"{name}, {split}")
        read.append(labelled(pictures, labels[split]))
    return Source(read[0], read[1] if len(read) > 1 else None, classes)


def _list_splits(
    name: str, places: dict[str, list[str]], image: str | None, label: str | None
) -> Listing:
    """The rows of `places`, the parquet files of one or two splits, of which train is the first."""
    datasets = _import_datasets()
    shards = {split: [open_shard(place) for place in files] for split, files in places.items()}
    features = {}
    for split, (first, *others) in shards.items():
        schema = first.footer.schema.to_arrow_schema()
        for other in others:
            if other.footer.schema.to_arrow_schema() != schema:
                raise ValueError(f"{first.name} and {other.name} have different columns")
        features[split] = dict(datasets.Features.from_arrow_schema(schema))
    image, label = find_columns(name, features, image, label)
    values = {
        split: [value for shard in parts for value in shard.read(label).to_pylist()]
        for split, parts in shards.items()
    }
    labels, classes = number_labels(name, features, label, values)
    train, *test = [
        Listed(TableRows(split, parts, image), labels[split]) for split, parts in shards.items()
    ]
    return Listing(train, test[0] if test else None, classes)


def _column_values(table: Any, name: str) -> list[Any]:
    values: list[Any] = table.select_columns([name]).with_format("arrow")[:][name].to_pylist()
    return values


def _image_rows(split: str, table: Any, column: str) -> Iterator[tuple[str, Path | bytes]]:
    """(name, content or path) of each row; read as arrow, so that no image is decoded yet."""
    row = 0
    for batch in table.select_columns([column]).with_format("arrow").iter(batch_size=256):
        for value in batch[column].to_pylist():
            value = value or {}
            path = value.get("path")
            content = value.get("bytes")
            named = f"{split} row {row}" + (f", {Path(path).name}" if path else "")
            yield named, Path(path) if content is None and path else content or b""
            row += 1
