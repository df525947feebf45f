"""Why features transfer: the mechanisms of Liu et al. 2019."""

from raytransfer.experiments.base import Experiment
from raytransfer.experiments.mechanisms.config import MechanismsConfig

EXPERIMENT = Experiment(
    name="mechanisms",
    script="why_transfer",
    question="Why do features transfer: flatness, nearness, gradients, basins? (Liu et al. 2019)",
    config=MechanismsConfig,
)
