"""Pairs of tasks, measures matched to them by seed, and blocks of tasks: what the analyses of distance share.

*outcomes* has a row for each measured (target, base, n_layers, seed): any of ``OUTCOMES``, as fractions, missing where
unfinished, and the blocks of the two tasks, target_block and base_block. *measures* has a row for each value: measure,
kind (``distance`` or ``score``), target, base, n_layers (missing where the value is the same for all n), seed (missing
where the same for all seeds) and value. Values that are not finite count as missing. A pair whose base is its own
target is a pair like any other: leave it out of *outcomes* if it should not count.

A point is a pair (target, base): the mean over the seeds for which both sides have a value. Pairs are not independent,
and neither are tasks: two halves of one data set, a data set in colour and in grey, or the levels of one dial are
alike. *Blocks* are independent: the data set of a task's images or, for bases that dials make of a target, the dial. So
p-values permute whole blocks, and intervals leave out whole blocks. Where bases and targets share blocks (at least two,
and half of all, are in both roles), a block is moved or left out in both roles at once. Else the blocks of bases are,
and, for intervals, the blocks of targets separately; with a single block of targets, intervals speak of these targets
alone.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from raytransfer.analysis.checks import listed, refuse_repeats, require
from raytransfer.analysis.intervals import MIN_UNITS, ROUNDING_OF_FRACTIONS, Floats, Ints
from raytransfer.errors import UserError
from raytransfer.specs.treatments import ANB, ANB_PLUS

OUTCOMES = (ANB.name, ANB_PLUS.name, "boost")
"""Frozen transfer, fine-tuned transfer, and what the latter gains over training from scratch."""

_ENUMERATED = 6  # blocks have 720 orders; those of more are drawn
_OUTCOME_KEY = ["target", "base", "n_layers", "seed"]
_MEASURE_COLUMNS = ["measure", "kind", *_OUTCOME_KEY, "value"]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Names along the axes of all arrays, each sorted, and the blocks of the tasks.

    Attributes:
        n_layers: The N numbers of copied layers.
        targets: The T targets.
        bases: The B bases.
        seeds: The S seeds.
        target_blocks: (T,) the block of each target, numbered from 0.
        base_blocks: (B,) the block of each base; of the same numbers where ``joint``.
        joint: Whether the blocks of bases and of targets are the same ones.
    """

    n_layers: pd.Index
    targets: pd.Index
    bases: pd.Index
    seeds: pd.Index
    target_blocks: Ints
    base_blocks: Ints
    joint: bool

    def block_counts(self, targets: Ints, bases: Ints) -> dict[str, int | None]:
        """How many blocks pairs enter with: ``blocks`` of bases, and ``target_blocks``, None where they are those."""
        of_targets, of_bases = self.target_blocks[targets], self.base_blocks[bases]
        if self.joint:
            return {"blocks": len(np.union1d(of_targets, of_bases)), "target_blocks": None}
        return {"blocks": len(np.unique(of_bases)), "target_blocks": len(np.unique(of_targets))}


def outcomes_in(outcomes: pd.DataFrame) -> list[str]:
    """Which of ``OUTCOMES`` are columns of a table.

    Raises:
        ValueError: None is.
    """
    found = [name for name in OUTCOMES if name in outcomes]
    if not found:
        raise ValueError(f"outcomes have none of the columns {listed(OUTCOMES)}")
    return found


def axes_of(outcomes: pd.DataFrame) -> Axes:
    """Read the names and blocks from outcomes.

    Raises:
        ValueError: A column is missing; two rows are of the same target, base, n and seed; or a task is in two blocks.
    """
    require(outcomes, [*_OUTCOME_KEY, "target_block", "base_block"], "outcomes")
    refuse_repeats(outcomes, _OUTCOME_KEY, "outcomes hold more than one row of the same")
    targets, bases = (_blocks(outcomes, role) for role in ("target", "base"))
    shared, every = set(targets) & set(bases), sorted(set(targets) | set(bases))
    joint = len(shared) >= max(2, len(every) / 2)
    numbers = [pd.Index(every if joint else sorted(set(blocks))) for blocks in (targets, bases)]
    return Axes(
        n_layers=pd.Index(sorted(set(outcomes["n_layers"]))),
        targets=targets.index,
        bases=bases.index,
        seeds=pd.Index(sorted(set(outcomes["seed"]))),
        target_blocks=numbers[0].get_indexer(pd.Index(targets)).astype(np.int64),
        base_blocks=numbers[1].get_indexer(pd.Index(bases)).astype(np.int64),
        joint=joint,
    )


