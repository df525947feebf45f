"""Transfer along the training of the base."""

from typing import TYPE_CHECKING, Any

from raytransfer.experiments.base import Compared, Experiment
from raytransfer.experiments.checkpoints.config import StageConfig

if TYPE_CHECKING:
    from raytransfer.report import Report
    from raytransfer.store import Store
    from raytransfer.sweep.plan import Plan


def _plan(config: StageConfig) -> "Plan[Any, Any]":
    from raytransfer.experiments.checkpoints.plan import make_plan

    return make_plan(config)


def _report(plan: "Plan[Any, Any]", store: "Store", config: StageConfig) -> "Report":
    from raytransfer.experiments.checkpoints.report import make_report

    return make_report(plan, store, config)


EXPERIMENT = Experiment(
    name="checkpoints",
    script="training_stage",
    question="Does transfer rise, then decline, along the training of the base? (Liu et al. 2019)",
    config=StageConfig,
    plan=_plan,
    report=_report,
    compared=Compared(
        frame="outcomes",
        keys=("treatment", "schedule", "target", "base", "n_layers", "seed", "pretrain_step"),
        values=("top1",),
        by=("treatment", "schedule", "n_layers", "pretrain_step"),
    ),
)
