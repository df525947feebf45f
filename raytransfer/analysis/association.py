"""How well each distance or score predicts measured transfer: rank correlations, intervals and corrected p-values.

``raytransfer.analysis.pairs`` says what the inputs are, and what a block is.
"""

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.analysis.intervals import Floats, Ints
from raytransfer.analysis.pairs import (
    Axes,
    axes_of,
    jackknife,
    measure_cube,
    measures_by_name,
    outcome_cube,
    outcomes_in,
    permuted_blocks,
    permuted_values,
    seed_means,
    without_blocks,
)

COEFFICIENTS = ("Spearman", "Kendall", "weighted Kendall")
"""Spearman's ρ, Kendall's τ-b, and Kendall's τ with hyperbolic weights on the pairs that transferred best."""

MIN_BASES = 4
"""With fewer bases of a target, or pairs in all, there is no correlation: 3 points are in perfect order 1 time in 3."""

_COLUMNS = [
    *("measure", "kind", "outcome", "n_layers", "scope", "coefficient"),
    *("estimate", "low", "high", "pairs", "tasks", "blocks", "target_blocks", "p_value", "p_adjusted"),
]

_LARGEST = 0.999  # of a coefficient that is transformed: of ±1 there is no z


def correlations(
    outcomes: pd.DataFrame,
    measures: pd.DataFrame,
    *,
    permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlate every measure with every outcome at every n.

    Positive always means "predicts transfer": the outcome is correlated with a score, or with **minus** a distance.

    Scope ``within target`` asks which base suits a target: the coefficient over the bases of one target, averaged over
    the targets with at least 4 bases and neither side constant. Scope ``pooled`` is over all pairs together, so it also
    contains how targets differ in difficulty.

    - Spearman: Pearson's correlation of the mid-ranks.
    - Kendall: τ-b = Σ s_ij t_ij / √(Σ s_ij² Σ t_ij²), s and t the signs of the differences in measure and outcome.
    - weighted Kendall: the same sums, each term times 1/r_i + 1/r_j, r the rank by outcome, best first (Vigna 2015, *A
      weighted correlation index for rankings with ties*; ``scipy.stats.weightedtau(outcome, measure, rank=None)``).

    The 95% interval is a jackknife over blocks (``pairs.jackknife``), on the scale of Fisher's z = artanh ρ;
    ``tests/analysis/coverage.md`` says how often it covers. A perfect ρ of ±1 has none: it is ±1 without any block.

    The p-value (Spearman only) is two-sided: the share of permutations of the blocks (``pairs.permuted_values``) with
    |ρ*| ≥ |ρ|. All permutations are used for up to 6 blocks, else ``permutations`` random ones: (1 + #) / (1 +
    permutations). With k blocks it is at least 1/k!, so with 3 blocks none is below 0.05. The adjusted p-value controls
    the family-wise error over all measures of the same outcome, n and scope: it counts the permutations in which the
    largest |ρ*| of any measure reaches |ρ|. All measures share the permutations, so measures that agree cost little
    (Westfall and Young 1993, *Resampling-Based Multiple Testing*; single-step maxT).

    Args:
        outcomes: A row for each target, base, n_layers and seed.
        measures: A row per value.
        permutations: How many to draw where there are more than 6 blocks.
        seed: Of these draws.

    Returns:
        A row for each outcome, n_layers, scope, measure and coefficient: measure, kind, outcome, n_layers, scope,
        coefficient, estimate (−1..1; NaN where undefined, as for a constant measure), low, high (NaN where
        ``pairs.jackknife`` gives none, as under 3 blocks or with 2 of targets), pairs and tasks (how many entered),
        blocks and target_blocks (``pairs.Axes.block_counts``), p_value and p_adjusted (NaN but for Spearman).

    Raises:
        ValueError: A column is missing; rows repeat; or a measure's rows contradict each other.
    """
    axes = axes_of(outcomes)
    by_name = measures_by_name(measures)
    cubes = {name: measure_cube(axes, rows) for name, rows in by_name.items()}
    kinds = {name: str(rows["kind"].iloc[0]) for name, rows in by_name.items()}
    orders = permuted_blocks(axes, permutations, seed)
    rows: list[dict[str, Any]] = []
    for outcome in outcomes_in(outcomes):
        y_cube = outcome_cube(axes, outcomes, outcome)
        means = {name: seed_means(cube if kinds[name] == "score" else -cube, y_cube) for name, cube in cubes.items()}
        for (i, n_layers), scope in itertools.product(enumerate(axes.n_layers), ("within target", "pooled")):
            groups = {name: _groups(x[i], y[i], scope) for name, (x, y) in means.items()}
            null = {name: _null(x[i], y[i], groups[name], orders, axes) for name, (x, y) in means.items()}
            largest = np.max([np.abs(rhos) for rhos in null.values()], axis=0) if null else np.empty(0)
            for name, (x, y) in means.items():
                of = {"measure": name, "kind": kinds[name], "outcome": outcome, "n_layers": n_layers, "scope": scope}
                for row in _estimates(x[i], y[i], groups[name], axes):
                    tested = row["coefficient"] == "Spearman"
                    p_value, p_adjusted = (
                        _p_value(row["estimate"], rhos) if tested else math.nan for rhos in (null[name], largest)
                    )
                    rows.append(of | row | {"p_value": p_value, "p_adjusted": p_adjusted})
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"target_blocks": "Int64"})


def coefficients(x: Floats, y: Floats, counts: Ints) -> Floats:
    """Rank correlations of samples in which pair k occurs ``counts[r, k]`` times, without building the samples.

    With s_ij = sign(x_i − x_j), t likewise of y, and m the counts of one sample: twice the centred mid-rank of x_i is
    Σ_j m_j s_ij, so all three coefficients are sums of products of signs. The copies of pair i take consecutive ranks
    by outcome. Their weights 1/r add up to w_i, a difference of harmonic numbers, and the weighted sums are
    Σ w_i m_j s_ij t_ij.

    Args:
        x: (K,) values of the measure, finite.
        y: (K,) values of the outcome, finite.
        counts: (R, K) multiplicities.

    Returns:
        (R, 3) the coefficients in the order of ``COEFFICIENTS``; NaN where one side is constant.
    """
    s, t = (np.sign(v[:, None] - v[None, :]) for v in (x, y))
    m = counts.astype(np.float64)
    ranks_x, ranks_y = m @ s.T, m @ t.T
    products = [m @ matrix for matrix in (s * t, np.abs(s), np.abs(t))]
    best_first = np.lexsort((x, y))[::-1]
    last = np.empty_like(counts)
    last[:, best_first] = np.cumsum(counts[:, best_first], axis=1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, counts.sum(axis=1).max(initial=0) + 1))])
    weights = harmonic[last] - harmonic[last - counts]
    return np.stack(
        [
            _ratio(*((m * a * b).sum(axis=1) for a, b in ((ranks_x, ranks_y), (ranks_x, ranks_x), (ranks_y, ranks_y)))),
            _ratio(*((m * product).sum(axis=1) for product in products)),
            _ratio(*((weights * product).sum(axis=1) for product in products)),
        ],
        axis=1,
    )


def _weights(x: Floats, y: Floats) -> Floats:
    """Weight of each of K pairs in each coefficient, (K, 3); columns sum to 1.

    In the weighted Kendall, a pair weighs Σ_j (1/r_i + 1/r_j) over the others.
    """
    k = len(x)
    by_rank = 1 / np.arange(1, k + 1)
    weighted = np.empty(k)
    weighted[np.lexsort((x, y))[::-1]] = (k - 2) * by_rank + by_rank.sum()
    return np.stack([np.full(k, 1 / k), np.full(k, 1 / k), weighted / weighted.sum()], axis=1)


def _groups(x: Floats, y: Floats, scope: str) -> list[tuple[Ints, Ints]]:
    """Groups of pairs, as positions (targets, bases); each group gives one coefficient."""
    targets, bases = np.nonzero(np.isfinite(x) & np.isfinite(y))
    if scope == "pooled":
        return [(targets, bases)] if len(bases) >= MIN_BASES else []
    groups = [(targets[targets == target], bases[targets == target]) for target in np.unique(targets)]
    return [group for group in groups if len(group[0]) >= MIN_BASES]


def _estimates(x: Floats, y: Floats, groups: list[tuple[Ints, Ints]], axes: Axes) -> list[dict[str, Any]]:
    """Estimate and interval of each coefficient for one measure, outcome, n and scope: a mean over groups of pairs."""
    used = [group for group in groups if np.isfinite(_means(x, y, [group], _once(len(group[0])))).all()]
    targets, bases = (np.concatenate([group[i] for group in used] or [np.empty(0, dtype=np.int64)]) for i in (0, 1))
    estimates = low = high = np.full(len(COEFFICIENTS), math.nan)
    if used:
        estimates = _means(x, y, used, _once(len(bases)))[0]
        kept = without_blocks(axes, targets, bases)
        without = [fishers_z(_means(x, y, used, there)) for there in kept]
        squares = np.concatenate([_weights(x[group], y[group]) ** 2 for group in used])
        low, high = np.tanh(jackknife(fishers_z(estimates), without, kept, squares))
    tasks = {*axes.targets[targets], *axes.bases[bases]}
    counts = {"pairs": len(bases), "tasks": len(tasks)} | axes.block_counts(targets, bases)
    return [
        {"coefficient": name, "estimate": estimates[i], "low": low[i], "high": high[i]} | counts
        for i, name in enumerate(COEFFICIENTS)
    ]


def fishers_z(rhos: Floats) -> Floats:
    """Artanh of correlations; of those beyond ±0.999, that of 0.999."""
    return np.arctanh(np.clip(rhos, -_LARGEST, _LARGEST))


def _means(x: Floats, y: Floats, groups: list[tuple[Ints, Ints]], counts: Ints) -> Floats:
    """Coefficients averaged over groups, (R, 3), in samples in which pair p occurs ``counts[r, p]`` times."""
    of_groups = np.split(counts, np.cumsum([len(bases) for _, bases in groups])[:-1], axis=1)
    found = [coefficients(x[group], y[group], of) for group, of in zip(groups, of_groups, strict=True)]
    return _mean_of_groups(np.stack(found))


def _once(pairs: int) -> Ints:
    return np.ones((1, pairs), dtype=np.int64)


def _null(x: Floats, y: Floats, groups: list[tuple[Ints, Ints]], orders: Ints, axes: Axes) -> Floats:
    """Spearman's ρ after each permutation of blocks, a mean over groups: (P,), 0 where undefined."""
    from scipy.stats import rankdata  # half a second, which other sweeps need not wait for

    if not groups:
        return np.zeros(len(orders))
    targets, bases = (np.concatenate([group[i] for group in groups]) for i in (0, 1))
    moved = permuted_values(axes, x, targets, bases, orders)
    rhos = []
    for at in np.split(np.arange(len(bases)), np.cumsum([len(of_group) for _, of_group in groups])[:-1]):
        drawn, own = moved[:, at], y[targets[at], bases[at]][None]
        if not np.isfinite(drawn).all():
            own = np.where(np.isfinite(drawn), own, math.nan)
        a, b = (rankdata(values, axis=1, nan_policy="omit") for values in (drawn, own))
        here = np.isfinite(a)
        number = np.maximum(here.sum(axis=1, keepdims=True), 1)
        a, b = (
            np.where(here, ranks - np.where(here, ranks, 0).sum(axis=1, keepdims=True) / number, 0) for ranks in (a, b)
        )
        rhos.append(_ratio((a * b).sum(axis=1), (a * a).sum(axis=1), (b * b).sum(axis=1))[:, None])
    return np.nan_to_num(_mean_of_groups(np.stack(rhos))[:, 0])


def _p_value(rho: float, null: Floats) -> float:
    """Share of the permuted ρ that are as far from 0, the observed one among them; NaN where there is no ρ."""
    at_least = abs(rho) - 1e-12  # equal orders may differ in the last bit
    return float(1 + (np.abs(null) >= at_least).sum()) / (1 + len(null)) if np.isfinite(rho) else math.nan


def _ratio(product: Floats, square_x: Floats, square_y: Floats) -> Floats:
    """Σxy / √(Σx² Σy²), NaN where a square is zero, kept within −1..1."""
    defined = (square_x > 0) & (square_y > 0)
    norm = np.sqrt(np.where(defined, square_x, 1) * np.where(defined, square_y, 1))
    return np.where(defined, np.clip(product / norm, -1, 1), math.nan)


def _mean_of_groups(values: Floats) -> Floats:
    """Mean of (G, R, C) values over G, of those that are not NaN; NaN where all are."""
    there = np.isfinite(values)
    number = there.sum(axis=0)
    mean = np.where(there, values, 0.0).sum(axis=0) / np.maximum(number, 1)
    return np.where(number > 0, mean, math.nan)
