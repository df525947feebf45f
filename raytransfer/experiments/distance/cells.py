"""Transfer against distance: which trials a sweep over pairs of tasks consists of. No I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raytransfer.distances import DISTANCES
from raytransfer.experiments.checks import Setup
from raytransfer.experiments.tasks import NamedTask, Pair
from raytransfer.scores import SCORES
from raytransfer.specs import DistanceSpec, PretrainSpec, Recipe, ScoreSpec, TaskSpec, TrialSpec
from raytransfer.specs.treatments import ANB, ANB_PLUS, BASE_A, BASE_B, RNB


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is measured of every pair.

    Attributes:
        distances: Keys of ``raytransfer.distances.DISTANCES``.
        features: What distances of features compare: ``pixels``, ``probe`` (its outputs below the head) or both.
        scores: Keys of ``raytransfer.scores.SCORES``.
        images: Training images of a task that are looked at, at most.
        tree: The hierarchy of class names as canonical JSON, for the distance that takes one.
        same_labels: Whether the images of two tasks that are looked at with a seed have the same labels.
    """

    distances: Sequence[str]
    features: Sequence[str]
    scores: Sequence[str]
    images: int
    tree: str | None
    same_labels: Callable[[TaskSpec, TaskSpec, int], bool]


@dataclass(frozen=True, kw_only=True)
class PairCell:
    """The place of one trial in the sweep.

    Attributes:
        treatment: baseB, RnB, AnB, AnB+, distance, score, or baseA for a base that only others read.
        target: Name of the target task.
        target_block: Its block.
        base: Name of the base task; None for baseB and RnB.
        base_block: Its block.
        seed: The repeat.
        n_layers: Layers copied or passed; None where the value is the same for every n.
        measure: Name of the distance, with what it compares, or of the score; None for trainings.
        spec: The trial.
    """

    treatment: str
    target: str
    target_block: str
    base: str | None = None
    base_block: str | None = None
    seed: int
    n_layers: int | None = None
    measure: str | None = None
    spec: TrialSpec


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is the same for every pair.

    Attributes:
        setup: Network and cuts of every trial, and the recipe of every network of a target.
        base_recipe: The recipe of the bases.
        measures: What to measure; the probe is the target's baseB.
    """

    setup: Setup
    base_recipe: Recipe
    measures: Measures

    def own(self, target: NamedTask, seed: int) -> PretrainSpec:
        """The network of a target, from scratch."""
        return self.setup.pretraining(target.spec(seed), seed)

    def base(self, task: NamedTask, seed: int) -> PretrainSpec:
        """The base on a task."""
        return self.setup.pretraining(task.spec(seed), seed, self.base_recipe)


def cells(pairs: Sequence[Pair], layout: Layout, seeds: Sequence[int]) -> list[PairCell]:
    """All places of a sweep over pairs of tasks.

    For each seed: every target is trained from scratch (baseB) and on frozen random layers (RnB); every base is
    trained once, and copied into each of its targets, frozen (AnB) and fine-tuned (AnB+); every pair is measured, but
    not by distances that need the same labels where the labels differ. All runs of a target and a seed see the same
    images, and its transfers draw the same fresh weights and batches.

    Args:
        pairs: What to transfer from and to.
        layout: How.
        seeds: The repeats.
    """
    targets = {pair.target.name: pair.target for pair in pairs}
    found: list[PairCell] = []
    for seed in seeds:
        for target in targets.values():
            found += _controls(layout, target, seed)
        for pair in pairs:
            found += _transfers(layout, pair, seed) + _distances(layout, pair, seed) + _scores(layout, pair, seed)
    return found


def _controls(layout: Layout, target: NamedTask, seed: int) -> list[PairCell]:
    own = layout.own(target, seed)
    place = target.as_target(seed)
    cells = [PairCell(treatment=BASE_B.name, **place, spec=own)]
    return cells + [
        PairCell(treatment=RNB.name, **place, n_layers=spec.surgery.n_layers, spec=spec)
        for spec in RNB.transfers(None, own, layout.setup.n_layers)
    ]


def _transfers(layout: Layout, pair: Pair, seed: int) -> list[PairCell]:
    base, own = layout.base(pair.base, seed), layout.own(pair.target, seed)
    place = pair.place(seed)
    return [
        PairCell(treatment=BASE_A.name, **place, spec=base),
        *(
            PairCell(treatment=treatment.name, **place, n_layers=spec.surgery.n_layers, spec=spec)
            for treatment in (ANB, ANB_PLUS)
            for spec in treatment.transfers(base.weights, own, layout.setup.n_layers)
        ),
    ]


def _distances(layout: Layout, pair: Pair, seed: int) -> list[PairCell]:
    measures, own = layout.measures, layout.own(pair.target, seed)
    place = {"treatment": "distance"} | pair.place(seed)
    found = []
    for name in measures.distances:
        reads = DISTANCES[name].reads
        if DISTANCES[name].same_labels and not measures.same_labels(pair.base.spec(seed), own.task, seed):
            continue
        for compared in measures.features if reads == "features" else [reads]:
            reference = own.weights if compared == "probe" else None
            source, target = pair.base.spec(seed), own.task
            if reference is None and DISTANCES[name].symmetric:  # one trial then serves a pair and its reverse
                source, target = sorted((source, target), key=repr)
            spec = DistanceSpec(
                measure=name,
                source=source,
                target=target,
                reference=reference,
                n_layers=layout.setup.depth - 1 if compared == "probe" and reads == "features" else None,
                images=measures.images,
                seed=seed,
                tree=measures.tree if name == "tree" else None,
                revision=DISTANCES[name].revision,
            )
            shown = f"{name} of {compared}" if reads == "features" else name
            found.append(PairCell(**place, measure=shown, spec=spec))
    return found


def _scores(layout: Layout, pair: Pair, seed: int) -> list[PairCell]:
    measures, base, own = layout.measures, layout.base(pair.base, seed), layout.own(pair.target, seed)
    place = {"treatment": "score"} | pair.place(seed)
    found = []
    for name in measures.scores:
        reads = SCORES[name].reads
        for n in [None] if reads == "head" else layout.setup.n_layers:
            spec = ScoreSpec(
                measure=name,
                weights=base.weights,
                task=own.task,
                n_layers=n or layout.setup.depth,
                reference=own.weights if reads == "reference" else None,
                images=measures.images,
                seed=seed,
                revision=SCORES[name].revision,
            )
            found.append(PairCell(**place, n_layers=n, measure=name, spec=spec))
    return found
