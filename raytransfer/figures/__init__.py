"""Pictures: DataFrame in, Matplotlib figure out. A figure selects and scales; what it shows is computed elsewhere."""

from raytransfer.figures.distance import (
    correlations_figure,
    dial_grid_figure,
    dials_figure,
    monotonicity_figure,
    transfer_figure,
)
from raytransfer.figures.grid import lines_figure, points_figure

__all__ = [
    "correlations_figure",
    "dial_grid_figure",
    "dials_figure",
    "lines_figure",
    "monotonicity_figure",
    "points_figure",
    "transfer_figure",
]
