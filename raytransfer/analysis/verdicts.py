"""What the effects of ``analysis.comparisons`` say about each claim, and whether nearness follows similarity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.analysis.checks import require
from raytransfer.analysis.comparisons import LAST, TESTS, scaled, values_of
from raytransfer.analysis.intervals import (
    MIN_UNITS,
    SURE,
    TOO_FEW,
    Floats,
    Interval,
    Ints,
    at_zero,
    clustered_t,
    detectable,
    holm,
    p_value,
    units_needed,
    within_one,
)
from raytransfer.analysis.runs import SCRATCH, Place, known_readings, runs_of, units_of
from raytransfer.analysis.units import numbers_of, unit_counts

NEARER = "nearer when the target is similar"
"""The claim that ``nearness`` tests."""

PRIMARY = {test.claim: test.name for test in TESTS if test.primary} | {NEARER: f"relative deviation {LAST}"}
"""The claims in order, and the one test of each that decides about it."""

SUPPORTED, REVERSED, NO_LARGER, UNDECIDED = "supported", "the reverse", "no larger effect", "undecided"
"""The verdicts, with ``intervals.TOO_FEW``: see ``judged``."""

_LEAST_BASES = 3
_RHOS_COLUMNS = ["claim", "test", "n_layers", "target", "seed", "unit", "unit_number", "rho", "bases"]
_NEARNESS_COLUMNS = [
    *("claim", "test", "n_layers", "estimate", "low", "high", "units", "unit", "runs", "bases", "detectable"),
]
_VERDICTS_COLUMNS = [
    *("claim", "test", "scale", "estimate", "low", "high", "units", "unit", "effects"),
    *("detectable", "p_value", "p_adjusted", "verdict", "units_needed"),
]


def rank_correlations(readings: pd.DataFrame, distances: pd.DataFrame) -> pd.DataFrame:
    """Correlate how far bases are with how far fine-tuning goes, and how sharp it ends (Liu et al. 2019).

    Spearman's ρ over the bases of one target, seed and n, between the base's distance from the target and the
    fine-tuned network's whole-network relative deviation, or top eigenvalue, at its last step. There is none of fewer
    than 3 bases, or where one of the two does not vary.

    Args:
        readings: One row per reading, as in ``raytransfer.analysis.runs``.
        distances: target, base, seed and value, larger for farther. A network takes the distance of its own seed, or,
            where the pair of tasks has none of that seed, the mean over its seeds.

    Returns:
        A row for each test, n_layers, target and seed with a ρ: claim, test, n_layers, target, seed, unit, unit_number,
        rho and bases.

    Raises:
        ValueError: A column is missing, or two rows are of the same reading.
    """
    require(distances, ["target", "base", "seed", "value"], "distances")
    known = known_readings(readings)
    units = units_of(known)
    rows: list[dict[str, Any]] = []
    for test in [t for t in TESTS if t.when == LAST and t.quantity in ("relative deviation", "eigenvalue")]:
        for n, of_places in sorted(_points(known, distances, test.quantity, test.index).items()):
            for (target, seed), pairs in sorted(of_places.items()):
                if not math.isnan(rho := _rho(pairs)):
                    at = {"claim": NEARER, "test": test.name, "n_layers": n, "target": target, "seed": seed}
                    rows.append(at | units[target, seed] | {"rho": rho, "bases": len(pairs)})
    return pd.DataFrame(rows, columns=_RHOS_COLUMNS)


def nearness(rhos: pd.DataFrame) -> pd.DataFrame:
    """Average the rank correlations of every test and n.

    Args:
        rhos: Output of ``rank_correlations``.

    Returns:
        A row for each test and n_layers: claim, test, n_layers, estimate, low, high (mean ρ and its interval,
        ``intervals.within_one``; NaN ends under 3 units, or if all ρ are equal), units, unit, runs, bases (the most of
        a run) and detectable (the smallest mean ρ that would have been seen in 4 studies of 5). The claim is that ρ is
        above 0.
    """
    rows: list[dict[str, Any]] = []
    for (test, n), found in rhos.groupby(["test", "n_layers"], sort=False):
        interval = clustered_t(found["rho"].to_numpy(dtype=np.float64), numbers_of(found))
        row = {"claim": NEARER, "test": test, "n_layers": n, "bases": found["bases"].max()} | unit_counts(found)
        rows.append(row | scaled(within_one(interval), detectable(at_zero(interval)), "ρ"))
    return pd.DataFrame(rows, columns=_NEARNESS_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim and the values that its one test is of.

    Attributes:
        claim: What is claimed.
        test: Of what the values are.
        scale: ``ratio`` (values are logarithms), ``difference``, ``points`` (a difference of fractions, printed as
            percentage points) or ``ρ``.
        above: Whether the claim is that their mean lies above 0; else below.
        values: The values.
        units: The unit of each.
        unit: What units are.
    """

    claim: str
    test: str
    scale: str
    above: bool
    values: Floats
    units: Ints
    unit: str


