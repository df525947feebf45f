"""The theory of fine-tuning against its simulation: how wide a network must be for distance = bound.

The functions take *rows*, a row per simulation: width, target, base, seed, kind (what of the base its dial changes:
``input``, ``label``, or ``none`` of the unchanged target and of another task), dial, level and the fields of
``raytransfer.simulation.two_layer.Simulation``.
Simulations that did not converge moved less far than they would have: they are counted and left out.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.analysis.checks import refuse_repeats, require
from raytransfer.analysis.intervals import Floats, student_t

NEAR_ONE = (0.9, 1.1)
"""Where the interval of distance / bound must lie for a width to count as wide."""

_MIN_SHARE = 0.01  # of the way from scratch; what training leaves of the way would weigh too much in shorter ones
_BASE = ["target", "base", "kind", "dial", "level"]
_READ = [
    *("distance", "bound", "bound_from_scratch"),
    *("gradient", "gradient_predicted", "gradient_from_scratch_predicted", "converged"),
]
_MEANS = ("ratio", "gradient_ratio", "distance", "bound")
_MEANS_COLUMNS = [
    *("width", *_BASE),
    *(f"{name}{end}" for name in _MEANS for end in ("", "_low", "_high")),
    *("exceeds", "seeds", "ratio_seeds", "gradient_ratio_seeds", "unconverged"),
]
_WIDTH_COLUMNS = [
    *(*_BASE, "asymptotic_width", "widest", "ratio", "ratio_low", "ratio_high"),
    *("exceeds_up_to", "largest_excess"),
]


def theory_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Average what was measured over seeds, beside what was predicted.

    ratio = distance / bound, and gradient_ratio = gradient / gradient_predicted, each of the seeds whose bound (or
    predicted gradient) is above 1% of that from scratch, for a base that solves the target already leaves both near 0.
    Intervals are 95%, of Student's t over seeds.

    Args:
        rows: A row per simulation.

    Returns:
        A row for each width, target and base: kind, dial and level; ratio, gradient_ratio, distance and bound, each
        with _low and _high (NaN where no seed counts; NaN ends under 3); exceeds (whether the ratio's interval
        lies above 1, missing without an interval: the theorem, distance ≤ bound + o(1), says that this ends as width
        grows); seeds (that converged), ratio_seeds and gradient_ratio_seeds (those of them that each ratio is of) and
        unconverged. Sorted by target, kind, dial, level, base and width.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    means: list[dict[str, Any]] = []
    for key, cell in _checked(rows).groupby(["width", *_BASE], dropna=False):
        done = cell[cell["converged"].astype(bool)]
        gradients = done["gradient"], done["gradient_predicted"], done["gradient_from_scratch_predicted"]
        values = {
            "ratio": _ratio(done["distance"], done["bound"], done["bound_from_scratch"]),
            "gradient_ratio": _ratio(*gradients),
            "distance": done["distance"].to_numpy(dtype=np.float64),
            "bound": done["bound"].to_numpy(dtype=np.float64),
        }
        row: dict[str, Any] = dict(zip(["width", *_BASE], key, strict=True))
        for name in _MEANS:
            row |= student_t(values[name]).named(name)
        row["exceeds"] = None if math.isnan(row["ratio_low"]) else row["ratio_low"] > 1
        row |= {"seeds": len(done), "unconverged": len(cell) - len(done)}
        means.append(row | {f"{name}_seeds": len(values[name]) for name in ("ratio", "gradient_ratio")})
    table = pd.DataFrame(means, columns=_MEANS_COLUMNS).astype({"exceeds": "boolean"})
    return table.sort_values(["target", "kind", "dial", "level", "base", "width"], ignore_index=True)


def asymptotic_width(rows: pd.DataFrame) -> pd.DataFrame:
    """Find the width from which on networks move as far as the infinitely wide one, for every base.

    Args:
        rows: A row per simulation.

    Returns:
        A row for each target and base: kind, dial and level; asymptotic_width, the smallest width at which, and at all
        larger ones, the interval of the ratio lies within ``NEAR_ONE`` (missing where the widest does not, or has no
        interval); the widest, with its ratio, ratio_low and ratio_high; exceeds_up_to, the largest width at which the
        interval lies above 1, and largest_excess, the largest ratio − 1 of such widths (both missing without any).

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    found: list[dict[str, Any]] = []
    for key, cells in theory_means(rows).groupby(_BASE, sort=False, dropna=False):
        cells = cells.sort_values("width")
        near = (cells["ratio_low"] >= NEAR_ONE[0]) & (cells["ratio_high"] <= NEAR_ONE[1])
        wide = cells.loc[near[::-1].cummin()[::-1], "width"]
        above = cells[cells["exceeds"].fillna(False)]
        widest = cells.iloc[-1]
        found.append(
            dict(zip(_BASE, key, strict=True))
            | {"asymptotic_width": wide.iloc[0] if len(wide) else None, "widest": widest["width"]}
            | {name: widest[name] for name in ("ratio", "ratio_low", "ratio_high")}
            | {"exceeds_up_to": above["width"].iloc[-1] if len(above) else None}
            | {"largest_excess": above["ratio"].max() - 1 if len(above) else math.nan}
        )
    return pd.DataFrame(found, columns=_WIDTH_COLUMNS).astype({"asymptotic_width": "Int64", "exceeds_up_to": "Int64"})


def _checked(rows: pd.DataFrame) -> pd.DataFrame:
    """In one order: sums in another may differ in the last bit."""
    key = ["width", *_BASE, "seed"]
    require(rows, [*key, *_READ], "rows")
    run = ["width", "target", "base", "seed"]
    refuse_repeats(rows, run, "more than one row is of")
    return rows[[*key, *_READ]].sort_values(run, ignore_index=True)


def _ratio(measured: pd.Series, predicted: pd.Series, from_scratch: pd.Series) -> Floats:
    """Measured / predicted, of the rows where the prediction is large enough to count."""
    kept = predicted > _MIN_SHARE * from_scratch
    return (measured[kept] / predicted[kept]).to_numpy(dtype=np.float64)
