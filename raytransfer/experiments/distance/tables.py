"""The console's tables of transfer against distance."""

import math

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from raytransfer.analysis.intervals import SURE
from raytransfer.console.table import NumberTable
from raytransfer.experiments.words import (
    BLOCK,
    NO_INTERVAL,
    Row,
    counted,
    in_points,
    no_p_below,
    said_blocks,
    said_units,
    with_interval,
)
from raytransfer.specs.treatments import ANB, ANB_PLUS, BASE_B
from raytransfer.words import number_of

_SHOWN = (
    (ANB.name, f"frozen accuracy ({ANB.name})", "within target"),
    (ANB_PLUS.name, f"fine-tuned accuracy ({ANB_PLUS.name})", "within target"),
    ("boost", f"boost ({ANB_PLUS.name} over {BASE_B.name})", "pooled"),
)


def correlations_table(correlations: pd.DataFrame) -> Group:
    """Tabulate Spearman's ρ: a table for each outcome, with a row for each measure and a column for each n.

    Accuracies are compared within targets; the boost is shown pooled over targets, where there are several: within one
    it puts bases in the order that fine-tuned accuracy does. A cell is the estimate and its 95% interval, with a star
    where the p-value, corrected for the number of measures, is below 0.05. Of 3 blocks or fewer no p-value is; the note
    says so.

    Args:
        correlations: Output of ``raytransfer.analysis.correlations``.
    """
    spearman = correlations[correlations["coefficient"] == "Spearman"]
    several = _several_targets(spearman)
    parts: list[RenderableType] = []
    tested: set[int] = set()
    for outcome, meaning, scope in _SHOWN:
        rows = spearman[(spearman["outcome"] == outcome) & (spearman["scope"] == scope)]
        if rows["estimate"].notna().sum() == 0 or (scope == "pooled" and not several):
            continue
        table = _table("measure", [f"n = {n}" for n in sorted(rows["n_layers"].unique())])
        best = rows.groupby("measure")["estimate"].mean().sort_values(ascending=False)
        for measure in best.index:
            of_n = rows[rows["measure"] == measure].sort_values("n_layers")
            records = of_n[["estimate", "low", "high", "p_adjusted"]].itertuples(index=False, name=None)
            table.add_row(str(measure), *(_correlation(*record) for record in records))
        known = rows.dropna(subset="estimate")
        of = f"{counted(known['pairs'], 'pair')}, {said_blocks(known)}"
        tested |= set(known["blocks"])
        parts += [Text(f"Spearman's ρ with {meaning} {scope}, {of}", style="bold"), table]
    least = no_p_below(tested)
    note = (
        "Positive: predicts transfer (distances count negative). [low,high]: 95% over blocks, from 3 on.\n"
        f"*: p < 0.05 by permuting blocks, corrected for all measures tried.{f' {least}.' if least else ''}\n"
        f"{BLOCK}\n"
    )
    return Group(*parts, Text(note, style="dim"))


def monotonicity_table(monotonicity: pd.DataFrame) -> Group:
    """Tabulate whether distances rise along each dial: a row for each distance, a column for each dial.

    A cell is the mean of Spearman's ρ between level and distance over (target, seed), with its interval where 3 units
    or more differ; on a dial of two levels, where ρ is ±1 whatever happens, how many go the right way; ``blind`` where
    the measure cannot see the dial by construction, ``still`` where it might and does not.

    Args:
        monotonicity: Output of ``raytransfer.analysis.monotonicity``, with a column ``blind``.
    """
    distances = monotonicity[monotonicity["kind"] == "distance"]
    curves = int((distances["curves"] + distances["constant"]).max()) if len(distances) else 0
    title = f"Does a distance grow along a dial? Mean ρ of {number_of(curves, 'curve')} (targets x seeds)"
    parts: list[RenderableType] = [Text(title, style="bold")]
    for of_input in (True, False):
        rows = distances[(distances["dial_kind"] == "input") == of_input]
        if rows.empty:
            continue
        dials = list(dict.fromkeys(rows["dial"]))
        table = _table("distance", dials)
        for measure, cells in rows.groupby("measure", sort=False):
            of_dial = {row["dial"]: row for row in cells.to_dict("records")}
            table.add_row(str(measure), *(_moves(of_dial[dial]) if dial in of_dial else Text("") for dial in dials))
        parts.append(table)
    units = said_units(distances[distances["units"] > 0])
    note = (
        f"[low,high]: 95% interval over {units}, from 3 on that differ, and 4 levels. blind: by construction.\n"
        "Empty: not measured, as labels differ. 2 of 3: so many curves grow, on a dial of two levels; by chance all 3 "
        "do in one study of 8.\n"
    )
    return Group(*parts, Text(note, style="dim"))