def verdicts(effects: pd.DataFrame, rhos: pd.DataFrame) -> pd.DataFrame:
    """Decide about every claim with one test: that of its primary test's effects, over all bases and n.

    Args:
        effects: Output of ``raytransfer.analysis.comparisons.effects``.
        rhos: Output of ``rank_correlations``; may be empty.

    Returns:
        As ``judged``, a row for each claim whose primary test was run, in the order of ``PRIMARY``.
    """
    tested = []
    for claim, test in PRIMARY.items():
        found = rhos if claim == NEARER else effects
        found = found[(found["claim"] == claim) & (found["test"] == test)]
        if not found.empty:
            values, scale = (found["rho"].to_numpy(dtype=np.float64), "ρ") if claim == NEARER else values_of(found)
            units, unit = numbers_of(found), found["unit"].iloc[0]
            above = claim == NEARER
            tested.append(
                Claim(claim=claim, test=test, scale=scale, above=above, values=values, units=units, unit=unit)
            )
    return judged(tested)


def judged(tested: Sequence[Claim]) -> pd.DataFrame:
    """Decide about claims that are read together, each by a t-test over its units.

    Units are independent (``raytransfer.analysis.units``); all values of one count as one. Of a mean ρ the interval is
    ``intervals.within_one``, and p-value and detectable effect are ``at_zero``, which go with it. The p-values are
    corrected for the number of claims (``intervals.holm``), so that where no claim and no reverse holds, one is found
    in about 5% of studies at most (``tests/analysis/coverage.md``). The verdict is

    - ``supported``, or ``the reverse``: the corrected p-value is below 0.05, and the mean lies on the claimed side, or
      on the other;
    - ``no larger effect``: it is not, and the 95% interval holds no effect as large as the detectable one, in either
      direction: so large a one this test would have seen, by itself and at 5%, in 4 studies of 5. Of a ρ, and of a
      difference of fractions, none is larger than 1 whatever is so: there the detectable one must be smaller;
    - ``undecided``: neither, or all units are equal;
    - ``too few units``: fewer than 3.

    Args:
        tested: The claims.

    Returns:
        A row for each claim: claim, test, scale, estimate, low, high, units, unit, effects (how many values),
        detectable, p_value, p_adjusted, verdict and units_needed (at which the effect seen would be seen in 4 studies
        of 5; missing for decided claims and where ``intervals.units_needed`` gives none).
    """
    intervals = [clustered_t(claim.values, claim.units) for claim in tested]
    around_zero = [at_zero(own) if claim.scale == "ρ" else own for own, claim in zip(intervals, tested, strict=True)]
    p_values = [p_value(interval) for interval in around_zero]
    adjusted = holm(np.array(p_values, dtype=np.float64))
    rows: list[dict[str, Any]] = []
    for i, claim in enumerate(tested):
        units, seen, of_rho = len(np.unique(claim.units)), detectable(around_zero[i]), claim.scale == "ρ"
        interval = within_one(intervals[i]) if of_rho else intervals[i]
        largest = 1.0 if claim.scale in ("ρ", "points") else math.inf
        verdict = TOO_FEW if units < MIN_UNITS else _verdict(interval, adjusted[i], seen, largest, above=claim.above)
        needed = None
        if verdict not in (SUPPORTED, REVERSED):
            needed = units_needed(claim.values, claim.units, of_correlations=of_rho)
        rows.append(
            {"claim": claim.claim, "test": claim.test, "scale": claim.scale, "units": units, "unit": claim.unit}
            | scaled(interval, seen, claim.scale)
            | {"effects": len(claim.values), "p_value": p_values[i], "p_adjusted": adjusted[i]}
            | {"verdict": verdict, "units_needed": needed}
        )
    return pd.DataFrame(rows, columns=_VERDICTS_COLUMNS).astype({"units_needed": "Int64"})


def _verdict(interval: Interval, p_adjusted: float, seen: float, largest: float, *, above: bool) -> str:
    if p_adjusted < SURE:
        return SUPPORTED if (interval.estimate > 0) == above else REVERSED
    return NO_LARGER if -seen < interval.low and interval.high < seen < largest else UNDECIDED


def _points(
    known: pd.DataFrame, distances: pd.DataFrame, quantity: str, index: int | None
) -> dict[int, dict[Place, list[tuple[float, float]]]]:
    """Distance and value of every base, for each n, target and seed."""
    finite = distances[np.isfinite(distances["value"].to_numpy(dtype=np.float64, na_value=math.nan))]
    means = finite.groupby(["target", "base"])["value"].mean().to_dict()
    of_seed = finite.groupby(["target", "base", "seed"])["value"].mean().to_dict()
    points: dict[int, dict[Place, list[tuple[float, float]]]] = {}
    for copied, runs in runs_of(known, quantity, index).items():
        for (target, seed), run in runs.items():
            base, n = copied
            distance = of_seed.get((target, base, seed), means.get((target, base)))
            if copied != SCRATCH and distance is not None and run.last in run.log:
                of_place = points.setdefault(n, {}).setdefault((target, seed), [])
                of_place.append((float(distance), run.log[run.last][""]))
    return points


def _rho(pairs: list[tuple[float, float]]) -> float:
    x, y = np.array(pairs, dtype=np.float64).T
    if len(pairs) < _LEAST_BASES or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    from scipy.stats import spearmanr  # half a second, which other sweeps need not wait for

    return float(spearmanr(x, y).statistic)
