"""The grid of Yosinski et al. 2014."""

from raytransfer.experiments.base import Compared, Experiment
from raytransfer.experiments.yosinski.config import GridConfig

EXPERIMENT = Experiment(
    name="yosinski",
    script="yosinski_grid",
    question="How transferable are a network's features, layer by layer? (Yosinski et al. 2014)",
    config=GridConfig,
    compared=Compared(frame="results"),
)
