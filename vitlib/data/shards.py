"""Pictures in the row groups of parquet files, on the disk or on the Hub: `TableRows`.

    parquet files -> their footers: row groups -> a row group at a time -> contents of pictures

A row group is read whole, so a stream reads them one after the other, in random order, and shuffles
what it has of them at a time. Of several processes, each reads its own row groups.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from vitlib.data.rows import Item, Rows, hash_texts

_BUFFER = 256e6  # bytes of pictures that are shuffled with one another, in each process


@dataclass(frozen=True)
class Shard:
    """A parquet file: its place as fsspec takes it, its bytes and its footer."""

    place: str
    size: int
    footer: Any  # pyarrow.parquet.FileMetaData

    @property
    def name(self) -> str:
        return self.place.rsplit("/", 1)[-1]

    def read(self, column: str, group: int | None = None) -> Any:
        """A column, of one row group or of all, as pyarrow's ChunkedArray.

        Raises ValueError if the file has changed since its footer was read, or can't be read.
        """
        return _open(self, lambda file: _read_column(file, self.footer, column, group))


def open_shard(place: str) -> Shard:
    """Read the footer of a parquet file, at a path or at a URL that fsspec knows."""
    import pyarrow.parquet

    size = _size_of(place)
    return Shard(place, size, _open(Shard(place, size, None), pyarrow.parquet.read_metadata))


class TableRows(Rows):
    """The rows of parquet files that follow one another; `column` has the pictures."""

    def __init__(self, split: str, shards: Sequence[Shard], column: str):
        self.split, self.shards, self.column = split, tuple(shards), column
        groups = [
            (s, g) for s, shard in enumerate(shards) for g in range(shard.footer.num_row_groups)
        ]
        footers = [shards[s].footer.row_group(g) for s, g in groups]
        self._groups = groups
        # the number of each group's first row, and that of all rows
        self._starts = np.cumsum([0, *(footer.num_rows for footer in footers)])
        stored = sum(_stored_bytes(footer, column) for footer in footers)
        self._window = max(1, int(_BUFFER * len(self) / max(stored, 1)))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, parts: Sequence[Int64[Tensor, "_"]]) -> Iterator[list[Item]]:
        needed = [self._group_of(part).unique().tolist() for part in parts]
        last_use = {group: k for k, groups in enumerate(needed) for group in groups}
        first_use: dict[int, int] = {}
        for k, groups in enumerate(needed):
            for group in groups:
                first_use.setdefault(group, k)
        to_read = deque(first_use)  # in the order in which they are needed
        held: dict[int, Future[Any]] = {}
        with ThreadPoolExecutor(1) as pool:

            def submit(group: int) -> None:
                held[group] = pool.submit(self._read_group, group)

            for k, part in enumerate(parts):
                soon = k + self._window // max(1, len(part))  # the next window begins
                while to_read and first_use[to_read[0]] <= k:
                    submit(to_read.popleft())
                if to_read and first_use[to_read[0]] <= soon:  # one per batch ahead
                    submit(to_read.popleft())
                yield [self._item(number, held) for number in part.tolist()]
                for group in [group for group in held if last_use[group] <= k]:
                    del held[group]

    def shuffled(
        self, rows: Int64[Tensor, "n"], batch_size: int, processes: int
    ) -> Int64[Tensor, "_"]:
        # Each process gets equal parts of each batch, from a piece of the row groups of its own.
        group_of = self._group_of(rows)
        place_of_group = torch.randperm(len(self._groups))
        laid_out = place_of_group[group_of].argsort(stable=True)
        per_process, share = len(rows) // processes, batch_size // processes
        batches = len(rows) // batch_size
        pieces = [
            torch.cat([part[torch.randperm(len(part))] for part in piece.split(self._window)])
            for piece in laid_out[: processes * per_process].split(per_process)
        ]
        shares = [piece[: batches * share].view(batches, share) for piece in pieces]
        return torch.cat(shares, dim=1).flatten()

    def in_reading_order(self, rows: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
        return rows.argsort()

    def fingerprints(self) -> Int64[Tensor, "N"]:
        return hash_texts(
            f"{shard.name}\0{shard.size}\0{row}".encode()
            for shard in self.shards
            for row in range(shard.footer.num_rows)
        )

    def _group_of(self, rows: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
        return torch.from_numpy(np.searchsorted(self._starts, rows.numpy(), side="right") - 1)

    def _read_group(self, group: int) -> Any:
        shard, number = self._groups[group]
        return self.shards[shard].read(self.column, number)

    def _item(self, number: int, held: dict[int, Future[Any]]) -> Item:
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        value = held[group].result()[number - int(self._starts[group])].as_py() or {}
        path, content = value.get("path"), value.get("bytes")
        name = f"{self.split} row {number}" + (f", {Path(path).name}" if path else "")
        return Item(name, Path(path) if content is None and path else content or b"", None)


def _stored_bytes(footer: Any, column: str) -> int:
    """What the pictures of a row group take in memory."""
    chunks = (footer.column(k) for k in range(footer.num_columns))
    return sum(
        c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == column
    )


def _read_column(file: Any, footer: Any, column: str, group: int | None) -> Any:
    import pyarrow.parquet

    opened = pyarrow.parquet.ParquetFile(file, metadata=footer)
    if group is None:
        return opened.read([column]).column(0)
    return opened.read_row_group(group, [column]).column(0)


def _size_of(place: str) -> int:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(place)
        return int(filesystem.size(path))
    except OSError as error:
        raise ValueError(f"{place} can't be read: {error}") from error


def _open(shard: Shard, read: Any) -> Any:
    import fsspec
    import pyarrow

    try:
        filesystem, path = fsspec.core.url_to_fs(shard.place)
        with filesystem.open(path, "rb") as file:
            if file.size != shard.size:
                raise ValueError(
                    f"{shard.name} has changed since the run began: {shard.size:,} bytes then, "
                    f"{file.size:,} now"
                )
            return read(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{shard.place} can't be read as parquet: {error}") from error
