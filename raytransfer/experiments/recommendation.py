"""The start that a sweep recommends for each target, as a table and in words."""

import pandas as pd
from rich.console import Group, JustifyMethod
from rich.text import Text

from raytransfer.analysis.recommendation import ANY, MEASURED
from raytransfer.console.table import NumberTable
from raytransfer.experiments.words import Row, in_percent
from raytransfer.words import number_of


def recommendations_table(recommendations: pd.DataFrame) -> Group:
    """Tabulate, for each target and treatment, the recommended start beside the best and any.

    Args:
        recommendations: Output of ``raytransfer.analysis.recommendation.recommendations``.
    """
    columns: dict[str, JustifyMethod] = dict.fromkeys(("target", "treatment", "chosen by", "start"), "left")
    columns |= dict.fromkeys(("n", "top-1 %", "gain"), "right")
    table = NumberTable(columns, keys=4, line=False)
    shown = recommendations[recommendations["recommended"] | recommendations["by"].isin([MEASURED, ANY])]
    for (target, treatment), rows in shown.groupby(["target", "treatment"], sort=False):
        for row in rows.sort_values("recommended", ascending=False, kind="stable").to_dict("records"):
            gain = "" if row["by"] == ANY else f"{100 * row['gain']:+z.1f}"
            start = "-" if pd.isna(row["base"]) else str(row["base"])
            n = "" if pd.isna(row["n_layers"]) else str(row["n_layers"])
            table.add_row(str(target), str(treatment), str(row["by"]), start, n, _percent(row), gain)
    measured = f"{MEASURED}: for each repeat the start that did best on the others; named is the best of all repeats.\n"
    measured = measured if MEASURED in set(shown["by"]) else ""
    note = (
        f"The measure is the one whose choices did best on the other targets{_itself(shown)}.\n"
        f"{measured}{ANY}: the mean of all starts.\n"
        f"gain: points over {ANY}. Without an n: the mean over the cuts.\n"
        "[95%] over repeats, from 3 on: of this target and start alone.\n"
    )
    return Group(Text("Where to start from, and cut where", style="bold"), table, Text(note, style="dim"))


def advice(recommendations: pd.DataFrame) -> list[str]:
    """For each target, what is recommended with the treatment that does best on the whole, in words.

    Args:
        recommendations: Output of ``raytransfer.analysis.recommendation.recommendations``.
    """
    lines = []
    for target, rows in recommendations.groupby("target", sort=False):
        by_chance = rows[rows["by"] == ANY].sort_values("top1").to_dict("records")[-1]
        of_treatment = rows[rows["treatment"] == by_chance["treatment"]]
        by_measure = of_treatment[of_treatment["recommended"]].to_dict("records")
        measured = of_treatment[of_treatment["by"] == MEASURED].to_dict("records")
        said = [
            f"{row['by']}, the best measure on {'other targets' if row['elsewhere'] else 'this very target'}, would "
            f"start from {_start(row)}: {_percent(row)}%"
            for row in by_measure
        ]
        said += [
            f"training all and taking, for each repeat, the best of the others gives {_percent(row)}% "
            f"(the best of all repeats is {_start(row)})"
            for row in measured
        ]
        said.append(f"a start at random {_percent(by_chance)}%")
        repeats = number_of(int(by_chance["units"]), "repeat")
        lines.append(f"{target}, {by_chance['treatment']}, {repeats}: {'; '.join(said)}.")
    return lines


def _itself(shown: pd.DataFrame) -> str:
    chosen = shown[shown["recommended"]]
    return "" if chosen["elsewhere"].all() else ", or on this one, which flatters it"


def _start(row: Row) -> str:
    cut: str = "the mean over its cuts" if pd.isna(row["n_layers"]) else f"n = {row['n_layers']}"
    return f"{row['base']}, {cut}"


def _percent(row: Row) -> str:
    return in_percent(row["top1"], row["low"], row["high"])
