"""What of a plan is left to do, given what a store holds."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytransfer.errors import UserError
from raytransfer.specs import TrialSpec
from raytransfer.specs.dependencies import checkpoints_read, imports
from raytransfer.store import Store, all_checkpoints, failures, finished, imported
from raytransfer.sweep.plan import Cell, Plan

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """How a plan stands in a store.

    Attributes:
        to_run: Trials to run by identity, in the plan's order.
        failed: Trials that failed before and are left alone, with the reason.
        blocked: Trials that read the weights of one that failed before, or of one that is blocked itself.
        unfinished: Trials without results. ``to_run`` may also hold finished ones, whose weights are gone.
    """

    to_run: dict[str, TrialSpec]
    failed: dict[str, str]
    blocked: set[str]
    unfinished: set[str]


def backlog(plan: Plan[Cell, Any], store: Store, mode: str) -> Backlog:
    """What of a plan is to run, given what the store holds and the mode (``SweepConfig.mode``).

    A finished training whose weights are gone runs again if a trial that is to run reads them. The store is asked once
    for each thing.

    Raises:
        UserError: Imported weights that a trial reads are not in the store: nothing can make them anew.
    """
    done = set() if mode == "force" else finished(store)
    recorded = failures(store)
    missing = {trial for trial in plan.trials if trial not in done or trial in recorded}
    wanted = imports(plan.trials[trial] for trial in missing)
    for digest in sorted(wanted.keys() - plan.imports.keys() - (imported(store) if wanted else set())):
        raise UserError(f"weights {wanted[digest].label} ({digest}) are not in out={store.root}: import them again")
    reads = {trial: checkpoints_read(spec) for trial, spec in plan.trials.items()} if missing else {}
    missing, _ = left_to_run(missing, reads, all_checkpoints(store) if missing else ())
    failed = {} if mode in ("force", "retry") else {t: error for t, error in recorded.items() if t in missing}
    blocked = waiting(missing - failed.keys(), reads, failed)
    out = missing - failed.keys() - blocked
    return Backlog(
        to_run={t: s for t, s in plan.trials.items() if t in out},
        failed=failed,
        blocked=blocked,
        unfinished=plan.trials.keys() - done,
    )


def reads_of(places: Iterable["pd.DataFrame"]) -> dict[str, list[str]]:
    """The checkpoints that each trial of sweeps reads, as IDENTITY/STEP, by the sweeps' tables ``places``."""
    return {trial: list(read) for rows in places for trial, read in zip(rows["id"], rows["reads"], strict=True)}


def left_to_run(
    missing: Collection[str], reads: Mapping[str, Collection[str]], stored: Collection[str]
) -> tuple[set[str], set[str]]:
    """What is left to run, as some trials are missing.

    Args:
        missing: The trials.
        reads: The checkpoints that they, and those that may have to run again, read, as IDENTITY/STEP.
        stored: The checkpoints that are there.

    Returns:
        The trials, those included that run again for their weights, and the checkpoints that they read.
    """
    left, there = set(missing), set(stored)
    while True:  # a training that runs again for its weights reads those of its own base
        read = {weights for trial in left for weights in reads[trial]}
        again = {weights.partition("/")[0] for weights in read - there} & reads.keys() - left
        if not again:
            return left, read
        left |= again


def waiting(left: Collection[str], reads: Mapping[str, Collection[str]], failed: Collection[str]) -> set[str]:
    """Those of the trials left that cannot start, as what they read the weights of failed, or cannot start either."""
    trainings = {trial: {weights.partition("/")[0] for weights in reads[trial]} for trial in left}
    stuck = set(failed)
    while more := {trial for trial in trainings.keys() - stuck if trainings[trial] & stuck}:
        stuck |= more
    return stuck - set(failed)
