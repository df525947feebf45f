"""Why transfer works: fine-tuned networks against networks from scratch (Liu et al. 2019, Neyshabur et al. 2020).

``raytransfer.analysis.runs`` says what *readings* and units are. Intervals are 95% and of Student's t
(``raytransfer.analysis.intervals``), with units treated as independent; the seeds of one target are not quite. The
order of the rows changes nothing.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.analysis.intervals import MIN_UNITS, TOO_FEW, exponential, student_t
from raytransfer.analysis.runs import SCRATCH, NetworkReadings, known_readings, runs_of

_START, _ALONG = "at step 0", "along training"
LAST, _MATCHED = "at the last step", "at matched training loss"


@dataclass(frozen=True, kw_only=True)
class ClaimTest:
    """One way to test a claim; all claims say that the quantity is smaller in the fine-tuned network.

    Attributes:
        claim: What is claimed.
        of: What is compared, in words.
        when: At which training steps.
        quantity: The reading's name.
        index: Which of several, such as 1 for the top eigenvalue; None for readings that have none.
        copied: Whether it is read at each copied stage and averaged; else it is of the whole network.
        signed: Whether it has a natural zero or sign, so that differences are taken and not ratios.
    """

    claim: str
    of: str
    when: str
    quantity: str
    index: int | None = None
    copied: bool = False
    signed: bool = False

    @property
    def name(self) -> str:
        """What is compared, and when."""
        return f"{self.of} {self.when}"


def _tests(claim: str, of: str, quantity: str, *when: str, **rest: Any) -> list[ClaimTest]:
    return [ClaimTest(claim=claim, of=of, when=w, quantity=quantity, **rest) for w in when]


TESTS = (
    *_tests("flatter minima", "top eigenvalue", "eigenvalue", LAST, _MATCHED, index=1),
    *_tests("flatter minima", "trace", "trace", LAST, _MATCHED),
    *_tests("flatter minima", "filter-normalised trace", "filter-normalised trace", LAST, _MATCHED),
    *_tests("smaller generalisation gap", "top-1 gap", "generalisation gap", LAST, _MATCHED, signed=True),
    *_tests("smaller generalisation gap", "loss gap", "loss gap", LAST, _MATCHED, signed=True),
    *_tests("weights stay near", "relative deviation", "relative deviation", LAST),
    *_tests("weights stay near", "deviation", "deviation", LAST),
    *_tests("smoother landscape", "loss variation", "loss variation", _START, _ALONG),
    *_tests("smoother landscape", "gradient variation", "gradient variation", _START, _ALONG),
    *_tests(
        *("principal component suppressed", "first relative projection", "relative projection", _START, _ALONG),
        index=1,
        copied=True,
    ),
    *_tests("stable gradient magnitudes", "spread over stages", "gradient spread", _START, _ALONG, signed=True),
    *_tests("same basin", "barrier from one start", "barrier from one start", LAST, signed=True),
    *_tests("same basin", "barrier from two starts", "barrier from two starts", LAST, signed=True),
)
"""Every test, in the order of the tables; the last claim is of Neyshabur et al. 2020, the others of Liu et al. 2019.

