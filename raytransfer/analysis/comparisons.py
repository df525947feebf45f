"""Why transfer works: fine-tuned networks against networks from scratch (Liu et al. 2019, Neyshabur et al. 2020).

``raytransfer.analysis.runs`` says what *readings* are, ``raytransfer.analysis.units`` what units are. Intervals are 95%
and of Student's t over units (``raytransfer.analysis.intervals``). The order of the rows changes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.analysis.intervals import Floats, Interval, clustered_t, detectable
from raytransfer.analysis.runs import SCRATCH, NetworkReadings, known_readings, runs_of, units_of
from raytransfer.analysis.units import numbers_of, unit_counts

_START, _ALONG = "at step 0", "along training"
LAST, _MATCHED = "at the last step", "at matched training loss"


@dataclass(frozen=True, kw_only=True)
class ClaimTest:
    """One way to test a claim; all claims say that the quantity is smaller in the fine-tuned network.

    Attributes:
        claim: The claim.
        of: The compared quantity, in words.
        when: At which training steps.
        quantity: The reading's name.
        index: Index of the reading, such as 1 for the top eigenvalue; None for readings without one.
        copied: Whether it is read at each copied stage and averaged; else it is of the whole network.
        signed: Whether it has a natural zero or sign, so that differences are taken and not ratios.
        primary: Whether this test alone decides about the claim.
    """

    claim: str
    of: str
    when: str
    quantity: str
    index: int | None = None
    copied: bool = False
    signed: bool = False
    primary: bool = False

    @property
    def name(self) -> str:
        """What is compared, and when."""
        return f"{self.of} {self.when}"


def _tests(claim: str, of: str, quantity: str, *when: str, primary: str | None = None, **rest: Any) -> list[ClaimTest]:
    return [ClaimTest(claim=claim, of=of, when=w, quantity=quantity, primary=w == primary, **rest) for w in when]


TESTS = (
    *_tests("flatter minima", "top eigenvalue", "eigenvalue", LAST, _MATCHED, index=1),
    *_tests("flatter minima", "trace", "trace", LAST, _MATCHED),
    *_tests("flatter minima", "filter-normalised trace", "filter-normalised trace", LAST, _MATCHED, primary=_MATCHED),
    *_tests(
        "smaller generalisation gap", "top-1 gap", "generalisation gap", LAST, _MATCHED, signed=True, primary=_MATCHED
    ),
    *_tests("smaller generalisation gap", "loss gap", "loss gap", LAST, _MATCHED, signed=True),
    *_tests("weights stay near", "relative deviation", "relative deviation", LAST, primary=LAST),
    *_tests("weights stay near", "deviation", "deviation", LAST),
    *_tests("smoother landscape", "loss variation", "loss variation", _START, _ALONG, primary=_ALONG),
    *_tests("smoother landscape", "gradient variation", "gradient variation", _START, _ALONG),
    *_tests(
        *("principal component suppressed", "first relative projection", "relative projection", _START, _ALONG),
        index=1,
        copied=True,
        primary=_START,
    ),
    *_tests(
        "stable gradient magnitudes",
        "spread over stages",
        "gradient spread",
        _START,
        _ALONG,
        signed=True,
        primary=_START,
    ),
    *_tests("same basin", "barrier from one start", "barrier from one start", LAST, signed=True, primary=LAST),
    *_tests("same basin", "barrier from two starts", "barrier from two starts", LAST, signed=True),
)
"""Every test, in the order of the tables; the last claim is of Neyshabur et al. 2020, the others of Liu et al. 2019.

