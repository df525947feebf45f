"""Transfer along pretraining: from its configuration to a plan."""

from collections.abc import Sequence
from typing import Any

from raytransfer.config.rules import is_whole_number
from raytransfer.errors import UserError
from raytransfer.experiments.checkpoints.cells import (
    CheckpointCell,
    cells,
    scheduled,
    spaced_steps,
    with_drops,
)
from raytransfer.experiments.checkpoints.config import CheckpointsConfig
from raytransfer.experiments.checks import checked_setup
from raytransfer.experiments.design import base_recipe, make_design
from raytransfer.experiments.probing import with_probes
from raytransfer.sweep.plan import Plan, plan_of
from raytransfer.words import number_of


def make_plan(config: CheckpointsConfig) -> Plan[CheckpointCell, None]:
    """Open the data and lay out all bases, checkpoints and transfers, checking what can be checked before training.

    Raises:
        UserError: Something asked for cannot be done.
    """
    design = make_design(config)
    seeds = range(config.seeds)
    tasks = design.specs(seeds)
    setup = checked_setup(config, design.shape, {task.label_count for task in tasks})
    bases = base_recipe(config, setup.recipe)
    places = cells(
        design.pairs,
        setup=setup,
        base_recipes={name: scheduled(bases, name, config.base_milestones) for name in config.schedules},
        steps=_steps(config.base_checkpoints, bases.steps, milestones_of(config)),
        seeds=seeds,
    )
    accounts = _fewer(config.base_checkpoints, bases.steps)
    return plan_of(with_probes(places, config, design.shape), design.opened, None, accounts=accounts)


def _fewer(wanted: Any, steps: int) -> list[str]:
    """Say that a base has fewer different steps to transfer from than are asked for, if it has."""
    if not is_whole_number(wanted) or (there := len(spaced_steps(steps, wanted))) == wanted:
        return []
    return [
        f"base_checkpoints={wanted} gives {number_of(there, 'step')}: of {wanted} that are even on a logarithmic axis "
        f"of 1 to {steps:,}, some are the same whole number"
    ]


def milestones_of(config: CheckpointsConfig) -> list[float]:
    """Where the step schedule of a base drops; nowhere where no base has that schedule."""
    return config.base_milestones if "step" in config.schedules else []


def _steps(wanted: Any, steps: int, milestones: Sequence[float]) -> list[int]:
    """The steps of a base to transfer from."""
    if is_whole_number(wanted):
        if not 2 <= wanted <= 1000:
            raise UserError(f"base_checkpoints={wanted} must lie in 2..1000, the first and the last, or list steps")
        return with_drops(spaced_steps(steps, wanted), steps, milestones)
    if not isinstance(wanted, list) or len(wanted) < 2 or len({repr(step) for step in wanted}) < len(wanted):
        raise UserError(f"base_checkpoints={wanted} must be a number, or list at least two steps, each once")
    for step in wanted:
        if not is_whole_number(step) or not 0 <= step <= steps:
            raise UserError(f"base_checkpoints has {step}, which a base never reaches: it takes steps 0..{steps}")
    return with_drops(wanted, steps, milestones)
