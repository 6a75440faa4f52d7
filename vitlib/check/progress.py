"""Which exercises have been solved since Python was started, and a badge that shows it."""

import linecache
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from types import CodeType
from typing import Any

from vitlib.drawing import draw_badge

SOLVED: set[str] = set()  # names of exercises
SOLUTION = "# @title Solution"  # the first line of the book's own answers


def note(exercise: str, answer: Any) -> None:
    """Count a right answer, unless it is the folded solution of the chapter."""
    if not _first_line_of_its_cell(answer).startswith(SOLUTION):
        SOLVED.add(exercise)


def _first_line_of_its_cell(answer: Any) -> str:
    while isinstance(answer, partial):
        answer = answer.func
    made = answer if hasattr(answer, "__code__") or isinstance(answer, type) else type(answer)
    parts = vars(made).values() if isinstance(made, type) else [made]
    codes = [getattr(part, "__code__", None) for part in parts]
    code = next((code for code in codes if isinstance(code, CodeType)), None)
    return linecache.getline(code.co_filename, 1) if code else ""


@dataclass(frozen=True)
class Badge:
    """How many exercises of a chapter are solved. A notebook shows it.

    Attributes:
        chapter: its notebook.
        solved: the names of the exercises that are.
        left: those of the others.
    """

    chapter: str
    solved: Sequence[str]
    left: Sequence[str]

    @property
    def svg(self) -> str:
        """The picture, as the text of a file."""
        return draw_badge(len(self.solved), len(self.solved) + len(self.left)).svg

    def __str__(self) -> str:
        count = f"{len(self.solved)} of {len(self.solved) + len(self.left)} solved in this session"
        return f"{count}. Still to do: {', '.join(self.left)}" if self.left else f"{count}."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """On a page of the book, progress.js goes on with it."""
        return (
            f'<div class="vitlib-progress" data-chapter="{escape(self.chapter)}">'
            f"{self.svg}<p>{escape(str(self))}</p></div>"
        )
