"""The library: sweeps planned and run from Python, and a store's rows as tables that can be joined."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raytransfer.distances import DISTANCES
from raytransfer.errors import UserError
from raytransfer.specs import from_json
from raytransfer.specs.dependencies import as_training
from raytransfer.specs.treatments import treatment_of
from raytransfer.store import Store, failures, read_table


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a store holds, whichever sweeps ran it. Every table has a row's trial in ``id``; columns are in COLUMNS.md.

    Attributes:
        trials: One row a finished training, with the name of its ``treatment`` (see ``treatment_of``) and, as
            ``recipe.learning_rate`` and so on, how it was trained.
        curves: Their learning curves: one row an evaluation.
        distances: One row a distance of an ordered pair: ``base_task`` to come from and ``target_task`` to go to, as in
            ``trials``. A symmetric distance is measured once and stands here in both directions.
        scores: One row a score of a network on a target task.
        probes: One row a reading of a probe, with what was probed.
        simulations: One row a simulation of the two-layer theory.
        failures: One row a trial that failed and has not finished since: ``id`` and its ``error``.
    """

    trials: pd.DataFrame
    curves: pd.DataFrame
    distances: pd.DataFrame
    scores: pd.DataFrame
    probes: pd.DataFrame
    simulations: pd.DataFrame
    failures: pd.DataFrame


def load(out: str) -> Results:
    """Read a store, while sweeps write to it or afterwards.

    Distances join with the trainings of a pair on ``["base_task", "target_task", "seed"]``:

    >>> import raytransfer as rt
    >>> found = rt.load("results")  # doctest: +SKIP
    >>> frozen = found.trials[found.trials["treatment"] == "AnB"]  # doctest: +SKIP
    >>> frozen.merge(found.distances, on=["base_task", "target_task", "seed"])  # doctest: +SKIP

    Args:
        out: A folder or a URI, as the option of that name.

    Raises:
        UserError: It holds no results, or those of another version.
        StorageError: The storage does not answer.
        UnreadableError: A file of rows is damaged.
    """
    store = Store(out)
    store.check()
    if not store.exists("store.json"):
        raise UserError(f"out={store.root} holds no results")
    failed = failures(store)
    return Results(
        trials=_with_treatment_and_recipe(read_table(store, "trials")),
        curves=read_table(store, "curves"),
        distances=_on_ordered_pairs(read_table(store, "distances")),
        scores=read_table(store, "scores"),
        probes=read_table(store, "probes").merge(read_table(store, "readings"), on="id"),
        simulations=read_table(store, "simulations"),
        failures=pd.DataFrame({"id": [*failed], "error": [*failed.values()]}, dtype="str"),
    )


def _with_treatment_and_recipe(trials: pd.DataFrame) -> pd.DataFrame:
    recipes = pd.DataFrame([json.loads(config)["recipe"] for config in trials["config"]], index=trials.index)
    trials.insert(1, "treatment", pd.Series([_treatment(config) for config in trials["config"]], dtype="str"))
    return trials.join(recipes.add_prefix("recipe."))


def _treatment(config: str) -> str | None:
    spec: Any = as_training(from_json(config))
    return treatment_of(spec)


def _on_ordered_pairs(distances: pd.DataFrame) -> pd.DataFrame:
    """Distances from each base task to each target task.

    Where a network is compared it is the target's, so that the pair has an order whatever the measure.
    """
    names = {"source_task": "base_task", "target_task": "target_task"}
    symmetric = {name for name, distance in DISTANCES.items() if distance.symmetric}
    both_ways = distances["measure"].isin(symmetric) & distances["reference_id"].isna()
    back = distances[both_ways & (distances["source_task"] != distances["target_task"])]
    swapped = {"source_task": "target_task", "target_task": "base_task"}
    swapped |= {"source_images": "target_images", "target_images": "source_images"}
    return pd.concat([distances.rename(columns=names), back.rename(columns=swapped)], ignore_index=True)
