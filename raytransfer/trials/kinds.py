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
    TransferSpec,
    TrialSpec,
)
from raytransfer.training import never
from raytransfer.trials.site import Site


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a trial is told beside its spec and site.

    Attributes:
        checkpoint_steps: For a training, the steps whose weights other trials need.
        stop: Asked after each step of a training whether to stop.
    """

    checkpoint_steps: frozenset[int] = frozenset()
    stop: Callable[[], bool] = never


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of trial.

    Attributes:
        spec: Its spec, whose ``kind`` is its name.
        table: The store's table of its rows.
        trains: Whether it is a training: those may compute in TF32 on a GPU, and need none of the measures' libraries.
        run: Does what a spec says and publishes what came out.
    """

    spec: type[Any]
    table: str
    trains: bool = False
    run: Callable[[Any, Site, Orders], None]


# The measures' libraries take a second to import, and many workers only train: each is imported when it is needed.


def _training(spec: Any, site: Site, orders: Orders) -> None:
    from raytransfer.trials.training import run_training

    run_training(spec, site, orders.checkpoint_steps, orders.stop)


def _distance(spec: DistanceSpec, site: Site, _: Orders) -> None:
    from raytransfer.trials.measuring import run_distance

    run_distance(spec, site)


def _score(spec: ScoreSpec, site: Site, _: Orders) -> None:
    from raytransfer.trials.measuring import run_score

    run_score(spec, site)


def _probe(spec: ProbeSpec, site: Site, _: Orders) -> None:
    from raytransfer.trials.probing import run_probe

    run_probe(spec, site)


def _simulation(spec: SimulationSpec, site: Site, _: Orders) -> None:
    from raytransfer.trials.simulating import run_simulation

    run_simulation(spec, site)


KINDS: dict[str, Kind] = {
    kind.spec.kind: kind
    for kind in (
        Kind(spec=PretrainSpec, table="trials", trains=True, run=_training),
        Kind(spec=TransferSpec, table="trials", trains=True, run=_training),
        Kind(spec=DistanceSpec, table="distances", run=_distance),
        Kind(spec=ScoreSpec, table="scores", run=_score),
        Kind(spec=ProbeSpec, table="probes", run=_probe),
        Kind(spec=SimulationSpec, table="simulations", run=_simulation),
    )
}
"""Every kind of trial by the ``kind`` of its spec."""


def kind_of(spec: TrialSpec) -> Kind:
    """The kind of a trial."""
    return KINDS[spec.kind]
