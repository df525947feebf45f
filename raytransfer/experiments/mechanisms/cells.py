"""Why features transfer: which trials a sweep of fine-tuned against scratch networks consists of. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raytransfer.distances import DISTANCES
from raytransfer.experiments.checks import Setup
from raytransfer.experiments.probing import TWIN
from raytransfer.experiments.tasks import NamedTask, Pair
from raytransfer.specs import DistanceSpec, PretrainSpec, ProbeSpec, Recipe, Trained, TrialSpec, Weights
from raytransfer.specs.dependencies import needs
from raytransfer.specs.treatments import ANB_PLUS, BASE_B

RESTART = "restart"
"""A network from scratch whose first layers start from the weights that another began with: see ``basins``."""


@dataclass(frozen=True, kw_only=True)
class MechanismCell:
    """The place of one trial in the sweep.

    Attributes:
        treatment: baseB (from scratch), AnB+ (fine-tuned), restart, distance, or probe and its name.
        target: Name of the target task.
        target_block: Its data set.
        base: Name of the base task, or what a dial does to the target to make it, which is one name for all targets;
            None for baseB.
        seed: The repeat.
        n_layers: Layers copied, for a restart from baseB's step 0; None for baseB and distances.
        spec: The trial.
    """

    treatment: str
    target: str
    target_block: str
    base: str | None = None
    seed: int
    n_layers: int | None = None
    spec: TrialSpec


def cells(
    targets: Sequence[NamedTask],
    pairs: Sequence[Pair],
    *,
    setup: Setup,
    base_recipe: Recipe,
    seeds: Sequence[int],
    distance: str,
    images: int,
    weights: Weights | None = None,
) -> list[MechanismCell]:
    """All places but those of probes.

    For each seed, every target is trained from scratch, every base is fine-tuned to it from each cut, and the distance
    of every pair is measured. All networks of a target and a seed see the same images, and the fine-tuned ones draw the
    same fresh weights and batches.

    Args:
        targets: What to transfer to.
        pairs: What to transfer from, to each of them; none where there are ``weights``.
        setup: Network and cuts of every trial, and the recipe of every network of a target.
        base_recipe: The recipe of the bases.
        seeds: The repeats.
        distance: Key of ``raytransfer.distances.DISTANCES``.
        images: Training images of each task that the distance looks at, at most.
        weights: Weights of others, from which every target is fine-tuned in place of the bases; None for none. Of their
            task there are no images, and so no distance.
    """
    found: list[MechanismCell] = []
    for seed in seeds:
        for target_task in targets:
            target = setup.pretraining(target_task.spec(seed), seed)
            place = target_task.as_target(seed)
            found.append(MechanismCell(treatment=BASE_B.name, **place, spec=target))
            starts = [] if weights is None else [(weights.label, weights)]
            for task in (pair.base for pair in pairs if pair.target == target_task):
                base = setup.pretraining(task.spec(seed), seed, base_recipe)
                name = task.setting or task.name
                starts.append((name, base.weights))
                between = _distance(distance, base, target, images)
                found.append(MechanismCell(treatment="distance", **place, base=name, spec=between))
            found += [
                MechanismCell(treatment=ANB_PLUS.name, **place, base=name, n_layers=spec.surgery.n_layers, spec=spec)
                for name, start in starts
                for spec in ANB_PLUS.transfers(start, target, setup.n_layers)
            ]
    return found


def _distance(name: str, base: PretrainSpec, target: PretrainSpec, images: int) -> DistanceSpec:
    source, goal = base.task, target.task
    if DISTANCES[name].symmetric:  # one trial then serves a pair and its reverse
        source, goal = sorted((source, goal), key=repr)
    revision = DISTANCES[name].revision
    return DistanceSpec(measure=name, source=source, target=goal, images=images, seed=target.seed, revision=revision)


def basins(places: Sequence[MechanismCell], n: int) -> list[MechanismCell]:
    """The places that tell whether two networks share a basin because they share a start.

    Twins of a base start with the same layers 1..n, those of the base; twins from scratch share none. So two more pairs
    are trained at the cut n, for each trial of the probe ``path``:

    - from scratch with one start: *restarts*, whose layers 1..n begin with the weights that baseB began with, and whose
      other layers and batches are drawn anew, as those of fine-tuned twins are;
    - fine-tuned with two starts: a network and its *cousin*, which was fine-tuned from the twin of the base.

    Args:
        places: The sweep's, with those of probes.
        n: The cut.
    """
    found: list[MechanismCell] = []
    for cell in places:
        look = cell.spec
        if not isinstance(look, ProbeSpec) or look.probe != "path":
            continue
        trained, last = look.trained, look.trained.recipe.steps
        if isinstance(trained, PretrainSpec):
            own = Trained(training=trained, step=0)
            (restart,) = ANB_PLUS.transfers(own, trained, [n])
            twin = replace(restart, seed=restart.seed + TWIN)
            look = replace(look, trained=restart, other=Trained(training=twin, step=last))
            place = replace(cell, n_layers=n)
            found += [replace(place, treatment=RESTART, spec=restart), replace(place, spec=look)]
        elif trained.surgery.n_layers == n:
            for copied in needs(trained):
                base = replace(copied.training, seed=copied.training.seed + TWIN)
                start = replace(copied, training=base)
                cousin = replace(trained, weights=start, seed=trained.seed + TWIN)
                other = Trained(training=cousin, step=last)
                found.append(replace(cell, spec=replace(look, against="cousin", other=other)))
    return found
