"""95% intervals for means of few runs, by Student's t.

Student's t and not the bootstrap, because runs are few: on samples of 3, 5 and 8 normal draws (400 of each), nominal
95% intervals covered the true mean this often:

    draws                  3      5      8
    percentile bootstrap   0.79   0.86   0.89   (BCa the same)
    Student t              0.96   0.98   0.95

Under ``MIN_UNITS`` units there is no interval, and no verdict. Nor is there an interval where all units are equal, and
it would have no width: accuracies come in steps of one image, so a few units may agree by accident. Their spread is
then not zero but unknown.

A study that finds nothing may have been too small to find it. ``detectable`` says how large an effect has to be for a
test of so many units, with the spread they show, to see it in 4 studies of 5; an effect as large as half the width of
the interval is seen in every second one.
"""

import bisect
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrinc, stdtr, stdtrit

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]

MIN_UNITS = 3
"""Fewest independent units of which an interval or a verdict is given.

Of two, t(0.975, 1) = 12.7 standard errors on either side do cover the mean 95% of the time. But the width of such an
interval is 12.7 times the distance of two numbers: it says how near these two happen to lie, and hardly anything of the
effect. The widths of one pair in ten are less than 0.19 times the median width, and of one in ten more than 2.4 times.
"""

SURE = 0.05
"""The level of tests: p-values below it, corrected for all tests that are read together, tell from chance."""

POWER = 0.8
"""The share of studies that see an effect that counts as detectable."""

_MOST_UNITS = 10_000
_ROUNDING = 1e-12  # of the largest value: standard errors below it come from adding and subtracting equal numbers

ROUNDING_OF_FRACTIONS = 1e-15
"""Differences of accuracies below this are rounding alone."""

TOO_FEW = "too few units"
"""The verdict where no verdict can be given."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95% interval.

    Attributes:
        estimate: The estimate, in the unit of the values; NaN where there are none or one of them is not finite.
        low: Lower end; NaN where there is no interval: under ``MIN_UNITS`` units, or where all are equal.
        high: Upper end, likewise.
        degrees: Degrees of freedom of the t that they are of; NaN where there is no interval.
    """

    estimate: float
    low: float
    high: float
    degrees: float = math.nan

    def columns(self, name: str) -> dict[str, float]:
        """Estimate and ends as columns: ``name``, ``low`` and ``high``."""
        return {name: self.estimate, "low": self.low, "high": self.high}

    def named(self, name: str) -> dict[str, float]:
        """Estimate and ends as columns: ``name``, ``name_low`` and ``name_high``."""
        return {name: self.estimate, f"{name}_low": self.low, f"{name}_high": self.high}


def student_t(values: Floats) -> Interval:
    """Mean of independent values, with m ± t(0.975, k − 1) · s / √k for k values of standard deviation s.

    On differences within units this is the paired t interval.
    """
    return _interval(_mean(values), _variance_of_mean(values), len(values) - 1)


def welch_t(group: Floats, reference: Floats) -> Interval:
    """Mean of one group minus the mean of an independent other, whose variances may differ.

    With v = s² / k of each group and c = v₁ / (v₁ + v₂): difference ± t(0.975, ν) · √(v₁ + v₂), where Welch and
    Satterthwaite's degrees of freedom ν are 1 / (c² / (k₁ − 1) + (1 − c)² / (k₂ − 1)). A group under ``MIN_UNITS``, or
    of equal values, gives NaN ends.
    """
    v1, v2 = _variance_of_mean(group), _variance_of_mean(reference)
    difference = _mean(group) - _mean(reference)
    if math.isnan(v1 + v2):
        return Interval(estimate=difference, low=math.nan, high=math.nan)
    c = v1 / (v1 + v2)
    degrees = 1 / (c**2 / (len(group) - 1) + (1 - c) ** 2 / (len(reference) - 1))
    return _interval(difference, v1 + v2, degrees)


def clustered_t(values: Floats, clusters: Ints) -> Interval:
    """Mean of values that are independent between clusters, but not within one.

    The mean m weighs each value the same. With w_c the share of the N values that are of cluster c, and r_c the sum of
    (value − m) over it, the variance is estimated by Σ r_c² / (1 − w_c) / N², and the interval is m ± t(0.975, ν)
    standard errors. With u_c = w_c² / (1 − w_c), Satterthwaite's ν is 1 / (Σ w_c² + (Σ u_c)² − Σ u_c²) (Bell and
    McCaffrey 2002, *Bias reduction in standard errors for linear regression with multi-stage samples*). With k clusters
    of one size ν is k − 1 and this is exactly the t interval of the cluster means; counting N independent values
    instead would make it too narrow, and so would k − 1 where one cluster holds most of the values.

    Args:
        values: The values.
        clusters: The cluster of each, numbered from 0.
    """
    count = len(np.unique(clusters))
    if count < MIN_UNITS:
        return Interval(estimate=_mean(values), low=math.nan, high=math.nan)
    sizes = np.bincount(clusters)
    shares = sizes[sizes > 0] / len(values)
    residuals = np.bincount(clusters, weights=values - _mean(values))[sizes > 0] / len(values)
    variance = float((residuals**2 / (1 - shares)).sum())
    u = shares**2 / (1 - shares)
    degrees = 1 / float((shares**2).sum() + u.sum() ** 2 - (u**2).sum())
    return _interval(_mean(values), _known(variance, values), degrees)


