"""Transfer along the training of the base: whether it rises, then declines, and what a learning-rate drop does.

The functions take *outcomes*, a row per transfer: schedule (of the base's learning rate: ``step``, ``cosine``,
``constant``), target, target_block (its source), base, seed, treatment (``AnB`` frozen, ``AnB+`` fine-tuned),
n_layers, pretrain_step (of the checkpoint it starts from, 0 for random weights) and top1, a fraction. A *run* is a
(target, base, seed); ``raytransfer.analysis.units`` says what units are, over which intervals are.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytransfer.analysis.checks import refuse_repeats, require
from raytransfer.analysis.intervals import MIN_UNITS, Floats, clustered_t, detectable, student_t
from raytransfer.analysis.pairs import evened
from raytransfer.analysis.units import SEED, numbers_of, unit_counts, unit_means, with_units
from raytransfer.analysis.verdicts import Claim, judged

_ROUNDING = 1e-12  # of sums of accuracies, which come in steps of one image and so are often equal but for it
_RUN = ["target", "base", "seed"]
_OF_UNIT = ["unit", "unit_number"]
_CURVE = ["schedule", "treatment", "n_layers"]
_PEAKS_COLUMNS = [
    *_CURVE,
    *("peak_step", "low", "high", "rise", "rise_low", "rise_high", "decline", "decline_low", "decline_high"),
    *("rise_detectable", "decline_detectable", "decline_naive", "units", "unit", "runs"),
]
_DROPS_COLUMNS = [
    *_CURVE,
    *("drop_step", "before_step", "after_step", "estimate", "low", "high", "detectable", "units", "unit", "runs"),
]


def checkpoint_curves(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Average transfer at every checkpoint, with the 95% interval of Student's t over units.

    Args:
        outcomes: A row per transfer.

    Returns:
        A row for each schedule, treatment, n_layers and pretrain_step with a value: mean, low, high (fractions; NaN
        ends under 3 units), units, unit and runs.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    return unit_means(_placed(outcomes), [*_CURVE, "pretrain_step"], "top1")


def base_curves(bases: pd.DataFrame) -> pd.DataFrame:
    """Average the bases' accuracy on their own tasks at every step; interval of Student's t over seeds.

    A base that serves several targets counts once. The interval speaks of these bases alone.

    Args:
        bases: A row for each schedule, target, base, seed and step: top1, a fraction.

    Returns:
        A row for each schedule and step: mean, low, high (fractions; NaN ends under 3 seeds), units, unit and runs.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    checked = _checked(bases, ["schedule", "step", *_RUN], [])
    networks = checked.groupby(["schedule", "step", "base", "seed"])["top1"].mean().reset_index()
    return unit_means(networks.assign(unit=SEED, unit_number=networks["seed"]), ["schedule", "step"], "top1")


def checkpoint_peaks(outcomes: pd.DataFrame, seed: int = 0, resamples: int = 2000) -> pd.DataFrame:
    """Find the checkpoint that transfers best, and say whether transfer rises up to it and declines after it.

    Only runs with every checkpoint of their curve enter, and the curve of a unit is their mean. The peak is the
    checkpoint with the highest mean, the earliest of equals; its interval is the 95% percentile bootstrap over units,
    ends on checkpoints. There is none where all resamples agree on one checkpoint, as they must where it is the best of
    every unit. With few units it is wide.

    The best of many noisy points lies above its neighbours even where nothing declines. So rise (peak − first
    checkpoint) and decline (peak − last) are cross-fitted: each unit is evaluated at the peak of the mean of the
    *other* units. They may come out below 0. Intervals are 95%, Student's t over units.

    Args:
        outcomes: A row per transfer.
        seed: What the resamples are drawn from.
        resamples: How many.

    Returns:
        A row for each schedule, treatment and n_layers that has a whole run: peak_step, low, high (in steps), rise,
        rise_low, rise_high, decline, decline_low, decline_high, rise_detectable and decline_detectable (the smallest
        that would have been seen in 4 studies of 5), decline_naive (of the means, at their own peak; all fractions),
        units, unit and runs. Under 3 units there is no interval; of one, no rise or decline either.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    rows: list[dict[str, Any]] = []
    for key, table in _curves(outcomes):
        whole = table.dropna()
        if whole.empty:
            continue
        of_units = whole.groupby(_OF_UNIT).mean()
        steps, values = of_units.columns.to_numpy(), of_units.to_numpy(dtype=np.float64)
        mean = values.mean(axis=0)
        peak = int(_best(mean))
        low, high = _peak_interval(values, steps, seed, resamples)
        row = dict(zip(_CURVE, key, strict=True)) | {"peak_step": steps[peak], "low": low, "high": high}
        for name, changes in zip(("rise", "decline"), _crossed(values), strict=True):
            interval = student_t(changes)
            row |= interval.named(name) | {f"{name}_detectable": detectable(interval)}
        counts = {"units": len(values), "unit": of_units.index[0][0], "runs": len(whole)}
        rows.append(row | {"decline_naive": mean[peak] - mean[-1]} | counts)
    return pd.DataFrame(rows, columns=_PEAKS_COLUMNS)


def checkpoint_verdicts(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Decide whether transfer rises along pretraining, and whether it then declines: one test each a treatment.

    A test takes all rises, or all declines, of ``checkpoint_peaks``, over all schedules and n; those of a unit count as
    one. Transfer rises, then declines, where both are ``supported``. Where the last checkpoint is the best of every
    unit, all declines are 0 by construction: there is no interval, and the decline is ``undecided``.

    Args:
        outcomes: A row per transfer.

    Returns:
        As ``raytransfer.analysis.verdicts.judged``; claim is ``AnB rises``, ``AnB declines``, and so on.

    Raises:
        ValueError: A column is missing or rows repeat.
    """
    changes: dict[str, list[pd.DataFrame]] = {}
    for (_, treatment, _), table in _curves(outcomes):
        of_units = table.dropna().groupby(_OF_UNIT).mean()
        if not of_units.empty:
            for name, of in zip(("rises", "declines"), _crossed(of_units.to_numpy(dtype=np.float64)), strict=True):
                rows = of_units.index.to_frame(index=False).assign(value=of)
                changes.setdefault(f"{treatment} {name}", []).append(rows)
    tested = []
    for claim, parts in changes.items():
        rows = pd.concat(parts)
        tested.append(
            Claim(
                claim=claim,
                test=f"best checkpoint − {'first' if claim.endswith('rises') else 'last'}",
                scale="points",
                above=True,
                values=rows["value"].to_numpy(dtype=np.float64),
                units=numbers_of(rows),
                unit=rows["unit"].iloc[0],
            )
        )
    return judged(tested)


