"""What figures of several experiments have in common: colours, markers, an entry of a legend."""

from matplotlib.lines import Line2D

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours that the colour-blind tell apart (Okabe and Ito)."""

MARKERS = ("s", "^", "D", "v", "P", "X", "o")
"""Markers of what those colours stand for."""


def words(label: str) -> Line2D:
    """An entry of a legend that is only text."""
    return Line2D([], [], linestyle="none", label=label)