The primary tests are at matched loss, and relative to the weights' norm, because raw values also differ with how far
training got, and with the scale of weights before a norm layer, which changes nothing that the network computes. Two
networks with one start lie in one basin more easily, pretrained or not, so barriers are compared at equal start:
fine-tuned from one base with scratch from one initialisation, which decides, and two bases with two initialisations.
"""

_LEAST_LOSS = 1e-12  # nats: a logarithm must exist
_COMPARISONS_COLUMNS = [
    *("base", "n_layers", "claim", "test", "estimate", "low", "high", "units", "unit", "runs"),
    *("detectable", "scale", "extrapolated"),
]
_EFFECTS_COLUMNS = [
    *("claim", "test", "primary", "base", "n_layers", "target", "seed", "unit", "unit_number"),
    *("ratio", "difference", "extrapolated"),
]

_Weighted = list[tuple[float, float]]  # weights and values


def effects(readings: pd.DataFrame, stages: Sequence[str]) -> pd.DataFrame:
    """Compare AnB+ of every base and n with baseB of the same target and seed, for every test in ``TESTS``.

    Quantities that were not probed give no rows, and a target and seed in which one of the two networks lacks a reading
    is left out.

    - *at step 0*; *at the last step*: each network at that step of its own.
    - *along training*: the mean over the steps ≥ 1 at which both networks were probed; of ln for ratios.
    - *at matched training loss*: L* is the larger of the two networks' training losses (``train loss``) at their last
      steps. A network's quantity at L* is interpolated between its probed steps ≥ 1, linearly in ln loss (and in ln
      quantity for ratios), where walking back from the last step first reaches L*. A network that never was at or
      above L* counts at its first probed step ≥ 1, and the pair is counted as extrapolated. Losses are floored at
      1e-12 nats.
    - The first relative projection is averaged over the copied stages (the first n that have one), in ln for ratios.
    - The spread over stages is the ``gradient spread`` of ``raytransfer.analysis.runs``.

    Args:
        readings: One row per reading.
        stages: Names of the stages from input to head.

    Returns:
        A row for each test, base, n_layers, target and seed: claim, test, primary, base, n_layers, target, seed, unit,
        unit_number, ratio (ln of fine-tuned / scratch; NaN where the quantity has a sign, or a value that enters is not
        positive, as a trace can be), difference (fine-tuned − scratch) and extrapolated.

    Raises:
        ValueError: A column is missing, or two rows are of the same reading.
    """
    known = known_readings(readings)
    units = units_of(known)
    rows: list[dict[str, Any]] = []
    for test in TESTS:
        runs = runs_of(known, test.quantity, test.index, of_stages=test.copied)
        for base, n in sorted(set(runs) - {SCRATCH}):
            allowed = stages[:n] if test.copied else [""]
            tuned, scratch = runs[base, n], runs.get(SCRATCH, {})
            for target, seed in sorted(tuned.keys() & scratch.keys()):
                pair = _pair(test.when, tuned[target, seed], scratch[target, seed], allowed)
                if pair is not None:
                    at = {"claim": test.claim, "test": test.name, "primary": test.primary, "base": base, "n_layers": n}
                    at |= {"target": target, "seed": seed} | units[target, seed]
                    rows.append(at | _effect(test, *pair))
    return pd.DataFrame(rows, columns=_EFFECTS_COLUMNS)


def comparisons(effects: pd.DataFrame) -> pd.DataFrame:
    """Average the effects of every test of every base and n.

    Effects are ratios: exp of the mean of ln(fine-tuned / scratch) and of its interval. Where one of them has no
    logarithm, all of that comparison is the mean of plain differences.

    Args:
        effects: Output of ``effects``.

    Returns:
        A row for each base, n_layers and test: base, n_layers, claim, test, estimate, low, high (ratios, or differences
        in the quantity's unit; NaN ends under 3 units), units, unit, runs, detectable (the smallest effect that would
        have been seen in 4 studies of 5: a factor, up or down, or a difference), scale (``ratio`` or ``difference``)
        and extrapolated (runs). All claims say that the quantity is smaller in the fine-tuned network.
    """
    names = {test.name: i for i, test in enumerate(TESTS)}
    rows: list[dict[str, Any]] = []
    for (test, base, n), found in effects.groupby(["test", "base", "n_layers"]):
        values, scale = values_of(found)
        interval = clustered_t(values, numbers_of(found))
        row = {"base": base, "n_layers": n, "claim": found["claim"].iloc[0], "test": test, "scale": scale}
        row |= {"extrapolated": int(found["extrapolated"].sum())} | unit_counts(found)
        rows.append(row | scaled(interval, detectable(interval), scale))
    rows.sort(key=lambda row: (names[row["test"]], row["base"], row["n_layers"]))
    return pd.DataFrame(rows, columns=_COMPARISONS_COLUMNS)


def values_of(effects: pd.DataFrame) -> tuple[Floats, str]:
    """The effects to average, and their scale: logarithms of ratios where all have one, else differences."""
    scale = "ratio" if effects["ratio"].notna().all() else "difference"
    return effects[scale].to_numpy(dtype=np.float64), scale


def scaled(interval: Interval, seen: float, scale: str) -> dict[str, float]:
    """Estimate, ends and detectable effect; of the scale ``ratio`` they are logarithms, of which exp is taken."""
    numbers = interval.columns("estimate") | {"detectable": seen}
    if scale != "ratio":
        return numbers
    with np.errstate(over="ignore"):  # the interval of three units may be that wide
        return {name: float(np.exp(value)) for name, value in numbers.items()}


def _pair(
    when: str, tuned: NetworkReadings, scratch: NetworkReadings, allowed: Sequence[str]
) -> tuple[_Weighted, _Weighted, bool] | None:
    """Weights and values of the two networks of a pair, and whether one is extrapolated; None if one lacks a value."""
    sides = ((tuned, scratch), (scratch, tuned))
    weights, early = zip(*(_step_weights(when, run, other) for run, other in sides), strict=True)
    used = [run.log.get(step, {}) for (run, _), of in zip(sides, weights, strict=True) for step in of]
    parts = [part for part in allowed if all(part in values for values in used)]
    if not all(weights) or not parts:
        return None
    first, second = (
        [(weight / len(parts), run.log[step][part]) for step, weight in of.items() for part in parts]
        for (run, _), of in zip(sides, weights, strict=True)
    )
    return first, second, any(early)


def _step_weights(when: str, run: NetworkReadings, other: NetworkReadings) -> tuple[dict[int, float], bool]:
    """The weight of each step of a run, and whether that is an extrapolation; no steps where there are no weights."""
    if when == _START:
        return {0: 1.0}, False
    if when == LAST:
        return {run.last: 1.0}, False
    if when == _ALONG:
        steps = sorted(step for step in run.log.keys() & other.log.keys() if step >= 1)
        return {step: 1 / len(steps) for step in steps}, False
    return _matched_weights(run, other)


def _matched_weights(run: NetworkReadings, other: NetworkReadings) -> tuple[dict[int, float], bool]:
    steps = sorted(step for step in run.log.keys() & run.losses.keys() if step >= 1)
    if not steps or steps[-1] != run.last or other.last not in other.losses:
        return {}, False
    losses = [max(run.losses[step], _LEAST_LOSS) for step in steps]
    level = max(losses[-1], other.losses[other.last])
    above = [i for i, loss in enumerate(losses) if loss >= level]
    if not above:
        return {steps[0]: 1.0}, True
    i = above[-1]
    if losses[i] == level:
        return {steps[i]: 1.0}, False
    share = math.log(level / losses[i + 1]) / math.log(losses[i] / losses[i + 1])
    return {steps[i]: share, steps[i + 1]: 1 - share}, False


def _effect(test: ClaimTest, tuned: _Weighted, scratch: _Weighted, early: bool) -> dict[str, Any]:
    ratio = math.nan
    if not test.signed and all(value > 0 for side in (tuned, scratch) for _, value in side):
        ratio = sum(sign * w * math.log(v) for sign, side in ((1, tuned), (-1, scratch)) for w, v in side)
    difference = sum(sign * w * v for sign, side in ((1, tuned), (-1, scratch)) for w, v in side)
    return {"ratio": ratio, "difference": difference, "extrapolated": early}
