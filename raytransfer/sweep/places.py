"""The places of trials in a sweep: treatment, split, target, number of layers, seed and so on."""

from collections.abc import Iterable, Mapping
from typing import Any

from raytransfer.specs import ProbeSpec, TransferSpec, TrialSpec
from raytransfer.specs.dependencies import checkpoints_read
from raytransfer.store.schema import PLACES
from raytransfer.sweep.plan import Cell, Plan

NOT_IN_A_CELL = "only read by others"
"""What stands for the treatment of a trial that has no place of its own in a sweep."""


def places(specs: Mapping[str, TrialSpec], cells: Iterable[Cell]) -> dict[str, list[dict[str, Any]]]:
    """Every place of each of these trials, as columns of ``PLACES`` with None for what a cell does not have.

    Args:
        specs: Trials by identity.
        cells: The places of the sweep.
    """
    found: dict[str, list[dict[str, Any]]] = {trial: [] for trial in specs}
    for cell in cells:
        if cell.spec.id in found:
            found[cell.spec.id].append(_place(cell, cell.spec))
    return {trial: rows or [_place(None, specs[trial])] for trial, rows in found.items()}


def _place(cell: Cell | None, spec: TrialSpec) -> dict[str, Any]:
    place = {column.name: getattr(cell, column.name, None) for column in PLACES}
    place["treatment"] = cell.treatment if cell is not None else NOT_IN_A_CELL
    if place["seed"] is None:
        place["seed"] = spec.seed
    if place["n_layers"] is None:
        training = spec.trained if isinstance(spec, ProbeSpec) else spec
        place["n_layers"] = training.surgery.n_layers if isinstance(training, TransferSpec) else None
    return place


def place_of(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The place that a row of a table has: columns of ``PLACES``, with None for what is null there."""
    import pandas as pd  # which a plan does not need

    return {column.name: None if pd.isna(row[column.name]) else row[column.name] for column in PLACES}


def described(place: Mapping[str, Any]) -> str:
    """A place in a line, such as ``AnB (halves=random, split=random0, direction=A->B, n_layers=2, seed=0)``."""
    told = ", ".join(f"{name}={value}" for name, value in place.items() if name != "treatment" and value is not None)
    return f"{place['treatment']} ({told})"


def place_rows(plan: Plan[Cell, Any]) -> list[dict[str, Any]]:
    """Rows of the table ``places``: every place of each trial, in the order of the cells, and what it reads."""
    placed = places(plan.trials, plan.cells)
    order = dict.fromkeys([*(cell.spec.id for cell in plan.cells), *plan.trials])
    read = {trial: checkpoints_read(spec) for trial, spec in plan.trials.items()}
    return [{"id": trial, **place, "reads": read[trial]} for trial in order for place in placed[trial]]
