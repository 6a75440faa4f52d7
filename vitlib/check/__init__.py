"""Checkers for the book's exercises: not only that an answer is wrong, but which bug it is.

In a notebook:

    from vitlib import check

    check.patchify(my_patchify)   # a Report, which shows itself
    check.EXERCISES               # name -> Exercise(reference, mutants, accepted, ...)
    check.training(model, data)   # a Checklist: what keeps a model of any kind from learning
    check.token_mixing(model, images)   # one of the instruments for a model of any kind: a Finding
    check.examine(model, images)  # all of them: a Checklist

    exercise.py   an exercise, and how it answers     report.py     how the outcome is shown
    observing.py  what comes of its cases             compare.py    how two results are compared
    calling.py    what cases are written with         relations.py  how wrong numbers relate
    aftermath.py  what an answer leaves behind        shared.py     ... and in what all code shares
    naming.py     which mistake it is                 edit.py       how known mistakes are written
    pairs.py      two of them at once                 excluded.py   functions that a task forbids
    sandbox.py    how an answer is run, safely        probing.py    how the tests try an exercise
    learnable.py  is a model able to learn?           instruments/  its list, and more

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
from vitlib.check.report import Checklist, Finding, Report
from vitlib.wording import did_you_mean

__all__ = [
    "EXERCISES",
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


def __getattr__(name: str) -> Exercise:
    """`check.patchify` is EXERCISES["patchify"]."""
    if name in EXERCISES:
        return EXERCISES[name]
    hint = did_you_mean(name, EXERCISES, "See vitlib.check.EXERCISES")
    raise AttributeError(f"there is no exercise {name!r}. {hint}")


def __dir__() -> list[str]:
    return sorted([*__all__, *EXERCISES])
