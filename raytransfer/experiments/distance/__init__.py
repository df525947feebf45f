"""Transfer against the distance of tasks."""

from typing import TYPE_CHECKING, Any

from raytransfer.experiments.base import Compared, Experiment
from raytransfer.experiments.distance.config import DistanceConfig

if TYPE_CHECKING:
    from raytransfer.report import Report
    from raytransfer.store import Store
    from raytransfer.sweep.plan import Plan


def _plan(config: DistanceConfig) -> "Plan[Any, Any]":
    from raytransfer.experiments.distance.plan import make_plan

    return make_plan(config)


def _report(plan: "Plan[Any, Any]", store: "Store", config: DistanceConfig) -> "Report":
    from raytransfer.experiments.distance.report import make_report

    return make_report(plan, store, config)


EXPERIMENT = Experiment(
    name="distance",
    script="transfer_vs_distance",
    question="How far apart are two tasks, and does that predict transfer, at which layer?",
    config=DistanceConfig,
    plan=_plan,
    report=_report,
    compared=Compared(
        frame="outcomes",
        keys=("target", "base", "n_layers", "seed"),
        values=("AnB", "AnB+", "RnB", "boost"),
        by=("n_layers",),
    ),
)
