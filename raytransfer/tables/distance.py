"""The console's tables of transfer against distance."""

import math

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

OUTCOMES = {"AnB": "frozen accuracy (AnB)", "AnB+": "fine-tuned accuracy (AnB+)", "boost": "boost (AnB+ over baseB)"}

_SURE = 0.05


def correlations_table(correlations: pd.DataFrame, scope: str = "within target") -> Group:
    """Tabulate Spearman's ρ: a table for each outcome, with a row for each measure and a column for each n.

    A cell is the estimate and its 95% interval, with a star where the p-value, corrected for the number of measures,
    is below 0.05.

    Args:
        correlations: Output of ``raytransfer.analysis.correlations``.
        scope: Which of its scopes.
    """
    rows = correlations[(correlations["coefficient"] == "Spearman") & (correlations["scope"] == scope)]
    parts: list[Text | Table] = []
    for outcome, meaning in OUTCOMES.items():
        of_outcome = rows[rows["outcome"] == outcome]
        if of_outcome["estimate"].notna().sum() == 0:
            continue
        table = _table("measure", [f"n = {n}" for n in sorted(of_outcome["n_layers"].unique())])
        for measure, cells in of_outcome.groupby("measure", sort=False):
            values = [
                _correlation(row.estimate, row.low, row.high, row.p_adjusted)
                for row in cells.sort_values("n_layers").itertuples()
            ]
            table.add_row(str(measure), *values)
        pairs = f"{int(of_outcome['pairs'].max())} pairs of {int(of_outcome['tasks'].max())} tasks"
        parts += [Text(f"Spearman's ρ with {meaning}, {scope}, {pairs}", style="bold"), table]
    note = (
        "Positive: predicts transfer (distances count negative). [low,high]: 95% bootstrap over tasks.\n"
        "*: p < 0.05 by permutation of tasks, corrected for the number of measures (max |ρ|).\n"
    )
    return Group(*parts, Text(note, style="dim"))


def monotonicity_table(monotonicity: pd.DataFrame) -> Group:
    """Tabulate whether distances rise along each dial: a row for each distance, a column for each dial.

    A cell is the mean of Spearman's ρ between level and distance over (target, seed), ``blind`` where the measure
    cannot see the dial by construction.

    Args:
        monotonicity: Output of ``raytransfer.analysis.monotonicity``, with a column ``blind``.
    """
    rows = monotonicity[monotonicity["kind"] == "distance"]
    dials = list(dict.fromkeys(rows["dial"]))
    table = _table("distance", dials)
    for measure, cells in rows.groupby("measure", sort=False):
        of_dial = {row.dial: row for row in cells.itertuples()}
        table.add_row(str(measure), *(_moves(of_dial[dial]) if dial in of_dial else Text("") for dial in dials))
    curves = int(rows["curves"].max()) if len(rows) else 0
    title = f"Does a distance grow along a dial? Mean Spearman's ρ of {curves} curves (targets x seeds)"
    note = "±: half of the 95% t interval, where the curves differ. blind: cannot see it by construction.\n"
    return Group(Text(title, style="bold"), table, Text(note, style="dim"))


def variance_table(variance: pd.DataFrame, title: str) -> Group:
    """Tabulate shares of variance in percent: a row for each outcome and n, a column for each part.

    Args:
        variance: Output of ``raytransfer.analysis.variance_of_dials`` or ``variance_of_distances``.
        title: What explains the variance.
    """
    parts = list(dict.fromkeys(variance["part"]))
    table = _table("outcome", ["n", *parts])
    for (outcome, n), cells in variance.groupby(["outcome", "n_layers"], sort=False):
        of_part = {row.part: row for row in cells.itertuples()}
        values = [_share(of_part[part].share, of_part[part].low, of_part[part].high) for part in parts]
        table.add_row(str(outcome), str(n), *values)
    return Group(Text(title, style="bold"), table)


def _table(first: str, columns: list[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _correlation(estimate: float, low: float, high: float, p: float) -> Text:
    if math.isnan(estimate):
        return Text("-")
    ends = "" if math.isnan(low) else f" [{low + 0.0:.2f},{high + 0.0:.2f}]"
    return Text(f"{estimate:+.2f}{'*' if p < _SURE else ' '}{ends}")


def _moves(row: object) -> Text:
    estimate, high, constant, blind = (getattr(row, name) for name in ("estimate", "high", "constant", "blind"))
    if blind:
        return Text("blind", style="dim")
    if math.isnan(estimate):
        return Text("still" if constant else "-")
    spread = f" ±{high - estimate:.2f}" if high - estimate > 0.005 else ""
    return Text(f"{estimate:+.2f}{spread}")


def _share(share: float, low: float, high: float) -> Text:
    if math.isnan(share):
        return Text("-")
    ends = "" if math.isnan(low) else f" [{100 * low:.0f},{100 * high:.0f}]"
    return Text(f"{100 * share:.0f}%{ends}")
