"""Words of sentences that hold numbers."""

from collections.abc import Sequence


def number_of(count: int, noun: str) -> str:
    """How many there are: 1 trial, 2 trials, 3 classes."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def some_of(names: Sequence[str], most: int) -> str:
    """The first names, at most so many, and how many more there are: a, b and 3 more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
