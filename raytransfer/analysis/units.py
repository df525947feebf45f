"""What is independent in a sweep over targets: the units that intervals count.

Where the targets are of several sources (data sets), the unit is the source: targets of one source share its images,
and the seeds of a target share its classes, so all runs of a source count as one. Where all targets are of one source,
the unit is the seed, with the runs of all targets: intervals then speak of these targets alone. ``unit`` says which.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SOURCE, SEED = "source", "seed"


def with_units(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the columns unit (``source`` or ``seed``) and unit_number (which one, from 0).

    Args:
        rows: All rows of a sweep, with target_block (the target's source) and seed; a seed that is missing, where a
            value is the same for all seeds, counts as one.
    """
    unit = SOURCE if rows["target_block"].nunique() > 1 else SEED
    of = rows["target_block"] if unit == SOURCE else rows["seed"]
    return rows.assign(unit=unit, unit_number=pd.factorize(of, sort=True, use_na_sentinel=False)[0])


def numbers_of(rows: pd.DataFrame) -> NDArray[np.integer[Any]]:
    """The unit of each row, for ``intervals.clustered_t``."""
    return rows["unit_number"].to_numpy()
