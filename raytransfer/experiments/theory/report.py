"""The simulations of the two-layer theory: from their results to a report."""

from collections.abc import Sequence

import pandas as pd

from raytransfer.analysis import asymptotic_width, theory_means
from raytransfer.analysis.theory import NEAR_ONE
from raytransfer.experiments.design import Design
from raytransfer.experiments.theory.config import TheoryConfig
from raytransfer.experiments.theory.figures import theory_figure
from raytransfer.experiments.theory.plan import TheoryCell
from raytransfer.experiments.theory.tables import theory_table
from raytransfer.experiments.words import with_interval
from raytransfer.report import Report
from raytransfer.report.rows import places_of
from raytransfer.store import Store, read_table
from raytransfer.sweep.plan import Plan
from raytransfer.words import number_of

_CAPTIONS = {
    "theory": "How far networks moved against the bound, and how distance and gradient come to what theory says as "
    "networks get wider. On the diagonal they move as far as the bound allows; the grey band is "
    f"{NEAR_ONE[0]:g} to {NEAR_ONE[1]:g}. Intervals that leave the means far behind are cut off."
}
_PLACE = ["target", "base", "seed", "width"]


def make_report(plan: Plan[TheoryCell, Design], store: Store, config: TheoryConfig) -> Report:
    """Analyse what has finished."""
    rows = _rows(plan.cells, store, plan.design)
    if rows.empty:
        return Report(notes=["No simulation of this sweep has finished."])
    means, widths = theory_means(rows), asymptotic_width(rows)
    images, seeds = number_of(config.images, "image"), number_of(config.seeds, "seed")
    title = f"Two-layer ReLU networks on {images} of {plan.data}, {seeds}"
    return Report(
        frames={"simulations": rows, "means": means, "asymptotic_width": widths},
        main=("simulations", "Every simulation, one row each"),
        tables=[theory_table(means, widths)],
        figures={"theory": theory_figure(means, title=title)},
        captions=_CAPTIONS,
        answer=_answer(widths),
    )


def _answer(widths: pd.DataFrame) -> list[str]:
    """How near to the bound the widest networks come, in words."""
    said = []
    for row in widths.dropna(subset=["ratio"]).to_dict("records"):
        ratio = with_interval(row["ratio"], row["ratio_low"], row["ratio_high"], ".2f")
        least = row["asymptotic_width"]
        near = "from no width on" if pd.isna(least) else f"from width {least:,.0f} on"
        of_interval = f"the interval lies within {NEAR_ONE[0]:g} to {NEAR_ONE[1]:g} {near}"
        said.append(
            f"{row['base']} to {row['target']}: networks of width {row['widest']:,} move {ratio} "
            f"times the bound; {'there is no interval' if pd.isna(row['ratio_low']) else of_interval}."
        )
    return said


def _rows(cells: Sequence[TheoryCell], store: Store, design: Design) -> pd.DataFrame:
    """One row per simulation: its place, what differs between its tasks and by how much, and what came out."""
    places = places_of(cells, _PLACE)
    found = places.merge(read_table(store, "simulations").drop(columns=["width", "seed"]), on="id")
    differs = {(row.target, row.base): row for row in design.dials}
    rows = [differs.get(pair) for pair in zip(found["target"], found["base"], strict=True)]
    # An unchanged base stands on every dial; a base of another name on none.
    found["kind"] = ["none" if not row or not row.level else _kind(row.kind) for row in rows]
    found["dial"] = [row.dial if row and row.level else "" for row in rows]
    found["level"] = [row.level if row else float("nan") for row in rows]
    return found


def _kind(dial: str) -> str:
    return "input" if dial == "input" else "label"
