"""What of a plan is left to do, given what a store holds."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytransfer.errors import UserError
from raytransfer.specs import TrialSpec
from raytransfer.specs.dependencies import checkpoint_steps, imports, needs
from raytransfer.store import Store, all_checkpoint_steps, failures, finished, imported
from raytransfer.sweep.plan import Cell, Plan

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """How a plan stands in a store.

    Attributes:
        to_run: Trials to run by identity, in the plan's order.
        failed: Trials that failed before and are left alone, with the reason.
        blocked: Trials that read the weights of one that failed before.
    """

    to_run: dict[str, TrialSpec]
    failed: dict[str, str]
    blocked: list[str]


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
    stored = all_checkpoint_steps(store) if missing else {}
    reading = missing
    while reading:  # a training that runs again for its weights reads those of its own base
        steps = checkpoint_steps(plan.trials[trial] for trial in reading)
        reading = {t for t, read in steps.items() if t not in missing and not read <= stored.get(t, set())}
        missing |= reading
    failed = {} if mode in ("force", "retry") else {t: error for t, error in recorded.items() if t in missing}
    blocked: dict[str, None] = {}
    while waiting := [t for t in missing - {*failed, *blocked} if _reads_one_of(plan.trials[t], {*failed, *blocked})]:
        blocked |= dict.fromkeys(waiting)
    out = missing - {*failed, *blocked}
    return Backlog(to_run={t: s for t, s in plan.trials.items() if t in out}, failed=failed, blocked=[*blocked])


def left_to_run(
    places: Iterable["pd.DataFrame"], done: Collection[str], stored: Collection[str]
) -> tuple[set[str], set[str]]:
    """What of sweeps is left to run, by their tables ``places`` alone.

    Args:
        places: Of each sweep its places.
        done: Trials that have finished.
        stored: Checkpoints that are there, as IDENTITY/STEP.

    Returns:
        The trials, those included that run again for their weights, and the checkpoints that they read.
    """
    reads: dict[str, set[str]] = {}
    for rows in places:
        reads |= {trial: set(read) for trial, read in zip(rows["id"], rows["reads"], strict=True)}
    left = reads.keys() - set(done)
    while True:  # a training that runs again for its weights reads those of its own base
        read = {weights for trial in left for weights in reads[trial]}
        again = {weights.partition("/")[0] for weights in read - set(stored)} & reads.keys() - left
        if not again:
            return left, read
        left |= again


def _reads_one_of(spec: TrialSpec, trials: Collection[str]) -> bool:
    return any(weights.training.id in trials for weights in needs(spec))
