"""How well layers transfer: means of the treatments, the readings of Yosinski et al. 2014, and their published boosts.

Every function takes *results*: one row for each finished cell of a sweep's grid, with at least ``treatment``,
``halves``, ``split``, ``direction``, ``seed``, ``n_layers`` (0 for bases) and the metric; ``raytransfer.store.schema``
says what they mean. Split and direction fix the target: the base of the first half is the ``baseB`` of direction
``B->A``. Runs are compared within one (split, direction, seed). The grid may be unfinished: a difference is taken where
both runs exist. The order of the rows changes nothing, not even the last bit.

Intervals are 95% and of Student's t (``raytransfer.analysis.intervals`` says why), over *units*, which are independent.
A unit of random halves is a split: its two directions share halves and bases, its seeds share its classes, so all its
runs count as one. Taken as independent, the 20 runs of 2 splits, 2 directions and 5 seeds would give intervals that
cover 55 to 95% of the time, by how much of the variance lies between splits. A unit of fixed halves is a seed: such an
interval speaks of these halves alone, and not of others that are as unlike.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.analysis.checks import refuse_repeats, require
from raytransfer.analysis.intervals import Floats, Interval, clustered_t, detectable, student_t, welch_t
from raytransfer.analysis.units import numbers_of, unit_means
from raytransfer.specs.treatments import (
    ANB,
    ANB_PLUS,
    BASE_B,
    BASE_B_2X,
    BNB,
    BNB_PLUS,
    RNB,
    TREATMENTS,
    treatment_rank,
)

BASES = tuple(name for name, treatment in TREATMENTS.items() if not treatment.has_cut)
"""Treatments without a cut n, as they copy no layer or all below the head: one run stands against those of every n."""

READINGS = {
    "co-adaptation drop": (BASE_B.name, BNB.name),
    "specificity drop": (BNB.name, ANB.name),
    "recovery": (BNB_PLUS.name, BNB.name),
    "generalisation boost": (ANB_PLUS.name, BASE_B.name),
    "distance effect": (BASE_B.name, ANB.name),
    "value of distant features": (ANB.name, RNB.name),
    "boost over twice the steps": (ANB_PLUS.name, BASE_B_2X.name),
    "boost over selffer": (ANB_PLUS.name, BNB_PLUS.name),
}
"""Each reading is its first treatment minus its second; the last two are controls.

The distance effect is that difference for dissimilar halves minus the same for random halves, and the value of distant
features is asked of dissimilar halves; both of those in ``DISSIMILAR`` alone.
"""

DISSIMILAR = ("animals/vehicles", "natural/man-made", "loops/no-loops")
"""The named pairs of halves, which were chosen to be unlike each other.

