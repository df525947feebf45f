"""Which checkpoint to start from: which trials the sweep consists of. No I/O."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from raytransfer.experiments.checks import Setup
from raytransfer.scores import SCORES
from raytransfer.specs import ScoreSpec, TaskSpec, TrialSpec, Weights
from raytransfer.specs.treatments import TREATMENTS


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A checkpoint to start from, as its trials see it.

    Attributes:
        name: What tables call it.
        weights: What is copied and scored.
        setup: Its network and cuts, and the recipe of its trainings.
        tasks: By target and seed.
    """

    name: str
    weights: Weights
    setup: Setup
    tasks: dict[tuple[str, int], TaskSpec]


@dataclass(frozen=True, kw_only=True)
class SelectionCell:
    """The place of one trial in the sweep.

    Attributes:
        treatment: baseB, RnB, AnB, AnB+ or score.
        checkpoint: Name of the checkpoint; for baseB and RnB, the one whose network it is.
        target: Name of the target.
        seed: The repeat.
        n_layers: Layers copied or passed; None for baseB, and for a score of the whole network.
        measure: Name of the score; None for trainings.
        spec: The trial.
    """

    treatment: str
    checkpoint: str
    target: str
    seed: int
    n_layers: int | None = None
    measure: str | None = None
    spec: TrialSpec


def trainings(candidate: Candidate, treatments: Collection[str]) -> list[SelectionCell]:
    """What is trained of one checkpoint.

    For each target and seed: its network from scratch, and at each cut transfers of it and of random layers, which all
    see the same images; the transfers draw the same fresh weights and batches.

    Args:
        candidate: The checkpoint.
        treatments: Which of ``raytransfer.specs.treatments.TREATMENTS``.

    Raises:
        UserError: No cut leaves a treatment room below the head.
    """
    setup = candidate.setup
    found: list[SelectionCell] = []
    for (target, seed), task in candidate.tasks.items():
        own = setup.pretraining(task, seed)
        place = SelectionCell(treatment="", checkpoint=candidate.name, target=target, seed=seed, spec=own)
        for treatment in (TREATMENTS[name] for name in treatments):
            if treatment.source is None:
                found.append(replace(place, treatment=treatment.name))
                continue
            weights = None if treatment.source == "random" else candidate.weights
            transfers = treatment.transfers(weights, own, treatment.cuts(setup.n_layers, setup.depth))
            found += [
                replace(place, treatment=treatment.name, n_layers=spec.surgery.n_layers, spec=spec)
                for spec in transfers
            ]
    return found


def scored(candidate: Candidate, scores: Sequence[str], images: int) -> list[SelectionCell]:
    """The scores of one checkpoint on every target, at every cut and before the head.

    Args:
        candidate: The checkpoint.
        scores: Keys of ``raytransfer.scores.SCORES``.
        images: Training images of a target that are looked at, at most.
    """
    depth = candidate.setup.depth
    return [
        SelectionCell(
            treatment="score",
            checkpoint=candidate.name,
            target=target,
            seed=seed,
            n_layers=n,
            measure=name,
            spec=ScoreSpec(
                measure=name,
                weights=candidate.weights,
                task=task,
                n_layers=n or depth,
                images=images,
                seed=seed,
                revision=SCORES[name].revision,
            ),
        )
        for (target, seed), task in candidate.tasks.items()
        for name in scores
        for n in ([None] if SCORES[name].reads == "head" else sorted({*candidate.setup.n_layers, depth - 1}))
    ]
