"""Names of folders, files and splits -> training, validation or test set.

    "seg_train" -> words "seg", "train" -> split "train", rest {"seg"}

The keywords are those by which Hugging Face's `datasets` finds splits (its data_files.py), and a
few more; there, too, they may stand between other words. Words such as "set", "data" and "images"
may be joined to them or stand beside them. Whether a folder of such a name is a split is for
layout.py to say, since a class may be called "train_station".
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

KEYWORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout", "heldout"),
    "validation": ("validation", "valid", "val", "dev"),
}
# Words that say nothing; they may also be joined to a keyword, as in "trainset".
_NEUTRAL = {
    *("set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "pics"),
    *("picture", "pictures", "photo", "photos", "sample", "samples", "split", "splits"),
    *("folder", "folders", "dir", "files"),
}  # fmt: skip
_SPLIT_OF = {word: split for split, words in KEYWORDS.items() for word in words}
_ORDER = list(_SPLIT_OF)
_BESIDE, _KEYWORD = (
    "|".join(sorted(words, key=len, reverse=True)) for words in (_NEUTRAL, _SPLIT_OF)
)
_WORD = re.compile(f"(?:{_BESIDE})?({_KEYWORD})(?:{_BESIDE})?")


class SplitName(NamedTuple):
    """What a name says: the split, the keyword for it, and the words that say something else."""

    split: str
    keyword: str
    rest: frozenset[str]

    @property
    def rank(self) -> tuple[int, int]:
        """Test before validation, and plain names before others."""
        return (_ORDER.index(self.keyword), len(self.rest))


def parse_split(name: str) -> SplitName | None:
    """The split that a name speaks of; None if there is none, or both training and testing."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    spaced = re.sub(r"\b(hold|held)[\W_]?out", r"\1out", spaced.replace("_", " "))
    found: list[str] = []
    rest: set[str] = set()
    for word in re.findall(r"[^\W\d_]+", spaced):
        if match := _WORD.fullmatch(word):
            found.append(match[1])
        elif word not in _NEUTRAL:
            rest.add(word)
    splits = {_SPLIT_OF[keyword] for keyword in found}
    if not splits or {"train", "test"} <= splits:
        return None
    keyword = min(found, key=_ORDER.index)  # "train_val" is for training
    return SplitName(_SPLIT_OF[keyword], keyword, frozenset(rest))


def choose_splits(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names of training sets, and those of test sets, the best first; others are left out."""
    parsed = {name: found for name in names if (found := parse_split(name))}
    train = [name for name, found in parsed.items() if found.split == "train"]
    test = sorted((n for n in parsed if n not in train), key=lambda name: parsed[name].rank)
    return train, test