def grid_effects_table(effects: pd.DataFrame) -> Group:
    """Tabulate what turning one dial of the grid to its end takes from transfer, in percentage points.

    Args:
        effects: Output of ``raytransfer.analysis.grid_effects``.
    """
    numbers = [f"n = {n}" for n in sorted(effects["n_layers"].unique())]
    table = _table("outcome, dial turned alone", numbers)
    for (outcome, turned), rows in effects.groupby(["outcome", "turned"], sort=False):
        records = rows[["n_layers", "mean", "low", "high"]].itertuples(index=False, name=None)
        cells = {f"n = {n}": in_points(*interval) for n, *interval in records}
        table.add_row(f"{outcome}, {turned}", *(cells.get(number, "") for number in numbers))
    title = f"Input against label: change of accuracy, points, {said_units(effects)}"
    note = (
        "Change from the base with neither dial turned. [low,high]: 95% interval, paired t over units.\n"
        f"{NO_INTERVAL}\n"
    )
    return Group(Text(title, style="bold"), table, Text(note, style="dim"))


def variance_of_dials_table(variance: pd.DataFrame) -> Group:
    """Tabulate how much of the variance over the grid of dials each explains, in percent.

    A cell is η² and, in brackets, the 95% interval of its bias-corrected share, as far as it lies in 0..100; η² alone
    under 3 units.

    Args:
        variance: Output of ``raytransfer.analysis.variance_of_dials``.
    """
    title = f"Variance over the grid of dials that each explains, η² in %, {said_units(variance)}"
    return _variance(variance, "eta_squared", title)


def variance_of_distances_table(variance: pd.DataFrame, *, of_input: str, of_label: str) -> Group:
    """Tabulate how much of the variance an input's and a label's distance explain, in percent.

    Args:
        variance: Output of ``raytransfer.analysis.variance_of_distances``.
        of_input: Name of the distance of inputs.
        of_label: Name of the distance of labels.
    """
    known = variance.dropna(subset="share")
    of = f"{counted(known['pairs'], 'pair')}, {said_blocks(known)}"
    title = f"R² of ranks in %: input ({of_input}), label ({of_label}), {of}"
    return _variance(variance, "share", title)


def _variance(variance: pd.DataFrame, column: str, title: str) -> Group:
    parts = list(dict.fromkeys(variance["part"]))
    table = _table("outcome", ["n", *parts], keys=2)
    for (outcome, n), cells in variance.groupby(["outcome", "n_layers"], sort=False):
        of_part = cells.set_index("part")[[column, "low", "high"]].astype(float)
        if column == "eta_squared":
            of_part = of_part.clip(0, 1)
        shares = (100 * of_part.loc[parts]).itertuples(index=False, name=None)
        table.add_row(str(outcome), str(n), *(with_interval(share, low, high, "z.0f") for share, low, high in shares))
    return Group(Text(title, style="bold"), table)


def _table(first: str, columns: list[str], keys: int = 1) -> NumberTable:
    return NumberTable({first: "left", **dict.fromkeys(columns, "right")}, keys=keys)


def _several_targets(correlations: pd.DataFrame) -> bool:
    """Whether some task has more than one target: then more pairs than tasks less one enter."""
    return bool((correlations["pairs"] >= correlations["tasks"]).any())


def _correlation(estimate: float, low: float, high: float, p: float) -> Text:
    if math.isnan(estimate):
        return Text("-")
    ends = "" if math.isnan(low) else f"[{_short(low)},{_short(high)}]"
    return Text(f"{_short(estimate, sign=True)}{'*' if p < SURE else ' '}{ends}")


def _short(rho: float, *, sign: bool = False) -> str:
    """Two decimals without the zero before them, so that three columns fit a narrow console."""
    text = f"{rho:{'+' if sign else ''}z.2f}"  # z: no minus sign on zero
    return text if abs(rho) >= 0.995 else text.replace("0.", ".", 1)


def _moves(row: Row) -> Text:
    if row["blind"]:
        return Text("blind", style="dim")
    if math.isnan(row["estimate"]):
        return Text("still" if row["constant"] else "-")
    if row["levels"] == 2:
        return Text(f"{row['right_way']} of {row['curves']}")
    low, high = row["low"], row["high"]
    ends = f"[{_short(low)},{_short(high)}]" if high - low > 0.005 else ""
    return Text(f"{_short(row['estimate'], sign=True)} {ends}".strip())
