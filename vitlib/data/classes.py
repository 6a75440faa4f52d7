"""Class folders: the pictures of each, checked, without what only belongs to them."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

from vitlib.data.splits import SplitName, parse_split
from vitlib.data.walk import (
    PassedOver,
    is_side_name,
    main_stem,
    pictures_below,
    visible_folders,
    without_side_pictures,
)
from vitlib.wording import first_few

Classes = dict[str, list[Path]]  # class name -> its picture files, both sorted


@dataclass
class Folder:
    """A folder directly below the root, with all pictures below it."""

    path: Path
    pictures: list[Path]

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def split(self) -> SplitName | None:
        """The split that its name speaks of; none for "train_masks"."""
        found = parse_split(self.name)
        return None if found and any(map(is_side_name, found.rest)) else found

    @cached_property
    def groups(self) -> Classes:
        """Its pictures by the folder directly in it."""
        return group(self.path, self.pictures)

    @cached_property
    def classes(self) -> Classes:
        """If it is a split, its class folders that hold pictures; else nothing."""
        return {name: files for name, files in self._inner_groups.items() if name}

    @property
    def loose(self) -> list[Path]:
        """If it is a split, its pictures that are in no class folder."""
        return self._inner_groups.get("", [])

    @cached_property
    def _inner_groups(self) -> Classes:
        return group(self.inner, self.pictures)

    @cached_property
    def inner(self) -> Path:
        """If it is a split, the folder that holds the class folders: it, or one further down.

        If no folder tells a class, as in train/train/a.jpg, it is the one with the pictures.
        """
        here = self.path
        while len(below := group(here, self.pictures)) == 1 and "" not in below:
            (only,) = below
            deeper = group(here / only, below[only])
            if ("" in deeper or len(deeper) < 2) and not parse_split(only) and only != self.name:
                break  # a single class
            here = here / only
        return here

    def agrees_with(self, other: "Folder") -> bool:
        """Whether at least half of the class folders of the smaller one are in both."""
        common = self.classes.keys() & other.classes.keys()
        return 2 * len(common) >= min(len(self.classes), len(other.classes)) > 0


def group(folder: Path, pictures: Iterable[Path]) -> Classes:
    """The pictures by the folder below `folder` in which they are; "" for those directly in it."""
    groups: Classes = defaultdict(list)
    depth = len(folder.parts)
    for path in pictures:
        groups[path.parts[depth] if len(path.parts) > depth + 1 else ""].append(path)
    return dict(groups)


def names_of(folders: Sequence[Folder]) -> str:
    """The first few of their names, for messages."""
    return " and ".join(first_few([repr(f.name) for f in folders]).rsplit(", ", 1))


def from_class_folders(root: Path, folders: Sequence[Folder], passed: PassedOver) -> Classes:
    """The classes, if each folder is one, but not folders of masks for the pictures in others.

    Such a folder is known by its name, and because each picture in it has the name of exactly one
    picture elsewhere; "mask" may be a class, too, beside "no mask".
    """
    main = [f for f in folders if not is_side_name(f.name)]
    stems = Counter(main_stem(path) for f in main for path in f.pictures)
    side = [
        f
        for f in folders
        if is_side_name(f.name) and all(stems[main_stem(path)] == 1 for path in f.pictures)
    ]
    if len(folders) - len(side) >= 2:
        passed.add("folders of masks, annotations or thumbnails", (f.path for f in side))
        folders = [f for f in folders if f not in side]
    return checked(root, {f.name: f.pictures for f in folders})


def from_split(split: Folder, passed: PassedOver) -> Classes:
    """The classes of one split; those without a picture are refused."""
    empty: Classes = {f.name: [] for f in visible_folders(split.inner, PassedOver(split.inner))}
    passed.add("pictures in no class folder", split.loose)
    return checked(split.inner, empty | split.classes)


def checked(folder: Path, classes: Classes) -> Classes:
    """The classes, sorted, under their names in Unicode's NFC, in which é is one character.

    Raises ValueError unless there are two or more and each holds pictures.
    """
    wanted = f"{folder} should hold one folder of images for each class"
    if not classes:
        loose = pictures_below(folder, PassedOver(folder))
        raise ValueError(
            f"{wanted}, but "
            + (f"its {len(loose)} images are in no folder" if loose else "has no folders")
        )
    empty = [name for name, found in classes.items() if not found]
    if len(empty) == len(classes):
        deeper = next(folder.rglob("*.parquet"), None)
        raise ValueError(
            f"{wanted}, but there is no image in {', '.join(map(repr, empty))}"
            + (f"; there are parquet files in {deeper.parent}: give that path" if deeper else "")
        )
    if len(classes) == 1:
        raise ValueError(
            f"{wanted}, at least two, but has only {next(iter(classes))!r}. "
            "If the class folders are inside that one, give its path."
        )
    if empty:
        raise ValueError(
            f"class folder {folder / empty[0]} holds no image that can be read; remove the folder "
            "or fill it"
        )
    named = {normalize("NFC", name): found for name, found in sorted(classes.items())}
    if len(named) < len(classes):
        raise ValueError(f"two class folders of {folder} have names that look the same: rename one")
    return dict(sorted(named.items()))


def leave_out_side_pictures(classes: Classes, passed: PassedOver) -> None:
    """Leave out masks, thumbnails and the like that lie in the class folders, in place."""
    for name, files in classes.items():
        folder = Path(os.path.commonpath([path.parent for path in files]))
        classes[name] = without_side_pictures(files, folder, passed)
