"""What readers of a data source return: images as bytes, class numbers, class names; or, for a
stream, a list of the images."""

from dataclasses import dataclass, field

import numpy as np

from vitlib.data.decode import Pictures, list_broken
from vitlib.data.rows import Rows

Size = tuple[int, int] | None  # (height, width) that images are resized to; None leaves them


@dataclass
class Labelled:
    """Images with their class numbers, and (name, reason) of the files that could not be read.

    `whites` (n,) and `first_only` are as in `Pictures`; None means that all images have 8 bits.
    """

    images: np.ndarray  # (n, C, H, W), uint8
    labels: np.ndarray  # (n,), int64
    broken: list[tuple[str, str]]
    whites: np.ndarray | None = None
    first_only: list[str] = field(default_factory=list)


@dataclass
class Source:
    """A data set as it was read; if `test` is None, a test set still has to be split off.

    `notes` say what was taken for what and what was passed over; `warnings`, what a user should see
    at once.
    """

    train: Labelled
    test: Labelled | None
    classes: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Listed:
    """Pictures that are listed and not read, with their class numbers."""

    rows: Rows
    labels: np.ndarray  # (n,), int64


@dataclass
class Listing:
    """A data set whose pictures are not read yet; everything else is as in `Source`."""

    train: Listed
    test: Listed | None
    classes: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def labelled(pictures: Pictures, labels: np.ndarray, classes: tuple[str, ...] = ()) -> Labelled:
    """The pictures that could be read, with their labels.

    Raises ValueError if none of a class's pictures could be read.
    """
    labels = labels[pictures.kept].astype(np.int64)
    gone = [name for k, name in enumerate(classes) if k not in set(labels.tolist())]
    if gone:
        raise ValueError(
            f"no image of class {gone[0]!r} can be read: {list_broken(pictures.broken)}"
        )
    return Labelled(pictures.images, labels, pictures.broken, pictures.whites, pictures.first_only)


def refuse_different_classes(train: set[str], test: set[str]) -> None:
    """Raise the ValueError that says how the classes of train and test differ."""
    only = [
        f"only in {split}: {', '.join(sorted(names))}"
        for split, names in (("train", train - test), ("test", test - train))
        if names
    ]
    raise ValueError(
        "train and test have different classes; "
        + ("; ".join(only) or "their order differs")
        + ". Both need the same: add what is missing, or remove what only one of them has"
    )
