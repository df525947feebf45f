"""Which pretrained checkpoint to start from: scores first, then transfers."""

from typing import TYPE_CHECKING, Any

from raytransfer.experiments.base import Compared, Experiment
from raytransfer.experiments.selection.config import SelectionConfig

if TYPE_CHECKING:
    from raytransfer.report import Report
    from raytransfer.store import Store
    from raytransfer.sweep.plan import Plan


def _plan(config: SelectionConfig) -> "Plan[Any, Any]":
    from raytransfer.experiments.selection.plan import make_plan

    return make_plan(config)


def _report(plan: "Plan[Any, Any]", store: "Store", config: SelectionConfig) -> "Report":
    from raytransfer.experiments.selection.report import make_report

    return make_report(plan, store, config)


EXPERIMENT = Experiment(
    name="selection",
    script="which_checkpoint",
    question="From which of several pretrained checkpoints should one start, cut where, and does a score foresee it?",
    config=SelectionConfig,
    plan=_plan,
    report=_report,
    compared=Compared(
        frame="outcomes",
        keys=("treatment", "checkpoint", "target", "seed", "n_layers"),
        values=("top1",),
        by=("treatment", "checkpoint", "n_layers"),
    ),
)
