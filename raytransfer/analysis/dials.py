"""Outcomes and measures along the dials that lead away from a target: means, and whether they move the right way.

``raytransfer.analysis.pairs`` says what outcomes and measures are. *dials* has a row for each base on each
one-dimensional dial: target, base, dial (such as ``blur_px``; missing for a base that is on none), kind (``input``,
``shared``, ``labelling``, ``random labels``) and level (0 where the base is the target itself). *grid* has a row for
each base on the two-dimensional grid: target, base, input_level and label_level.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from raytransfer.analysis.checks import require
from raytransfer.analysis.intervals import Floats, clustered_t, within_one
from raytransfer.analysis.pairs import OUTCOMES, axes_of, measures_by_name
from raytransfer.analysis.units import unit_means, with_units
from raytransfer.specs.treatments import ANB, ANB_PLUS

_ACCURACIES = (ANB.name, ANB_PLUS.name)
_LEAST_LEVELS = 4  # of 3, ρ takes four values but for ties, and intervals covered in 89 to 100% of studies
_MONOTONICITY_COLUMNS = [
    *("measure", "kind", "dial", "dial_kind", "n_layers"),
    *("estimate", "low", "high", "units", "unit", "curves", "constant", "levels", "right_way"),
]


def dial_means(outcomes: pd.DataFrame, dials: pd.DataFrame) -> pd.DataFrame:
    """Average frozen and fine-tuned accuracy at every level of every dial.

    The mean is over (target, seed), and its 95% interval of Student's t over units (``raytransfer.analysis.units``):
    sources of targets, or seeds where there is one source.

    Args:
        outcomes: A row for each target, base, n_layers and seed.
        dials: A row for each base and dial.

    Returns:
        A row for each kind, dial, outcome, n_layers and level with a value: dial, kind, outcome, n_layers, level, mean,
        low, high (fractions; NaN ends where there is no interval), units, unit (what they are) and runs.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    placed = _long(outcomes, _ACCURACIES).merge(dials.dropna(subset=["dial"]), on=["target", "base"])
    return _cell_means(placed, ["kind", "dial", "outcome", "n_layers", "level"])


def grid_means(outcomes: pd.DataFrame, grid: pd.DataFrame) -> pd.DataFrame:
    """Average accuracy in every cell of the two-dimensional grid of dials; means and intervals as in ``dial_means``.

    Args:
        outcomes: A row for each target, base, n_layers and seed.
        grid: A row for each base on the grid.

    Returns:
        A row for each outcome, n_layers and cell with a value: outcome, n_layers, input_level, label_level, mean, low,
        high, units, unit and runs.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    placed = _long(outcomes, _ACCURACIES).merge(grid, on=["target", "base"])
    return _cell_means(placed, ["outcome", "n_layers", "input_level", "label_level"])


def grid_effects(outcomes: pd.DataFrame, grid: pd.DataFrame) -> pd.DataFrame:
    """Say what turning the input dial alone, and the label dial alone, takes from transfer (Liu et al. 2019).

    An effect is the outcome of the base whose one dial is turned to the end, minus that of the base with neither
    turned, paired within (target, seed); intervals as in ``dial_means``.

    Args:
        outcomes: A row for each target, base, n_layers and seed.
        grid: A row for each base on the grid.

    Returns:
        A row for each outcome, n_layers and turned dial (``input``, ``label``) that was run: outcome, n_layers, turned,
        mean, low, high (differences of fractions; NaN ends where there is no interval), units, unit and runs.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    placed = _long(outcomes, _ACCURACIES).merge(grid, on=["target", "base"])
    keys = ["outcome", "n_layers", "target", "seed", "unit", "unit_number"]
    neither = placed[(placed["input_level"] == 0) & (placed["label_level"] == 0)].set_index(keys)["value"]
    parts = []
    for turned, other in (("input", "label"), ("label", "input")):
        alone = placed[placed[f"{other}_level"] == 0]
        ends = alone[(alone[f"{turned}_level"] == alone[f"{turned}_level"].max()) & (alone[f"{turned}_level"] > 0)]
        effects = ends.set_index(keys)["value"] - neither.reindex(ends.set_index(keys).index)
        parts.append(effects.rename("value").reset_index().assign(turned=turned))
    return _cell_means(pd.concat(parts), ["outcome", "n_layers", "turned"])


