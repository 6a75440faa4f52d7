"""`load_data`: the table of what it can read, and how that becomes a data set.

    a name or path -> its row of DATA_SOURCES -> images as bytes, class numbers and names
    -> a test set, if there is none -> one number of channels -> mean and std -> ImageData

The readers are in packaged.py, folders.py and tables.py. To read something new, write a reader and
add a row to the table.
"""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitlib.data.contents import describe_duplicates, hash_images
from vitlib.data.decode import Pictures, list_broken
from vitlib.data.depth import WHITES, describe_depth, share_white
from vitlib.data.folders import list_folder, read_folder
from vitlib.data.packaged import digits, mnist5k
from vitlib.data.sets import ImageData, ImageSet, mean_std, stratified
from vitlib.data.source import Labelled, Listing, Source
from vitlib.data.source import Size as PixelSize
from vitlib.data.stream import Form, StreamedSet, sample
from vitlib.data.tables import list_hub, list_parquet, read_hub, read_parquet
from vitlib.patch import Size, pair
from vitlib.wording import did_you_mean, first_few

Place = str | os.PathLike[str]


@dataclass(frozen=True)
class DataSource:
    """One kind of thing that `load_data` reads.

    Attributes:
        name: what the user writes to get it.
        help: one line, for `vitlib train --help` and the docs.
        recognises: says of a name or path whether it means this kind.
        read: called with that and the size, and if it `has_columns`, with the names of the image
            and label columns; returns a `Source`.
        has_columns: whether `image_column` and `label_column` can be given.
        is_folder: whether it is a folder, whose name then becomes the data set's.
        list: as `read`, but without the size; returns a `Listing`, of which no picture is read yet.
            None if the data cannot be streamed.
        may_repeat: whether pictures may be there twice, so that it is worth looking for them.
    """

    name: str
    help: str
    recognises: Callable[[Place], bool]
    read: Callable[..., Source]
    list: Callable[..., Listing] | None = None
    has_columns: bool = False
    is_folder: bool = False
    may_repeat: bool = True


def _path(place: Place) -> Path:
    return Path(place).expanduser()


def _is_folder(place: Place) -> bool:
    return os.fspath(place) != "" and _path(place).is_dir()


def _holds_parquet(place: Place) -> bool:
    return _is_folder(place) and any(_path(place).glob("*.parquet"))


