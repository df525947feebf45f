"""Pairs of tasks, measures matched to them by seed, and resamples of tasks: what the analyses of distance share.

They take *outcomes*, a row for each measured (target, base, n_layers, seed), with fractions such as ``AnB`` (frozen
transfer's top-1), ``AnB+`` (fine-tuned) and ``boost`` (AnB+ − baseB of the same seed), missing where unfinished; and
*measures*, a row a value: measure, kind (``distance`` or ``score``), target, base, n_layers (missing where the value
is the same for all n), seed (missing where the same for all seeds) and value. Values that are not finite count as
missing. A pair whose base is its own target is a pair like any other: leave it out of *outcomes* if it should not
count.

The unit is the pair (target, base): the mean over the seeds for which both sides have a value. Pairs that share a task
are not independent, so resamples and permutations are of tasks. Where the bases and the targets are the same tasks (at
least two names, and half of all names, are in both roles), one draw of tasks serves both roles; else bases are drawn,
and independently of them targets, if there is more than one.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytransfer.analysis.checks import listed, refuse_repeats, require
from raytransfer.analysis.intervals import MIN_UNITS
from raytransfer.specs.treatments import ANB, ANB_PLUS

OUTCOMES = (ANB.name, ANB_PLUS.name, "boost")
"""Frozen transfer, fine-tuned transfer, and what the latter gains over training from scratch."""

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_OUTCOME_KEY = ["target", "base", "n_layers", "seed"]
_MEASURE_COLUMNS = ["measure", "kind", *_OUTCOME_KEY, "value"]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Names along the axes of all arrays, each sorted.

    Attributes:
        n_layers: The N numbers of copied layers.
        targets: The T targets; all tasks where bases and targets are the same ones.
        bases: The B bases, likewise.
        seeds: The S seeds.
        joint: Whether bases and targets are the same tasks.
    """

    n_layers: pd.Index
    targets: pd.Index
    bases: pd.Index
    seeds: pd.Index
    joint: bool


def axes_of(outcomes: pd.DataFrame, columns: tuple[str, ...]) -> Axes:
    """Read the names from outcomes.

    Raises:
        ValueError: A column is missing, or two rows are of the same target, base, n and seed.
    """
    require(outcomes, [*_OUTCOME_KEY, *columns], "outcomes")
    refuse_repeats(outcomes, _OUTCOME_KEY, "outcomes hold more than one row of the same")
    targets, bases = set(outcomes["target"]), set(outcomes["base"])
    joint = len(targets & bases) >= max(2, len(targets | bases) / 2)
    return Axes(
        n_layers=pd.Index(sorted(set(outcomes["n_layers"]))),
        targets=pd.Index(sorted(targets | bases if joint else targets)),
        bases=pd.Index(sorted(targets | bases if joint else bases)),
        seeds=pd.Index(sorted(set(outcomes["seed"]))),
        joint=joint,
    )


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
    """Average two cubes (N, T, B, S) over the seeds that both have: two (N, T, B), NaN where there is no such seed."""
    both = np.isfinite(x) & np.isfinite(y)
    seeds = both.sum(axis=-1)
    none = seeds == 0
    means = (np.where(both, cube, 0.0).sum(axis=-1) / np.maximum(seeds, 1) for cube in (x, y))
    mean_x, mean_y = (np.where(none, np.nan, mean) for mean in means)
    return mean_x, mean_y


def resampled_tasks(axes: Axes, resamples: int, seed: int) -> tuple[Counts, Counts]:
    """Draw tasks with replacement: how often each target and each base is in each resample.

    The multiplicity of a pair is the product of its two tasks'.

    Returns:
        (R, T) and (R, B) counts; the same array twice where bases and targets are the same tasks, and all ones for a
        single target.
    """
    rng = np.random.default_rng(seed)
    bases = _multinomial(rng, len(axes.bases), resamples)
    if axes.joint:
        return bases, bases
    return _multinomial(rng, len(axes.targets), resamples), bases


def permuted_tasks(axes: Axes, permutations: int, seed: int) -> Counts:
    """Draw permutations of the bases; of all tasks, where bases and targets are the same ones: (P, B)."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(len(axes.bases)), (permutations, 1)), axis=1)


def permuted_values(axes: Axes, values: Floats, targets: Counts, bases: Counts, places: Counts) -> Floats:
    """Give pairs the values of other pairs, by permutations of tasks.

    Where bases and targets are the same tasks, a pair takes the value of the pair whose two tasks take its tasks'
    places (Mantel 1967, *The detection of disease clustering and a generalized regression approach*); NaN where that
    pair has none. Else targets stay, and a target's values are put into the order in which the permutation puts their
    bases: the same for all targets that have the same bases.

    Args:
        axes: What the arrays' axes are.
        values: (T, B) values.
        targets: (K,) positions of the pairs' targets.
        bases: (K,) positions of the pairs' bases.
        places: Output of ``permuted_tasks``.

    Returns:
        (P, K) values.
    """
    if axes.joint:
        return values[places[:, targets], places[:, bases]]
    moved = np.empty((len(places), len(bases)))
    for target in np.unique(targets):
        here = np.flatnonzero(targets == target)
        order = places[:, bases[here]].argsort(axis=1)
        moved[:, here] = values[target, bases[here]][order]
    return moved


def percentiles(values: Floats, targets: Counts, bases: Counts, axes: Axes) -> tuple[Floats, Floats]:
    """Ends of the 95% percentile interval over the first axis, of the values that are not NaN.

    NaN where fewer than half of the resamples have a value; where they are drawn from fewer than
    ``intervals.MIN_UNITS`` tasks: bases, or targets, unless there is one, of which the interval then speaks alone; and
    where the interval would have no width. Pairs in perfect order, or on one line, are so in every resample, however
    few they are.

    Args:
        values: (R, ...) what each resample gives.
        targets: Positions of the targets of the pairs that enter.
        bases: Positions of their bases, likewise.
        axes: What these are positions in.
    """
    low, high = (np.full(values.shape[1:], np.nan) for _ in range(2))
    if not _enough_tasks(targets, bases, axes):
        return low, high
    enough = np.isfinite(values).sum(axis=0) >= max(len(values) / 2, 1)
    if enough.any():
        low[enough], high[enough] = np.nanpercentile(values[:, enough], [2.5, 97.5], axis=0)
    pointlike = high - low <= 1e-12 * np.maximum(np.abs(low), np.abs(high))  # equal but for rounding
    low[pointlike] = high[pointlike] = np.nan
    return low, high


def _enough_tasks(targets: Counts, bases: Counts, axes: Axes) -> bool:
    if axes.joint:
        return len(np.union1d(targets, bases)) >= MIN_UNITS
    count = len(np.unique(targets))
    return len(np.unique(bases)) >= MIN_UNITS and (count == 1 or count >= MIN_UNITS)


_AXES = (("n_layers", "n_layers"), ("targets", "target"), ("bases", "base"), ("seeds", "seed"))


def _filled(axes: Axes, index: tuple[NDArray[np.intp] | slice, ...], values: Floats) -> Floats:
    cube = np.full([len(getattr(axes, axis)) for axis, _ in _AXES], np.nan)
    cube[index] = values
    return cube


def _multinomial(rng: np.random.Generator, tasks: int, resamples: int) -> Counts:
    if not tasks:
        return np.zeros((resamples, 0), dtype=np.int64)
    return rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=resamples)
