"""Transfer along pretraining: which trials a sweep over the checkpoints of base runs consists of. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raytransfer.experiments.checks import Setup
from raytransfer.experiments.tasks import Pair
from raytransfer.specs import PretrainSpec, ProbeSpec, Recipe, Trained, TrialSpec
from raytransfer.specs.treatments import ANB, ANB_PLUS, BASE_A

_AFTER_DROP = 0.05  # of a base's steps: how long after a drop of the learning rate it is looked at again


@dataclass(frozen=True, kw_only=True)
class CheckpointCell:
    """The place of one trial in the sweep.

    Attributes:
        treatment: baseA, AnB, AnB+, or ``probe generalisation`` for the base's own accuracy at a step.
        schedule: Learning-rate schedule of the base.
        target: Name of the target task.
        target_block: Its data set.
        base: Name of the base task.
        seed: The repeat.
        n_layers: Layers copied; None for a base and its accuracy.
        step: Step of the base's checkpoint; None for the base.
        spec: The trial.
    """

    treatment: str
    schedule: str
    target: str
    target_block: str
    base: str
    seed: int
    n_layers: int | None = None
    step: int | None = None
    spec: TrialSpec


def scheduled(recipe: Recipe, schedule: str, milestones: Sequence[float]) -> Recipe:
    """The recipe of bases with a schedule of their own."""
    return replace(
        recipe,
        schedule=schedule,  # type: ignore[arg-type]  # one of the recipe's, as the configuration checks
        milestones=tuple(milestones) if schedule == "step" else (),
        gamma=recipe.gamma if schedule == "step" else Recipe.gamma,
    )


def transfer_recipe(recipe: Recipe) -> Recipe:
    """The recipe of a transfer: that of the sweep, whose ``gamma`` may be for bases alone."""
    return recipe if recipe.schedule == "step" else replace(recipe, gamma=Recipe.gamma)


def drops(steps: int, milestones: Sequence[float]) -> list[int]:
    """The last steps before each drop of a step schedule."""
    return [round(milestone * steps) for milestone in milestones]


def spaced_steps(steps: int, count: int) -> list[int]:
    """Up to ``count`` (at least 2) steps: 0, the untrained network, and ``steps`` down to 1 evenly on a log axis."""
    return sorted({0, *(round(step) for step in np.geomspace(steps, 1, count - 1))})


def with_drops(chosen: Sequence[int], steps: int, milestones: Sequence[float]) -> list[int]:
    """Steps to transfer from: those chosen, and for each drop the last before it and one some steps after it.

    All schedules share them, so that the effect of a drop can be told from that of the steps around it.
    """
    wait = max(1, round(_AFTER_DROP * steps))
    around = {step for drop in drops(steps, milestones) for step in (drop, min(drop + wait, steps))}
    return sorted({*chosen, *around})


def cells(
    pairs: Sequence[Pair],
    *,
    setup: Setup,
    base_recipes: Mapping[str, Recipe],
    steps: Sequence[int],
    seeds: Sequence[int],
) -> list[CheckpointCell]:
    """All places of a sweep over the checkpoints of bases.

    For each schedule, pair and seed: one base run; its own accuracy at each step; and from each step and cut a frozen
    (AnB) and a fine-tuned (AnB+) transfer, trained alike whatever the base's schedule.

    Args:
        pairs: What to transfer from and to.
        setup: Network and cuts of every trial, and the recipe of every transfer (``transfer_recipe``).
        base_recipes: The recipe of the bases, by schedule.
        steps: Steps of a base to transfer from.
        seeds: The repeats.
    """
    found: list[CheckpointCell] = []
    for schedule, trained_by in base_recipes.items():
        for pair in pairs:
            for seed in seeds:
                base = setup.pretraining(pair.base.spec(seed), seed, trained_by)
                found += _along(base, pair, schedule, setup, steps)
    return found


def _along(base: PretrainSpec, pair: Pair, schedule: str, setup: Setup, steps: Sequence[int]) -> list[CheckpointCell]:
    seed = base.seed
    target = setup.pretraining(pair.target.spec(seed), seed, transfer_recipe(setup.recipe))
    base_cell = CheckpointCell(
        treatment=BASE_A.name,
        schedule=schedule,
        base=pair.base.name,
        **pair.target.as_target(seed),
        spec=base,
    )
    found = [base_cell]
    for step in steps:
        accuracy = ProbeSpec(probe="generalisation", trained=base, step=step, seed=seed)
        found.append(replace(base_cell, treatment="probe generalisation", step=step, spec=accuracy))
        for treatment in (ANB, ANB_PLUS):
            for transfer in treatment.transfers(Trained(training=base, step=step), target, setup.n_layers):
                n = transfer.surgery.n_layers
                found.append(replace(base_cell, treatment=treatment.name, step=step, n_layers=n, spec=transfer))
    return found
