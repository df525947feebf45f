"""Fine-tuned against scratch, as tables for the console and, for the verdicts, in Markdown."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from raytransfer.analysis.intervals import MIN_UNITS
from raytransfer.analysis.verdicts import NEARER, PRIMARY, verdicts
from raytransfer.console.table import NumberTable
from raytransfer.experiments.words import NO_INTERVAL

_EFFECT = ["estimate", "low", "high", "scale"]
_TESTED = {  # for the reader of the Markdown table
    "flatter minima": "top eigenvalue, trace and filter-normalised trace of the Hessian, at the last step and at "
    "matched training loss",
    "smaller generalisation gap": "train − test accuracy and test − train loss, at the last step and at matched "
    "training loss",
    "weights stay near": "deviation from the initial weights at the last step, relative to their norm and not",
    "smoother landscape": "change of the loss and of its gradient on a walk along the gradient, at step 0 and along "
    "training",
    "principal component suppressed": "the weights' share in the gradient's first singular direction, over the copied "
    "stages, at step 0 and along training",
    "stable gradient magnitudes": "spread over stages of the logarithm of the gradient's norm, at step 0 and along "
    "training",
    "same basin": "barrier of the loss on the line to a network trained from another seed, at equal start: one base "
    "against one initialisation, two against two",
    NEARER: "rank correlation over bases of the distance to the target with the relative deviation, and with the top "
    "eigenvalue, at the last step",
}


def comparisons_table(comparisons: pd.DataFrame) -> Group:
    """Tabulate fine-tuned against scratch: a table for each claim, with a row for each test, base and n.

    The effect is a ratio, or a difference with its sign, and its 95% interval; alone where there is none. A
    claim without rows has no table; without any, the note alone is left.

    Args:
        comparisons: Output of ``raytransfer.analysis.comparisons``.
    """
    parts: list[RenderableType] = []
    for claim, rows in comparisons.groupby("claim", sort=False):
        table = NumberTable(
            {"test": "left", "base": "left", "n": "right", "effect": "left", "units": "right", "": "left"}, keys=3
        )
        for test, of_test in rows.groupby("test", sort=False):
            columns = ["base", "n_layers", *_EFFECT, "units", "extrapolated", "verdict"]
            for i, (base, n, *effect, units, early, verdict) in enumerate(_records(of_test, columns)):
                count = f"{units} ({early} early)" if early else str(units)
                cells = ("" if i else test, base, n, _with_ends(*effect), count, verdict)
                table.add_row(*(Text(str(cell)) for cell in cells))
        parts += [Text(f"Claim: {claim}", style="bold"), table]
    note = (
        "Effect: fine-tuned / scratch, or with a sign fine-tuned − scratch; all claims are that it is smaller. "
        f"[low, high]: 95% interval, paired t over units. {NO_INTERVAL}\n"
    )
    if (comparisons["extrapolated"] > 0).any():
        note += (
            "early: in so many units a network was below the matched loss when first probed; that first probe counts.\n"
        )
    return Group(*parts, Text(note, style="dim"))


def barriers_table(barriers: pd.DataFrame) -> Group:
    """Tabulate the barriers themselves: a row for each network, a column for pairs of one start and of two.

    Args:
        barriers: Outputs of ``raytransfer.analysis.profiles`` of ``barrier from one start`` and ``two starts``, at the
            last step.
    """
    starts = {f"barrier from {start}": start for start in ("one start", "two starts")}
    table = NumberTable({"network": "left", **dict.fromkeys(starts.values(), "right"), "units": "right"})
    for base, rows in barriers.groupby(barriers["base"].fillna(""), sort=False):
        cells = dict.fromkeys(starts, "")
        for quantity, mean, low, high in _records(rows, ["quantity", "mean", "low", "high"]):
            cells[quantity] = _with_ends(mean, low, high, "difference").replace("+", "")
        table.add_row(str(base) or "from scratch", *cells.values(), str(rows["units"].max()))
    note = (
        "Barrier of the loss on the line between two networks of one kind, nats: fine-tuned from one base or\n"
        "from two, from scratch from one initialisation or from two. At ln K nats, of K labels, the line passes\n"
        "through networks that know nothing. [low, high]: 95% t interval over units.\n"
    )
    return Group(Text("Barriers", style="bold"), table, Text(note, style="dim"))


def nearness_table(nearness: pd.DataFrame) -> Group:
    """Tabulate the rank correlation of distance with deviation and curvature: a row for each test and n.

    Without rows, the note alone is left.

    Args:
        nearness: Output of ``raytransfer.analysis.nearness``.
    """
    parts: list[RenderableType] = []
    if len(nearness):
        table = NumberTable(
            {"test": "left", "n": "right", "ρ": "left", "units": "right", "bases": "right", "": "left"}, keys=2
        )
        columns = ["test", "n_layers", "estimate", "low", "high", "units", "bases", "verdict"]
        for test, n, estimate, low, high, units, bases, verdict in _records(nearness, columns):
            cells = (test, n, _with_ends(estimate, low, high, "ρ"), units, bases, verdict)
            table.add_row(*(Text(str(cell)) for cell in cells))
        parts += [Text(f"Claim: {NEARER}", style="bold"), table]
    note = (
        "ρ: Spearman, over bases, of distance to the target; mean over units, 95% t interval. Needs 3 bases.\n"
        f"{NO_INTERVAL}\n"
    )
    return Group(*parts, Text(note, style="dim"))


def verdicts_table(verdicts: pd.DataFrame) -> Group:
    """Tabulate the verdicts: a row a claim.

    Args:
        verdicts: Output of ``raytransfer.analysis.verdicts``.
    """
    table = NumberTable({"claim": "left", "tests": "right", "for": "right", "against": "right", "verdict": "left"})
    for claim, verdict, tests, support, contradict, *_ in verdicts.itertuples(index=False):
        table.add_row(str(claim), str(tests), str(support), str(contradict), str(verdict))
    note = (
        "A test for each base, n and quantity, not corrected for their number. supported: more than half are for the\n"
        "claim and none against; not supported: the reverse; mixed: some of both; too few units: all tests have fewer\n"
        f"than {MIN_UNITS}; undecided: otherwise."
    )
    return Group(Text("Verdicts", style="bold"), table, Text(note))


def verdicts_markdown(comparisons: pd.DataFrame, nearness: pd.DataFrame) -> str:
    """Write the verdicts as a Markdown table: claim, how it is tested, effect and interval, verdict.

    The effect is that of the claim's primary test (``raytransfer.analysis.verdicts.PRIMARY``; of the first test there
    is, where that was not run) at the largest n, base by base. The verdict counts all tests, bases and n. Without rows
    the table has a head alone.

    Args:
        comparisons: Output of ``raytransfer.analysis.comparisons``.
        nearness: Output of ``raytransfer.analysis.nearness``; may be empty.
    """
    lines = ["| claim | how it is tested | effect and 95% interval | verdict |", "| --- | --- | --- | --- |"]
    for claim, verdict, tests, support, contradict, _, _ in verdicts(comparisons, nearness).itertuples(index=False):
        found = nearness.assign(scale="ρ", base="") if claim == NEARER else comparisons
        found = found[found["claim"] == claim]
        shown = PRIMARY[claim] if (found["test"] == PRIMARY[claim]).any() else found["test"].iloc[0]
        rows = found[found["test"] == shown]
        rows = rows[rows["n_layers"] == rows["n_layers"].max()]
        scale = rows["scale"].iloc[0] if rows["scale"].nunique() == 1 else "ratio, or difference with a sign"
        effects = [f"{shown}, {scale}, n = {rows['n_layers'].iloc[0]}"]
        effects += [f"{base} {_with_ends(*effect)}".strip() for base, *effect in _records(rows, ["base", *_EFFECT])]
        counted = f"{support} of {tests} for, {contradict} against"
        cells = (claim, _TESTED[claim], "<br>".join(effects), f"**{verdict}** ({counted})")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _with_ends(estimate: float, low: float, high: float, scale: str) -> str:
    write = _ratio if scale == "ratio" else _rho if scale == "ρ" else _difference
    return write(estimate) + ("" if math.isnan(low) else f" [{write(low)}, {write(high)}]")


def _ratio(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= value < 99.995 else f"{value:.2g}"


def _rho(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # no minus sign on zero


def _difference(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}" if abs(value) < 10 else f"{value:+.3g}"


def _records(rows: pd.DataFrame, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    return rows[columns].itertuples(index=False, name=None)
