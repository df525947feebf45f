"""A grid with several numbers of training images a class: its readings against that number, and how they change."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from rich.console import Group
from rich.text import Text

from raytransfer.analysis import READINGS, paired, readings
from raytransfer.analysis.changes import CELL
from raytransfer.console.table import NumberTable
from raytransfer.experiments.words import NO_INTERVAL, Row, counted, in_points
from raytransfer.experiments.yosinski.figures import points, reading_panels
from raytransfer.experiments.yosinski.sentences import rests_on
from raytransfer.report.style import drawable, words
from raytransfer.report.svg import tell

NUMBER = "train_per_class"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_BESIDE, _WIDEST = 0.06, 0.5  # of a number of images: how far the whiskers of two n stand apart, and of all n


def changes_with_images(results: pd.DataFrame) -> pd.DataFrame:
    """How the readings change from the fewest to the most images, paired by run.

    The fewer images of a class are among the more, and the seeds are the same. Readings are differences of accuracies,
    so that the change of one is the same reading of the changes of the runs.

    Args:
        results: One row per cell of the grid, with ``train_per_class``.

    Returns:
        As ``raytransfer.analysis.readings``, with fewest and most, the two numbers of images.
    """
    fewest, most = results[NUMBER].min(), results[NUMBER].max()
    changes = paired(results[results[NUMBER] == fewest], results[results[NUMBER] == most], CELL, "top1")
    return readings(changes, "change").assign(fewest=int(fewest), most=int(most))


def images_figure(readings: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw the readings against the number of images: a panel each, a line per n; of random halves or the first.

    Whiskers are the 95% intervals, where there are any.

    Args:
        readings: Output of ``raytransfer.analysis.readings`` for each number of images, with ``train_per_class``.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: There is no reading.
    """
    shown = drawable(_of_first_halves(readings), "reading", READINGS)
    all_n, numbers = sorted(shown["n_layers"].unique()), sorted(shown[NUMBER].unique())
    colors = dict(zip(all_n, colormaps["viridis"](np.linspace(0, 0.85, len(all_n))), strict=True))
    markers = {n: _MARKERS[i % len(_MARKERS)] for i, n in enumerate(all_n)}
    beside = min(_BESIDE, _WIDEST / len(all_n))
    figure, panels = reading_panels(shown, "training images a class", title, subtitle)
    for name, axes in panels.items():
        for i, n in enumerate(all_n):
            rows = shown[(shown["reading"] == name) & (shown["n_layers"] == n)].sort_values(NUMBER)
            if rows.empty:
                continue
            x = rows[NUMBER].to_numpy(dtype=float) * (1 + beside * (i - (len(all_n) - 1) / 2))
            estimate, low, high = (100 * rows[column].to_numpy(dtype=float) for column in ("estimate", "low", "high"))
            known = np.isfinite(low)
            label = f"n = {n}"
            tell(axes.vlines(x[known], low[known], high[known], color=colors[n], linewidth=0.9, alpha=0.6), label)
            (line,) = axes.plot(x, estimate, color=colors[n], marker=markers[n], markersize=4, linewidth=1.3)
            told = [f"{name}, {label}, {row[NUMBER]} images: {points(row)}" for row in rows.to_dict("records")]
            tell(line, label, told)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(numbers))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
    handles = [Line2D([], [], color=colors[n], marker=markers[n], markersize=4, label=f"n = {n}") for n in all_n]
    if np.isfinite(shown["low"]).any():
        handles.append(words("whiskers:\n95% intervals"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def changes_table(changes: pd.DataFrame) -> Group:
    """Tabulate how the readings change from the fewest to the most images, in percentage points.

    Args:
        changes: Output of ``changes_with_images``, with a row or more.
    """
    rows = _of_first_halves(changes)
    names = [name for name in READINGS if name in set(rows["reading"])]
    table = NumberTable(dict.fromkeys(["n", *names], "right"))
    for n, of_n in rows.groupby("n_layers"):
        cells = {row["reading"]: _change(row) for row in of_n.to_dict("records")}
        table.add_row(str(n), *(cells.get(name, "") for name in names))
    halves = rows["halves"].iloc[0]
    title = (
        f"Change of readings with {_between(changes)}, percentage points. Halves: {halves}, {counted(rows['units'])}"
    )
    note = f"[low,high]: 95% interval of the change, paired by run, t over units. {NO_INTERVAL}\n"
    return Group(Text(title, style="bold"), table, Text(note, style="dim"))


def changes_sentences(changes: pd.DataFrame) -> list[str]:
    """Say how each reading changes at the largest n, in words.

    Args:
        changes: Output of ``changes_with_images``.
    """
    said = []
    for _, rows in _of_first_halves(changes).groupby("reading", sort=False):
        row = rows.sort_values("n_layers").to_dict("records")[-1]
        reading = f"the {row['reading']} at n = {row['n_layers']}"
        change = _change(row).replace("-", "−")
        said.append(f"With {_between(changes)}, {reading} changes by {change} points: {rests_on(row)}")
    return said


def _of_first_halves(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of random halves, which come first, or else of those that do."""
    return rows[rows["halves"] == rows["halves"].iloc[0]] if len(rows) else rows


def _between(changes: pd.DataFrame) -> str:
    return f"{changes['most'].iloc[0]} images a class in place of {changes['fewest'].iloc[0]}"


def _change(row: Row) -> str:
    return in_points(row["estimate"], row["low"], row["high"])
