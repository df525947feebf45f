"""The grid of Yosinski et al. 2014: which trials a sweep consists of, and in which order they can run. No I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from raytransfer.specs import NetworkSpec, PretrainSpec, Recipe, TaskSpec, TransferSpec, TrialSpec

TREATMENTS = ("baseB", "BnB", "BnB+", "AnB", "AnB+", "RnB", "baseB-2x")
"""Yosinski et al. 2014, section 2, with two controls: RnB, layers 1..n random and frozen, and baseB-2x, a base that
trains for twice the steps, its schedule stretched: as many steps as the base and the fine-tuning of AnB+ together."""

DIRECTIONS = ("A->B", "B->A")


@dataclass(frozen=True, kw_only=True)
class Halving:
    """One way to halve a data set's classes.

    Attributes:
        halves: ``random``, or the name of the fixed pair.
        split: ``random0``, ``random1``, ..., or the name of the fixed pair.
        a: Class indices of the first half.
        b: Class indices of the second half.
    """

    halves: str
    split: str
    a: tuple[int, ...]
    b: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The place of one trial in the grid."""

    treatment: str
    halves: str
    split: str
    direction: str
    spec: TrialSpec


def cells(
    *,
    halving: Halving,
    task: Callable[[tuple[int, ...], int], TaskSpec],
    network: NetworkSpec,
    recipe: Recipe,
    treatments: Sequence[str],
    n_layers: Sequence[int],
    directions: Sequence[str],
    seeds: Sequence[int],
) -> list[Cell]:
    """All places of the grid at one split.

    All treatments of a (split, direction, seed) see the same images, and the transfers among them draw the same fresh
    weights and batches: that is what makes their differences paired.

    Args:
        halving: The split.
        task: From class indices and seed to the task.
        network: The network of every trial.
        recipe: The recipe of every trial.
        treatments: Which of ``TREATMENTS``.
        n_layers: Numbers of layers to copy.
        directions: Which of ``DIRECTIONS``.
        seeds: The repeats.
    """
    grid = []
    for direction in directions:
        source, target = (halving.a, halving.b) if direction == "A->B" else (halving.b, halving.a)
        for seed in seeds:
            base_a, base_b = (
                PretrainSpec(task=task(classes, seed), network=network, recipe=recipe, seed=seed)
                for classes in (source, target)
            )
            for treatment in treatments:
                grid += [
                    Cell(
                        treatment=treatment, halves=halving.halves, split=halving.split, direction=direction, spec=spec
                    )
                    for spec in _specs(treatment, base_a, base_b, n_layers)
                ]
    return grid


def _specs(treatment: str, base_a: PretrainSpec, base_b: PretrainSpec, n_layers: Sequence[int]) -> list[TrialSpec]:
    """The trials of one treatment at one (split, direction, seed)."""
    if treatment == "baseB":
        return [base_b]
    if treatment == "baseB-2x":
        recipe = base_b.recipe
        twice = replace(recipe, steps=2 * recipe.steps, warmup_steps=2 * recipe.warmup_steps)
        return [replace(base_b, recipe=twice)]
    base = {"A": base_a, "B": base_b, "R": None}[treatment[0]]
    return list(transfers(base, base_b, n_layers, frozen=not treatment.endswith("+")))


def transfers(
    base: PretrainSpec | None, target: PretrainSpec, n_layers: Sequence[int], *, frozen: bool
) -> list[TransferSpec]:
    """The transfers of a finished base at every n, trained as the target's own base is.

    Args:
        base: The base; None for layers left random.
        target: The target's own base: gives task, network, recipe and seed.
        n_layers: Numbers of layers to copy.
        frozen: Whether they stay as they are.
    """
    return [
        TransferSpec(
            base=base,
            pretrain_step=base.recipe.steps if base else None,
            task=target.task,
            network=target.network,
            recipe=target.recipe,
            n_layers=n,
            frozen=frozen,
            seed=target.seed,
        )
        for n in n_layers
    ]
