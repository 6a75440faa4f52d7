"""Two known mistakes at once, made of two edits of the same right answer.

Each edit is a set of places in the source of the right answer, and what stands there instead. Two
edits whose places do not overlap can be made together. What they share, such as a decorator that
both drop, is made once; what both insert at one place is tried in both orders.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from vitlib.check.edit import Edits, Entry, execute, source_of


@dataclass(frozen=True, order=True)
class Splice:
    """source[start:end] becomes `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Pair:
    """Two mistakes, in the order in which they stand in the source, and a source with both."""

    names: tuple[str, str]
    size: int  # in how many places the source is changed: of two pairs, the smaller says more
    base: Any
    source: str

    def make(self) -> Any:
        """The wrong answer."""
        return execute(self.base, self.source, " and ".join(self.names))


def pairs_of(mistakes: Edits) -> list[Pair]:
    """All pairs that can be made, the smallest first."""
    entries = [(entry, _splices(entry)) for entry in mistakes.entries() if entry.changes]
    found = []
    for (a, first), (b, second) in combinations(entries, 2):
        if a.base is not b.base:
            continue
        names = (a.name, b.name) if first <= second else (b.name, a.name)
        size = len({*first, *second})
        sources = dict.fromkeys(_together(source_of(a.base), first, second))
        found += [Pair(names, size, a.base, source) for source in sources]
    return sorted(found, key=lambda pair: pair.size)


def _together(source: str, first: list[Splice], second: list[Splice]) -> Iterator[str]:
    """The source with both sets of splices, in either order where that makes a difference."""
    for ordered in (first + second, second + first):
        splices = sorted(dict.fromkeys(ordered), key=lambda s: (s.start, s.end))  # a stable sort
        if any(a.end > b.start for a, b in pairwise(splices)):
            return
        yield _spliced(source, splices)


def _spliced(source: str, splices: list[Splice]) -> str:
    parts, done = [], 0
    for splice in splices:
        parts += [source[done : splice.start], splice.text]
        done = splice.end
    return "".join([*parts, source[done:]])


def _splices(entry: Entry) -> list[Splice]:
    """Where a mistake changes its right answer: the places that differ, and no more."""
    source = source_of(entry.base)
    text, origin = source, list(range(len(source)))  # where each character came from; -1: new
    for old, new in entry.changes:
        start, end, new = _narrowed(text, *entry.place(text, old, new))
        text = text[:start] + new + text[end:]
        origin[start:end] = [-1] * len(new)
    splices, done, new = [], 0, ""
    for character, place in [*zip(text, origin, strict=True), ("", len(source))]:
        if place < 0:
            new += character
        else:
            if new or place > done:
                splices.append(Splice(done, place, new))
            done, new = place + 1, ""
    return splices


def _narrowed(text: str, start: int, end: int, new: str) -> tuple[int, int, str]:
    """The same change without what it keeps at both ends."""
    while start < end and new and text[start] == new[0]:
        start, new = start + 1, new[1:]
    while start < end and new and text[end - 1] == new[-1]:
        end, new = end - 1, new[:-1]
    return start, end, new
