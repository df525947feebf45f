"""Transfer along the training of the base: whether it rises, then declines, and what a learning-rate drop does.

The functions take *outcomes*, a row a transfer: schedule (of the base's learning rate: ``step``, ``cosine``,
``constant``), target, base, seed, treatment (``AnB`` frozen, ``AnB+`` fine-tuned), n_layers, pretrain_step (of the
checkpoint it starts from, 0 for random weights) and top1, a fraction. A *unit* is a (target, base, seed), and units
count as independent. They are not quite: those of one base and seed share its checkpoints.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytransfer.analysis.checks import refuse_repeats, require
from raytransfer.analysis.intervals import MIN_UNITS, TOO_FEW, Interval, student_t

Floats = NDArray[np.float64]

_UNIT = ["target", "base", "seed"]
_CURVE = ["schedule", "treatment", "n_layers"]
_MEANS = ["mean", "low", "high", "units"]
_PEAKS_COLUMNS = [
    *_CURVE,
    *("peak_step", "low", "high", "rise", "rise_low", "rise_high", "decline", "decline_low", "decline_high"),
    *("decline_naive", "units", "verdict"),
]
_DROPS_COLUMNS = [*_CURVE, "drop_step", "before_step", "after_step", "estimate", "low", "high", "units"]


def stage_curves(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Average transfer at every checkpoint, with the 95% interval of Student's t over the units that have it.

    Args:
        outcomes: A row a transfer.

    Returns:
        A row for each schedule, treatment, n_layers and pretrain_step with a value: mean, low, high (fractions; NaN
        ends under 3 units) and units.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    return _means(_checked(outcomes, [*_CURVE, "pretrain_step", *_UNIT]), [*_CURVE, "pretrain_step"])


def base_curves(bases: pd.DataFrame) -> pd.DataFrame:
    """Average the bases' accuracy on their own tasks at every step; interval of Student's t over (base, seed).

    A base that serves several targets counts once.

    Args:
        bases: A row for each schedule, target, base, seed and step: top1, a fraction.

    Returns:
        A row for each schedule and step: mean, low, high (fractions; NaN ends under 3 bases) and units.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    checked = _checked(bases, ["schedule", "step", *_UNIT])
    networks = checked.groupby(["schedule", "step", "base", "seed"])["top1"].mean()
    return _means(networks.reset_index(), ["schedule", "step"])


def stage_peaks(outcomes: pd.DataFrame, seed: int = 0, resamples: int = 2000) -> pd.DataFrame:
    """Find the checkpoint that transfers best, and say whether transfer rises up to it and declines after it.

    Only units with every checkpoint of their curve enter. The peak is the checkpoint with the highest mean, the
    earliest of equals; its interval is the 95% percentile bootstrap over units, ends on checkpoints. There is none
    where the resamples agree on one checkpoint, as they must where that is the best of every unit.

    The best of many noisy points lies above its neighbours even where nothing declines. So rise (peak − first
    checkpoint) and decline (peak − last) are cross-fitted: each unit is read off at the peak of the mean of the *other*
    units. They may come out below 0. Intervals are 95%, of Student's t over units.

    The verdict on "rises, then declines" is ``supported`` where rise_low and decline_low are above 0, ``not supported``
    where rise_high or decline_high is not, or where every unit is read off at the first checkpoint or every one at the
    last (rise or decline is then 0 by construction, and has no interval), else ``undecided``; under 3 units it is
    ``too few units``.

    Of 4,000 simulated studies each, of 12 checkpoints with independent noise of 1 point, this share was called
    supported; *uncrossed* is the same rule with every unit read off at the peak of the mean of all:

        units                                          6      12     6 uncrossed  12 uncrossed
        saturates: what is left of 20 points falls
        by a factor of e from checkpoint to checkpoint 0.05   0.05   0.08         0.08
        the same with a factor of √e                   0.03   0.02   0.04         0.03
        flat from the second checkpoint on             0.05   0.07   0.11         0.13
        the first, and falls by 1 point later on       0.26   0.50   0.44         0.75
        the first, and falls by 2 points later on      0.71   0.96   0.87         1.00

    So where nothing declines, ``supported`` comes 5% of the time, and 7% in the worst case, not 2.5%.

    Args:
        outcomes: A row a transfer.
        seed: What the resamples are drawn from.
        resamples: How many.

    Returns:
        A row for each schedule, treatment and n_layers that has a whole unit: peak_step, low, high (in steps), rise,
        rise_low, rise_high, decline, decline_low, decline_high, decline_naive (of the means, at their own peak; all
        fractions), units and verdict. Under 3 units there is no interval; of one, no rise or decline either.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    rows: list[dict[str, Any]] = []
    for key, table in _curves(outcomes):
        whole = table.dropna()
        if whole.empty:
            continue
        steps, values = whole.columns.to_numpy(), whole.to_numpy(dtype=np.float64)
        mean = values.mean(axis=0)
        peak = int(mean.argmax())
        low, high = _peak_interval(values, steps, seed, resamples)
        rise, decline, at_an_end = _crossed(values)
        rows.append(
            dict(zip(_CURVE, key, strict=True))
            | {"peak_step": steps[peak], "low": low, "high": high}
            | {"rise": rise.estimate, "rise_low": rise.low, "rise_high": rise.high}
            | {"decline": decline.estimate, "decline_low": decline.low, "decline_high": decline.high}
            | {"decline_naive": mean[peak] - mean[-1], "units": len(whole)}
            | {"verdict": _verdict(rise, decline, at_an_end) if len(whole) >= MIN_UNITS else TOO_FEW}
        )
    return pd.DataFrame(rows, columns=_PEAKS_COLUMNS)


def drop_effects(outcomes: pd.DataFrame, drops: pd.DataFrame) -> pd.DataFrame:
    """Say what a drop of the learning rate does to transfer, apart from training longer.

    From the last checkpoint before a drop to the first after it, transfer changes by one amount under the schedule with
    the drop and by another under the constant one: the estimate is the first minus the second, within units, with the
    95% interval of Student's t. A drop at step d first acts on the step after it: checkpoint d lies before the drop.

    Args:
        outcomes: A row a transfer.
        drops: A row a drop: schedule, step.

    Returns:
        A row for each schedule, treatment, n_layers and drop that a unit has all four values of: drop_step,
        before_step, after_step, estimate, low, high (fractions; NaN ends under 3 units) and units. Empty without a
        constant arm.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    tables = dict(_curves(outcomes))
    rows: list[dict[str, Any]] = []
    for (schedule, treatment, n_layers), table in tables.items():
        constant = tables.get(("constant", treatment, n_layers))
        if schedule == "constant" or constant is None:
            continue
        for drop in sorted(drops.loc[drops["schedule"] == schedule, "step"]):
            before, after = table.columns[table.columns <= drop], table.columns[table.columns > drop]
            if before.empty or after.empty or not {before[-1], after[0]} <= set(constant.columns):
                continue
            change, reference = (arm[after[0]] - arm[before[-1]] for arm in (table, constant))
            effects = (change - reference).dropna().to_numpy(dtype=np.float64)
            if len(effects):
                interval = student_t(effects)
                key = (schedule, treatment, n_layers, drop, before[-1], after[0])
                numbers = (interval.estimate, interval.low, interval.high, len(effects))
                rows.append(dict(zip(_DROPS_COLUMNS, key + numbers, strict=True)))
    return pd.DataFrame(rows, columns=_DROPS_COLUMNS)


