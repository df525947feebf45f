"""Words of sentences that hold numbers."""

from collections.abc import Sequence


def number_of(count: int, noun: str) -> str:
    """How many there are: 1 trial, 2 trials, 3 classes."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def some_of(names: Sequence[str], most: int) -> str:
    """The first names, at most so many, and how many more there are: a, b and 3 more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def duration(seconds: float) -> str:
    """Seconds in the unit that suits their number."""
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 1000:
        return f"{hours / 24:,.0f} days"
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"
