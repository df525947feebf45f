"""The console's tables of a choice among checkpoints."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from raytransfer.console.table import NumberTable
from raytransfer.experiments.words import counted, in_percent, in_points, with_interval
from raytransfer.specs.treatments import ANB, ANB_PLUS, BASE_B, TREATMENTS


def ranking_table(ranks: pd.DataFrame, known: pd.DataFrame) -> Group:
    """Tabulate checkpoints by their mean rank over scores, beside what is known without looking at an image.

    Args:
        ranks: Output of ``raytransfer.analysis.selection.score_ranks``.
        known: One row per checkpoint: checkpoint, accuracy and parameters.
    """
    measures = list(dict.fromkeys(ranks["measure"]))
    table = _table("checkpoint", ["published top-1 %", "parameters, M", *measures])
    wide = ranks.pivot(index="checkpoint", columns="measure", values=["value", "rank"])
    order = ranks.groupby("checkpoint")["rank"].mean().sort_values().index
    facts = known.set_index("checkpoint")
    for checkpoint in order:
        accuracy = facts.loc[checkpoint, "accuracy"]
        cells = [
            f"{wide.loc[checkpoint, ('value', name)]:#.3g} ({wide.loc[checkpoint, ('rank', name)]:.1f})"
            for name in measures
        ]
        published = "" if pd.isna(accuracy) else f"{100 * accuracy:.1f}"
        table.add_row(str(checkpoint), published, f"{facts.loc[checkpoint, 'parameters'] / 1e6:.3g}", *cells)
    heading = Text("Scores before the head, with the mean rank over targets and repeats (1 is best)", style="bold")
    return Group(heading, table, Text(""))


def starts_table(means: pd.DataFrame, depth: dict[str, int]) -> Group:
    """Tabulate what each checkpoint gives: from scratch, and with all layers below the head copied.

    Args:
        means: Output of ``raytransfer.analysis.selection.start_means``.
        depth: The number of layers of each checkpoint's network.
    """
    parts: list[RenderableType] = []
    for target, rows in means.groupby("target"):
        table = _table(
            "checkpoint", ["scratch", f"{ANB.name}, all", f"{ANB_PLUS.name}, all", "gain", "best cut", "top-1 there"]
        )
        whole = rows[rows["n_layers"] == rows["checkpoint"].map(depth) - 1].set_index(["checkpoint", "treatment"])
        scratch = rows[rows["treatment"] == BASE_B.name].set_index("checkpoint")
        # Random layers are no checkpoint's.
        copies = rows[rows["treatment"].map(lambda name: TREATMENTS[name].source == "other")]
        # A cut of fewer repeats may have had the easier ones alone.
        whole_copies = copies[copies["units"] == copies.groupby("checkpoint")["units"].transform("max")]
        best_of = whole_copies.loc[whole_copies.groupby("checkpoint")["top1"].idxmax()].set_index("checkpoint")
        order = best_of["top1"].reindex(rows["checkpoint"].unique()).sort_values(ascending=False).index
        for checkpoint in order:
            best = best_of.loc[checkpoint] if checkpoint in best_of.index else None
            frozen, tuned = (checkpoint, ANB.name), (checkpoint, ANB_PLUS.name)
            table.add_row(
                str(checkpoint),
                _cell(scratch, checkpoint, "top1", in_percent),
                _cell(whole, frozen, "top1", in_percent),
                _cell(whole, tuned, "top1", in_percent),
                _cell(whole, tuned, "gain", in_points),
                "" if best is None else f"{best['treatment']},n={best['n_layers']}",  # one word stays in one line
                _cell(best_of, checkpoint, "top1", in_percent),
            )
        paired = rows.loc[(rows["treatment"] != BASE_B.name) & (rows["gain_units"] > 0), "gain_units"]
        repeats = counted(pd.concat([rows["units"], paired]), "repeat")
        parts += [Text(f"Top-1 on {target}, %: mean over {repeats} [95%]", style="bold"), table]
    note = (
        "all: every layer below the head is copied. gain: fine-tuned so, over the same network from scratch, paired by "
        "repeat.\nThe best cut is chosen on the images it is measured on, among those with all repeats.\n"
        "No interval under 3 repeats.\n"
    )
    return Group(*parts, Text(note, style="dim"))


def predictors_table(means: pd.DataFrame) -> Group:
    """Tabulate how well scores and baselines rank the checkpoints.

    Args:
        means: Output of ``raytransfer.analysis.selection.predictor_means``.
    """
    parts: list[RenderableType] = []
    for treatment, rows in means.groupby("treatment", sort=False):
        best = next(iter(rows["over"].dropna()), "")
        table = _table("predictor", ["kind", "Kendall's τ", f"lead over {best}"])
        for row in rows.sort_values("tau", ascending=False).to_dict("records"):
            tau = with_interval(row["tau"], row["low"], row["high"], "+z.2f")
            lead = with_interval(row["lead"], row["lead_low"], row["lead_high"], "+z.2f")
            table.add_row(str(row["predictor"]), str(row["kind"]), tau, "" if pd.isna(row["lead"]) else lead)
        any_tau = rows if rows["tau"].isna().all() else rows.dropna(subset="tau")
        of = [counted(any_tau[f"{noun}s"], noun) for noun in ("checkpoint", "target", "source")]
        heading = f"What foretells {treatment} with every layer below the head copied, {', '.join(of)}"
        parts += [Text(heading, style="bold"), table]
    note = (
        "τ over checkpoints, mean over targets; [95%] over the sources of targets (data sets), from 3 on. The lead is "
        "over the baseline of the highest mean τ, on the checkpoints that both know.\n"
        "Baselines look at none of the target's images. With few checkpoints τ takes few values: of 4 there are 7.\n"
    )
    return Group(*parts, Text(note, style="dim"))


def _cell(rows: pd.DataFrame, place: Any, name: str, write: Callable[[float, float, float], str]) -> str:
    """A number of a row with its interval; nothing where there is no such row or number."""
    if place not in rows.index or pd.isna(rows.loc[place, name]):
        return ""
    return write(*rows.loc[place, [name, f"{name}_low", f"{name}_high"]])


def _table(first: str, columns: list[str]) -> NumberTable:
    return NumberTable({first: "left", **dict.fromkeys(columns, "right")}, line=False)