def detectable(interval: Interval) -> float:
    """Give the smallest effect that a two-sided t-test at 5% sees with a power of 80%, at the spread seen.

    With ν degrees of freedom and standard error e, it is δe, where a noncentral t with ν degrees and noncentrality δ
    exceeds t(0.975, ν) with probability 0.8. NaN without an interval. A test whose p-value is corrected for the number
    of tests needs a larger effect.
    """
    return _error(interval) * _noncentrality(interval.degrees)


def p_value(interval: Interval) -> float:
    """Give the two-sided p-value that the mean is zero; NaN without an interval."""
    return 2 * float(stdtr(interval.degrees, -abs(interval.estimate) / _error(interval)))


def units_needed(values: Floats, clusters: Ints, *, of_correlations: bool = False) -> int | None:
    """Give the number of units at which a t-test at 5% would see the effect seen with a power of 80%.

    The spread is the standard deviation of the means of clusters, of which two are enough. It is itself an estimate: of
    few units the number is a rough one. None where it cannot be said: of one unit, of equal ones, or where it would be
    beyond 10,000.

    Args:
        values: The values.
        clusters: The cluster of each.
        of_correlations: Whether they are correlations, which vary around 0 as ``at_zero`` has it.
    """
    means = np.array([values[clusters == cluster].mean() for cluster in np.unique(clusters)])
    effect = abs(_mean(values))
    if len(means) < 2 or not effect > 0 or not math.isfinite(_known(float(np.var(means, ddof=1)), values)):
        return None
    spread = float(np.std(means, ddof=1)) / (math.sqrt(1 - effect**2) if of_correlations else 1.0)

    def seen(count: int) -> bool:
        return _noncentrality(count - 1) * spread / math.sqrt(count) <= effect

    if not seen(_MOST_UNITS):
        return None
    return bisect.bisect_left(range(MIN_UNITS, _MOST_UNITS), x=True, key=seen) + MIN_UNITS


def holm(p_values: Floats) -> Floats:
    """Correct p-values for their number, those that are NaN left out.

    The i-th smallest of m times m − i + 1, and at least the one before it (Holm 1979, *A simple sequentially rejective
    multiple test procedure*).
    """
    order = np.argsort(p_values)[: int(np.isfinite(p_values).sum())]
    adjusted = np.full(len(p_values), math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def within_one(interval: Interval) -> Interval:
    """Put the interval of a mean of correlations, which is of Student's t, within −1..1.

    The nearer a mean is to ±1, the less can correlations vary around it. A few that lie there by chance would make the
    interval too narrow on the side of 0, and cutting it off at ±1 does not mend that. So the variance of the mean is
    taken to go with 1 − μ², as that of a share of trials does: with the mean m and half the width h, the interval is of
    all μ with |m − μ| ≤ h √((1 − μ²)/(1 − m²)). With c = h²/(1 − m²) its ends are (m ± √(c(1 + c − m²)))/(1 + c)
    (Wilson 1927, *Probable inference, the law of succession, and statistical inference*, with a variance from the
    sample). ``tests/analysis/coverage.md`` says how often it covers.
    """
    if math.isnan(interval.low):
        return interval
    m, half = interval.estimate, (interval.high - interval.low) / 2
    c = half**2 / (1 - m**2)
    width = math.sqrt(c * (1 + c - m**2))
    return replace(interval, low=(m - width) / (1 + c), high=(m + width) / (1 + c))


def at_zero(interval: Interval) -> Interval:
    """Widen the interval of a mean of correlations to what it would be around a mean of 0.

    It is m ± h / √(1 − m²), as the variance goes with 1 − μ² in ``within_one``. ``p_value`` and ``detectable`` take it,
    so that p < 0.05 where the interval within −1..1 leaves out 0, and nowhere else.
    """
    if math.isnan(interval.low):
        return interval
    half = (interval.high - interval.low) / 2 / math.sqrt(1 - interval.estimate**2)
    return replace(interval, low=interval.estimate - half, high=interval.estimate + half)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) and np.isfinite(values).all() else math.nan


def _variance_of_mean(values: Floats) -> float:
    if len(values) < MIN_UNITS or not np.isfinite(values).all():
        return math.nan
    return _known(float(np.var(values, ddof=1)) / len(values), values)


def _known(variance: float, values: Floats) -> float:
    """A variance of the mean, or NaN where it is zero but for rounding."""
    rounding = max(_ROUNDING * float(np.abs(values).max()), ROUNDING_OF_FRACTIONS)
    return variance if variance > rounding**2 else math.nan


def _interval(estimate: float, variance: float, degrees: float) -> Interval:
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance)
    degrees = math.nan if math.isnan(half) else degrees
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half, degrees=degrees)


def _error(interval: Interval) -> float:
    return (interval.high - interval.low) / 2 / float(stdtrit(interval.degrees, 0.975))


def _noncentrality(degrees: float) -> float:
    return float(nctdtrinc(degrees, 1 - POWER, stdtrit(degrees, 0.975)))
