"""Tables for the console: DataFrame in, rich table out."""

from raytransfer.tables.distance import (
    correlations_table,
    monotonicity_table,
    variance_of_dials_table,
    variance_of_distances_table,
)
from raytransfer.tables.grid import boosts_table, means_table, readings_table

__all__ = [
    "boosts_table",
    "correlations_table",
    "means_table",
    "monotonicity_table",
    "readings_table",
    "variance_of_dials_table",
    "variance_of_distances_table",
]
