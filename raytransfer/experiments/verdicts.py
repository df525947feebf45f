"""Verdicts on claims and their effects: as a table for the console, in Markdown and in words."""

import math

import pandas as pd
from rich.console import Group
from rich.text import Text

from raytransfer.analysis.intervals import MIN_UNITS, TOO_FEW
from raytransfer.analysis.verdicts import NO_LARGER
from raytransfer.console.table import NumberTable
from raytransfer.experiments.words import Row, said_units, with_interval
from raytransfer.words import number_of

WOULD_SEE = (
    "would see: the smallest effect that so many units, spread so, show in 4 studies of 5; none: not the largest there "
    "can be."
)
"""What a column of detectable effects means, for the note below a table."""
_NONE = "none"
_BEYOND = "no effect beyond"
_COMPARED = {"ratio": "fine-tuned / scratch", "difference": "fine-tuned − scratch"}


def verdicts_table(verdicts: pd.DataFrame) -> Group:
    """Tabulate the verdicts: a row per claim.

    Args:
        verdicts: Output of ``raytransfer.analysis.verdicts`` or ``checkpoint_verdicts``.
    """
    table = NumberTable(
        {"claim": "left", "effect": "left", "units": "right", "would see": "right", "p": "right", "verdict": "left"}
    )
    for row in verdicts.to_dict("records"):
        seen = size(row["detectable"], row["scale"])
        table.add_row(row["claim"], said_effect(row), str(row["units"]), seen, _p_value(row), _verdict(row))
    note = (
        f"One test a claim, over {said_units(verdicts)}. p: corrected for the number of claims (Holm).\n{WOULD_SEE}\n"
        f"{_BEYOND}: not seen, and the interval holds none of that size. too few units: fewer than {MIN_UNITS}.\n"
    )
    return Group(Text("Verdicts", style="bold"), table, Text(note))


def verdicts_markdown(verdicts: pd.DataFrame) -> str:
    """Write the verdicts as a Markdown table: claim, test, effect and interval, units, smallest effect seen, verdict.

    Args:
        verdicts: Output of ``raytransfer.analysis.verdicts`` or ``checkpoint_verdicts``. Without rows the table has a
            head alone.
    """
    head = ("claim", "how it is tested", "effect and 95% interval", "units", "would be seen in 4 of 5", "p", "verdict")
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in verdicts.to_dict("records"):
        effect = f"{said_effect(row)} ({row['scale']})"
        units, seen = number_of(row["units"], row["unit"]), size(row["detectable"], row["scale"])
        cells = (row["claim"], row["test"], effect, units, seen, _p_value(row), f"**{_verdict(row)}**")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def said_verdict(row: Row) -> str:
    """One verdict with its test, effect and units, in words."""
    effect = f"{_COMPARED.get(row['scale'], row['scale'])} {said_effect(row)}"
    if math.isnan(row["estimate"]):
        effect = "no value"
    said = f"{_verdict(row)} ({row['test']}: {effect}, {number_of(row['units'], row['unit'])}"
    if math.isnan(row["detectable"]):
        return f"{said})"
    seen = size(row["detectable"], row["scale"])
    seen = "no effect" if seen == _NONE else seen
    return f"{said}, p = {_p_value(row)} corrected; {seen} would be seen in 4 studies of 5)"


def _p_value(row: Row) -> str:
    return "-" if math.isnan(row["p_adjusted"]) else f"{row['p_adjusted']:.2g}"


def _verdict(row: Row) -> str:
    """The verdict and, where it is open, how many units it takes to see the effect that was seen."""
    verdict, needed = str(row["verdict"]), row["units_needed"]
    if verdict == NO_LARGER:
        return f"{_BEYOND} {size(row['detectable'], row['scale'])}"
    if pd.isna(needed):
        return f"{verdict}: how many it takes cannot be said" if verdict == TOO_FEW else verdict
    if needed <= row["units"]:
        return f"{verdict}: significant by itself, not once corrected for so many claims"
    return f"{verdict}: it takes about {number_of(needed, row['unit'])} to see this effect"


def size(seen: float, scale: str) -> str:
    """An effect without its direction: a factor, up or down, or a difference; none where none can be as large."""
    if math.isnan(seen):
        return "-"
    if scale in ("ρ", "points") and seen > 1:
        return _NONE
    return f"×{_ratio(seen)}" if scale == "ratio" else f"±{_WRITTEN[scale](seen).lstrip('+')}"


def said_effect(row: Row) -> str:
    """An effect in its scale with its interval, where there is one; a dash where there is no effect."""
    return with_interval(row["estimate"], row["low"], row["high"], _WRITTEN[row["scale"]])


def _ratio(value: float) -> str:
    if value >= 99.995:
        return f"{value:.3g}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _rho(value: float) -> str:
    return f"{value:+z.2f}"  # z: no minus sign on zero


def _difference(value: float) -> str:
    return f"{value:+z.3f}" if abs(value) < 10 else f"{value:+.3g}"


def _points(value: float) -> str:
    return f"{100 * value:+z.1f}"


_WRITTEN = {"ratio": _ratio, "ρ": _rho, "difference": _difference, "points": _points}
