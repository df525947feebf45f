"""When the learning rate changes and when the network is evaluated."""

import math

from raytransfer.specs import Recipe


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
