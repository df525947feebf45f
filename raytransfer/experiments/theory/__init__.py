"""The two-layer theory of Liu et al. 2019."""

from typing import TYPE_CHECKING, Any

from raytransfer.experiments.base import Experiment
from raytransfer.experiments.theory.config import TheoryConfig

if TYPE_CHECKING:
    from raytransfer.report import Report
    from raytransfer.store import Store
    from raytransfer.sweep.plan import Plan


def _plan(config: TheoryConfig) -> "Plan[Any, Any]":
    from raytransfer.experiments.theory.plan import make_plan

    return make_plan(config)


def _report(plan: "Plan[Any, Any]", store: "Store", config: TheoryConfig) -> "Report":
    from raytransfer.experiments.theory.report import make_report

    return make_report(plan, store, config)


EXPERIMENT = Experiment(
    name="theory",
    script="two_layer_theory",
    question="How far does a wide two-layer network move, against the theory's bound? (Liu et al. 2019)",
    config=TheoryConfig,
    plan=_plan,
    report=_report,
)
