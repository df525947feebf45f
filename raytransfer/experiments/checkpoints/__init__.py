"""Transfer along the training of the base."""

from raytransfer.experiments.base import Compared, Experiment
from raytransfer.experiments.checkpoints.config import CheckpointsConfig

EXPERIMENT = Experiment(
    name="checkpoints",
    script="training_stage",
    question="Does transfer rise, then decline, along the training of the base? (Liu et al. 2019)",
    config=CheckpointsConfig,
    compared=Compared(
        frame="outcomes",
        keys=("treatment", "schedule", "target", "base", "n_layers", "seed", "pretrain_step"),
        values=("top1",),
        by=("treatment", "schedule", "n_layers", "pretrain_step"),
    ),
)
