"""Tables for the console: DataFrame in, rich table out."""

from raytransfer.tables.distance import (
    correlations_table,
    grid_effects_table,
    monotonicity_table,
    variance_of_dials_table,
    variance_of_distances_table,
)
from raytransfer.tables.grid import boosts_table, means_table, readings_table
from raytransfer.tables.stages import drops_table, peaks_table
from raytransfer.tables.theory import theory_table
from raytransfer.tables.why import comparisons_table, nearness_table, verdicts_markdown, verdicts_table

__all__ = [
    "boosts_table",
    "comparisons_table",
    "correlations_table",
    "drops_table",
    "grid_effects_table",
    "means_table",
    "monotonicity_table",
    "nearness_table",
    "peaks_table",
    "readings_table",
    "theory_table",
    "variance_of_dials_table",
    "variance_of_distances_table",
    "verdicts_markdown",
    "verdicts_table",
]
