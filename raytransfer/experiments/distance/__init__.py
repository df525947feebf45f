"""Transfer against the distance of tasks."""

from raytransfer.experiments.base import Compared, Experiment
from raytransfer.experiments.distance.config import DistanceConfig

EXPERIMENT = Experiment(
    name="distance",
    script="transfer_vs_distance",
    question="How far apart are two tasks, and does that predict transfer, at which layer?",
    config=DistanceConfig,
    compared=Compared(
        frame="outcomes",
        keys=("target", "base", "n_layers", "seed"),
        values=("AnB", "AnB+", "RnB", "boost"),
        by=("n_layers",),
    ),
)
