"""The grid of Yosinski et al. 2014."""

from typing import TYPE_CHECKING, Any

from raytransfer.experiments.base import Compared, Experiment
from raytransfer.experiments.yosinski.config import GridConfig

if TYPE_CHECKING:
    from raytransfer.report import Report
    from raytransfer.store import Store
    from raytransfer.sweep.plan import Plan


def _plan(config: GridConfig) -> "Plan[Any, Any]":
    from raytransfer.experiments.yosinski.plan import make_plan

    return make_plan(config)


def _report(plan: "Plan[Any, Any]", store: "Store", config: GridConfig) -> "Report":
    from raytransfer.experiments.yosinski.report import make_report

    return make_report(plan, store, config)


EXPERIMENT = Experiment(
    name="yosinski",
    script="yosinski_grid",
    question="How transferable are a network's features, layer by layer? (Yosinski et al. 2014)",
    config=GridConfig,
    plan=_plan,
    report=_report,
    compared=Compared(frame="results"),
)
