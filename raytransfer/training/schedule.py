"""Schedules of the learning rate, of releasing layers, and of evaluations."""

import math
from dataclasses import dataclass
from typing import Literal

from raytransfer.specs import Recipe


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A range of steps during which the same stages are frozen.

    Attributes:
        first: Steps done when it begins.
        last: Steps done when it ends.
        frozen: The frozen stages, counted from 0.
    """

    first: int
    last: int
    frozen: frozenset[int]


def phases(steps: int, frozen: frozenset[int], thaw: Literal["never", "halfway", "gradual"]) -> list[Phase]:
    """The phases of a training, in order; each has at least one step.

    Args:
        steps: Steps of the training.
        frozen: The stages that are frozen at first, counted from 0.
        thaw: As in ``raytransfer.specs.Surgery``; ``gradual`` releases the k-th of K frozen stages, from the top, after
            k/(2K) of the steps.
    """
    starts = {0: frozen}
    if thaw == "halfway":
        starts[steps // 2] = frozenset()
    elif thaw == "gradual":
        from_the_top = sorted(frozen, reverse=True)
        for released in range(1, len(frozen) + 1):  # if several fall on one step, the last replaces the others
            starts[released * steps // (2 * len(frozen))] = frozen.difference(from_the_top[:released])
    ends = [*list(starts)[1:], steps]
    return [Phase(first=first, last=last, frozen=starts[first]) for first, last in zip(starts, ends, strict=True)]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of optimiser step ``step`` (0 <= step < recipe.steps).

    Warm-up multiplies the schedule by (step + 1) / warmup_steps. The cosine falls from 1 at step 0 towards 0 at
    ``recipe.steps``. The step schedule multiplies by gamma at each milestone, rounded to a step.
    """
    factor = 1.0
    if recipe.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    elif recipe.schedule == "step":
        factor = recipe.gamma ** sum(step >= round(milestone * recipe.steps) for milestone in recipe.milestones)
    if step < recipe.warmup_steps:
        factor *= (step + 1) / recipe.warmup_steps
    return recipe.learning_rate * factor


def evaluation_steps(recipe: Recipe) -> list[int]:
    """The steps after which the network is evaluated: evenly spaced, with the last step among them."""
    count = min(recipe.evaluations, recipe.steps)
    return [round(recipe.steps * (i + 1) / count) for i in range(count)]
