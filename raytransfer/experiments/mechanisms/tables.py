"""The console's tables of fine-tuned against scratch."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from raytransfer.analysis.verdicts import NEARER
from raytransfer.console.table import NumberTable
from raytransfer.experiments.verdicts import WOULD_SEE, size, with_ends
from raytransfer.experiments.words import NO_INTERVAL, counted, said_units

_EFFECT = ["estimate", "low", "high", "scale"]


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
            {"test": "left", "base": "left", "n": "right", "effect": "left", "units": "right", "would see": "right"},
            keys=3,
        )
        for test, of_test in rows.groupby("test", sort=False):
            columns = ["base", "n_layers", *_EFFECT, "units", "extrapolated", "detectable"]
            for i, (base, n, *effect, units, early, seen) in enumerate(_records(of_test, columns)):
                count = f"{units} ({early} early)" if early else str(units)
                cells = ("" if i else test, base, n, with_ends(*effect), count, size(seen, effect[-1]))
                table.add_row(*(Text(str(cell)) for cell in cells))
        parts += [Text(f"Claim: {claim}", style="bold"), table]
    note = (
        "Effect: fine-tuned / scratch, or with a sign fine-tuned − scratch; all claims are that it is smaller.\n"
        f"[low, high]: 95% interval, paired t over {said_units(comparisons)}, not corrected for their number.\n"
        f"{NO_INTERVAL} {WOULD_SEE}\n"
    )
    if (comparisons["extrapolated"] > 0).any():
        note += (
            "early: in so many runs a network was below the matched loss when first probed; that first probe counts.\n"
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
            cells[quantity] = with_ends(mean, low, high, "difference").replace("+", "")
        units = counted(rows["units"]).partition(" unit")[0]
        table.add_row(str(base) or "from scratch", *cells.values(), units)
    note = (
        "Barrier of the loss on the line between two networks of one kind, nats: fine-tuned from one base or "
        "from two, from scratch from one initialisation or from two. At ln K nats, of K labels, the line passes "
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
            {"test": "left", "n": "right", "ρ": "left", "units": "right", "bases": "right", "would see": "right"},
            keys=2,
        )
        columns = ["test", "n_layers", "estimate", "low", "high", "units", "bases", "detectable"]
        for test, n, estimate, low, high, units, bases, seen in _records(nearness, columns):
            cells = (test, n, with_ends(estimate, low, high, "ρ"), units, bases, size(seen, "ρ"))
            table.add_row(*(Text(str(cell)) for cell in cells))
        parts += [Text(f"Claim: {NEARER}", style="bold"), table]
    note = (
        "ρ: Spearman, over bases, of distance to the target; mean, and 95% interval over units. Needs 3 bases.\n"
        f"{NO_INTERVAL} {WOULD_SEE}\n"
    )
    return Group(*parts, Text(note, style="dim"))


def _records(rows: pd.DataFrame, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    return rows[columns].itertuples(index=False, name=None)
