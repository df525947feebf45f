"""Which pretrained checkpoint to start from: scores first, then transfers."""

from raytransfer.experiments.base import Compared, Experiment
from raytransfer.experiments.selection.config import SelectionConfig

EXPERIMENT = Experiment(
    name="selection",
    script="which_checkpoint",
    question="From which of several pretrained checkpoints should one start, cut where, and does a score foresee it?",
    config=SelectionConfig,
    compared=Compared(
        frame="outcomes",
        keys=("treatment", "checkpoint", "target", "seed", "n_layers"),
        values=("top1",),
        by=("treatment", "checkpoint", "n_layers"),
    ),
)
