"""Images that stay where they are and are read batch by batch: `StreamedSet`.

    numbers of images -> rows: files, or contents from tables -> worker processes: pixels -> batches

torch's DataLoader runs the workers, two batches ahead each. They get the pictures of a batch as a
list of items and know nothing else, so that what is read never depends on how many they are.
"""

import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vitlib.data.decode import Pictures, decode_fully, describe_error, read_images, to_channels
from vitlib.data.depth import share_white
from vitlib.data.rows import Item, Rows
from vitlib.data.sets import Batches, LabelledImages, mean_std

_MOST_WORKERS = 8
_SAMPLE = 1000  # pictures that are looked at beforehand


@dataclass(frozen=True)
class Form:
    """What every picture is brought to: its size (H, W), 1 or 3 channels, and the least white.

    With `fitted`, pictures of another size are resized and cut; without, they are refused.
    """

    size: tuple[int, int]
    channels: int
    white: int = 0
    fitted: bool = True


class StreamedSet(LabelledImages):
    """Labelled images that are read when they are needed; `images[i]` is as in `LabelledImages`.

    A picture that can't be read is left out of its batch, with a warning that names it, once.
    Reading raises ValueError for a batch in which no picture can be read, for a picture of another
    size where none was asked for, for a file that has changed since it was listed, and when the
    system can't read one now: to leave that out would make a run that nobody can repeat.

    Args:
        rows: the pictures, and maybe others.
        numbers: (n,) which of the rows belong to the set.
        labels: (n,).
    """

    fingerprinted = "files"

    def __init__(
        self,
        rows: Rows,
        numbers: Int64[Tensor, "n"],
        labels: Int64[Tensor, "n"],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        form: Form,
    ) -> None:
        self.rows, self.numbers, self.labels = rows, numbers, labels
        self.mean, self.std, self.form = mean, std, form
        self._broken: set[int] = set()  # positions

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.labels), self.form.channels, *self.form.size

    def pixels(self, number: int) -> UInt8[Tensor, "C H W"]:
        ((item,),) = self.rows.read([self.numbers[number].reshape(1)])
        decoded = _decode([item], self.form)
        for _, _, reason in decoded.broken:
            raise ValueError(f"{item.name} can't be read: {reason}")
        return decoded.images[0]

    def batches(self, parts: Iterable[Int[Tensor, "_"]]) -> Batches:
        parts = list(parts)
        context = "fork" if sys.platform == "linux" else None  # else each worker imports torch
        loader = DataLoader(
            _Decoder(self.form),
            batch_sampler=_Upcoming(self.rows, [self.numbers[part] for part in parts]),
            collate_fn=_as_it_is,
            num_workers=_count_workers(),
            worker_init_fn=_ignore_signals,
            multiprocessing_context=context,
            generator=torch.Generator(),  # else it draws from the global one
        )
        for part, decoded in zip(parts, loader, strict=True):
            if decoded.refusal:
                raise ValueError(decoded.refusal)
            self._report(decoded, part)
            yield decoded.images.float() / 255, self.labels[part[decoded.kept]]

    def shuffled(self, batch_size: int, processes: int = 1) -> Int64[Tensor, "_"]:
        return self.rows.shuffled(self.numbers, batch_size, processes)

    def subset(self, index: Int[Tensor, "b"] | Sequence[int]) -> "StreamedSet":
        chosen = torch.as_tensor(index, dtype=torch.long)
        numbers, labels = self.numbers[chosen], self.labels[chosen]
        return StreamedSet(self.rows, numbers, labels, self.mean, self.std, self.form)

    def in_reading_order(self, index: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
        return index[self.rows.in_reading_order(self.numbers[index])]

    def normalised_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> "StreamedSet":
        changed = copy(self)  # which knows of the same broken pictures
        changed.mean, changed.std = mean, std
        return changed

    def with_channels(self, channels: int) -> "StreamedSet":
        if channels == self.form.channels:
            return self
        form = replace(self.form, channels=channels)
        looked_at = sample(self.rows, self.numbers, form.size if form.fitted else None, "")
        images = np.stack([to_channels(pixels, channels) for pixels in looked_at.images])
        changed = self.normalised_by(*mean_std(torch.from_numpy(images)))
        changed.form = form
        return changed

    def fingerprints(self) -> Int64[Tensor, "n"]:
        return self.rows.fingerprints()[self.numbers]

    def readable(self) -> "StreamedSet":
        return self.subset([k for k in range(len(self)) if k not in self._broken])

    def _report(self, decoded: "_Decoded", part: Int[Tensor, "_"]) -> None:
        for position, name, reason in decoded.broken:
            number = int(part[position])
            if number not in self._broken:
                self._broken.add(number)
                warnings.warn(f"{name} can't be read and is skipped ({reason})", stacklevel=4)
        if not len(decoded.images):
            raise ValueError(
                f"none of the {len(part)} pictures of a batch can be read, from {name} on: {reason}"
            )


def sample(
    rows: Rows, numbers: Int64[Tensor, "n"], size: tuple[int, int] | None, what: str
) -> Pictures:
    """Up to 1,000 of the pictures, always the same ones, decoded.

    Raises ValueError, which calls them `what`, as `read_images` does.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        chosen = numbers[rows.shuffled(numbers, 1, 1)[:_SAMPLE]]
    items = (item for batch in rows.read(list(chosen.split(100))) for item in batch)
    named = ((item.name, item.source) for item in items)
    return read_images(named, len(chosen), size, what)


class _Decoded(NamedTuple):
    """The pictures of a batch that could be read, and (position, name, reason) of the others.

    `kept` are the positions of those. If `refusal` says something, reading has to stop.
    """

    images: Tensor  # (b, C, H, W), uint8
    kept: Tensor  # (b,)
    broken: list[tuple[int, str, str]]
    refusal: str = ""


def _decode(items: Sequence[Item], form: Form) -> _Decoded:
    height, width = form.size
    pixels = np.empty((len(items), form.channels, height, width), np.uint8)
    kept: list[int] = []
    broken: list[tuple[int, str, str]] = []
    for position, item in enumerate(items):
        if refusal := _describe_change(item):
            return _refuse(refusal)
        try:
            image, white, _ = decode_fully(item.source, form.size if form.fitted else None)
        except MemoryError:
            raise
        except Exception as error:  # a broken file can raise nearly anything in a decoder
            if getattr(error, "errno", None):  # not the file: another time it might be read
                return _refuse(f"{item.name} can't be read now: {describe_error(error)}")
            broken.append((position, item.name, describe_error(error)))
            continue
        if image.shape[1:] != form.size:
            return _refuse(
                f"images differ in size: {item.name} is {image.shape[1]}×{image.shape[2]}, others "
                f"are {height}×{width} (height × width). Pass img_size to bring all to one size."
            )
        if len(image) != form.channels:
            image = to_channels(image, form.channels)
        pixels[len(kept)] = image
        if white:
            here = pixels[len(kept)][None]
            share_white([(here, np.array([white]))], form.white)
        kept.append(position)
    images = torch.from_numpy(pixels[: len(kept)])
    return _Decoded(images, torch.tensor(kept, dtype=torch.long), broken)


def _refuse(why: str) -> _Decoded:
    return _Decoded(torch.empty(0), torch.empty(0), [], why)


def _describe_change(item: Item) -> str:
    """How a file has changed since it was listed, or nothing."""
    if not isinstance(item.source, Path):
        return ""
    try:
        now = item.source.stat().st_size
    except OSError as error:
        return f"{item.name} was there when the run began, and is not now: {error.strerror}"
    if item.size in (None, now):
        return ""
    return f"{item.name} has changed since the run began: {item.size:,} bytes then, {now:,} now"


# What the workers run. Everything below is sent to them, so it is plain and has a name.


class _Decoder(Dataset[Item]):
    def __init__(self, form: Form) -> None:
        self.form = form

    def __getitems__(self, items: list[Item]) -> _Decoded:
        return _decode(items, self.form)


class _Upcoming(Sampler[list[Item]]):
    """The items of each part; the DataLoader passes them to the workers as they are."""

    def __init__(self, rows: Rows, parts: list[Int64[Tensor, "_"]]) -> None:
        self.rows, self.parts = rows, parts

    def __iter__(self) -> Iterator[list[Item]]:
        return self.rows.read(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def _as_it_is(decoded: Any) -> Any:
    return decoded


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and SIGTERM reach a whole group of processes; when to stop is for `fit` to say."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def _count_workers() -> int:
    """As many as this process has cores to itself, but no more than 8."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