def drop_effects(outcomes: pd.DataFrame, drops: pd.DataFrame) -> pd.DataFrame:
    """Say what a drop of the learning rate does to transfer, apart from training longer.

    The estimate is the change from the last checkpoint before a drop to the first after it, minus the same change under
    the constant schedule, within runs; its 95% interval is Student's t over units. A drop at step d first acts on step
    d + 1: checkpoint d lies before the drop.

    Args:
        outcomes: A row per transfer.
        drops: A row per drop: schedule, step.

    Returns:
        A row for each schedule, treatment, n_layers and drop that a run has all four values of: drop_step,
        before_step, after_step, estimate, low, high (fractions; NaN ends under 3 units), detectable (the smallest
        effect that would have been seen in 4 studies of 5), units, unit and runs. Empty without a constant arm.

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
            effects = (change - reference).dropna().rename("effect").reset_index()
            if not effects.empty:
                interval = clustered_t(effects["effect"].to_numpy(dtype=np.float64), numbers_of(effects))
                row = {"schedule": schedule, "treatment": treatment, "n_layers": n_layers}
                row |= {"drop_step": drop, "before_step": before[-1], "after_step": after[0]}
                row |= interval.columns("estimate") | {"detectable": detectable(interval)}
                rows.append(row | unit_counts(effects))
    return pd.DataFrame(rows, columns=_DROPS_COLUMNS)


def _checked(frame: pd.DataFrame, key: list[str], more: list[str]) -> pd.DataFrame:
    """Take the rows with a top-1, in one order: sums in another order may differ in the last bit."""
    require(frame, [*key, *more, "top1"], "rows")
    refuse_repeats(frame, key, "more than one row is of")
    return frame[[*key, *more, "top1"]].dropna(subset=["top1"]).sort_values(key, ignore_index=True)


def _placed(outcomes: pd.DataFrame) -> pd.DataFrame:
    return with_units(_checked(outcomes, [*_CURVE, "pretrain_step", *_RUN], ["target_block"]))


def _curves(outcomes: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """For each schedule, treatment and n_layers: top-1, a row per run and a column per checkpoint; NaN if missing."""
    for key, rows in _placed(outcomes).groupby(_CURVE):
        yield tuple(key), rows.pivot(index=[*_RUN, *_OF_UNIT], columns="pretrain_step", values="top1")


def _best(means: Floats) -> NDArray[np.intp]:
    """The place of the largest in each row: of those that are equal but for rounding, the first."""
    first: NDArray[np.intp] = evened(means, _ROUNDING).argmax(axis=-1)
    return first


def _peak_interval(values: Floats, steps: NDArray[Any], seed: int, resamples: int) -> tuple[float, float]:
    units = len(values)
    if units < MIN_UNITS:
        return math.nan, math.nan
    counts = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    peaks = np.sort(steps[_best(counts @ values)])
    # Percentiles that are checkpoints themselves: there is nothing between two of them.
    low, high = np.percentile(peaks, 2.5, method="lower"), np.percentile(peaks, 97.5, method="higher")
    return (float(low), float(high)) if low < high else (math.nan, math.nan)


def _crossed(values: Floats) -> tuple[Floats, Floats]:
    """Rise and decline of each unit, read off at the peak of the others' mean; NaN of one unit."""
    if len(values) < 2:  # there are no others
        return np.full(1, math.nan), np.full(1, math.nan)
    peaks = _best(values.sum(axis=0) - values)
    at_peak = values[np.arange(len(values)), peaks]
    return at_peak - values[:, 0], at_peak - values[:, -1]
