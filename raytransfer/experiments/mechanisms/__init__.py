"""Why features transfer: the mechanisms of Liu et al. 2019."""

from typing import TYPE_CHECKING, Any

from raytransfer.experiments.base import Experiment
from raytransfer.experiments.mechanisms.config import WhyConfig

if TYPE_CHECKING:
    from raytransfer.report import Report
    from raytransfer.store import Store
    from raytransfer.sweep.plan import Plan


def _plan(config: WhyConfig) -> "Plan[Any, Any]":
    from raytransfer.experiments.mechanisms.plan import make_plan

    return make_plan(config)


def _report(plan: "Plan[Any, Any]", store: "Store", config: WhyConfig) -> "Report":
    from raytransfer.experiments.mechanisms.report import make_report

    return make_report(plan, store, config)


EXPERIMENT = Experiment(
    name="mechanisms",
    script="why_transfer",
    question="Why do features transfer: flatness, nearness, gradients, basins? (Liu et al. 2019)",
    config=WhyConfig,
    plan=_plan,
    report=_report,
)
