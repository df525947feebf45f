"""The kinds of trials: for each the spec that says what to do, the table of its rows, and what does it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raytransfer.specs import (
    DistanceSpec,
    PretrainSpec,
    ProbeSpec,
    ScoreSpec,
    SimulationSpec,
    TaskSpec,
    TransferSpec,
    TrialSpec,
)
from raytransfer.trials.site import Site


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a trial is told beside its spec and site.

    Attributes:
        checkpoint_steps: For a training, the steps whose weights other trials need.
        stop: Asked after each step of a training whether to stop.
    """

    checkpoint_steps: frozenset[int]
    stop: Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Look:
    """A draw of a task's training images that a measurement looks at, and what it needs of it.

    Attributes:
        measure: Name of the distance, score or probe.
        task: The task.
        images: How many are drawn, at most; None for all.
        seed: Seed of the draw.
        least_labels: Labels of which two images or more have to be among them: others are left out.
        least_images: Images that have to be there, whatever their labels.
    """

    measure: str
    task: TaskSpec
    images: int | None
    seed: int
    least_labels: int = 0
    least_images: int = 1


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of trial.

    Attributes:
        spec: Its spec, whose ``kind`` is its name.
        table: The store's table of its rows.
        trains: Whether it is a training: those may compute in TF32 on a GPU, and need none of the measures' libraries.
        run: Does what a spec says and publishes what came out.
        looks: The draws of images that a spec's measurement cannot do without, for what is checked before it runs.
    """

    spec: type[Any]
    table: str
    trains: bool = False
    run: Callable[[Any, Site, Orders], None]
    looks: Callable[[Any], list[Look]] = lambda _: []


# The measures' libraries take a second to import, and many workers only train: each is imported when it is needed.


def _training(spec: Any, site: Site, orders: Orders) -> None:
    from raytransfer.trials.splitting import run_split
    from raytransfer.trials.training import run_training

    if (ranks := site.ranks_of(spec)) > 1:
        run_split(spec, site, orders.checkpoint_steps, orders.stop, ranks)
    else:
        run_training(spec, site, orders.checkpoint_steps, orders.stop)


def _distance(spec: DistanceSpec, site: Site, _: Orders) -> None:
    from raytransfer.trials.measuring import run_distance

    run_distance(spec, site)


def _distance_looks(spec: DistanceSpec) -> list[Look]:
    from raytransfer.distances import DISTANCES

    least = DISTANCES[spec.measure].least_labels
    return [
        Look(measure=spec.measure, task=task, images=spec.images, seed=spec.seed, least_labels=least)
        for task in (spec.source, spec.target)
    ]


def _score(spec: ScoreSpec, site: Site, _: Orders) -> None:
    from raytransfer.trials.measuring import run_score

    run_score(spec, site)


def _score_looks(spec: ScoreSpec) -> list[Look]:
    from raytransfer.scores.representation import LEAST_LABELS

    return [Look(measure=spec.measure, task=spec.task, images=spec.images, seed=spec.seed, least_labels=LEAST_LABELS)]


def _probe(spec: ProbeSpec, site: Site, _: Orders) -> None:
    from raytransfer.trials.probing import run_probe

    run_probe(spec, site)


def _probe_looks(spec: ProbeSpec) -> list[Look]:
    from raytransfer.probes import PROBES

    least = PROBES[spec.probe].least_images
    return [Look(measure=spec.probe, task=spec.trained.task, images=spec.images, seed=spec.seed, least_images=least)]


def _simulation(spec: SimulationSpec, site: Site, _: Orders) -> None:
    from raytransfer.trials.simulating import run_simulation

    run_simulation(spec, site)


KINDS: dict[str, Kind] = {
    kind.spec.kind: kind
    for kind in (
        Kind(spec=PretrainSpec, table="trials", trains=True, run=_training),
        Kind(spec=TransferSpec, table="trials", trains=True, run=_training),
        Kind(spec=DistanceSpec, table="distances", run=_distance, looks=_distance_looks),
        Kind(spec=ScoreSpec, table="scores", run=_score, looks=_score_looks),
        Kind(spec=ProbeSpec, table="probes", run=_probe, looks=_probe_looks),
        Kind(spec=SimulationSpec, table="simulations", run=_simulation),
    )
}
"""Every kind of trial by the ``kind`` of its spec."""


def kind_of(spec: TrialSpec) -> Kind:
    """The kind of a trial."""
    return KINDS[spec.kind]