Two networks with one start lie in one basin more easily, pretrained or not, so barriers are compared at equal start:
fine-tuned from one base with scratch from one initialisation, and two bases with two initialisations.
"""

_LEAST_LOSS = 1e-12  # nats: a logarithm must exist
_COMPARISONS_COLUMNS = [
    *("base", "n_layers", "claim", "test", "estimate", "low", "high", "units"),
    *("scale", "claimed", "verdict", "extrapolated"),
]

_Weighted = list[tuple[float, float]]  # weights and values


def comparisons(readings: pd.DataFrame, stages: Sequence[str]) -> pd.DataFrame:
    """Compare AnB+ of every base and n with baseB, paired within units, for every test in ``TESTS``.

    Positive quantities are compared as ratios: the mean over units of ln(fine-tuned / scratch) and its interval, given
    back as exp of each. Where one of the values that enter is not positive, as a trace can be, all of that comparison
    is the mean of plain differences; so it is for gaps, spreads and barriers. Quantities that were not probed give no
    rows, and a unit in which one of the two networks lacks a reading is left out.

    - *at step 0*; *at the last step*: each network at that step of its own.
    - *along training*: the mean over the steps ≥ 1 at which both networks were probed; of ln for ratios.
    - *at matched training loss*: L* is the larger of the two networks' training losses (``train loss``) at their last
      steps. A network's quantity at L* is interpolated between its probed steps ≥ 1, linearly in ln loss (and in ln
      quantity for ratios), where walking back from the last step first reaches L*. A network that never was at or
      above L* counts at its first probed step ≥ 1, and the unit is counted as extrapolated. Losses are floored at
      1e-12 nats.
    - The first relative projection is averaged over the copied stages (the first n that have one), in ln for ratios.
    - The spread over stages is the standard deviation (of the population) of ln ``input gradient`` over all stages.

    Args:
        readings: One row a reading.
        stages: Names of the stages from input to head.

    Returns:
        A row for each base, n_layers and test with a unit: base, n_layers, claim, test, estimate, low, high (ratios,
        or differences in the quantity's unit; NaN ends under 3 units), units, scale (``ratio`` or ``difference``),
        claimed (``below 1`` or ``below 0``), verdict and extrapolated (units). The verdict is ``supported`` where the
        whole interval lies on the claimed side of no effect, ``not supported`` where it lies on the other side or
        touches no effect from there, else ``undecided``; under 3 units it is ``too few units``. No correction is made
        for the number of tests.

    Raises:
        ValueError: A column is missing, or two rows are of the same reading.
    """
    known = known_readings(readings)
    rows: list[dict[str, Any]] = []
    for test in TESTS:
        runs = runs_of(known, test.quantity, test.index, of_stages=test.copied)
        for base, n in sorted(set(runs) - {SCRATCH}):
            allowed = stages[:n] if test.copied else [""]
            tuned, scratch = runs[base, n], runs.get(SCRATCH, {})
            pairs = [_pair(test.when, tuned[u], scratch[u], allowed) for u in sorted(tuned.keys() & scratch.keys())]
            if found := [pair for pair in pairs if pair is not None]:
                rows.append({"base": base, "n_layers": n, **_comparison(test, found)})
    return pd.DataFrame(rows, columns=_COMPARISONS_COLUMNS)


def _pair(
    when: str, tuned: NetworkReadings, scratch: NetworkReadings, allowed: Sequence[str]
) -> tuple[_Weighted, _Weighted, bool] | None:
    """What the two networks of a unit enter a comparison with, and whether one is extrapolated; None if one lacks."""
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
    """How much each step of a run counts, and whether that is an extrapolation; no steps where it cannot be said."""
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


def _comparison(test: ClaimTest, pairs: list[tuple[_Weighted, _Weighted, bool]]) -> dict[str, Any]:
    ratio = not test.signed and all(value > 0 for *sides, _ in pairs for side in sides for _, value in side)
    interval = student_t(np.array([_total(tuned, ratio) - _total(scratch, ratio) for tuned, scratch, _ in pairs]))
    return {
        "claim": test.claim,
        "test": test.name,
        **dataclasses.asdict(exponential(interval) if ratio else interval),
        "units": len(pairs),
        "scale": "ratio" if ratio else "difference",
        "claimed": "below 1" if ratio else "below 0",
        "verdict": verdict(interval.low, interval.high, len(pairs)),
        "extrapolated": sum(early for *_, early in pairs),
    }


def _total(side: _Weighted, ratio: bool) -> float:
    return sum(weight * (math.log(value) if ratio else value) for weight, value in side)


def verdict(low: float, high: float, units: int) -> str:
    """Judge the claim that a number is below 0 by its interval: supported, not supported, undecided or too few units.

    Args:
        low: Lower end; NaN where there is none, which leaves the claim undecided.
        high: Upper end, likewise.
        units: How many it rests on; under ``intervals.MIN_UNITS`` there is no verdict.
    """
    if units < MIN_UNITS:
        return TOO_FEW
    return "supported" if high < 0 else "not supported" if low >= 0 else "undecided"
