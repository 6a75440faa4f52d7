"""A known mistake, written as what somebody changes in a right answer.

    def merge_heads(x): ...                       # a right answer, as a reader would write it

    MUTANTS = edits(merge_heads, '''
    no_transpose: .transpose(1, 2) →
        The transpose back is missing. ...        (the diagnosis, over as many lines as it needs)
    two_changes: x.transpose(1, 2) → x.mT
    and: H * d → d
        ...
    a_longer_one: return x → for _ in range(2):
    →     x = x.flip(0)
    → return x
        ...
    by_hand:
        No arrow: a function or class of that name, `by_hand`, stands in the same file.
    ''')

The old text must occur exactly once in the source of the right answer. `edits(a, ...) | edits(b,
...)` joins the mistakes made of two right answers. A name without a diagnosis has that of the name
after it. Nothing is compiled before it is asked for: a check that passes needs none of it.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

Mistake = tuple[Any, str]  # a wrong answer, and its diagnosis


@dataclass(frozen=True)
class Entry:
    """One mistake as it is written down; without changes, it is a function of the file."""

    base: Any  # the right answer
    name: str
    changes: tuple[tuple[str, str], ...]
    diagnosis: str

    def make(self) -> Any:
        """The wrong answer: the source with its changes, executed in a copy of its file's names.

        Raises ValueError where an old text is not there exactly once, or nothing bears the name.
        """
        if not self.changes:
            module = sys.modules[inspect.unwrap(self.base).__module__]
            if not hasattr(module, self.name):
                raise ValueError(f"{self.name} has no arrow, and {module.__name__} defines no such")
            return getattr(module, self.name)
        source = source_of(self.base)
        for old, new in self.changes:
            start, end, text = self.place(source, old, new)
            source = source[:start] + text + source[end:]
        return execute(self.base, source, self.name)

    def place(self, source: str, old: str, new: str) -> tuple[int, int, str]:
        """Where in the source the old text stands, and the new one, indented as its place is."""
        if source.count(old) != 1:
            raise ValueError(
                f"{self.name}: {old!r} stands {source.count(old)} times in "
                f"{self.base.__name__}, and should stand there once"
            )
        start = source.index(old)
        line = source[:start].rpartition("\n")[2]
        indent = line[: len(line) - len(line.lstrip())]
        return start, start + len(old), new.replace("\n", "\n" + indent)


class Edits(Mapping):  # without [str, Mistake]: who checks types at run time would make a mistake
    """name -> (wrong answer, diagnosis), made when it is first asked for."""

    def __init__(self, entries: Mapping[str, Entry]):
        self._entries = dict(entries)
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Mistake:
        entry = self._entries[name]
        if name not in self._made:
            self._made[name] = entry.make()
        return self._made[name], entry.diagnosis

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def diagnosis(self, name: str) -> str:
        """What is said of a mistake; nothing is made for it."""
        return self._entries[name].diagnosis

    def entries(self) -> list[Entry]:
        """As they are written down."""
        return list(self._entries.values())

    def __or__(self, other: "Edits") -> "Edits":
        if twice := self._entries.keys() & other._entries.keys():
            raise ValueError(f"two mistakes are called {', '.join(sorted(twice))}")
        return Edits(self._entries | other._entries)


def edits(base: Any, text: str) -> Edits:
    """The mistakes that `text` writes down as edits of the function or class `base`.

    Raises ValueError for a line that is neither a name with its edit nor part of a diagnosis, and
    for a name that comes twice or has no diagnosis.
    """
    entries: dict[str, Entry] = {}
    waiting: dict[str, list[tuple[str, str | None]]] = {}  # names whose diagnosis is still to come
    diagnosis: list[str] = []

    def finish() -> None:
        for name, changes in waiting.items():
            if not diagnosis:
                raise ValueError(f"{name} has no diagnosis")
            if half := [old for old, new in changes if new is None]:
                raise ValueError(f"{name}: no arrow says what becomes of {half[0]!r}")
            whole = tuple((old, new or "") for old, new in changes)
            entries[name] = Entry(base, name, whole, " ".join(diagnosis))
        waiting.clear()
        diagnosis.clear()

    for line in text.strip("\n").split("\n"):
        if line.startswith(" "):
            diagnosis.append(line.strip())
            continue
        if diagnosis:
            finish()
        changes = next(reversed(waiting.values()), [])  # of the name above
        found = re.fullmatch(r"(\w+):(?: (.+?)(?: →(?: (.*))?)?)?", line)
        if line.startswith("→") and changes:
            old, new = changes.pop()
            more = line[1:].removeprefix(" ")
            changes.append((old, f"{new}\n{more}" if new else more))
        elif found and (found[1] != "and" or waiting):
            name, old, new = found.groups()
            if name in entries or name in waiting:
                raise ValueError(f"two mistakes are called {name}")
            if name != "and":
                changes = waiting[name] = []
            if old:
                changes.append((old, (new or "") if " →" in line else None))
        elif line:
            raise ValueError(f"expected `name: old → new`, or an indented diagnosis, got {line!r}")
    finish()
    return Edits(entries)


@cache
def source_of(answer: Any) -> str:
    """The source of a right answer, its first line not indented."""
    return textwrap.dedent(inspect.getsource(inspect.unwrap(answer)))


def execute(base: Any, source: str, name: str) -> Any:
    """What a changed source of `base` defines, in a copy of the names of its file."""
    module = sys.modules[inspect.unwrap(base).__module__]
    names = dict(vars(module))
    # a name of a file in vitlib: an error in it is not in the reader's own code
    exec(compile(source, f"{module.__file__}, {name}", "exec"), names)
    return names[base.__name__]
