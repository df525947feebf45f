"""The console's tables of fine-tuned against scratch."""

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from raytransfer.analysis.verdicts import NEARER
from raytransfer.console.table import NumberTable
from raytransfer.experiments.verdicts import WOULD_SEE, said_effect, size
from raytransfer.experiments.words import NO_INTERVAL, counted, said_units, with_interval


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
            for i, row in enumerate(of_test.to_dict("records")):
                effect = said_effect(row)
                count = f"{row['units']} ({row['extrapolated']} early)" if row["extrapolated"] else str(row["units"])
                seen = size(row["detectable"], row["scale"])
                cells = ("" if i else test, row["base"], row["n_layers"], effect, count, seen)
                table.add_row(*map(str, cells))
        parts += [Text(f"Claim: {claim}", style="bold"), table]
    note = (
        "Effect: fine-tuned / scratch, or with a sign fine-tuned − scratch; all claims are that it is smaller.\n"
        f"[low,high]: 95% interval, paired t over {said_units(comparisons)}, not corrected for their number.\n"
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
        for row in rows.to_dict("records"):
            cells[row["quantity"]] = with_interval(row["mean"], row["low"], row["high"], "z.3f")
        units = counted(rows["units"]).partition(" unit")[0]
        table.add_row(str(base) or "from scratch", *cells.values(), units)
    note = (
        "Barrier of the loss on the line between two networks of one kind, nats: fine-tuned from one base or "
        "from two, from scratch from one initialisation or from two. At ln K nats, of K labels, the line passes "
        "through networks that know nothing. [low,high]: 95% t interval over units.\n"
    )
    return Group(Text("Barriers", style="bold"), table, Text(note, style="dim"))


def nearness_table(nearness: pd.DataFrame) -> Group:
    """Tabulate the rank correlation of distance with deviation and curvature: a row for each test and n.

    Args:
        nearness: Output of ``raytransfer.analysis.nearness``.
    """
    table = NumberTable(
        {"test": "left", "n": "right", "ρ": "left", "units": "right", "bases": "right", "would see": "right"}, keys=2
    )
    for row in nearness.to_dict("records"):
        rho = with_interval(row["estimate"], row["low"], row["high"], "+z.2f")
        cells = (row["test"], row["n_layers"], rho, row["units"], row["bases"], size(row["detectable"], "ρ"))
        table.add_row(*map(str, cells))
    note = (
        "ρ: Spearman, over bases, of distance to the target; mean, and 95% interval over units. Needs 3 bases.\n"
        f"{NO_INTERVAL} {WOULD_SEE}\n"
    )
    return Group(Text(f"Claim: {NEARER}", style="bold"), table, Text(note, style="dim"))
