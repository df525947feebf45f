"""The simulations of the two-layer theory: from their configuration to a plan, from their results to a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Console

from raytransfer.analysis import asymptotic_width, theory_means
from raytransfer.config import TheoryConfig, to_yaml
from raytransfer.errors import UserError
from raytransfer.experiments.tasks import Design, make_design
from raytransfer.experiments.theory.figures import theory_figure
from raytransfer.experiments.theory.tables import theory_table
from raytransfer.report.files import how_to_read, parquet, places_of, png, write_files
from raytransfer.specs import SimulationSpec
from raytransfer.store import Store, read_table
from raytransfer.sweep.plan import Plan, plan_of

_PLACE = ["target", "base", "seed", "width"]


@dataclass(frozen=True, kw_only=True)
class TheoryCell:
    """The place of one simulation: P is the base, Q the target."""

    treatment: str
    target: str
    base: str
    seed: int
    width: int
    spec: SimulationSpec


def make_plan(config: TheoryConfig) -> Plan[TheoryCell]:
    """Open the data and lay out all simulations.

    Raises:
        UserError: Something asked for cannot be done, or a task has not two labels.
    """
    design = make_design(config)
    cells = [
        TheoryCell(
            treatment=f"width {width}",
            target=pair.target.name,
            base=pair.base.name,
            seed=seed,
            width=width,
            spec=SimulationSpec(
                source=pair.base.spec(seed),
                target=pair.target.spec(seed),
                width=width,
                images=config.images,
                seed=seed,
            ),
        )
        for width in config.widths
        for pair in design.pairs
        for seed in range(config.seeds)
    ]
    for cell in cells:
        for name, task in ((cell.base, cell.spec.source), (cell.target, cell.spec.target)):
            if task.label_count != 2:
                raise UserError(
                    f"task {name} has {task.label_count} labels: the theory is of two, so name two classes or merged: 2"
                )
    return plan_of(cells, design.opened)


def report(console: Console, name: str, plan: Plan[TheoryCell], store: Store, config: TheoryConfig) -> None:
    """Analyse what has finished, write tables and a picture below ``sweeps/`` in the store, and show them."""
    rows = _rows(plan.cells, store, make_design(config))
    if rows.empty:
        console.print("No simulation of this sweep has finished.")
        return
    means, widths = theory_means(rows), asymptotic_width(rows)
    data = "-".join(dict.fromkeys(dataset.name for dataset in plan.datasets.values()))
    title = f"Two-layer ReLU networks on {config.images} images of {data}, {config.seeds} seeds"
    contents = {
        "simulations.parquet": parquet(rows),
        "means.parquet": parquet(means),
        "asymptotic_width.parquet": parquet(widths),
        "theory.png": png(theory_figure(means, title=title)),
        "config.yaml": to_yaml(config).encode(),
    }
    files = write_files(store, f"{name}-{data}", plan.cells, contents)
    console.print()
    console.print(theory_table(means, widths))
    console.print("Picture:", files["theory.png"], soft_wrap=True)
    console.print("Every simulation, one row each, in pandas:")
    console.print(how_to_read(store, "simulations", files["simulations.parquet"]), soft_wrap=True)


def _rows(cells: Sequence[TheoryCell], store: Store, design: Design) -> pd.DataFrame:
    """One row a simulation: its place, what differs between its tasks and by how much, and what came out."""
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