def monotonicity(measures: pd.DataFrame, dials: pd.DataFrame) -> pd.DataFrame:
    """Say whether every measure moves the right way along every dial: up for a distance, down for a score.

    A *curve* is the values of one target and seed (one target, for a measure without seeds) along a dial with at least
    2 levels, at one n where the measure has one. Its number is Spearman's ρ between level and value. The estimate is
    the mean over curves, with a 95% interval over units (``raytransfer.analysis.units``; ``intervals.within_one``) on
    dials of 4 levels or more: of 3 ρ takes four values, too few for one. A curve that does not move at all (within
    1e-9 of its largest value) has no ρ: it is counted as constant, which a measure that is blind to the dial by
    construction should be. On a dial of two levels ρ is ±1 whatever happens, and all of 3 curves move the right way by
    chance in one study of 8.

    Args:
        measures: A row per value, with target_block.
        dials: A row for each base and dial.

    Returns:
        A row for each measure, dial and n_layers: measure, kind, dial, dial_kind, n_layers (missing where the measure
        has none), estimate (−1..1; NaN where every curve is constant), low, high (NaN under 3 units or 4 levels, or if
        all ρ are equal), units, unit, curves (that have a ρ), constant (that do not), levels (the most that a curve
        has) and right_way (curves with ρ > 0 for a distance and ρ < 0 for a score).

    Raises:
        ValueError: A column is missing; rows repeat; or a measure's rows contradict each other.
    """
    measures_by_name(measures)
    require(measures, ["target_block"], "measures")
    return _monotonicity(measures, dials)


def outcome_monotonicity(outcomes: pd.DataFrame, dials: pd.DataFrame) -> pd.DataFrame:
    """Say whether transfer falls along every dial: ``monotonicity`` of the outcomes, whose right way is down.

    Returns:
        As ``monotonicity``; measure is the outcome's name and kind is ``outcome``.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    long = _long(outcomes, OUTCOMES).rename(columns={"outcome": "measure"})
    return _monotonicity(long.assign(kind="outcome"), dials)


def _monotonicity(values: pd.DataFrame, dials: pd.DataFrame) -> pd.DataFrame:
    on_dials = dials.dropna(subset=["dial"]).rename(columns={"kind": "dial_kind"})
    placed = with_units(values.merge(on_dials, on=["target", "base"]))
    placed = placed[np.isfinite(placed["value"].to_numpy(dtype=np.float64, na_value=np.nan))]
    rows: list[dict[str, object]] = []
    keys = ["kind", "measure", "dial_kind", "dial", "n_layers"]
    for (kind, measure, dial_kind, dial, n_layers), group in placed.groupby(keys, dropna=False):
        curves = [curve for _, curve in group.groupby(["target", "seed"], dropna=False) if curve["level"].nunique() > 1]
        if not curves:
            continue
        all_rhos = np.array(
            [_rho(*(curve[name].to_numpy(dtype=np.float64) for name in ("level", "value"))) for curve in curves]
        )
        known = np.isfinite(all_rhos)
        rhos = all_rhos[known]
        units = np.array([curve["unit_number"].iloc[0] for curve in curves])[known]
        levels = max(curve["level"].nunique() for curve in curves)
        interval = within_one(clustered_t(rhos, units))
        if levels < _LEAST_LEVELS:
            interval = replace(interval, low=math.nan, high=math.nan)
        right = rhos > 0 if kind == "distance" else rhos < 0
        rows.append(
            {
                "measure": measure,
                "kind": kind,
                "dial": dial,
                "dial_kind": dial_kind,
                "n_layers": n_layers,
                **interval.columns("estimate"),
                "units": len(np.unique(units)),
                "unit": group["unit"].iloc[0],
                "curves": len(rhos),
                "constant": len(all_rhos) - len(rhos),
                "levels": levels,
                "right_way": int(right.sum()),
            }
        )
    return pd.DataFrame(rows, columns=_MONOTONICITY_COLUMNS).astype({"n_layers": "Int64"})


def _rho(levels: Floats, values: Floats) -> float:
    if np.ptp(values) <= 1e-9 * np.abs(values).max():
        return math.nan
    from scipy.stats import spearmanr  # half a second, which other sweeps need not wait for

    return float(spearmanr(levels, values).statistic)


def _long(outcomes: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    """One row per value of those of the wanted outcomes that there are."""
    axes_of(outcomes)
    key = ["target", "target_block", "base", "n_layers", "seed"]
    present = [name for name in wanted if name in outcomes]
    return with_units(outcomes.melt(id_vars=key, value_vars=present, var_name="outcome", value_name="value"))


def _cell_means(placed: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return unit_means(placed.dropna(subset=["value"]).sort_values([*keys, "target", "seed"]), keys)
