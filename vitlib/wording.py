"""What error messages share: guessing what was meant, shortening lists, checking numbers."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral
from typing import Any


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """A question, "Did you mean 'the nearest'?", or `otherwise` if no known name is similar."""
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {nearest[0]!r}?" if nearest else otherwise


def first_few(names: Sequence[str], most: int = 6, between: str = ", ") -> str:
    """The first `most` names, as in "a, b, c and 11 more".

    They are joined by `between`, or by semicolons if one of the names contains a comma.
    """
    between = "; " if any(", " in name for name in names) else between
    more = len(names) - most
    return between.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError unless the argument `name` is a whole number, and at least `least`."""
    if not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if int(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_rate(name: str, value: float) -> None:
    """Raise a ValueError unless the argument `name` is a share of 1, at least 0 and below 1."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
