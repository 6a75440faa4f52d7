"""Pictures that are listed and not yet read: `Rows`, and those in a folder's files (`Files`).

A row has a number, from 0 on. Which rows make up a data set, and their labels, is for stream.py.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


class Item(NamedTuple):
    """A picture to be decoded: its name in messages, its file or content, the file's size.

    `size` is that of the file in bytes when it was listed, None for a content.
    """

    name: str
    source: Path | bytes
    size: int | None


class Rows(ABC):
    """A list of pictures that lie somewhere. No picture is read before it is asked for."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, parts: Sequence[Int64[Tensor, "_"]]) -> Iterator[list[Item]]:
        """The rows of each part, one part after the other; a part is the rows' numbers."""

    @abstractmethod
    def shuffled(
        self, rows: Int64[Tensor, "n"], batch_size: int, processes: int
    ) -> Int64[Tensor, "_"]:
        """The positions 0 to n - 1 of `rows` in a random order in which they can be read.

        It is cut into batches, and each batch into as many equal parts as there are `processes`.
        """

    def in_reading_order(self, rows: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
        """The positions 0 to n - 1 of `rows` in the order in which reading takes least memory."""
        return torch.arange(len(rows))

    @abstractmethod
    def fingerprints(self) -> Int64[Tensor, "N"]:
        """A number for each row, by which it is known again without being read."""


class Files(Rows):
    """Picture files below `root`. Their sizes are kept, so that a changed file is noticed."""

    def __init__(self, root: Path, paths: Sequence[Path]):
        self.root = root.absolute()
        # Bytes in one array: a hundred thousand Path objects would take fifty megabytes.
        self._names = np.array([os.fsencode(path.relative_to(root)) for path in paths])
        self._sizes = np.array([path.stat().st_size for path in paths], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._names)

    def read(self, parts: Sequence[Int64[Tensor, "_"]]) -> Iterator[list[Item]]:
        for part in parts:
            yield [self._item(number) for number in part.tolist()]

    def shuffled(
        self, rows: Int64[Tensor, "n"], batch_size: int, processes: int
    ) -> Int64[Tensor, "n"]:
        return torch.randperm(len(rows))  # a file can be read whenever it is its turn

    def fingerprints(self) -> Int64[Tensor, "N"]:
        sizes = self._sizes.tolist()
        return hash_texts(b"%s\0%d" % pair for pair in zip(self._names, sizes, strict=True))

    def _item(self, number: int) -> Item:
        name = os.fsdecode(self._names[number])
        return Item(Path(name).as_posix(), self.root / name, int(self._sizes[number]))


def hash_texts(texts: Iterable[bytes]) -> Int64[Tensor, "n"]:
    """A number for each, the same for the same text and for no other (in practice)."""
    digests = b"".join(blake2b(text, digest_size=8).digest() for text in texts)
    return torch.from_numpy(np.frombuffer(digests, "<i8").astype(np.int64))
