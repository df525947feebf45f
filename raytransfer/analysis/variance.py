"""How much of the variance of transfer the input and the label explain, separately and together.

``raytransfer.analysis.pairs`` says what outcomes and measures are, and what a block is.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from raytransfer.analysis.association import MIN_BASES, fishers_z
from raytransfer.analysis.intervals import Floats, Interval, Ints, student_t
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
from raytransfer.analysis.units import with_units

_DIAL_COLUMNS = ["outcome", "n_layers", "part", "eta_squared", "share", "low", "high", "units", "unit", "cells"]
_DISTANCE_COLUMNS = ["outcome", "n_layers", "part", "share", "low", "high", "pairs", "blocks", "target_blocks"]


def variance_of_dials(outcomes: pd.DataFrame, grid: pd.DataFrame) -> pd.DataFrame:
    """Split the variance of transfer over the 2-D grid of dials: two-way analysis of variance, levels as factors.

    A *run* is a (target, seed) whose whole grid of I × J cells is measured; others are left out, so that the sums of
    squares are orthogonal. Runs are blocks: each run's mean over the grid is subtracted first, because dials do not
    explain how well a seed's networks do on a target overall. With y_uij the residuals, runs u = 1..U, and bars for
    means,

        SS(input) = UJ Σ_i (ȳ_i − ȳ)²,  SS(label) = UI Σ_j (ȳ_j − ȳ)²,
        SS(interaction) = U Σ_ij (ȳ_ij − ȳ_i − ȳ_j + ȳ)²,  SS(rest) = Σ_uij (y_uij − ȳ_ij)²,

    and η² = SS / Σ_uij y_uij², for ȳ = 0; the four add up to 1 (Fisher 1925, *Statistical Methods for Research
    Workers*, chapter VII; blocks: *The Design of Experiments*, 1935, chapter IV). The rest is how the effects of the
    dials differ between runs. η² describes these runs: with few of them, noise adds to the interaction, by
    (I−1)(J−1) / (UIJ) of its own variance.

    The share is η² with that bias removed by the jackknife, which may lie slightly outside 0..1: the mean of
    pseudo-values kη² − (k−1)η²₋ᵢ, with the 95% interval of Student's t (Tukey 1958, *Bias and confidence in not-quite
    large samples*). The interval of the rest, which is skewed and never zero, is taken on the scale of its angle
    arcsin √η², with pseudo-values of that. The jackknife leaves out one of k units at a time
    (``raytransfer.analysis.units``): sources of targets, or seeds where there is one source. Not the bootstrap: a grid
    drawn twice has no spread, so it finds too little rest. ``tests/analysis/coverage.md`` says how often the intervals
    cover.

    Args:
        outcomes: A row for each target, base, n_layers and seed.
        grid: A row for each target and base on the grid: target, base, input_level, label_level.

    Returns:
        Four rows for each outcome and n_layers with a unit: outcome, n_layers, part (``input``, ``label``,
        ``interaction``, ``rest``), eta_squared (0..1), share, low, high, units, unit and cells. With one run,
        interaction and rest cannot be told apart: three rows, the last ``interaction + rest``. With one unit NaN share,
        low and high; NaN low and high under 3 units; all NaN where nothing varies.

    Raises:
        ValueError: A column is missing, rows repeat, or two bases of a target are on the same cell.
    """
    axes_of(outcomes)
    cell = ["target", "input_level", "label_level"]
    if grid.duplicated(cell).any():
        raise ValueError(f"two bases are on the same cell of the grid: {grid[grid.duplicated(cell)].iloc[0].to_dict()}")
    shape = grid["input_level"].nunique(), grid["label_level"].nunique()
    placed = with_units(outcomes).merge(grid, on=["target", "base"])
    rows: list[dict[str, object]] = []
    for outcome in outcomes_in(outcomes):
        for n_layers, of_n in placed.groupby("n_layers"):
            index = ["target", "seed", "unit_number"]
            runs = of_n.pivot(index=index, columns=["input_level", "label_level"], values=outcome)
            runs = runs.sort_index(axis=1).dropna()
            if len(runs) and runs.shape[1] == shape[0] * shape[1]:
                at = {"outcome": outcome, "n_layers": n_layers, "unit": of_n["unit"].iloc[0]}
                rows += [at | row for row in _analysis_of_variance(runs, shape)]
    return pd.DataFrame(rows, columns=_DIAL_COLUMNS)


def variance_of_distances(
    outcomes: pd.DataFrame, measures: pd.DataFrame, *, input_measure: str, label_measure: str
) -> pd.DataFrame:
    """Split the variance of transfer that two measures explain into what each adds and what they share.

    R² of least squares on ranks: of the outcome on the input's measure alone, on the label's alone, and on both. Ranks
    and not values, because distances have arbitrary and often skewed scales: each is replaced by its mid-rank among
    the bases of its target, less the mean and divided by their number, so that targets' difficulty does not count.
    Targets with fewer than 4 bases are left out. Commonality (Newton and Spurrell 1967, *A development of multiple
    regression for the analysis of routine data*): unique input = both − label, unique label = both − input,
    common = input + label − both, negative where one measure hides what the other says.

    The 95% intervals leave whole blocks out one by one (``pairs.jackknife``), on the scale of Fisher's z = artanh √R²;
    those of the common share as it is. R² is never below 0, so noise adds to it, about 1/pairs for each measure.
    ``tests/analysis/coverage.md`` says how often the intervals cover.

    Args:
        outcomes: A row for each target, base, n_layers and seed.
        measures: A row per value.
        input_measure: Name of the measure that sees the input.
        label_measure: Name of the measure that sees the labels.

    Returns:
        Six rows for each outcome and n_layers: outcome, n_layers, part (``input``, ``label``, ``both``, ``unique
        input``, ``unique label``, ``common``), share (fraction of the variance), low, high (NaN where
        ``pairs.jackknife`` gives none, as under 3 blocks), pairs, blocks and target_blocks (as in ``correlations``).
        NaN where one of the three is constant.

    Raises:
        UserError: No such measure.
        ValueError: A column is missing; rows repeat; or a measure's rows contradict each other.
    """
    axes = axes_of(outcomes)
    inputs, labels = (measure_cube(axes, measure_rows(measures, name)) for name in (input_measure, label_measure))
    rows = []
    for outcome in outcomes_in(outcomes):
        cube = np.where(np.isfinite(inputs + labels), outcome_cube(axes, outcomes, outcome), math.nan)
        x, y = seed_means(inputs, cube)
        z, _ = seed_means(labels, cube)
        for i, n_layers in enumerate(axes.n_layers):
            entered = np.isfinite(y[i]) & (np.isfinite(y[i]).sum(axis=1, keepdims=True) >= MIN_BASES)
            targets, bases = np.nonzero(entered)
            values = [of[i, targets, bases] for of in (x, z, y)]
            shares = _commonality(values, targets, np.ones((1, len(targets)), dtype=np.int64))[0]
            kept = without_blocks(axes, targets, bases)
            without = [_scaled(_commonality(values, targets, there)) for there in kept]
            low, high = map(_unscaled, jackknife(_scaled(shares), without, kept))
            at = {"outcome": outcome, "n_layers": n_layers, "pairs": len(bases)} | axes.block_counts(targets, bases)
            rows += [
                at | {"part": part, "share": shares[j], "low": low[j], "high": high[j]}
                for j, part in enumerate(("input", "label", "both", "unique input", "unique label", "common"))
            ]
    return pd.DataFrame(rows, columns=_DISTANCE_COLUMNS).astype({"target_blocks": "Int64"})


def _scaled(shares: Floats) -> Floats:
    """The six shares on the scale of their intervals: all but the common one, which may be negative, as z of √R²."""
    of_r = fishers_z(np.sqrt(np.maximum(shares[..., :-1], 0)))
    return np.concatenate([of_r, shares[..., -1:]], axis=-1)


def _unscaled(ends: Floats) -> Floats:
    return np.concatenate([np.tanh(np.maximum(ends[:-1], 0)) ** 2, ends[-1:]])


def _analysis_of_variance(runs: pd.DataFrame, shape: tuple[int, int]) -> list[dict[str, object]]:
    """One row per part, from a table whose rows are runs and whose I × J columns are cells, all measured."""
    values = runs.to_numpy(dtype=np.float64)
    values = values - values.mean(axis=1, keepdims=True)
    eta_squared = _shares(values, np.ones((1, len(runs)), dtype=np.int64), shape)[0]
    parts = ["input", "label", "interaction", "rest"]
    if len(runs) == 1:
        parts[2:] = ["interaction + rest"]
    numbers = runs.index.get_level_values("unit_number").to_numpy()
    k = len(units := np.unique(numbers))
    if k == 1:
        intervals = [Interval(estimate=math.nan, low=math.nan, high=math.nan)] * len(parts)
    else:
        without = _shares(values, (numbers != units[:, None]).astype(np.int64), shape)
        intervals = [student_t(pseudo_values) for pseudo_values in (k * eta_squared - (k - 1) * without).T]
        angle, angles = (np.arcsin(np.sqrt(shares)) for shares in (eta_squared[-1], without[:, -1]))
        of_angle = student_t(k * angle - (k - 1) * angles)
        low, high = np.sin(np.clip([of_angle.low, of_angle.high], 0, np.pi / 2)) ** 2
        intervals[-1] = replace(intervals[-1], low=low, high=high)
    return [
        {
            "part": part,
            "eta_squared": eta_squared[i],
            **intervals[i].columns("share"),
            "units": k,
            "cells": runs.shape[1],
        }
        for i, part in enumerate(parts)
    ]


def _shares(values: Floats, counts: Ints, shape: tuple[int, int]) -> Floats:
    """η² of input, label, interaction and rest.

    Args:
        values: (U, IJ) values of each run, less its mean.
        counts: (R, U) how often each run is in each resample.
        shape: I and J.

    Returns:
        (R, 4) shares.
    """
    runs = counts.sum(axis=1)
    cells = (counts @ values / runs[:, None]).reshape(-1, *shape)
    of_input, of_label = cells.mean(axis=2, keepdims=True), cells.mean(axis=1, keepdims=True)
    total = counts @ (values**2).sum(axis=1)
    explained = [
        runs * (shape[1] * of_input**2).sum(axis=(1, 2)),
        runs * (shape[0] * of_label**2).sum(axis=(1, 2)),
        runs * ((cells - of_input - of_label) ** 2).sum(axis=(1, 2)),
    ]
    sums = np.stack([*explained, np.maximum(total - sum(explained), 0)], axis=1)
    varies = total > 1e-24  # of fractions; below, all there is comes from rounding
    return np.where(varies[:, None], sums / np.where(varies, total, 1)[:, None], math.nan)


def _commonality(values: Sequence[Floats], targets: Ints, counts: Ints) -> Floats:
    """The six shares, (R, 6).

    Args:
        values: (P,) of each pair, of the two measures and the outcome.
        targets: (P,) the target of each pair.
        counts: (R, P) how often each pair is in each sample.
    """
    gram = np.zeros((len(counts), 3, 3))
    for target in np.unique(targets):
        here = targets == target
        of_target = counts[:, here]
        number = np.maximum(of_target.sum(axis=1), 1)
        ranks = np.stack([_centred_ranks(of[here], of_target) / number[:, None] for of in values])
        gram += np.einsum("arb,crb,rb->rac", ranks, ranks, of_target)
    spread = np.sqrt(np.einsum("raa->ra", gram))
    defined = (spread > 0).all(axis=1)
    r = gram / np.where(defined[:, None, None], spread[:, :, None] * spread[:, None, :], 1)
    of_input, of_label = r[:, 0, 2] ** 2, r[:, 1, 2] ** 2
    left = 1 - r[:, 0, 1] ** 2
    collinear = left < 1e-12  # then the second measure adds nothing
    joint = (of_input + of_label - 2 * r[:, 0, 2] * r[:, 1, 2] * r[:, 0, 1]) / np.where(collinear, 1, left)
    both = np.where(collinear, of_input, joint)
    parts = [of_input, of_label, both, both - of_label, both - of_input, of_input + of_label - both]
    return np.where(defined[:, None], np.stack(parts, axis=1), math.nan)


def _centred_ranks(values: Floats, counts: Ints) -> Floats:
    """Mid-ranks less their mean, in samples in which value k occurs ``counts[r, k]`` times: (R, K)."""
    return counts.astype(np.float64) @ np.sign(values[None, :] - values[:, None]) / 2
