"""The experiments: a folder each, and a line here."""

from typing import Any

from raytransfer.experiments import checkpoints, distance, mechanisms, selection, theory, yosinski
from raytransfer.experiments.base import Experiment

__all__ = ["EXPERIMENTS", "Experiment"]

EXPERIMENTS: dict[str, Experiment[Any]] = {
    experiment.name: experiment
    for experiment in (
        yosinski.EXPERIMENT,
        distance.EXPERIMENT,
        checkpoints.EXPERIMENT,
        mechanisms.EXPERIMENT,
        theory.EXPERIMENT,
        selection.EXPERIMENT,
    )
}
"""Every experiment by its name."""
