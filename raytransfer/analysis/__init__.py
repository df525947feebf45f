"""What finished trials say: DataFrame in, DataFrame out. Accuracies are fractions; nothing here trains."""

from raytransfer.analysis.association import COEFFICIENTS, correlations
from raytransfer.analysis.dials import dial_means, grid_means, monotonicity, outcome_monotonicity
from raytransfer.analysis.pairs import OUTCOMES
from raytransfer.analysis.response import curves, transfer_points
from raytransfer.analysis.transfer import BASES, READINGS, Boost, boost, boosts, readings, treatment_means
from raytransfer.analysis.variance import variance_of_dials, variance_of_distances
from raytransfer.analysis.yosinski2014 import yosinski2014

__all__ = [
    "BASES",
    "COEFFICIENTS",
    "OUTCOMES",
    "READINGS",
    "Boost",
    "boost",
    "boosts",
    "correlations",
    "curves",
    "dial_means",
    "grid_means",
    "monotonicity",
    "outcome_monotonicity",
    "readings",
    "transfer_points",
    "treatment_means",
    "variance_of_dials",
    "variance_of_distances",
    "yosinski2014",
]
