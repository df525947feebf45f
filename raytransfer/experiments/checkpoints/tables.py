"""The console's tables of transfer along pretraining.

A table shows what its DataFrame holds: it selects rows, and writes fractions as percentage points.
"""

import math

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from raytransfer.console.table import NumberTable
from raytransfer.experiments.words import NO_INTERVAL, counted, in_points, said_units, with_interval


def peaks_table(peaks: pd.DataFrame) -> Group:
    """Tabulate whether transfer rises, then declines along pretraining: a table per schedule, rows by treatment and n.

    Args:
        peaks: Output of ``raytransfer.analysis.checkpoint_peaks``.
    """
    parts: list[RenderableType] = []
    for schedule, rows in peaks.groupby("schedule", sort=False):
        table = _table("peak step", "rise", "decline", "would see")
        for row in rows.to_dict("records"):
            table.add_row(
                row["treatment"],
                str(row["n_layers"]),
                with_interval(row["peak_step"], row["low"], row["high"], ".0f"),
                in_points(row["rise"], row["rise_low"], row["rise_high"]),
                in_points(row["decline"], row["decline_low"], row["decline_high"]),
                _size(row["decline_detectable"]),
            )
        title = f"Does transfer rise, then decline? Points. Schedule: {schedule}, {_units(rows)}"
        parts += [Text(title, style="bold"), table]
    note = (
        "Rise: peak - first checkpoint. Decline: peak - last. Each unit is read at the peak of the others.\n"
        f"[low,high]: 95% interval, Student t over {said_units(peaks)}; of the peak's step, bootstrap.\n"
        "would see: the smallest decline that so many units, spread so, show in 4 studies of 5.\n"
        f"{NO_INTERVAL}\n"
    )
    return Group(*parts, Text(note, style="dim"))


def drops_table(drop_effects: pd.DataFrame) -> Group:
    """Tabulate what drops of the learning rate do to transfer: a table per schedule, a row per treatment, n and drop.

    Args:
        drop_effects: Output of ``raytransfer.analysis.drop_effects``.
    """
    parts: list[RenderableType] = []
    for schedule, rows in drop_effects.groupby("schedule", sort=False):
        table = _table("drop at step", "from", "to", "effect on transfer", "would see")
        for row in rows.to_dict("records"):
            table.add_row(
                row["treatment"],
                *(str(row[name]) for name in ("n_layers", "drop_step", "before_step", "after_step")),
                in_points(row["estimate"], row["low"], row["high"]),
                _size(row["detectable"]),
            )
        title = f"Drops of the learning rate, points. Schedule: {schedule}, {_units(rows)}"
        parts += [Text(title, style="bold"), table]
    note = (
        "Effect: change from the last checkpoint before a drop to the first after it, less the same under the "
        f"constant schedule.\n[low,high]: 95% interval, paired t over units. {NO_INTERVAL}\n"
    )
    return Group(*parts, Text(note, style="dim"))


def _units(rows: pd.DataFrame) -> str:
    return counted(rows["units"], rows["unit"].iloc[0])


def _table(*columns: str) -> NumberTable:
    return NumberTable({"treatment": "left", "n": "right", **dict.fromkeys(columns, "right")}, keys=2)


def _size(seen: float) -> str:
    return "-" if math.isnan(seen) else f"{100 * seen:.1f}"
