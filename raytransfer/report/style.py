"""What figures of several experiments have in common: colours, markers, a title, an entry of a legend."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours that the colour-blind tell apart (Okabe and Ito)."""

MARKERS = ("s", "^", "D", "v", "P", "X", "o")
"""Markers of what those colours stand for."""

_TITLE_PT = 12.0
_POINTS, _EM = 72, 0.58  # points an inch; width of a letter, on average, in sizes of the font


def words(label: str) -> Line2D:
    """An entry of a legend that is only text."""
    return Line2D([], [], linestyle="none", label=label)


def add_title(figure: Figure, title: str, subtitle: str = "") -> None:
    """Head a figure with a line, and more below it; of a size at which the longest fits the figure's width."""
    text = f"{title}\n{subtitle}".strip()
    longest = max(len(line) for line in text.splitlines())
    figure.suptitle(text, fontsize=min(_TITLE_PT, _POINTS * figure.get_figwidth() / (_EM * longest)))