def _is_hub_id(place: Place) -> bool:
    is_id = isinstance(place, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", place)
    return bool(is_id) and not _path(place).exists()


# The first row that recognises a place reads it.
DATA_SOURCES = (
    DataSource(
        "mnist5k", "5,000 real digits of MNIST: 4,000 train, 1,000 test, 28×28 grey",
        lambda place: os.fspath(place) == "mnist5k", lambda _, size: mnist5k(size),
        may_repeat=False,
    ),
    DataSource(
        "digits", "1,797 small digits of scikit-learn: 1,437 train, 360 test, 8×8 grey",
        lambda place: os.fspath(place) == "digits", lambda _, size: digits(size),
        may_repeat=False,
    ),
    DataSource(
        "FOLDER", "of train*.parquet and test*.parquet files, as the Hub stores images",
        _holds_parquet, lambda place, *rest: read_parquet(_path(place), *rest),
        lambda place, *rest: list_parquet(_path(place), *rest), has_columns=True, is_folder=True,
    ),
    DataSource(
        "FOLDER", "of class folders, one folder of images per class",
        _is_folder, lambda place, size: read_folder(_path(place), size),
        lambda place: list_folder(_path(place)), is_folder=True,
    ),
    DataSource(
        "OWNER/NAME", "a data set on the Hugging Face Hub",
        _is_hub_id, read_hub, list_hub, has_columns=True,
    ),
)  # fmt: skip


def load_data(
    name_or_path: Place,
    img_size: Size | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    whole: bool = False,
    white: int = 0,
    stream: bool = False,
) -> ImageData:
    """Load a whole data set into memory, with the mean and std of its training images; or, with
    `stream`, one that does not fit there.

    `name_or_path` names one of `DATA_SOURCES`; the first that recognises it reads it. A folder of
    class folders may be divided into training and test (or validation) images: in folders such as
    train and test that hold the class folders, or the other way round; parquet files by their
    names. Many names are known (vitlib/data/splits.py). If there are both a test and a validation
    set, the validation set is not used, since `fit` keeps its own images back. If there is no test
    set, a fifth of each class becomes one, always the same; with `whole`, nothing is split off, and
    `train` and `test` are both all of it, for evaluating a model on it.
    `.summary()` says what was found, what was taken for what, and what was passed over.
    Parquet files and the Hub need `datasets`: pip install "vitlib[hub]".

    With `img_size`, a side or (height, width), each image is resized to cover it and its centre is
    cut out. Without, all images must have one size. Images have one channel if all are grey, else
    three (RGB). `image_column` and `label_column` name the columns of parquet files and of the Hub;
    they are needed if more than one column could be meant.

    Of 16-bit pictures, the smallest of 255, 1023, 4095, 16383 and 65535 that none of their values
    exceeds becomes white, but no smaller one than `white`: give that of the training images to
    evaluate a model on others.

    With `stream`, a folder or the parquet files of a folder or of the Hub stay where they are, and
    each picture is read and decoded whenever it is its turn, by worker processes ahead of time.
    Labels are read at once. Up to 1,000 training pictures are looked at: they tell mean and std,
    the size if there is no `img_size`, channels, and the white of 16-bit pictures; the summary says
    so.
    Pictures in files are shuffled as in memory. Of parquet files, a row group is read whole: their
    order is random, and the pictures of as many row groups as make 256 MB are shuffled at a time;
    validation, which needs pictures of every row group, reads all of them.

    A file that can't be read is skipped, with a warning that names it, and is listed in `.skipped`.
    A stream finds that out, and warns, when it comes to the file; only those among the first 1,000
    are in `.skipped`. It looks for no pictures that are there twice.
    Warnings also tell of pictures that are not used, of test images that are training images, too,
    and of 16-bit pictures that are taken for 8 to 14 bits.
    Raises ValueError for anything else that is wrong, and if most files can't be read.
    """
    size = None if img_size is None else pair(img_size, "img_size")
    kind, name = _recognise(name_or_path, image_column, label_column)
    columns = (image_column, label_column) if kind.has_columns else ()
    if stream:
        return _stream(name_or_path, kind, name, size, columns, whole, white)
    # images as bytes, class numbers and names
    source = kind.read(name_or_path, size, *columns)
    train, test = source.train, source.test
    parts = [train] if test is None else [train, test]
    broken = [file for part in parts for file in part.broken]
    told = list(source.warnings)
    if broken:
        total = sum(len(part.labels) for part in parts) + len(broken)
        told.append(f"{len(broken)} of {total} images of {name} can't be read and are skipped: "
                    f"{list_broken(broken)}")  # fmt: skip
    white, depth = _even_depth(name, parts, white)
    told += depth
    if first_only := [file for part in parts for file in part.first_only]:
        told.append(f"files of several frames or pages, of which the first is used, "
                    f"{len(first_only):,}: {first_few(first_only, 3)}")  # fmt: skip
    # a test set, if there is none
    notes = list(source.notes)
    if test is None and whole:
        test = train
    elif test is None:
        rest, held = stratified(train.labels, len(train.labels) // 5, 0, source.classes)
        test = Labelled(train.images[held], train.labels[held], [])
        train = Labelled(train.images[rest], train.labels[rest], [])
        notes.append("there is no test set: a fifth of each class is kept back as one")
    # one number of channels
    channels = max(train.images.shape[1], test.images.shape[1])
    sets = [_tensors(part, channels) for part in (train, test)]
    # pictures that are there twice
    if kind.may_repeat and test is not train:
        told += describe_duplicates(*((hash_images(images), labels) for images, labels in sets))
    for line in told:
        warnings.warn(line, stacklevel=2)
    # mean and std
    mean, std = mean_std(sets[0][0])
    train_set, test_set = (ImageSet(images, labels, mean, std) for images, labels in sets)
    if test is train:
        test_set = train_set
    return ImageData(
        name, train_set, test_set, classes=source.classes, mean=mean, std=std,
        skipped=tuple(file for file, _ in broken), notes=tuple(notes), warned=tuple(told),
        white=white,
    )  # fmt: skip


def _even_depth(
    name: str, parts: Sequence[Labelled | Pictures], least: int
) -> tuple[int, list[str]]:
    """Give all 16-bit pictures one white, in place; return it, and what to tell the user of it."""
    deep = [(part.images, part.whites) for part in parts if part.whites is not None]
    white = share_white(deep, least)
    if not 0 < white < WHITES[-1]:
        return white, []
    count = sum(int((whites > 0).sum()) for _, whites in deep)
    return white, [describe_depth(f"{count:,} pictures of {name} have", white)]


def _stream(
    place: Place, kind: DataSource, name: str, size: PixelSize, columns: tuple[str | None, ...],
    whole: bool, white: int,
) -> ImageData:  # fmt: skip
    """What `load_data` does with `stream`."""
    if kind.list is None:
        raise ValueError(f"{name} fits into memory and cannot be streamed: leave out stream")
    # a list of pictures, class numbers and names
    listing = kind.list(place, *columns)
    train, test, notes = listing.train, listing.test, list(listing.notes)
    parts = [np.arange(len(part.labels)) for part in (train, test or train)]
    # a test set, if there is none
    if test is None and not whole:
        rest, held = stratified(train.labels, len(train.labels) // 5, 0, listing.classes)
        parts = [part[train.rows.in_reading_order(torch.from_numpy(part))] for part in (rest, held)]
        notes.append("there is no test set: a fifth of each class is kept back as one")
    numbers = [torch.from_numpy(part) for part in parts]
    # size, channels, white, mean and std
    seen = sample(train.rows, numbers[0], size, name)
    white, depth = _even_depth(name, [seen], white)
    mean, std = mean_std(torch.from_numpy(seen.images))
    _, channels, height, width = seen.images.shape
    form = Form((height, width), channels, white, fitted=size is not None)
    count = len(seen.images) + len(seen.broken)
    known_from = "all" if count == len(numbers[0]) else f"{count:,} of the {len(numbers[0]):,}"
    notes.append(
        "streamed: pictures are read when they are needed; mean, std and channels are those of "
        f"{known_from} training pictures"
    )
    told = [*listing.warnings, *depth]
    if seen.broken:
        told.append(f"{len(seen.broken)} of the {count:,} images of {name} that were looked at "
                    f"can't be read and are skipped: {list_broken(seen.broken)}")  # fmt: skip
    for line in told:
        warnings.warn(line, stacklevel=3)
    train_set, test_set = (
        StreamedSet(part.rows, which, torch.from_numpy(part.labels)[which], mean, std, form)
        for part, which in zip((train, test or train), numbers, strict=True)
    )
    if test is None and whole:
        test_set = train_set
    return ImageData(
        name, train_set, test_set, classes=listing.classes, mean=mean, std=std,
        skipped=tuple(file for file, _ in seen.broken), notes=tuple(notes), warned=tuple(told),
        white=white,
    )  # fmt: skip


def _recognise(place: Place, *columns: str | None) -> tuple[DataSource, str]:
    """The first row of the table that recognises `place`, and the data set's name."""
    name = os.fspath(place)
    kind = next((kind for kind in DATA_SOURCES if kind.recognises(place)), None)
    if kind is None:
        raise ValueError(_why_unknown(place))
    if any(columns) and not kind.has_columns:
        raise ValueError(f"{name} takes no columns: leave out image_column and label_column")
    return kind, _path(place).resolve().name if kind.is_folder else name


def _why_unknown(place: Place) -> str:
    name, path = os.fspath(place), _path(place)
    if name and path.exists():
        return f"{name} is a file; load_data takes the folder that contains it"
    if "/" in name or os.sep in name or name.startswith(("~", ".")):
        return f"there is no folder {name} (looked for {path.absolute()})"
    packaged = [kind.name for kind in DATA_SOURCES if kind.name.islower()]
    return (
        f"unknown data {name!r}: neither one of {', '.join(packaged)}, nor a folder, nor "
        f"owner/name of a data set on the Hub. {did_you_mean(name.lower(), packaged)}"
    ).rstrip(". ")


def _tensors(part: Labelled, channels: int) -> tuple[Tensor, Tensor]:
    images = part.images
    if images.shape[1] < channels:  # all grey here, but not in the other part
        images = np.repeat(images, channels, axis=1)
    return torch.from_numpy(images), torch.from_numpy(part.labels)
