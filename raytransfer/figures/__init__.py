"""Pictures: DataFrame in, Matplotlib figure out. A figure selects and scales; what it shows is computed elsewhere."""

from raytransfer.figures.distance import (
    correlations_figure,
    dial_grid_figure,
    dials_figure,
    monotonicity_figure,
    transfer_figure,
)
from raytransfer.figures.grid import lines_figure, points_figure
from raytransfer.figures.landscapes import landscape_figure, paths_figure
from raytransfer.figures.stages import stages_figure
from raytransfer.figures.theory import theory_figure
from raytransfer.figures.why import comparisons_figure, gradients_figure, training_figure

__all__ = [
    "comparisons_figure",
    "correlations_figure",
    "dial_grid_figure",
    "dials_figure",
    "gradients_figure",
    "landscape_figure",
    "lines_figure",
    "monotonicity_figure",
    "paths_figure",
    "points_figure",
    "stages_figure",
    "theory_figure",
    "training_figure",
    "transfer_figure",
]
