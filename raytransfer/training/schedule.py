"""When the learning rate changes, when layers are released, and when the network is evaluated."""

import math
from dataclasses import dataclass
from typing import Literal

from raytransfer.specs import Recipe


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps of a training during which the same stages are frozen.

    Attributes:
        first: Steps done when it begins.
        last: Steps done when it ends.
        frozen: The frozen stages, counted from 0.
    """

    first: int
    last: int
    frozen: frozenset[int]


def phases(steps: int, frozen: frozenset[int], thaw: Literal["never", "halfway", "gradual"]) -> list[Phase]:
    """The phases of a training, in order; each has a step.

    Args:
        steps: Steps of the training.
        frozen: The stages that are frozen when it begins, counted from 0.
        thaw: As in ``raytransfer.specs.Surgery``; ``gradual`` releases stage k of K from the top after k/(2K) of the
            steps.
    """
    starts = {0: frozen}
    if thaw == "halfway":
        starts[steps // 2] = frozenset()
    elif thaw == "gradual":
        from_the_top = sorted(frozen, reverse=True)
        for released in range(1, len(frozen) + 1):  # of several at one step, the last counts
            starts[released * steps // (2 * len(frozen))] = frozen.difference(from_the_top[:released])
    ends = [*list(starts)[1:], steps]
    return [Phase(first=first, last=last, frozen=starts[first]) for first, last in zip(starts, ends, strict=True)]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of optimiser step ``step`` (0 <= step < recipe.steps).

    Warm-up multiplies the schedule by (step + 1) / warmup_steps; the cosine falls from 1 at step 0 towards 0 at
    ``recipe.steps``; the step schedule multiplies by gamma from each milestone's step, rounded, on.
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
    """The steps after which the network is evaluated: evenly spaced, the last step included."""
    count = min(recipe.evaluations, recipe.steps)
    return [round(recipe.steps * (i + 1) / count) for i in range(count)]
