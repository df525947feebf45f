"""What figures of several experiments share: colours, markers, titles, panels, entries of legends."""

import math
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours that the colour-blind tell apart (Okabe and Ito)."""

MARKERS = ("s", "^", "D", "v", "P", "X", "o")
"""Markers that go with those colours."""

DARK = "#444444"
"""Colour of the titles of panels, and of what belongs to no series."""

_LAYERS = LinearSegmentedColormap.from_list("layers", ["#6fb7ea", "#1f5fbf", "#6b3fa0", "#b2182b"])
_TITLE_PT = 12.0
_POINTS, _EM = 72, 0.58  # points an inch; width of a letter, on average, in sizes of the font


def layer_colors(all_n: list[int]) -> list[str]:
    """A colour for each n, from blue for the smallest to red."""
    places = np.linspace(0, 1, len(all_n)) if len(all_n) > 1 else [0.4]
    return [to_hex(_LAYERS(place)) for place in places]


def drawable(rows: pd.DataFrame, column: str, names: Collection[str]) -> pd.DataFrame:
    """The rows of which a column holds one of some names.

    Raises:
        ValueError: There are none.
    """
    known = rows[rows[column].isin(list(names))]
    if known.empty:
        raise ValueError(f"nothing to draw: no row is of {', '.join(names)}")
    return known


def words(label: str) -> Line2D:
    """An entry of a legend that is only text."""
    return Line2D([], [], linestyle="none", label=label)


def dot(color: str, label: str, *, face: str | None = None, marker: str = "o") -> Line2D:
    """An entry of a legend that is a marker, filled with its colour or another."""
    return Line2D([], [], linestyle="none", marker=marker, color=color, mfc=face or color, markersize=5, label=label)


def new_figure(size: tuple[float, float], title: str, subtitle: str = "") -> Figure:
    """Make an empty figure of a size in inches, with a title and subtitle in letters that fit its width."""
    figure = Figure(figsize=size, layout="constrained")
    text = f"{title}\n{subtitle}".strip()
    longest = max(len(line) for line in text.splitlines())
    figure.suptitle(text, fontsize=min(_TITLE_PT, _POINTS * size[0] / (_EM * longest)))
    return figure


def panels_of(
    count: int,
    columns: int,
    *,
    panel: tuple[float, float],
    around: tuple[float, float],
    title: str,
    subtitle: str = "",
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Lay out a figure of so many panels, in lines of so many columns at most.

    Sizes are widths and heights in inches: of a panel, and of what is around them all for titles and a legend.
    """
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    figure = new_figure((around[0] + panel[0] * columns, around[1] + panel[1] * lines), title, subtitle)
    axes = list(figure.subplots(lines, columns, squeeze=False, sharex=sharex, sharey=sharey).flat)
    for left_over in axes[count:]:
        left_over.remove()
    return figure, axes[:count]


def head(axes: Axes, text: str, size_pt: int = 10) -> None:
    """Write a title over a panel, and draw lines across it in place of its frame above and on the right."""
    axes.set_title(text, fontsize=size_pt, loc="left", color=DARK)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def fit_to(panels: Iterable[Axes], values: pd.Series, share: float = 0.35) -> None:
    """Limit panels to the range of the values, in percent, and a margin: a share of that range and half a point."""
    margin = share * (values.max() - values.min()) + 0.5
    for axes in panels:
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, values.min() - margin), min(top, values.max() + margin))
