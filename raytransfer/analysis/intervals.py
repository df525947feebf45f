"""95% intervals for means of few runs, by Student's t.

Student's t and not the bootstrap, because runs are few: on samples of 3, 5 and 8 normal draws (400 of each), nominal
95% intervals covered the true mean this often:

    draws                  3      5      8
    percentile bootstrap   0.79   0.86   0.89   (BCa the same)
    Student t              0.96   0.98   0.95

Under ``MIN_UNITS`` units there is no interval, and no verdict. There is no interval either where it would have no
width, because all units are equal: accuracies come in steps of one image, so a few units may agree by accident. Their
spread is then not zero but unknown.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

MIN_UNITS = 3
"""Fewest independent units of which an interval or a verdict is given.

Of two, t(0.975, 1) = 12.7 standard errors on either side do cover the mean 95% of the time. But the width of such an
interval is 12.7 times the distance of two numbers: it says how near these two happen to lie, and hardly anything of the
effect. The widths of one pair in ten are less than 0.19 times the median width, and of one in ten more than 2.4 times.
"""

_ROUNDING = 1e-12  # of the largest value: standard errors below it come from adding and subtracting equal numbers
_ROUNDING_OF_FRACTIONS = 1e-15  # differences of differences of accuracies may be rounding through and through

TOO_FEW = "too few units"
"""The verdict where no verdict can be given."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95% interval.

    Attributes:
        estimate: The estimate, in the unit of the values; NaN where there are none or one of them is not finite.
        low: Lower end; NaN where there is no interval: under ``MIN_UNITS`` units, or where all are equal.
        high: Upper end, likewise.
    """

    estimate: float
    low: float
    high: float


def student_t(values: NDArray[np.float64]) -> Interval:
    """Mean of independent values, with m ± t(0.975, k − 1) · s / √k for k values of standard deviation s.

    On differences within units this is the paired t interval.
    """
    return _interval(_mean(values), _variance_of_mean(values), len(values) - 1)


def welch_t(group: NDArray[np.float64], reference: NDArray[np.float64]) -> Interval:
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


def clustered_t(values: NDArray[np.float64], clusters: NDArray[np.integer[Any]]) -> Interval:
    """Mean of values that are independent between clusters, but not within one.

    The mean m weighs each value the same. With r_c the sum of (value − m) over cluster c, k clusters and N values, its
    variance is estimated by k / (k − 1) · Σ r_c² / N², and the interval is m ± t(0.975, k − 1) standard errors. With
    clusters of one size this is exactly the t interval of the cluster means; counting N independent values instead
    would make it too narrow.

    Args:
        values: The values.
        clusters: The cluster of each, numbered from 0.
    """
    count = len(np.unique(clusters))
    if count < MIN_UNITS:
        return Interval(estimate=_mean(values), low=math.nan, high=math.nan)
    residuals = np.bincount(clusters, weights=values - _mean(values))
    variance = count / (count - 1) * float((residuals**2).sum()) / len(values) ** 2
    return _interval(_mean(values), _known(variance, values), count - 1)


def exponential(interval: Interval) -> Interval:
    """Take exp of an estimate and its ends: of a mean of logarithms, the geometric mean and its interval."""
    with np.errstate(over="ignore"):  # the interval of three units may be that wide
        return Interval(**{name: float(np.exp(value)) for name, value in dataclasses.asdict(interval).items()})


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) and np.isfinite(values).all() else math.nan


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    if len(values) < MIN_UNITS or not np.isfinite(values).all():
        return math.nan
    return _known(float(np.var(values, ddof=1)) / len(values), values)


def _known(variance: float, values: NDArray[np.float64]) -> float:
    """A variance of the mean, or NaN where it is zero but for rounding."""
    rounding = max(_ROUNDING * float(np.abs(values).max()), _ROUNDING_OF_FRACTIONS)
    return variance if variance > rounding**2 else math.nan


def _interval(estimate: float, variance: float, degrees: float) -> Interval:
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance)
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)
