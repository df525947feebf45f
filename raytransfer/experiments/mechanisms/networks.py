"""How figures draw networks from scratch and fine-tuned ones: their styles, lines with bands, axes and legends."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from raytransfer.analysis.intervals import Floats
from raytransfer.experiments.words import Row, with_interval
from raytransfer.report.style import COLORS, MARKERS, panels_of, words
from raytransfer.report.svg import tell
from raytransfer.specs.treatments import ANB_PLUS, BASE_B
from raytransfer.words import number_of

SCRATCH_LABEL = f"scratch ({BASE_B.name})"
"""What stands for the networks from scratch among the names of bases."""

_Dash = Literal["-", "--", ":", "-."]
_DASHES: tuple[_Dash, ...] = ("-", "--", ":", "-.")  # for the bases after the first six, the next six, ...


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a network's line is drawn."""

    color: str
    marker: str
    dash: _Dash = "-"


def largest_n(rows: pd.DataFrame, title: str) -> tuple[pd.DataFrame, str]:
    """Rows from scratch and of the largest n, and the title with the n where there are several.

    Raises:
        ValueError: There are no rows.
    """
    if rows.empty:
        raise ValueError("nothing to draw: there are no rows")
    treated = rows[rows["treatment"].isin([BASE_B.name, ANB_PLUS.name])] if "treatment" in rows else rows
    all_n = treated["n_layers"].dropna().unique()
    if not len(all_n):
        return treated, title
    shown = treated[treated["n_layers"].isna() | (treated["n_layers"] == max(all_n))]
    return shown, f"{title}, n = {max(all_n)}" if len(all_n) > 1 else title


def styles_of(rows: pd.DataFrame) -> dict[str, Style]:
    """What every network is drawn with, by the label of its line: scratch, where it has rows, and the bases by name."""
    styles = {}
    if "treatment" in rows and (rows["treatment"] == BASE_B.name).any():
        styles[SCRATCH_LABEL] = Style(color="#000000", marker="o")
    for i, base in enumerate(sorted(rows["base"].dropna().unique())):
        round_, place = divmod(i, len(COLORS))
        dash = _DASHES[round_ % len(_DASHES)]
        styles[str(base)] = Style(color=COLORS[place], marker=MARKERS[i % len(MARKERS)], dash=dash)
    return styles


def networks(rows: pd.DataFrame, styles: dict[str, Style]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split rows by network: the label of its line, and its rows."""
    for name in styles:
        yield name, rows[rows["base"].isna() if name == SCRATCH_LABEL else rows["base"] == name]


def draw_lines(axis: Axes, rows: pd.DataFrame, x: str, styles: dict[str, Style], *, marked: bool = True) -> None:
    """Means of every network against a column, with bands; a logarithmic axis where the means are geometric."""
    for name, of_network in networks(rows, styles):
        if of_network.empty:
            continue
        line = of_network.sort_values(x)
        style = styles[name]
        places, mean, low, high = (line[column].to_numpy(dtype=np.float64) for column in (x, "mean", "low", "high"))
        marker = style.marker if marked else ""
        (drawn,) = axis.plot(places, mean, style.dash, color=style.color, marker=marker, markersize=4, linewidth=1.5)
        told = [f"{label_of(name)}, {_told(row, x)}" for row in line.to_dict("records")]
        tell(drawn, label_of(name), told if marked else [label_of(name)])
        tell(axis.fill_between(places, low, high, color=style.color, alpha=0.13, linewidth=0), label_of(name))
    if (rows["scale"] == "geometric").all():
        axis.set_yscale("log")
        cut_off(axis.set_ylim, axis.get_ylim(), rows["mean"].to_numpy(dtype=np.float64), log=True)
        log_ticks(axis.yaxis, axis.get_ylim())
    else:
        cut_off(axis.set_ylim, axis.get_ylim(), rows["mean"].to_numpy(dtype=np.float64), log=False)


def _told(row: Row, x: str) -> str:
    """A mean for a tooltip: where it stands, its interval, and of how many units it is."""
    place: str = "last step" if pd.isna(row["step"]) else f"step {row['step']}"
    if x == "place":
        stage: str = f"i = {row['index']}" if pd.isna(row["stage"]) else row["stage"]
        place = f"{stage}, {place}"
    elif x == "x":
        place = f"α = {row['x']:.3g}, {place}"
    quantity = f"CKA with {row['against']}" if row["quantity"] == "CKA" else row["quantity"]
    unit = " nats" if "loss" in row["quantity"] else ""
    value = with_interval(row["mean"], row["low"], row["high"])
    return f"{quantity}, {place}: {value}{unit}, {number_of(row['units'], row['unit'])}"


def cut_off(set_limits: Any, limits: tuple[float, float], means: Floats, *, log: bool) -> None:
    """Keep an axis to where the means are, and half their range around it; as it is where all of them are zero."""
    scaled = np.log(means) if log else means
    margin = 0.5 * np.ptp(scaled) + (0.1 if log else 0.1 * np.abs(scaled).max())
    least, most = scaled.min() - margin, scaled.max() + margin
    if log:
        least, most = np.exp([least, most])
    if least < most:
        set_limits(max(limits[0], least), min(limits[1], most))


def log_ticks(axis: XAxis | YAxis, limits: tuple[float, float]) -> None:
    """Plain numbers: at 1, 2 and 5 of each decade, at 1 and 3 where there are more, or at every second decade or so."""
    decades = math.log10(limits[1] / limits[0])
    if decades < 3:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.7 else (1, 3)))
    else:
        axis.set_major_locator(LogLocator(subs=(1,), numticks=6))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def stage_ticks(axis: Axes, stages: list[str], label: str) -> None:
    """Name the stages along the horizontal axis."""
    axis.set_xticks(range(len(stages)), stages, rotation=90, fontsize=8)
    axis.set_xlabel(label, fontsize=9)


def grid_of(
    count: int, title: str, *, columns: int = 3, size: tuple[float, float] = (3.6, 2.7)
) -> tuple[Figure, list[Axes]]:
    """Lay out ``count`` panels, each ``size`` inches, with room for a legend.

    Raises:
        ValueError: ``count`` is 0.
    """
    if not count:
        raise ValueError("nothing to draw: no reading is of a quantity that this figure shows")
    return panels_of(count, columns, panel=size, around=(2.4, 1), title=title)


def add_legend(figure: Figure, styles: dict[str, Style], drawn: list[pd.DataFrame], *, marked: bool = True) -> None:
    """Name every network right of the panels, and say what bands are where one is drawn."""
    handles = [
        Line2D(
            *([], []),
            color=style.color,
            linestyle=style.dash,
            marker=style.marker if marked else "",
            markersize=5,
            label=label_of(name),
        )
        for name, style in styles.items()
    ]
    if any(rows["low"].notna().any() for rows in drawn):
        handles.append(words("bands:\n95% intervals"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)


def label_of(name: str) -> str:
    """What the legend calls a network."""
    return name if name == SCRATCH_LABEL else f"base {name}"