Halves that are given as lists of classes may be alike or not. So they have no distance effect and no value of distant
features; their other readings, and the means of all their treatments, are given as usual.
"""

_OF_DISSIMILAR = ("distance effect", "value of distant features")
_PAIRED = ["split", "direction", "seed"]
_MEANS_COLUMNS = ["treatment", "halves", "n_layers", "mean", "low", "high", "units", "runs"]
_READINGS_COLUMNS = ["reading", "halves", "n_layers", "estimate", "low", "high"]
_READINGS_COLUMNS += ["units", "random_units", "runs", "method", "detectable"]


def treatment_means(results: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """Average every treatment at every n (Yosinski et al. 2014, Figure 2, bottom).

    The interval covers the mean over new units, so it contains the spread between targets, which the paired readings
    are free of: overlap of two treatments' intervals does not mean that they are equal.

    Args:
        results: One row per cell of the grid.
        metric: Column to average; ``top1_best10`` is the score of 2014.

    Returns:
        One row for each treatment, halves and n_layers that has a run: mean, low and high (in the metric's unit, for
        top-1 a fraction; NaN low and high under 3 units), units, and the runs that they hold. Bases come first, random
        halves before others.

    Raises:
        ValueError: A column is missing, or two rows claim the same treatment, split, direction, seed and n.
    """
    means = unit_means(_checked(results, metric), ["treatment", "halves", "n_layers"], metric)
    places = zip(means["treatment"], means["halves"], means["n_layers"], strict=True)
    ranks = [(treatment_rank(treatment), halves_rank(halves), n) for treatment, halves, n in places]
    return means.loc[sorted(means.index, key=ranks.__getitem__), _MEANS_COLUMNS].reset_index(drop=True)


def readings(results: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """Take the six readings of Yosinski et al. 2014 at every n, and two controls: differences with intervals.

    Positive values mean what the name says:

    - co-adaptation drop = baseB − BnB: lost where frozen layers were cut from the ones they were trained with;
    - specificity drop = BnB − AnB: lost on top because the layers were trained on another task;
    - recovery = BnB+ − BnB: won back by fine-tuning the copied layers;
    - generalisation boost = AnB+ − baseB: what a start from another task adds after fine-tuning;
    - distance effect = (baseB − AnB) of dissimilar halves (``DISSIMILAR``) − (baseB − AnB) of random halves;
    - value of distant features = AnB − RnB on dissimilar halves, likewise: what layers trained on a distant task are
      worth over random ones;
    - boost over twice the steps = AnB+ − baseB-2x: the boost, when a base has trained as long as AnB+ and its base
      together;
    - boost over selffer = AnB+ − BnB+: the boost, when the same network has trained twice on its own task.

    All but the distance effect are paired within a split, direction and seed, so that an easy target or a lucky seed
    cancels; the interval is that of a t over units. The distance effect compares two independent groups of units, whose
    targets differ: Welch's t of their means.

    Args:
        results: One row per cell of the grid.
        metric: Column to compare.

    Returns:
        One row for each reading, halves and n_layers that has a unit: estimate, low and high (in the metric's unit,
        for top-1 fractions in −1..1; NaN low and high under 3 units, of either group for a distance effect), units,
        random_units (the units on random halves that a distance effect is measured against, else missing), runs (the
        differences that the units hold), method (``paired t`` or ``Welch t``) and detectable (the smallest reading that
        would have been seen in 4 studies of 5).

    Raises:
        ValueError: A column is missing, or two rows claim the same treatment, split, direction, seed and n.
    """
    checked = _checked(results, metric)
    rows: list[dict[str, Any]] = []
    for reading, (first, second) in READINGS.items():
        differences = _differences(checked, first, second, metric)
        groups: dict[Any, pd.DataFrame] = dict(iter(differences.groupby(["halves", "n_layers"])))
        for halves, n_layers in sorted(groups, key=lambda key: (halves_rank(key[0]), key[1])):
            if reading in _OF_DISSIMILAR and halves not in DISSIMILAR:
                continue
            group, random_units = groups[halves, n_layers], None
            if reading != "distance effect":
                method, interval = "paired t", clustered_t(_floats(group["difference"]), numbers_of(group))
            elif ("random", n_layers) in groups:
                of_random = _unit_means(groups["random", n_layers])
                method, interval, random_units = "Welch t", welch_t(_unit_means(group), of_random), len(of_random)
            else:
                continue
            rows.append(
                {"reading": reading, "halves": halves, "n_layers": n_layers, "method": method}
                | interval.columns("estimate")
                | {"units": group["unit_number"].nunique(), "random_units": random_units, "runs": len(group)}
                | {"detectable": detectable(interval)}
            )
    return pd.DataFrame(rows, columns=_READINGS_COLUMNS).astype({"random_units": "Int64"})


@dataclass(frozen=True, kw_only=True)
class Boost:
    """A gain averaged over several n.

    Attributes:
        of: The treatment that gains.
        over: The treatment it gains over.
        first: Smallest n that was asked for.
        last: Largest n, likewise.
        averaged: The n whose runs entered, such as ``3-7``, or ``2, 5`` where there are no runs between; ``3-7 against
            2, 5`` where the runs of ``over`` are of other n.
        method: ``unpaired`` or ``paired, t over units``.
        estimate: The gain, in the metric's unit; NaN without runs.
        low: Lower end of the 95% interval; NaN where unpaired or under 3 units.
        high: Upper end, likewise.
        runs: Runs of ``of`` that entered.
        units: Units they belong to.
    """

    of: str
    over: str
    first: int
    last: int
    averaged: str
    method: str
    estimate: float
    low: float
    high: float
    runs: int
    units: int


def boost(
    results: pd.DataFrame, *, of: str, over: str, first: int, last: int, paired: bool, metric: str = "top1"
) -> Boost:
    """Average the gain of one treatment over another on random halves over all runs with first ≤ n ≤ last.

    Unpaired, it is the mean of the runs of ``of`` minus the mean of the runs of ``over`` (of all its runs, where
    ``over`` is a base), each run weighing the same. The boosts that Yosinski et al. 2014 published are of this kind:
    they come out to the third decimal. Where the two treatments did not run on the same targets, it also contains the
    difference between those targets. It has no interval, as the two means share units.

    Paired, it is the mean over the runs of ``of`` of (run − the run of ``over`` of the same split, direction and seed,
    and of the same n unless ``over`` is a base); runs without a partner are left out. The interval counts units, here
    splits, not runs (``intervals.clustered_t``).

    Args:
        results: One row per cell of the grid.
        of: Treatment that gains, such as ``AnB+``.
        over: Treatment it is held against: ``baseB``, ``baseB-2x``, ``BnB+``, ...
        first: Smallest n.
        last: Largest n.
        paired: Whether each run is held against that of its own split, direction and seed.
        metric: Column to compare; 2014 published ``top1_best10``.

    Raises:
        ValueError: Not 1 ≤ first ≤ last; a column is missing; or two rows claim the same treatment, split, direction,
            seed and n.
    """
    if not 1 <= first <= last:
        raise ValueError(f"n from {first} to {last}: copied layers count from 1, and the first is at most the last")
    checked = _checked(results, metric)
    random = checked[checked["halves"] == "random"]
    span = random[random["n_layers"].between(first, last) | random["treatment"].isin(BASES)]
    if paired:
        runs = _differences(span, of, over, metric)
        averaged = _listed(runs["n_layers"])
        interval = clustered_t(_floats(runs["difference"]), numbers_of(runs))
    else:
        runs, against = (span[span["treatment"] == treatment] for treatment in (of, over))
        averaged = _listed(runs["n_layers"])
        if over not in BASES and averaged != _listed(against["n_layers"]):
            averaged += f" against {_listed(against['n_layers'])}"
        gain = student_t(_floats(runs[metric])).estimate - student_t(_floats(against[metric])).estimate
        interval = Interval(estimate=gain, low=math.nan, high=math.nan)
    return Boost(
        of=of,
        over=over,
        first=first,
        last=last,
        averaged=averaged,
        method="paired, t over units" if paired else "unpaired",
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        runs=len(runs),
        units=runs["unit_number"].nunique(),
    )


def boosts(
    results: pd.DataFrame, spans: Iterable[tuple[int, int]] = ((1, 7), (3, 7), (5, 7)), metric: str = "top1"
) -> pd.DataFrame:
    """Give the published boosts and what pairing makes of them, a row each.

    AnB+ over baseB and over BnB+ unpaired, as published; then AnB+ and BnB+ each over the base of its own target, and
    AnB+ over the BnB+ of its own target. Where the paired gains of AnB+ and BnB+ agree, the boost owes little to
    the other task.

    Args:
        results: One row per cell of the grid.
        spans: First and last n of each average; those of the paper unless given. ``averaged`` says which n it holds.
        metric: Column to compare; 2014 published ``top1_best10``.

    Returns:
        The fields of ``Boost`` as columns; comparisons that no run enters are left out.

    Raises:
        ValueError: As in ``boost``.
    """
    comparisons = (
        (ANB_PLUS.name, BASE_B.name, False),
        (ANB_PLUS.name, BNB_PLUS.name, False),
        (ANB_PLUS.name, BASE_B.name, True),
        (BNB_PLUS.name, BASE_B.name, True),
        (ANB_PLUS.name, BNB_PLUS.name, True),
    )
    all_boosts = [
        boost(results, of=of, over=over, first=first, last=last, paired=paired, metric=metric)
        for of, over, paired in comparisons
        for first, last in spans
    ]
    columns = [field.name for field in dataclasses.fields(Boost)]
    return pd.DataFrame([b for b in all_boosts if not math.isnan(b.estimate)], columns=columns)


def _checked(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Take the columns that count, with each run's unit, in one order: sums in another may differ in the last bit."""
    key = ["treatment", *_PAIRED, "n_layers"]
    columns = [*key, "halves", metric]
    require(results, columns, "results")
    refuse_repeats(results, key, "results hold more than one row of the same run:")
    checked = results[columns].sort_values(key, ignore_index=True)
    is_random = checked["halves"] == "random"
    splits, seeds = (pd.factorize(checked[name], sort=True)[0] for name in ("split", "seed"))
    return checked.assign(unit=np.where(is_random, "split", "seed"), unit_number=np.where(is_random, splits, seeds))


