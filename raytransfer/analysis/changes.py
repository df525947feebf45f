"""What changed from one sweep to another: differences between the runs that both have."""

from collections.abc import Sequence

import pandas as pd

from raytransfer.analysis.checks import require
from raytransfer.analysis.transfer import readings, treatment_means
from raytransfer.analysis.units import unit_means, with_units

CELL = ["treatment", "halves", "split", "direction", "seed", "n_layers"]
"""By which runs of two grids are the same."""

_MEANS = ["estimate", "low", "high", "units", "runs"]


def paired(first: pd.DataFrame, second: pd.DataFrame, keys: Sequence[str], value: str) -> pd.DataFrame:
    """The rows that two tables share, with ``change``: the second's value minus the first's.

    Args:
        first: A table.
        second: Another one of the same kind.
        keys: Columns that identify a row.
        value: Column to compare; rows without a value are left out.

    Returns:
        The keys, ``change``, and ``same``: whether both rows are of the same trial, where both tables have ``id``; the
        first's is there, too, then.

    Raises:
        ValueError: A column is missing, or two rows of a table have the same keys.
    """
    kept = []
    for name, table in (("first", first), ("second", second)):
        require(table, [*keys, value], name)
        columns = [*keys, value, *(["id"] if "id" in first and "id" in second else [])]
        kept.append(table[columns].dropna(subset=[value]))
    both = kept[0].merge(kept[1], on=list(keys), suffixes=("_first", "_second"), validate="one_to_one")
    both["change"] = both[f"{value}_second"].astype(float) - both[f"{value}_first"].astype(float)
    if "id_first" not in both:
        return both[[*keys, "change"]].assign(same=False)
    both["same"] = both["id_first"] == both["id_second"]
    return both[[*keys, "change", "same", "id_first"]].rename(columns={"id_first": "id"})


def grid_changes(first: pd.DataFrame, second: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """How the means and readings of a grid changed, by what both grids ran.

    Means and readings are linear in the accuracies. So the change of a mean or reading, paired by unit, is the mean or
    reading of the runs' changes, with its interval (``treatment_means`` and ``readings``).

    Args:
        first: Results of one grid, one row per cell.
        second: Results of the other, on the same halves.
        metric: Column to compare.

    Returns:
        A row each: of (``mean of`` a treatment, or a reading), halves, n_layers, estimate, low, high (in the metric's
        unit; NaN ends where there is no interval), units, runs and clear: whether the whole interval lies on one side
        of zero.

    Raises:
        ValueError: A column is missing, or two rows of a table are of the same run.
    """
    changes = paired(first, second, CELL, metric)
    means = treatment_means(changes, "change").rename(columns={"mean": "estimate"})
    means.insert(0, "of", "mean of " + means.pop("treatment").astype(str))
    read = readings(changes, "change").rename(columns={"reading": "of"})
    columns = ["of", "halves", "n_layers", *_MEANS]
    return _with_clear(pd.concat([part[columns] for part in (means, read) if not part.empty] or [means[columns]]))


def mean_changes(changes: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The mean change of each group of rows, with its 95% interval.

    Units are sources of targets or, of one source, seeds (``raytransfer.analysis.units``): the bases of a target and
    seed are compared with the same networks and images, and are not independent.

    Args:
        changes: Output of ``paired``, with the columns ``target_block`` (the target's source) and ``seed``.
        by: Columns that make a group.

    Returns:
        A row per group: ``by``, estimate, low, high (NaN ends under 3 units), units, runs and clear.

    Raises:
        ValueError: A column is missing.
    """
    require(changes, [*by, "target_block", "seed", "change"], "changes")
    means = unit_means(with_units(changes), by, "change", sort=False).rename(columns={"mean": "estimate"})
    return _with_clear(means[[*by, *_MEANS]])


def _with_clear(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(clear=(rows["low"] > 0) | (rows["high"] < 0)).reset_index(drop=True)  # NaN is on neither side
