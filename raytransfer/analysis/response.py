"""Transfer as a function of one measure: points, and a fitted curve with a band.

``raytransfer.analysis.pairs`` says what the inputs are, and what a block is.
"""

import numpy as np
import pandas as pd
from numpy.polynomial import polynomial

from raytransfer.analysis.intervals import Floats, Ints
from raytransfer.analysis.pairs import (
    axes_of,
    jackknife,
    measure_cube,
    measure_rows,
    outcome_cube,
    outcomes_in,
    seed_means,
    without_blocks,
)

_POINTS_COLUMNS = ["measure", "kind", "outcome", "n_layers", "target", "base", "x", "y", "seeds"]
_CURVES_COLUMNS = ["measure", "outcome", "n_layers", "x", "y", "low", "high", "pairs", "blocks", "target_blocks"]
_CURVE_POINTS = 50
_DISTINCT_FOR_A_BEND = 6


def transfer_points(outcomes: pd.DataFrame, measures: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Set every pair's transfer beside its value of one measure, both averaged over the seeds that have both.

    Args:
        outcomes: A row for each target, base, n_layers and seed.
        measures: A row per value.
        measure: Name of the measure.

    Returns:
        A row for each outcome, n_layers and pair that has both: measure, kind, outcome, n_layers, target, base, x (in
        the measure's unit), y (fraction) and seeds, how many both are the means of.

    Raises:
        UserError: No such measure.
        ValueError: A column is missing; rows repeat; or a measure's rows contradict each other.
    """
    axes = axes_of(outcomes)
    rows = measure_rows(measures, measure)
    cube = measure_cube(axes, rows)
    tables = []
    for outcome in outcomes_in(outcomes):
        of_outcome = outcome_cube(axes, outcomes, outcome)
        x, y = seed_means(cube, of_outcome)
        seeds = (np.isfinite(cube) & np.isfinite(of_outcome)).sum(axis=-1)
        n_layers, targets, bases = np.nonzero(seeds)
        at = {
            "n_layers": axes.n_layers[n_layers],
            "target": axes.targets[targets],
            "base": axes.bases[bases],
            "x": x[n_layers, targets, bases],
            "y": y[n_layers, targets, bases],
            "seeds": seeds[n_layers, targets, bases],
        }
        tables.append(pd.DataFrame({"measure": measure, "kind": rows["kind"].iloc[0], "outcome": outcome} | at))
    return pd.concat(tables, ignore_index=True)[_POINTS_COLUMNS]


def curves(outcomes: pd.DataFrame, measures: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Fit transfer as a polynomial of one measure, with a 95% band.

    Least squares of y = a_target + β₁ x + β₂ x²: the lowest degree that shows whether the fall steepens or levels off,
    and a few dozen pairs do not carry more; with fewer than 6 distinct values, a straight line. An intercept for each
    target keeps targets' difficulty out of the slope. The curve is that of the pairs' mean intercept.

    The band is pointwise: at each x the 95% interval from fits without each block (``pairs.jackknife``), whose
    intercepts are averaged after taking off what sets the targets apart in the fit to all pairs. So it covers where the
    curve of an average target lies, and not how targets differ. NaN where a block is all that bends the curve, so that
    without it there are too few distinct values for the degree, and where ``pairs.jackknife`` gives no interval, as
    under 3 blocks.

    Args:
        outcomes: A row for each target, base, n_layers and seed.
        measures: A row per value.
        measure: Name of the measure.

    Returns:
        50 rows for each outcome and n_layers at which the values within targets are enough for the degree: measure,
        outcome, n_layers, x (evenly over the observed range, in the measure's unit), y, low and high (fractions),
        pairs (how many were fitted), blocks and target_blocks (as in ``correlations``).

    Raises:
        UserError: No such measure.
        ValueError: A column is missing; rows repeat; or a measure's rows contradict each other.
    """
    axes = axes_of(outcomes)
    cube = measure_cube(axes, measure_rows(measures, measure))
    tables = []
    for outcome in outcomes_in(outcomes):
        all_x, all_y = seed_means(cube, outcome_cube(axes, outcomes, outcome))
        for i, n_layers in enumerate(axes.n_layers):
            targets, bases = np.nonzero(np.isfinite(all_x[i]))
            x, y = all_x[i, targets, bases], all_y[i, targets, bases]
            if not len(x):
                continue
            degree = 2 if len(np.unique(x)) >= _DISTINCT_FOR_A_BEND else 1
            grid = np.linspace(x.min(), x.max(), _CURVE_POINTS)
            once = np.ones((1, len(x)), dtype=np.int64)
            whole, intercepts = _fits(x, y, targets, once, degree, grid)
            if not np.isfinite(whole).all():
                continue
            level = y - intercepts[0] + intercepts[0].mean()
            kept = without_blocks(axes, targets, bases)
            without = [_fits(x, level, targets, there, degree, grid)[0] for there in kept]
            low, high = jackknife(whole[0], without, kept)
            at = {"n_layers": n_layers, "x": grid, "y": whole[0], "low": low, "high": high, "pairs": len(x)}
            at |= axes.block_counts(targets, bases)
            tables.append(pd.DataFrame({"measure": measure, "outcome": outcome} | at))
    found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=_CURVES_COLUMNS)
    return found.astype({"target_blocks": "Int64"})


def _fits(x: Floats, y: Floats, targets: Ints, counts: Ints, degree: int, grid: Floats) -> tuple[Floats, Floats]:
    """Fit samples in which pair k occurs ``counts[r, k]`` times, by least squares with an intercept for each target.

    Means of targets are taken off powers and outcome, which leaves the normal equations of the slopes (Frisch and Waugh
    1933). x is scaled to −1..1, so that they are well conditioned.

    Args:
        x: (K,) values of the measure.
        y: (K,) values of the outcome.
        targets: (K,) the target of each pair.
        counts: (R, K) multiplicities.
        degree: 1 or 2.
        grid: (G,) where to give the fits.

    Returns:
        (R, G) the fits with the mean intercept, and (R, K) the intercept of each pair's target. NaN where, within
        targets, a sample has too few distinct x.
    """
    middle, half = (x.max() + x.min()) / 2, max((x.max() - x.min()) / 2, np.finfo(np.float64).tiny)
    powers, of_grid = (polynomial.polyvander((v - middle) / half, degree)[:, 1:] for v in (x, grid))
    m = counts.astype(np.float64)
    same_target = (targets[:, None] == targets[None, :]).astype(np.float64)
    number = np.maximum(m @ same_target, 1)
    mean_y = (m * y) @ same_target / number
    mean_powers = np.stack([(m * power) @ same_target / number for power in powers.T], axis=2)
    apart, y_apart = powers - mean_powers, y - mean_y
    gram = np.einsum("rk,rki,rkj->rij", m, apart, apart, optimize=True)
    moments = np.einsum("rk,rki->ri", m * y_apart, apart, optimize=True)
    # Distinct values may still be too close to tell apart; the pseudo-inverse then takes the flattest fit.
    slopes = np.einsum("rij,rj->ri", np.linalg.pinv(gram, hermitian=True), moments)
    intercepts = mean_y - np.einsum("rki,ri->rk", mean_powers, slopes)
    total = np.maximum(m.sum(axis=1, keepdims=True), 1)
    fits = slopes @ of_grid.T + (m * intercepts).sum(axis=1, keepdims=True) / total
    first = np.unique(np.stack([targets, x]), axis=1, return_inverse=True)[1].ravel()
    distinct = np.stack([counts[:, first == i].sum(axis=1) > 0 for i in range(first.max() + 1)], axis=1).sum(axis=1)
    drawn = np.stack([counts[:, targets == i].sum(axis=1) > 0 for i in np.unique(targets)], axis=1).sum(axis=1)
    fits[distinct - drawn < degree] = np.nan
    return fits, intercepts
