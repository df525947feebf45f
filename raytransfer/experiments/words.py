"""What several tables say in the same words."""

import pandas as pd

from raytransfer.analysis.intervals import MIN_UNITS

NO_INTERVAL = f"Under {MIN_UNITS} units, or where all are equal: no interval."
"""What a number that stands alone means, for the note below a table."""


def counted(units: "pd.Series[int]", noun: str = "unit") -> str:
    """How many units the cells of a table have, from the fewest to the most."""
    least, most = int(units.min()), int(units.max())
    return f"{least} to {most} {noun}s" if least < most else f"1 {noun}" if most == 1 else f"{most} {noun}s"


def units_of(count: int) -> str:
    """A number of units in words."""
    return "1 unit" if count == 1 else f"{count} units"
