"""What the comparisons of ``analysis.why`` say about each claim, and whether nearness follows similarity."""

import math
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.analysis.checks import require
from raytransfer.analysis.comparisons import LAST, TESTS, verdict
from raytransfer.analysis.intervals import TOO_FEW, student_t
from raytransfer.analysis.runs import SCRATCH, Unit, known_readings, runs_of

NEARER = "nearer when the target is similar"
"""The claim that ``nearness`` tests."""

PRIMARY = {
    "flatter minima": "filter-normalised trace at matched training loss",
    "smaller generalisation gap": "top-1 gap at matched training loss",
    "weights stay near": "relative deviation at the last step",
    "smoother landscape": "loss variation along training",
    "principal component suppressed": "first relative projection at step 0",
    "stable gradient magnitudes": "spread over stages at step 0",
    "same basin": "barrier from one start at the last step",
    NEARER: "relative deviation at the last step",
}
"""The claims in order, and the test of each that speaks for it where only one can be shown.

At matched loss, and relative to the weights' norm, because raw values also differ with how far training got, and with
the scale of weights before a norm layer, which changes nothing that the network computes.
"""

_LEAST_BASES = 3
_NEARNESS_COLUMNS = ["claim", "test", "n_layers", "estimate", "low", "high", "units", "bases", "claimed", "verdict"]
_VERDICTS_COLUMNS = ["claim", "verdict", "tests", "support", "contradict", "open", "median_ratio"]


def nearness(readings: pd.DataFrame, distances: pd.DataFrame) -> pd.DataFrame:
    """Test whether fine-tuning stays nearer, and ends flatter, the more similar the base task is (Liu et al. 2019).

    Spearman's ρ over the bases, within each unit, between the base's distance from the target and the fine-tuned
    network's whole-network relative deviation, or top eigenvalue, at its last step. Units with fewer than 3 bases, or
    in which one of the two does not vary, are left out.

    Args:
        readings: One row a reading, as in ``raytransfer.analysis.runs``.
        distances: target, base, seed and value, larger for farther. A unit takes the distance of its own seed, or,
            where the pair of tasks has none of that seed, the mean over its seeds.

    Returns:
        A row for each test and n_layers with a unit: claim, test, n_layers, estimate, low, high (mean ρ and its t
        interval, cut off at ±1; NaN ends under 3 units, or if all ρ are equal), units, bases (the most in a unit),
        claimed (``above 0``) and verdict (as in ``comparisons``).

    Raises:
        ValueError: A column is missing, or two rows are of the same reading.
    """
    require(distances, ["target", "base", "seed", "value"], "distances")
    known = known_readings(readings)
    rows: list[dict[str, Any]] = []
    for test in [t for t in TESTS if t.when == LAST and t.quantity in ("relative deviation", "eigenvalue")]:
        points = _points(known, distances, test.quantity, test.index)
        for n, units in sorted(points.items()):
            rhos = [rho for pairs in units.values() if not math.isnan(rho := _rho(pairs))]
            if rhos:
                bases = max(len(pairs) for pairs in units.values())
                rows.append({"test": test.name, "n_layers": n, "bases": bases, **_mean_rho(rhos)})
    return pd.DataFrame(rows, columns=_NEARNESS_COLUMNS)


def verdicts(comparisons: pd.DataFrame, nearness: pd.DataFrame) -> pd.DataFrame:
    """Sum up every claim over its tests, bases and n.

    A claim is ``supported`` if more than half of its rows support it and none contradicts it; ``not supported`` if
    more than half contradict it and none supports it; ``mixed`` if some support and others contradict it; else
    ``undecided``, or ``too few units`` if all rows have too few. This counts, and is no test of its own: rows of one
    claim share networks, and among many rows some are decided by chance (at most one in twenty that has no effect, half
    of these in either direction).

    Args:
        comparisons: Output of ``raytransfer.analysis.comparisons``.
        nearness: Output of ``raytransfer.analysis.nearness``; may be empty.

    Returns:
        A row for each claim with a row: claim, verdict, tests (how many rows), support, contradict, open (those that
        do neither, too few units among them), and median_ratio (of the estimates that are ratios; NaN where none is).
    """
    rows: list[dict[str, Any]] = []
    for claim in PRIMARY:
        found = nearness if claim == NEARER else comparisons
        found = found[found["claim"] == claim]
        if found.empty:
            continue
        counts = [int((found["verdict"] == name).sum()) for name in ("supported", "not supported")]
        counts.append(len(found) - sum(counts))
        ratios = found.loc[found["scale"] == "ratio", "estimate"] if claim != NEARER else found["estimate"].iloc[:0]
        rows.append(
            {
                "claim": claim,
                "verdict": TOO_FEW if (found["verdict"] == TOO_FEW).all() else _overall(*counts),
                "tests": len(found),
                **dict(zip(("support", "contradict", "open"), counts, strict=True)),
                "median_ratio": float(ratios.median()) if len(ratios) else math.nan,
            }
        )
    return pd.DataFrame(rows, columns=_VERDICTS_COLUMNS)


def _overall(support: int, contradict: int, undecided: int) -> str:
    if support and contradict:
        return "mixed"
    if support > undecided:
        return "supported"
    return "not supported" if contradict > undecided else "undecided"


def _points(
    known: pd.DataFrame, distances: pd.DataFrame, quantity: str, index: int | None
) -> dict[int, dict[Unit, list[tuple[float, float]]]]:
    """Distance and value of every base, for each n and unit."""
    finite = distances[np.isfinite(distances["value"].to_numpy(dtype=np.float64, na_value=math.nan))]
    means = finite.groupby(["target", "base"])["value"].mean().to_dict()
    of_seed = finite.groupby(["target", "base", "seed"])["value"].mean().to_dict()
    points: dict[int, dict[Unit, list[tuple[float, float]]]] = {}
    for copied, runs in runs_of(known, quantity, index).items():
        for (target, seed), run in runs.items():
            base, n = copied
            distance = of_seed.get((target, base, seed), means.get((target, base)))
            if copied != SCRATCH and distance is not None and run.last in run.log:
                of_unit = points.setdefault(n, {}).setdefault((target, seed), [])
                of_unit.append((float(distance), run.log[run.last][""]))
    return points


def _rho(pairs: list[tuple[float, float]]) -> float:
    x, y = np.array(pairs, dtype=np.float64).T
    if len(pairs) < _LEAST_BASES or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    from scipy.stats import spearmanr  # half a second, which other sweeps need not wait for

    return float(spearmanr(x, y).statistic)


def _mean_rho(rhos: list[float]) -> dict[str, Any]:
    interval = student_t(np.array(rhos, dtype=np.float64))
    low, high = np.clip([interval.low, interval.high], -1.0, 1.0)
    return {
        "claim": NEARER,
        "estimate": interval.estimate,
        "low": float(low),
        "high": float(high),
        "units": len(rhos),
        "claimed": "above 0",
        "verdict": verdict(-float(high), -float(low), len(rhos)),
    }
