"""Which trials of a store failed, where they stand in its sweeps, and why."""

from typing import Any

import pandas as pd
from rich.console import Console

from raytransfer.commands.opening import opened, places_of_sweeps, reading
from raytransfer.console.output import print_json
from raytransfer.store import failures
from raytransfer.store.schema import FAILURES, PLACES
from raytransfer.sweep.failures import failure_rows
from raytransfer.sweep.places import described, place_of
from raytransfer.words import number_of


@reading
def failed_trials(root: str) -> pd.DataFrame:
    """The trials that failed and have not finished since: a row for each place of each in each sweep.

    Returns:
        ``sweep``, the name of its folder, and the columns of the table ``failures``. A trial that no sweep of the
        store has, or that only an older raytransfer's has, stands there once without a place.

    Raises:
        UserError: There is no store, or one that cannot be read.
    """
    store = opened(root)
    errors = failures(store)
    rows: list[dict[str, Any]] = []
    for name, places in places_of_sweeps(store).items() if errors else ():
        if places is None:
            continue
        placed: dict[str, list[dict[str, Any]]] = {}
        for row in places[places["id"].isin(list(errors))].to_dict("records"):
            placed.setdefault(row["id"], []).append(place_of(row))
        of_sweep = {trial: error for trial, error in errors.items() if trial in placed}
        rows += [{"sweep": name, **row} for row in failure_rows(of_sweep, placed)]
    known = {row["id"] for row in rows}
    unplaced = {trial: error for trial, error in errors.items() if trial not in known}
    nowhere: dict[str, Any] = dict.fromkeys(column.name for column in PLACES)
    rows += [{"sweep": None, **row} for row in failure_rows(unplaced, {trial: [nowhere] for trial in unplaced})]
    return pd.DataFrame(rows, columns=["sweep", *(column.name for column in FAILURES)], dtype=object)


def print_failures(console: Console, root: str, *, as_json: bool = False) -> None:
    """Print which trials failed: each reason once with its traceback, below the trials that it ended.

    Args:
        console: Where to.
        root: The store.
        as_json: Whether as JSON: the rows of ``failed_trials``, a list.

    Raises:
        UserError: There is no store, or one that cannot be read.
    """
    found = failed_trials(root)
    if as_json:
        print_json(console, found.to_dict("records"))
        return
    for _, alike in found.groupby(["error", "reason"], sort=False, dropna=False):
        for row in alike.to_dict("records"):
            where = f"{row['sweep']}, {described(place_of(row))}" if row["sweep"] else "in no sweep of this store"
            console.print(f"{row['id']}: {where}", soft_wrap=True)
        console.print(f"failed {alike['traceback'].iloc[0].strip()}\n", soft_wrap=True)
    trials = number_of(found["id"].nunique(), "trial")
    console.print(f"{trials} failed{'; mode=retry runs them again' if len(found) else ''}", soft_wrap=True)