def _differences(results: pd.DataFrame, first: str, second: str, metric: str) -> pd.DataFrame:
    """First minus second treatment, a row for each pair of runs, with its unit and n.

    At least one of the two is no base: it gives the n.
    """
    left, right = _runs(results, first, metric), _runs(results, second, metric)
    shared = [column for column in left.columns if column in right.columns and column != metric]
    both = left.merge(right, on=shared, suffixes=("_first", "_second"))
    both["difference"] = both[f"{metric}_first"] - both[f"{metric}_second"]
    return both


def _listed(all_n: pd.Series) -> str:
    """Say which n there are: ``3-7`` where three or more follow each other, else one by one, as in ``2, 5``."""
    every = sorted({int(n) for n in all_n})
    if len(every) > 2 and every[-1] - every[0] == len(every) - 1:
        return f"{every[0]}-{every[-1]}"
    return ", ".join(map(str, every))


def _runs(results: pd.DataFrame, treatment: str, metric: str) -> pd.DataFrame:
    rows = results.loc[results["treatment"] == treatment, ["halves", *_PAIRED, "unit_number", "n_layers", metric]]
    return rows.drop(columns="n_layers") if treatment in BASES else rows


def _unit_means(differences: pd.DataFrame) -> Floats:
    units = numbers_of(differences)
    runs, sums = np.bincount(units), np.bincount(units, weights=_floats(differences["difference"]))
    return sums[runs > 0] / runs[runs > 0]


def _floats(values: pd.Series) -> Floats:
    return values.to_numpy(dtype=np.float64, na_value=math.nan)


def halves_rank(halves: str) -> tuple[bool, str]:
    """Sorting key of halves: random ones first, then by name."""
    return (halves != "random", halves)
