"""What is independent in a sweep over targets: the units that intervals count.

Where the targets are of several sources (data sets), the unit is the source: targets of one source share its images,
and the seeds of a target share its classes, so all runs of a source count as one. Where all targets are of one source,
the unit is the seed, with the runs of all targets: intervals then speak of these targets alone. ``unit`` says which.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.analysis.intervals import Ints, clustered_t

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


def numbers_of(rows: pd.DataFrame) -> Ints:
    """The unit of each row, for ``intervals.clustered_t``."""
    return rows["unit_number"].to_numpy()


def unit_counts(rows: pd.DataFrame) -> dict[str, Any]:
    """How many units some rows have, what they are, and how many rows there are: units, unit and runs."""
    return {"units": rows["unit_number"].nunique(), "unit": rows["unit"].iloc[0], "runs": len(rows)}


def unit_means(rows: pd.DataFrame, by: Sequence[str], value: str = "value", *, sort: bool = True) -> pd.DataFrame:
    """The mean of a column in each group of rows, with its 95% interval of Student's t over units.

    Args:
        rows: Rows with units, as the columns that ``with_units`` adds; none lacks the value.
        by: Columns that make a group; missing is a value like others.
        value: The column.
        sort: Whether groups are sorted, or in the order of their first rows.

    Returns:
        A row per group: ``by``, mean, low, high (NaN ends where ``intervals.clustered_t`` gives none), and the columns
        of ``unit_counts``.
    """
    found: list[dict[str, Any]] = []
    for key, group in rows.groupby(list(by), dropna=False, sort=sort):
        interval = clustered_t(group[value].to_numpy(dtype=np.float64), numbers_of(group))
        found.append(dict(zip(by, key, strict=True)) | interval.columns("mean") | unit_counts(group))
    return pd.DataFrame(found, columns=[*by, "mean", "low", "high", "units", "unit", "runs"])
