"""The means and the readings as tables for the console.

A table shows what its DataFrame holds: it selects rows, and writes fractions as percent or percentage points.
"""

import math
from collections.abc import Iterable

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from raytransfer.analysis import READINGS
from raytransfer.console.table import NumberTable
from raytransfer.experiments.words import NO_INTERVAL, counted, in_points
from raytransfer.specs.treatments import TREATMENTS, treatment_rank

_UNITS = "Units: splits, or seeds of fixed halves, whose intervals speak of these halves alone."
_CONTROLS = ("boost over twice the steps", "boost over selffer")
_WHERE = {  # what a sweep must hold for them beside the two treatments
    "distance effect": " on random halves and on a named pair of dissimilar ones",
    "value of distant features": " on a named pair of dissimilar halves",
}
_NEEDS = {
    reading: f"{' and '.join(sorted(treatments, key=treatment_rank))}{_WHERE.get(reading, '')}"
    for reading, treatments in READINGS.items()
}


def means_table(means: pd.DataFrame) -> Group:
    """Tabulate mean top-1 accuracies in percent: a table for each kind of halves, with a row for each n.

    Columns are treatments; bases stand at n = 0, and what is in no table of treatments is left out. A cell is
    the mean ± half its 95% interval, or the mean alone where there is none. Titles say how many units a cell has.

    Args:
        means: Output of ``raytransfer.analysis.treatment_means`` on accuracies.
    """
    parts: list[RenderableType] = []
    for halves, rows in means[means["treatment"].isin(list(TREATMENTS))].groupby("halves", sort=False):
        cells = {
            (str(row["treatment"]), int(row["n_layers"])): f"{100 * row['mean']:.1f}{_spread(row['mean'], row['high'])}"
            for row in rows.to_dict("records")
        }
        title = f"Top-1 accuracy on the target, %. Halves: {halves}, {counted(rows['units'])}"
        parts += [Text(title, style="bold"), _table(list(TREATMENTS), cells)]
    whole = any(TREATMENTS[name].whole for name in set(means["treatment"]) & set(TREATMENTS))
    note = (
        f"n = 0: bases{', and treatments that copy all layers below the head' if whole else ''}. "
        "±: half of the 95% interval, Student t over units; it contains the spread between targets, which paired "
        f"readings are free of. {_UNITS} {NO_INTERVAL}\n"
    )
    return Group(*parts, Text(note, style="dim"))


def readings_table(readings: pd.DataFrame) -> Group:
    """Tabulate the readings in percentage points: a table for each kind of halves, with a row for each n.

    The control readings follow in tables of their own. A cell is the estimate and its 95% interval, or the estimate
    alone where there is none. Titles say how many units a cell has; a reading without rows has no column, and the last
    lines say what it would need.

    Args:
        readings: Output of ``raytransfer.analysis.readings`` on accuracies.
    """
    parts: list[RenderableType] = []
    of_2014 = [name for name in READINGS if name not in _CONTROLS]
    for title, names in (("Readings", of_2014), ("Controls of the boost", _CONTROLS)):
        for halves, rows in readings[readings["reading"].isin(names)].groupby("halves", sort=False):
            cells = {
                (str(row["reading"]), int(row["n_layers"])): in_points(row["estimate"], row["low"], row["high"])
                for row in rows.to_dict("records")
            }
            heading = f"{title}, percentage points. Halves: {halves}, {_reading_units(rows)}"
            parts += [Text(heading, style="bold"), _table(names, cells)]
    absent = [f"{name} (needs {needs})" for name, needs in _NEEDS.items() if not (readings["reading"] == name).any()]
    note = ""
    if parts:
        note += (
            "[low,high]: 95% interval, paired t over units; Welch t for the distance effect; not corrected for their "
            f"number. {_UNITS} {NO_INTERVAL}\n"
        )
    if absent:
        note += f"Without a value: {'; '.join(absent)}.\n"
    return Group(*parts, Text(note, style="dim"))


def boosts_table(boosts: pd.DataFrame) -> Group:
    """Tabulate boosts averaged over n in percentage points: a row for each comparison, a column for the n averaged.

    Args:
        boosts: Output of ``raytransfer.analysis.boosts`` on accuracies.
    """
    spans = list(dict.fromkeys(boosts["averaged"]))
    table = NumberTable({"boost": "left", **{f"n = {span}": "right" for span in spans}})
    for (of, over, method), rows in boosts.groupby(["of", "over", boosts["method"].str.partition(",")[0]], sort=False):
        cells = {
            row["averaged"]: in_points(row["estimate"], row["low"], row["high"]) for row in rows.to_dict("records")
        }
        table.add_row(f"{of} over {over}, {method}", *(cells.get(span, "") for span in spans))
    title = f"Boosts averaged over n, percentage points. Halves: random, {counted(boosts['units'])}"
    note = (
        "Unpaired is how 2014 published them; paired is each run against the other treatment's of its own target and "
        "seed, t over units.\n"
        f"{NO_INTERVAL}\n"
    )
    return Group(Text(title, style="bold"), table, Text(note, style="dim"))


def _table(names: Iterable[str], cells: dict[tuple[str, int], str]) -> NumberTable:
    present = [name for name in names if any(name == column for column, _ in cells)]
    table = NumberTable(dict.fromkeys(["n", *present], "right"))
    for n in sorted({n for _, n in cells}):
        table.add_row(str(n), *(cells.get((name, n), "") for name in present))
    return table


def _spread(mean: float, high: float) -> str:
    return "" if math.isnan(high) else f" ±{100 * (high - mean):.1f}"


def _reading_units(rows: pd.DataFrame) -> str:
    against = rows["random_units"].dropna()
    return counted(rows["units"]) + (
        f" (distance effect: against {counted(against)} of random)" if len(against) else ""
    )
