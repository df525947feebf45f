"""Words of sentences that hold numbers."""


def number_of(count: int, noun: str) -> str:
    """How many there are: 1 trial, 2 trials, 3 classes."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"