def _blocks(outcomes: pd.DataFrame, role: str) -> "pd.Series[str]":
    """The block of each task, by name, in the order of the names."""
    pairs = outcomes[[role, f"{role}_block"]].drop_duplicates().sort_values(role)
    if pairs[role].duplicated().any():
        name = pairs.loc[pairs[role].duplicated(), role].iloc[0]
        raise ValueError(f"{role} {name} is in the blocks {listed(pairs.loc[pairs[role] == name, f'{role}_block'])}")
    blocks: pd.Series[str] = pairs.set_index(role)[f"{role}_block"]
    return blocks


def measures_by_name(measures: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split measures by name, in the order of the names.

    Raises:
        ValueError: A column is missing; two rows are of the same value; or a measure's rows differ in kind, or in
            whether they have an n or a seed.
    """
    require(measures, _MEASURE_COLUMNS, "measures")
    refuse_repeats(measures, ["measure", *_OUTCOME_KEY], "measures hold more than one row of the same")
    by_name = {str(name): rows for name, rows in measures.groupby("measure")}
    for name, rows in by_name.items():
        if not set(rows["kind"]) < {"distance", "score"}:
            raise ValueError(f"measure {name} is of kind {listed(rows['kind'])}: it is either distance or score")
        for column in ("n_layers", "seed"):
            if rows[column].isna().nunique() > 1:
                raise ValueError(f"measure {name} has a {column} in some rows and none in others")
    return by_name


def measure_rows(measures: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of one measure.

    Raises:
        UserError: No such measure.
        ValueError: As in ``measures_by_name``.
    """
    by_name = measures_by_name(measures)
    if measure not in by_name:
        raise UserError(f"no measure {measure!r}: there are {', '.join(by_name) or 'none'}")
    return by_name[measure]


def outcome_cube(axes: Axes, outcomes: pd.DataFrame, column: str) -> Floats:
    """Lay one outcome out as (N, T, B, S); NaN where missing."""
    at = [getattr(axes, axis).get_indexer(outcomes[name]) for axis, name in _AXES]
    return _filled(axes, tuple(at), outcomes[column].to_numpy(dtype=np.float64, na_value=np.nan))


def measure_cube(axes: Axes, rows: pd.DataFrame) -> Floats:
    """Lay one measure out as (N, T, B, S), repeated over every n or seed where it has none; NaN where missing."""
    named = [(axis, name) for axis, name in _AXES if rows[name].notna().all()]
    at = {name: getattr(axes, axis).get_indexer(rows[name]) for axis, name in named}
    known = np.all([index >= 0 for index in at.values()], axis=0)
    values = rows["value"].to_numpy(dtype=np.float64, na_value=np.nan)[known]
    index = tuple(at[name][known] if name in at else slice(None) for _, name in _AXES)
    # NumPy puts the rows' axis where the (adjacent) indices stood: after n where n is a slice, before seed's slice.
    shape = [1] * ("n_layers" not in at) + [len(values)] + [1] * ("seed" not in at)
    return _filled(axes, index, values.reshape(shape))


def seed_means(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Average two cubes (N, T, B, S) over the seeds that both have: two (N, T, B), NaN where there is no such seed.

    Means that differ by rounding alone are made equal (``evened``), so that they tie in ranks.

    Args:
        x: Values of a measure.
        y: Fractions, or differences of fractions.
    """
    both = np.isfinite(x) & np.isfinite(y)
    seeds = both.sum(axis=-1)
    none = seeds == 0
    means = (np.where(both, cube, 0.0).sum(axis=-1) / np.maximum(seeds, 1) for cube in (x, y))
    mean_x, mean_y = (np.where(none, np.nan, mean) for mean in means)
    return evened(mean_x), evened(mean_y, ROUNDING_OF_FRACTIONS)


def evened(means: Floats, rounding: float = 0.0) -> Floats:
    """Make means equal that differ by rounding alone, as (0.1 + 0.2) / 2 and (0.15 + 0.15) / 2 do in the last bit.

    Means within 1e-12 of their size, or within ``rounding``, of each other become the least of them; NaN stays.
    """
    known = np.isfinite(means)
    ordered = np.unique(means[known])
    apart = np.diff(ordered, prepend=-np.inf) > np.maximum(1e-12 * np.abs(ordered), rounding)
    least = ordered[apart][np.cumsum(apart) - 1]
    even = means.copy()
    even[known] = least[np.searchsorted(ordered, means[known])]
    return even


def permuted_blocks(axes: Axes, permutations: int, seed: int) -> Ints:
    """Permutations of the K blocks of bases, or of all blocks where bases and targets share them: (P, K).

    All but the identity for up to 6 blocks, else ``permutations`` random ones.
    """
    blocks = np.union1d(axes.base_blocks, axes.target_blocks) if axes.joint else np.unique(axes.base_blocks)
    if len(blocks) <= _ENUMERATED:
        orders = list(itertools.permutations(range(len(blocks))))
        return np.array(orders, dtype=np.int64).reshape(len(orders), len(blocks))[1:]
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(len(blocks)), (permutations, 1)), axis=1)


def permuted_values(axes: Axes, values: Floats, targets: Ints, bases: Ints, orders: Ints) -> Floats:
    """Permute values among pairs, by permutations of whole blocks.

    A block takes the values of another block of the same size task by task, in the order of their names. A block of n
    tasks takes those of a block of m at n evenly spaced places, so some values are left out or taken twice. The p-value
    is exact if blocks have one size, are exchangeable, and are unrelated to the outcome;
    ``tests/analysis/coverage.md`` says how often it errs with unequal blocks.

    Where bases and targets share blocks, both tasks of a pair move (Mantel 1967, *The detection of disease clustering
    and a generalized regression approach*); NaN where there is no such pair. Else targets stay, and the blocks of each
    target's own bases are put into the order in which the permutation has them, the same for all targets.

    Args:
        axes: What the arrays' axes are.
        values: (T, B) values.
        targets: (K,) positions of the pairs' targets.
        bases: (K,) positions of the pairs' bases.
        orders: Output of ``permuted_blocks``.

    Returns:
        (P, K) values.
    """
    if axes.joint:
        rows, columns = (_moved(blocks, orders) for blocks in (axes.target_blocks, axes.base_blocks))
        at = rows[:, targets], columns[:, bases]
        return np.where((at[0] >= 0) & (at[1] >= 0), values[at], math.nan)
    moved = np.empty((len(orders), len(bases)))
    for target in np.unique(targets):
        here = np.flatnonzero(targets == target)
        present, blocks = np.unique(axes.base_blocks[bases[here]], return_inverse=True)
        among = orders[:, present].argsort(axis=1)
        moved[:, here] = values[target, bases[here]][_moved(blocks, among)]
    return moved


def _moved(blocks: Ints, orders: Ints) -> Ints:
    """From which task each of n tasks takes its value, (P, n); −1 where the block it takes from has no task.

    Args:
        blocks: (n,) the block of each task.
        orders: (P, K) from which block each block takes its values.
    """
    moved = np.full((len(orders), len(blocks)), -1)
    members = [np.flatnonzero(blocks == block) for block in range(orders.shape[1])]
    for block, own in enumerate(members):
        taken = np.full((len(members), len(own)), -1)
        for other, others in enumerate(members):
            if len(own) and len(others):
                spread = ((np.arange(len(own)) + 0.5) * len(others) / len(own)).astype(np.int64)
                taken[other] = others[spread]
        moved[:, own] = taken[orders[:, block]]
    return moved


def without_blocks(axes: Axes, targets: Ints, bases: Ints) -> list[Ints]:
    """Leave the blocks of pairs out one by one.

    Args:
        axes: What the pairs' positions are of.
        targets: (P,) positions of the pairs' targets.
        bases: (P,) positions of the pairs' bases.

    Returns:
        (K, P) for the K blocks of bases, or all blocks where bases and targets share them: row k is 0 at the pairs of
        block k, else 1. The same for the blocks of targets, where these are others and more than one.
    """
    of_targets, of_bases = axes.target_blocks[targets], axes.base_blocks[bases]
    if axes.joint:
        blocks = np.union1d(of_targets, of_bases)[:, None]
        parts = [(of_targets != blocks) & (of_bases != blocks)]
    else:
        roles = [of_bases] if len(np.unique(of_targets)) == 1 else [of_bases, of_targets]
        parts = [of != np.unique(of)[:, None] for of in roles]
    return [kept.astype(np.int64) for kept in parts]


def jackknife(
    whole: Floats, without: Sequence[Floats], kept: Sequence[Ints], squared_weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Ends of the 95% interval from leaving blocks out one by one.

    With v_k the value without block k of K, and v̄ their mean, the variance is (K − 1)/K Σ (v_k − v̄)² (Tukey 1958,
    *Bias and confidence in not-quite large samples*), and the interval is of Student's t around the value of all. Not
    the bootstrap: of 3 blocks, one resample in nine holds a single one, and its intervals are too narrow there.

    Of blocks of bases and blocks of targets the variances are added, and Satterthwaite's degrees of freedom taken, as
    in ``intervals.welch_t``. A pair that is in two blocks, its target's and its base's, is then left out twice, which
    makes intervals too wide rather than too narrow; with that taken off they cover in too few studies.

    Where most of a value comes from a few blocks, its variance is known less well than from K alike ones. With s_k the
    block's share of the sum of all pairs' squared weights, there are as many degrees of freedom as of 1/Σ s_k² alike
    blocks, 1/Σ s_k² − 1, and at least 1 (that number: Kish 1965, *Survey Sampling*; why it is: Satterthwaite 1946, *An
    approximate distribution of estimates of variance components*, with the variance of what a block adds taken to go
    with its share). Of K alike ones they are K − 1.

    NaN under ``intervals.MIN_UNITS`` blocks; where some value without a block does not exist; and where the interval
    would have no width. Pairs in perfect order, or on one line, are so without any block, however few they are.

    Args:
        whole: (...) values from all blocks.
        without: (K, ...) values without each block, for each entry of ``kept``.
        kept: Output of ``without_blocks``.
        squared_weights: (P, ...) squared weight of each pair in the value; equal unless given.
    """
    if min(map(len, without)) < MIN_UNITS:
        return np.full(whole.shape, math.nan), np.full(whole.shape, math.nan)
    squares = np.ones(kept[0].shape[1]) if squared_weights is None else squared_weights
    variances, degrees = [], []
    for v, there in zip(without, kept, strict=True):
        variances.append((len(v) - 1) / len(v) * ((v - v.mean(axis=0)) ** 2).sum(axis=0))
        lost = (1 - there) @ squares
        degrees.append(np.maximum(1, lost.sum(axis=0) ** 2 / (lost**2).sum(axis=0) - 1))
    total = np.sum(variances, axis=0)
    known = total > (1e-12 * np.maximum(np.abs(whole), 1e-3)) ** 2  # not all equal but for rounding
    some = np.where(known, total, 1.0)
    parts = [np.where(known, variance, 1.0) / some for variance in variances]
    of_all = 1 / np.sum([part**2 / of for part, of in zip(parts, degrees, strict=True)], axis=0)
    half = np.where(known, stdtrit(of_all, 0.975) * np.sqrt(some), math.nan)
    return whole - half, whole + half


_AXES = (("n_layers", "n_layers"), ("targets", "target"), ("bases", "base"), ("seeds", "seed"))


def _filled(axes: Axes, index: tuple[NDArray[np.intp] | slice, ...], values: Floats) -> Floats:
    cube = np.full([len(getattr(axes, axis)) for axis, _ in _AXES], np.nan)
    cube[index] = values
    return cube
