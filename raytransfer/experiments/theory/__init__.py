"""The two-layer theory of Liu et al. 2019."""

from raytransfer.experiments.base import Experiment
from raytransfer.experiments.theory.config import TheoryConfig

EXPERIMENT = Experiment(
    name="theory",
    script="two_layer_theory",
    question="How far does a wide two-layer network move, against the theory's bound? (Liu et al. 2019)",
    config=TheoryConfig,
)
