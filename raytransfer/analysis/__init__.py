"""What finished trials say: DataFrame in, DataFrame out. Accuracies are fractions; nothing here trains."""

from raytransfer.analysis.association import COEFFICIENTS, correlations
from raytransfer.analysis.changes import grid_changes, mean_changes, paired
from raytransfer.analysis.checkpoints import (
    base_curves,
    checkpoint_curves,
    checkpoint_peaks,
    checkpoint_verdicts,
    drop_effects,
)
from raytransfer.analysis.comparisons import comparisons, effects
from raytransfer.analysis.dials import dial_means, grid_effects, grid_means, monotonicity, outcome_monotonicity
from raytransfer.analysis.profiles import profiles
from raytransfer.analysis.response import curves, transfer_points
from raytransfer.analysis.theory import asymptotic_width, theory_means
from raytransfer.analysis.transfer import BASES, READINGS, boost, boosts, readings, treatment_means
from raytransfer.analysis.variance import variance_of_dials, variance_of_distances
from raytransfer.analysis.verdicts import nearness, rank_correlations, verdicts
from raytransfer.analysis.yosinski2014 import yosinski2014

__all__ = [
    "BASES",
    "COEFFICIENTS",
    "READINGS",
    "asymptotic_width",
    "base_curves",
    "boost",
    "boosts",
    "checkpoint_curves",
    "checkpoint_peaks",
    "checkpoint_verdicts",
    "comparisons",
    "correlations",
    "curves",
    "dial_means",
    "drop_effects",
    "effects",
    "grid_changes",
    "grid_effects",
    "grid_means",
    "mean_changes",
    "monotonicity",
    "nearness",
    "outcome_monotonicity",
    "paired",
    "profiles",
    "rank_correlations",
    "readings",
    "theory_means",
    "transfer_points",
    "treatment_means",
    "variance_of_dials",
    "variance_of_distances",
    "verdicts",
    "yosinski2014",
]
