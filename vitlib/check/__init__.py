"""Checkers for the book's exercises: not only that an answer is wrong, but which bug it is.

In a notebook:

    from vitlib import check

    check.patchify(my_patchify)   # a Report, which shows itself
    check.EXERCISES               # name -> Exercise(reference, mutants, accepted, ...)
    check.training(model, data)   # a Checklist: what keeps a model of any kind from learning
    check.token_mixing(model, images)   # one of the instruments for a model of any kind: a Finding
    check.examine(model, images)  # all of them: a Checklist
    check.solved("14_bug_clinic")   # which of a chapter's exercises are: a Badge

    exercise.py   an exercise, and how it answers     report.py     how the outcome is shown
    observing.py  what comes of its cases             compare.py    how two results are compared
    calling.py    what cases are written with         relations.py  how wrong numbers relate
    aftermath.py  what an answer leaves behind        shared.py     ... and in what all code shares
    naming.py     which mistake it is                 edit.py       how known mistakes are written
    pairs.py      two of them at once                 excluded.py   functions that a task forbids
    sandbox.py    how an answer is run, safely        probing.py    how the tests try an exercise
    learnable.py  is a model able to learn?           instruments/  its list, and more
    progress.py   what has been solved

The exercises are in one folder per chapter, one file each, and are found by walking the folders.
"""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from vitlib.check.exercise import Exercise
from vitlib.check.instruments import (
    attention_rows,
    batch_independence,
    dropout_coverage,
    entropy_by_depth,
    eval_determinism,
    every_part,
    examine,
    gradient_coverage,
    init_statistics,
    learnability,
    norm_scope,
    parity_ladder,
    permutation,
    start_loss,
    token_mixing,
)
from vitlib.check.learnable import training
from vitlib.check.progress import SOLVED, Badge
from vitlib.check.report import Checklist, Finding, Report
from vitlib.wording import did_you_mean

__all__ = [
    "EXERCISES",
    "Badge",
    "Checklist",
    "Exercise",
    "Finding",
    "Report",
    "attention_rows",
    "batch_independence",
    "dropout_coverage",
    "entropy_by_depth",
    "eval_determinism",
    "every_part",
    "examine",
    "gradient_coverage",
    "init_statistics",
    "learnability",
    "norm_scope",
    "parity_ladder",
    "permutation",
    "solved",
    "start_loss",
    "token_mixing",
    "training",
]


def _find_exercises() -> Iterator[Exercise]:
    """The EXERCISE of each file in ch01_patches/, ch02_tokens/, and so on.

    A file whose name begins with an underscore holds what the exercises of its chapter share.
    """
    for folder in sorted(name for _, name, _ in iter_modules(__path__) if name.startswith("ch")):
        chapter = import_module(f"{__name__}.{folder}")
        for _, name, _ in iter_modules(chapter.__path__):
            if not name.startswith("_"):
                yield import_module(f"{chapter.__name__}.{name}").EXERCISE


EXERCISES: dict[str, Exercise] = {exercise.name: exercise for exercise in _find_exercises()}


def solved(chapter: str) -> Badge:
    """Which exercises of a chapter, such as "14_bug_clinic", have been solved in this session.

    The folded solutions do not count. Raises ValueError for a chapter without exercises.
    """
    names = [name for name, exercise in EXERCISES.items() if exercise.chapter == chapter]
    if not names:
        chapters = sorted({exercise.chapter for exercise in EXERCISES.values()})
        raise ValueError(f"expected one of {', '.join(chapters)}, got {chapter!r}")
    done = [name for name in names if name in SOLVED]
    return Badge(chapter, done, [name for name in names if name not in SOLVED])


def __getattr__(name: str) -> Exercise:
    """`check.patchify` is EXERCISES["patchify"]."""
    if name in EXERCISES:
        return EXERCISES[name]
    hint = did_you_mean(name, EXERCISES, "See vitlib.check.EXERCISES")
    raise AttributeError(f"there is no exercise {name!r}. {hint}")


def __dir__() -> list[str]:
    return sorted([*__all__, *EXERCISES])
