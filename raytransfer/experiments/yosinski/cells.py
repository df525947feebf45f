"""The grid of Yosinski et al. 2014: which trials a sweep consists of, and in which order they can run. No I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raytransfer.experiments.checks import Setup
from raytransfer.specs import PretrainSpec, TaskSpec, TrialSpec, Weights
from raytransfer.specs.treatments import TREATMENTS, Treatment


@dataclass(frozen=True, kw_only=True)
class Halving:
    """One way to halve a data set's classes.

    Attributes:
        halves: ``random``, the name of a pair, or its two lists of classes.
        split: ``random0``, ``random1``, ..., or the same as ``halves``.
        a: Class indices of the first half.
        b: Class indices of the second half.
    """

    halves: str
    split: str
    a: tuple[int, ...]
    b: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """The place of one trial in the grid; ``train_per_class`` is None where the grid has one number of images alone."""

    treatment: str
    halves: str
    split: str
    direction: str
    train_per_class: int | None = None
    spec: TrialSpec


def cells(
    *,
    halving: Halving,
    task: Callable[[tuple[int, ...], int], TaskSpec],
    setup: Setup,
    treatments: Sequence[str],
    directions: Sequence[str],
    seeds: Sequence[int],
    weights: Weights | None = None,
    train_per_class: int | None = None,
) -> list[GridCell]:
    """All places of the grid at one split.

    All treatments of a (split, direction, seed) see the same images, and the transfers among them draw the same fresh
    weights and batches: that is what makes their differences paired.

    Args:
        halving: The split.
        task: From class indices and seed to the task.
        setup: Network, cuts and recipe of every trial. A treatment that preserves layers above n takes the cuts that
            leave it room.
        treatments: Which of ``TREATMENTS``.
        directions: Which of ``DIRECTIONS``.
        seeds: The repeats.
        weights: Weights of others that stand in for those of base A; None for none.
        train_per_class: As the cells have it.

    Raises:
        UserError: No cut leaves a treatment room below the head.
    """
    grid = []
    for direction in directions:
        source, target = (halving.a, halving.b) if direction == "A->B" else (halving.b, halving.a)
        for seed in seeds:
            base_a, base_b = (setup.pretraining(task(classes, seed), seed) for classes in (source, target))
            for treatment in treatments:
                grid += [
                    GridCell(
                        treatment=treatment,
                        halves=halving.halves,
                        split=halving.split,
                        direction=direction,
                        train_per_class=train_per_class,
                        spec=spec,
                    )
                    for spec in _specs(TREATMENTS[treatment], weights or base_a.weights, base_b, setup)
                ]
    return grid


def _specs(treatment: Treatment, other: Weights, base_b: PretrainSpec, setup: Setup) -> Sequence[TrialSpec]:
    """The trials of one treatment at one (split, direction, seed)."""
    if treatment.source is None:
        return [treatment.base(base_b)]
    weights = {"other": other, "target": base_b.weights}.get(treatment.source)
    return treatment.transfers(weights, base_b, treatment.cuts(setup.n_layers, setup.depth))