def _checked(frame: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Take the rows with a top-1, in one order: sums in another order may differ in the last bit."""
    require(frame, [*key, "top1"], "rows")
    refuse_repeats(frame, key, "more than one row is of")
    return frame[[*key, "top1"]].dropna(subset=["top1"]).sort_values(key, ignore_index=True)


def _means(checked: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for at, cell in checked.groupby(key):
        interval = student_t(cell["top1"].to_numpy(dtype=np.float64))
        numbers = (interval.estimate, interval.low, interval.high, len(cell))
        rows.append(dict(zip(key, at, strict=True)) | dict(zip(_MEANS, numbers, strict=True)))
    return pd.DataFrame(rows, columns=key + _MEANS)


def _curves(outcomes: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """For each schedule, treatment and n_layers: top-1, a row a unit and a column a checkpoint, NaN where missing."""
    for key, rows in _checked(outcomes, [*_CURVE, "pretrain_step", *_UNIT]).groupby(_CURVE):
        yield tuple(key), rows.pivot(index=_UNIT, columns="pretrain_step", values="top1")


def _peak_interval(values: Floats, steps: NDArray[Any], seed: int, resamples: int) -> tuple[float, float]:
    units = len(values)
    if units < MIN_UNITS:
        return math.nan, math.nan
    counts = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    peaks = np.sort(steps[(counts @ values).argmax(axis=1)])
    # Percentiles that are checkpoints themselves: there is nothing between two of them.
    low, high = np.percentile(peaks, 2.5, method="lower"), np.percentile(peaks, 97.5, method="higher")
    return (float(low), float(high)) if low < high else (math.nan, math.nan)


def _crossed(values: Floats) -> tuple[Interval, Interval, bool]:
    """Rise and decline, each unit read off at the peak of the others' mean; whether one end is that peak of all."""
    if len(values) < 2:  # there are no others
        unknown = Interval(estimate=math.nan, low=math.nan, high=math.nan)
        return unknown, unknown, False
    of_others = values.sum(axis=0) - values
    peaks = of_others.argmax(axis=1)
    at_peak = values[np.arange(len(values)), peaks]
    at_an_end = bool((peaks == 0).all() or (peaks == values.shape[1] - 1).all())
    return student_t(at_peak - values[:, 0]), student_t(at_peak - values[:, -1]), at_an_end


def _verdict(rise: Interval, decline: Interval, at_an_end: bool) -> str:
    if rise.low > 0 and decline.low > 0:
        return "supported"
    return "not supported" if at_an_end or rise.high <= 0 or decline.high <= 0 else "undecided"
