"""Which files below a folder are its pictures, and the record of all that is passed over.

a folder -> without hidden and system folders -> files by kind -> without masks and thumbnails
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from vitlib.data.formats import PICTURE, UNREADABLE, kind_of
from vitlib.wording import first_few

# Folders that systems and tools put beside pictures, with thumbnails and deleted files in them.
_SYSTEM = re.compile(
    r"\..*|__.*|@(eadir|recycle|recently-snapshot|tmp|__thumb|synoresource)|#recycle|#snapshot|"
    r"\$recycle\.bin|lost\+found|system volume information",
    re.IGNORECASE,
)
# Folders of these words hold what belongs to the pictures of a class, but no pictures of the class.
_SIDE_WORDS = {
    *("mask", "masks", "segmentation", "segmentations", "gt", "groundtruth", "truth"),
    *("annotation", "annotations", "label", "labels", "bbox", "bboxes", "keypoints"),
    *("thumb", "thumbs", "thumbnail", "thumbnails", "preview", "previews"),
}
_BESIDE_SIDE_WORDS = {"image", "images", "img", "imgs", "of", "ground", "files"}
_SIDE_ENDING = re.compile(
    r"(.+?)[ _.-]+\(?(?:mask|masks|matte|seg|segmentation|gt|label|labels|annotation|annotated|"
    r"bbox|bboxes|overlay|depth|disparity|normals|heatmap|saliency|thumb|thumbnail)"
    r"(?:[ _.-]*\d+)?\)?",
    re.IGNORECASE,
)


class PassedOver:
    """What lies below `root` and is not used: reason -> names, relative to `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, paths: Iterable[Path | str]) -> None:
        """Record these files or folders. The reason is a plural, as in "hidden files"."""
        self._names[reason] += [Path(path).relative_to(self.root).as_posix() for path in paths]

    def lines(self, loud: bool) -> list[str]:
        """One line per reason: those that a user should see at once (`loud`), or the others."""
        return [
            f"passed over: {reason}, {len(names):,}: {first_few(names, 3)}{_advice(reason)}"
            for reason, names in self._names.items()
            if names and loud == (reason not in _QUIET)
        ]


HIDDEN_FOLDERS, HIDDEN_FILES = "hidden or system folders", "hidden files"
NO_PICTURES, SIDE = "files that are no pictures", "masks, annotations or thumbnails"
_QUIET = (HIDDEN_FOLDERS, HIDDEN_FILES, NO_PICTURES)


def count_pictures(count: int) -> str:
    """As in "1 picture", "2 pictures"."""
    return f"{count:,} picture" + ("" if count == 1 else "s")


def _advice(reason: str) -> str:
    kind = reason.removesuffix("s")
    return f" ({UNREADABLE[kind][1]})" if kind in UNREADABLE else ""


def visible_folders(folder: Path, passed: PassedOver) -> list[Path]:
    """The folders directly in `folder`, sorted, without those of a system."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    passed.add(HIDDEN_FOLDERS, (path for path in inner if _SYSTEM.fullmatch(path.name)))
    return [path for path in inner if not _SYSTEM.fullmatch(path.name)]


def pictures_below(folder: Path, passed: PassedOver) -> list[Path]:
    """The picture files at any depth below `folder`, sorted; what is passed over is recorded.

    Links are followed. Raises OSError for a folder that can't be listed.
    """

    def refuse(error: OSError) -> None:
        raise OSError(f"cannot list {error.filename}: {error.strerror}") from error

    found: list[str] = []
    seen: set[str] = set()  # a link to a folder above must not loop for ever
    for here, inner, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(here)
        system = [] if real in seen else [name for name in inner if _SYSTEM.fullmatch(name)]
        inner[:] = [] if real in seen else sorted(set(inner) - set(system))
        passed.add(HIDDEN_FOLDERS, (Path(here, name) for name in system))
        found += [] if real in seen else [os.path.join(here, name) for name in names]
        seen.add(real)
    return _pictures_among(found, passed)


def loose_pictures(folder: Path, passed: PassedOver) -> list[Path]:
    """The picture files directly in `folder`, sorted; the other files are recorded."""
    return _pictures_among([str(path) for path in folder.iterdir() if not path.is_dir()], passed)


def _pictures_among(files: Iterable[str], passed: PassedOver) -> list[Path]:
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if os.path.basename(path).startswith("."):
            kind = HIDDEN_FILES
        elif not (os.path.isfile(path) or os.path.islink(path)):
            kind = NO_PICTURES  # a pipe, for instance, which must not be opened
        else:
            kind = kind_of(path) or NO_PICTURES
        kinds[kind].append(Path(path))
    pictures = sorted(kinds.pop(PICTURE, []))
    for kind, paths in sorted(kinds.items()):
        passed.add(kind if kind in _QUIET else f"{kind}s", sorted(paths))
    return pictures


def without_side_pictures(pictures: Sequence[Path], folder: Path, passed: PassedOver) -> list[Path]:
    """The pictures of a class `folder` without masks and the like, which are recorded.

    That is, those below a folder with such a name, if there are others, and "a_mask.png" if there
    is also an "a" in the same folder.
    """
    stems = {(path.parent, path.stem.lower()) for path in pictures}

    def is_side(path: Path) -> bool:
        stem = main_stem(path)
        has_main = stem != path.stem.lower() and (path.parent, stem) in stems
        return has_main or any(map(is_side_name, path.parent.relative_to(folder).parts))

    side = [path for path in pictures if is_side(path)]
    if len(side) == len(pictures):
        return list(pictures)
    passed.add(SIDE, side)
    gone = set(side)
    return [path for path in pictures if path not in gone]


def main_stem(path: Path) -> str:
    """The name without its ending, and without "_mask" and the like, in lower case."""
    found = _SIDE_ENDING.fullmatch(path.stem)
    return (found[1] if found else path.stem).lower()


def is_side_name(name: str) -> bool:
    """Whether a folder of this name holds masks, annotations or the like."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    return bool(words & _SIDE_WORDS) and words <= _SIDE_WORDS | _BESIDE_SIDE_WORDS
