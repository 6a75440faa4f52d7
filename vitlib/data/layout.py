"""Which folders below a root are splits, which are classes, and which are neither.

    root / class / pictures                 a test set is split off by `load_data`
    root / train, test / class / pictures   names as in splits.py, also with one folder in between
    root / class / train, test / pictures

torchvision's ImageFolder and Keras's image_dataset_from_directory take every folder for a class,
and their users name each split's folder themselves. Here it is found: by its name, and because the
folders in it have (mostly) the same names as those in another split. Where these two disagree, the
folder is refused with advice, and whatever is not used is recorded.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

from vitlib.data.classes import (
    Classes,
    Folder,
    checked,
    from_class_folders,
    from_split,
    leave_out_side_pictures,
    names_of,
)
from vitlib.data.source import refuse_different_classes
from vitlib.data.splits import choose_splits, parse_split
from vitlib.data.walk import (
    PassedOver,
    count_pictures,
    loose_pictures,
    pictures_below,
    visible_folders,
)
from vitlib.wording import first_few


@dataclass
class Layout:
    """The picture files of each class, for training and, unless None, for testing.

    `notes` say what was taken for what; `warnings` are those that a user should see at once.
    """

    train: Classes
    test: Classes | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_layout(root: Path) -> Layout:
    """What `root` holds, as splits and classes.

    Raises ValueError for a layout without classes or with only one, for a class without pictures,
    for splits with different classes, and for what may be a split as well as a class.
    """
    passed = PassedOver(root)
    try:
        layout = _find(root, passed)
    except ValueError as error:  # what was passed over may be the cause
        raise ValueError(". ".join([str(error).rstrip("."), *passed.lines(loud=True)])) from None
    layout.notes += passed.lines(loud=False)
    layout.warnings += passed.lines(loud=True)
    return layout


def _find(root: Path, passed: PassedOver) -> Layout:
    folders = [Folder(path, pictures_below(path, passed)) for path in visible_folders(root, passed)]
    if folders:
        passed.add("pictures in no class folder", loose_pictures(root, passed))
    splits = _find_splits(root, folders)
    split_inside = not splits and _each_class_is_split(root, folders)
    if splits:
        layout = _from_splits(root, splits, folders, passed)
    elif split_inside:
        layout = _from_split_classes(root, folders)
    else:
        layout = Layout(from_class_folders(root, folders, passed))
        layout.warnings += _describe_equal_inner_folders(folders)
    if not split_inside:
        layout.notes += _describe_inner_folders(root, layout)
    for classes in (layout.train, layout.test or {}):
        leave_out_side_pictures(classes, passed)
    if layout.test is not None and layout.test.keys() != layout.train.keys():
        refuse_different_classes(set(layout.train), set(layout.test))
    return layout


# root / train, test / class


def _find_splits(root: Path, folders: Sequence[Folder]) -> list[Folder]:
    """The folders that are splits; none if the folders are classes."""
    full = [f for f in folders if f.pictures]
    named = [f for f in full if f.split]
    candidates = [f for f in named if f.classes]
    others = [f for f in full if f not in candidates]
    if not candidates and not (len(named) < len(full)) and len({_split(f) for f in named}) > 1:
        raise ValueError(
            f"{names_of(named)} of {root} are names of splits, but hold pictures and no class "
            "folders, so their pictures have no labels. Make a folder for each class in each of "
            "them; or if these are the classes, give them other names"
        )
    certain = [f for f in candidates if _has_partner(f, candidates)]
    plain = [f for f in candidates if f.split and not f.split.rest]
    if certain:
        return [f for f in candidates if f in certain or f in plain]
    if all(_is_flat_split(f) for f in others):
        return candidates
    if plain:  # else it is a class, such as "train_station", with folders in it
        _refuse_split_or_class(root, plain[0], others)
    return []


def _split(folder: Folder) -> str | None:
    return folder.split.split if folder.split else None


def _has_partner(folder: Folder, candidates: Iterable[Folder]) -> bool:
    """Whether another split has (mostly) the same classes."""
    return any(_split(f) != _split(folder) and folder.agrees_with(f) for f in candidates)


def _is_flat_split(folder: Folder) -> bool:
    """Whether it is a test or validation set without labels."""
    return _split(folder) in ("test", "validation") and not folder.classes


def _refuse_split_or_class(root: Path, folder: Folder, others: Sequence[Folder]) -> None:
    same = [f for f in others if f.agrees_with(folder)]
    if same:
        missing = ("test", "test") if _split(folder) == "train" else ("training", "train")
        advice = (
            f"{names_of(same)} has the same classes. If that is the {missing[0]} set, rename it to "
            f"{missing[1]!r}; if not, move it away"
        )
    else:
        advice = (
            f"beside it is {names_of(others)}. If {folder.name!r} is a split, move the rest away, "
            f"or give the path of {folder.name!r} alone; if it is a class, rename it"
        )
    raise ValueError(f"{root} has a folder {folder.name!r}, the name of a split, and {advice}")


def _from_splits(
    root: Path, splits: Sequence[Folder], folders: Sequence[Folder], passed: PassedOver
) -> Layout:
    by_name = {f.name: f for f in splits}
    train, test = choose_splits(by_name)
    if not train:
        raise ValueError(
            f"{root} has a folder {test[0]!r} but no folder 'train' next to it. To evaluate a "
            f"model, give the path of {test[0]!r}"
        )
    if len(train) > 1:
        raise ValueError(
            f"{root} has {names_of([by_name[name] for name in train])}, which all look like "
            "training sets. Put their pictures together in one, or move the others away"
        )
    rest = [f for f in folders if f.name not in (train[0], *test[:1])]
    unlabelled = [f for f in rest if f.pictures and _is_flat_split(f)]
    if not test and unlabelled:
        raise ValueError(
            f"{unlabelled[0].path} has no class folders, so its images have no labels; "
            "move it away, and a test set is split off the training images"
        )
    layout = Layout(from_split(by_name[train[0]], passed))
    layout.notes.append(f"training images from {train[0]}")
    if test:
        layout.test = from_split(by_name[test[0]], passed)
        layout.notes[0] += f", test images from {test[0]}"
    for f in rest:
        line = f"not used: {f.name} ({count_pictures(len(f.pictures))})"
        usual = _split(f) == "validation" and f.classes  # `fit` keeps validation images back itself
        (layout.notes if usual else layout.warnings).append(line)
    return layout


# root / class / train, test


def _each_class_is_split(root: Path, folders: Sequence[Folder]) -> bool:
    full = [f for f in folders if f.pictures]
    divided = []
    for f in full:
        inner = [parse_split(name) for name in f.groups if name]
        if all(inner) and len({found.split for found in inner if found}) > 1:
            divided.append(f)
    if not divided or len(full) < 2:
        return False
    if loose := [path for f in divided for path in f.groups.get("", [])]:
        raise ValueError(
            f"{root}: {names_of(divided)} have folders for training and test images, but beside "
            f"these lie {count_pictures(len(loose))}, such as {loose[0].relative_to(root)}: move "
            "them into one of the folders"
        )
    if whole := [f for f in full if f not in divided]:
        raise ValueError(
            f"{root}: divided into training and test images: {names_of(divided)}; not divided: "
            f"{names_of(whole)}. Divide all classes in the same way, or none"
        )
    return True


def _from_split_classes(root: Path, folders: Sequence[Folder]) -> Layout:
    train: Classes = {}
    test: Classes = {}
    unused: dict[str, int] = defaultdict(int)
    for f in folders:
        inner = f.groups
        names, tests = choose_splits(inner)
        if f.pictures and len(names) != 1:
            raise ValueError(f"{f.path} should hold one folder 'train', but has {', '.join(inner)}")
        train[f.name] = inner[names[0]] if names else []
        if tests:
            test[f.name] = inner[tests[0]]
        for name in tests[1:]:
            unused[name] += len(inner[name])
    notes = ["each class folder is divided into training and test images"]
    notes += [f"not used: {name} ({count_pictures(count)})" for name, count in unused.items()]
    return Layout(checked(root, train), checked(root, test), notes)


# root / class


def _describe_equal_inner_folders(folders: Sequence[Folder]) -> list[str]:
    inside = [set(f.groups) for f in folders if f.pictures]
    if len(inside[0]) < 2 or "" in inside[0] or any(names != inside[0] for names in inside):
        return []
    return [
        f"{names_of(folders)} hold folders of the same names, {first_few(sorted(inside[0]))}: the "
        "outer ones are taken for the classes. If they are splits, name them train and test"
    ]


def _describe_inner_folders(root: Path, layout: Layout) -> list[str]:
    """In which folders the pictures take the name of a folder further up."""
    deep = {
        path.parent.relative_to(root).as_posix()
        for classes in (layout.train, layout.test or {})
        for name, files in classes.items()
        for path in files
        if normalize("NFC", path.parent.name) != name
    }
    if not deep:
        return []
    return [f"pictures in inner folders belong to the outer class: {first_few(sorted(deep), 3)}"]
