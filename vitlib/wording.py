"""What error messages have in common: a guess at what was meant, and lists that stay short."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The question, Did you mean 'the nearest'?, or `otherwise` where nothing known is near."""
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {nearest[0]!r}?" if nearest else otherwise


def first_few(names: Sequence[str], most: int = 6, between: str = ", ") -> str:
    """As in "a, b, c and 11 more". Semicolons part names of which one holds a comma itself."""
    between = "; " if any(", " in name for name in names) else between
    more = len(names) - most
    return between.join(names[:most]) + (f" and {more} more" if more > 0 else "")
