"""Checkers for the book's exercises: not only that an answer is wrong, but which bug it is.

In a notebook:

    from vitlib import check

    check.patchify(my_patchify)   # a Report, which shows itself
    check.EXERCISES               # name -> Exercise(reference, mutants, accepted, ...)

`exercise` says how an answer is judged, `sandbox` how it is run, `compare` and `report` what is
said of it. The other files hold the exercises, one file a chapter: long, because each exercise
stands beside all its right and wrong answers, and are read one exercise at a time.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules

from vitlib.check import (
    attention,
    block,
    dialects,
    distillation,
    maps,
    model,
    patches,
    tokens,
    training,
)
from vitlib.check.exercise import Exercise
from vitlib.check.report import Report

_CHAPTERS = (
    patches, tokens, attention, block, model, dialects, training, distillation, maps,
)  # fmt: skip

def _found() -> Iterator[Exercise]:
    """The EXERCISE of each file in a chapter's folder; "_shared.py" and its like hold none."""
    for folder in sorted(name for _, name, _ in iter_modules(__path__) if name.startswith("ch")):
        chapter = import_module(f"{__name__}.{folder}")
        for _, name, _ in iter_modules(chapter.__path__):
            if not name.startswith("_"):
                yield import_module(f"{chapter.__name__}.{name}").EXERCISE


EXERCISES: dict[str, Exercise] = {exercise.name: exercise for exercise in _found()}
for _chapter in _CHAPTERS:  # MIGRATION: what has not moved yet
    for _exercise in getattr(_chapter, "EXERCISES", ()):
        EXERCISES.setdefault(_exercise.name, _exercise)

__all__ = ["EXERCISES", "Exercise", "Report"]


def __getattr__(name: str) -> Exercise:
    """`check.patchify` is EXERCISES["patchify"]."""
    if name in EXERCISES:
        return EXERCISES[name]
    nearest = get_close_matches(name, EXERCISES, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "see vitlib.check.EXERCISES"
    raise AttributeError(f"there is no exercise {name!r}: {hint}")


def __dir__() -> list[str]:
    return sorted([*__all__, *EXERCISES])
