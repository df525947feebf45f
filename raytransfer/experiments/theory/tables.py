"""The console's table of the theory of fine-tuning against its simulation."""

import math

import pandas as pd
from rich.console import Group
from rich.text import Text

from raytransfer.analysis.intervals import MIN_UNITS, TOO_FEW
from raytransfer.console.table import NumberTable
from raytransfer.experiments.words import NO_INTERVAL, Row, counted, with_interval
from raytransfer.words import number_of


def theory_table(means: pd.DataFrame, asymptotic: pd.DataFrame) -> Group:
    """Tabulate distance / bound: a row per base, a column per width, and the width from which on theory holds.

    Args:
        means: Output of ``raytransfer.analysis.theory_means``.
        asymptotic: Output of ``raytransfer.analysis.asymptotic_width``.
    """
    widths = sorted(means["width"].unique())
    headings = ["bound", *(f"{width:,}" for width in widths), "holds from"]
    table = NumberTable({"base": "left", **dict.fromkeys(headings, "right")})
    several = means["target"].nunique() > 1
    for row in asymptotic.to_dict("records"):
        cells = means[(means["target"] == row["target"]) & (means["base"] == row["base"])].set_index("width")
        width = row["asymptotic_width"]
        table.add_row(
            Text(f"{row['target']}: {_name(row)}" if several else _name(row)),
            with_interval(cells["bound"].iloc[-1], math.nan, math.nan, ".2f"),
            *(_ratio(*cells.loc[w, ["ratio", "ratio_low", "ratio_high"]]) if w in cells.index else "" for w in widths),
            TOO_FEW if 0 < cells["ratio_seeds"].iloc[-1] < MIN_UNITS else "-" if pd.isna(width) else f"{width:,}",
        )
    unconverged = int(means["unconverged"].sum())
    seeds = means["ratio_seeds"][means["ratio_seeds"] > 0]
    of = f", {counted(seeds, 'seed')}" if len(seeds) else ""
    title = f"Distance moved / bound at each width{of}"
    note = (
        "±: half of the 95% interval, Student t over seeds. *: it lies above 1, and networks move beyond the bound.\n"
        "Holds from: at this width and all larger ones the interval lies within 0.9..1.1.\n"
        f"A seed is a unit. {NO_INTERVAL}\n"
    )
    if unconverged:
        note += f"Left out, because training did not converge: {number_of(unconverged, 'simulation')}.\n"
    return Group(Text(title, style="bold"), table, Text(note, style="dim"))


def _name(row: Row) -> str:
    """What a dial changes and its setting, which is not its level; the name of a base that no dial made."""
    if row["kind"] == "none":
        return str(row["base"])
    return f"{row['kind']}: {row['base'].removeprefix(row['target'] + ' ')}"


def _ratio(ratio: float, low: float, high: float) -> Text:
    if math.isnan(ratio):
        return Text("-")
    half = "" if math.isnan(high) else f" ±{high - ratio:.2f}"
    return Text(f"{ratio:.2f}{'*' if low > 1 else ''}{half}")
