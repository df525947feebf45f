"""The optimal transport dataset distance."""

import numpy as np

from raytransfer.distances.bures import Gaussian, gaussian, w2_squared
from raytransfer.distances.sample import Features, Sample, check_comparable
from raytransfer.errors import UserError

_BLUR = 0.1  # ε as a part of the mean cost
# Norms of the violated marginal at which to stop. Against itself a sample converges slowly, but only in a direction
# that leaves the value alone: there 1e-5 gives it to 1e-6.
_STOP_ACROSS, _STOP_WITHIN = 1e-6, 1e-5
_MAX_ITERATIONS = 1000


def otdd(source: Sample, target: Sample) -> float:
    """Debiased entropic transport of labelled images, S = OT_ε(a, b) − ½ OT_ε(a, a) − ½ OT_ε(b, b).

    Alvarez-Melis and Fusi 2020, *Geometric dataset distances via optimal transport*: the cost of moving (x, y) to
    (x', y') is ‖x − x'‖² + W₂²(N(μ_y, Σ_y), N(μ_y', Σ_y')), with the mean and covariance of each class of each sample
    (Bures; exact at any D). OT_ε = min_P ⟨P, cost⟩ + ε KL(P | a ⊗ b): with the entropy term, for then S is 0 of a
    sample against itself and not negative (Feydy et al. 2019, *Interpolating between optimal transport and MMD*). ε is
    0.1 times the mean cost between the samples, in all three terms.

    Two samples of one task are near 0 only as their classes have many images: class covariances are as noisy as FID's.
    Compare values at equal n. Where a few images are far from all others, 1,000 iterations can leave S off by some
    percent, and as much between the two directions.

    Returns:
        S, at least 0 (the class term does not promise it, so what is negative becomes 0), in squared units of a
        feature, as MMD² and FID.

    Raises:
        UserError: The features differ in length, or a class has a single image.
    """
    check_comparable(source, target)
    a, b = _class_gaussians(source), _class_gaussians(target)
    across = _costs(source, target, w2_squared(a, b))
    blur = _BLUR * float(across.mean())
    if blur == 0:  # every image and every class is equal
        return 0.0
    within = [
        _entropic_cost(_costs(sample, sample, w2_squared(classes, classes)), blur, _STOP_WITHIN)
        for sample, classes in ((source, a), (target, b))
    ]
    return max(0.0, _entropic_cost(across, blur, _STOP_ACROSS) - sum(within) / 2)


def _class_gaussians(sample: Sample) -> list[Gaussian]:
    counts = np.bincount(sample.labels)
    if counts.min() < 2:
        raise UserError(
            f"{sample.name}: class {sample.classes[int(counts.argmin())]} has a single image, and OTDD needs the "
            "covariance of every class: draw at least 2 images of each"
        )
    return [gaussian(sample.features[sample.labels == label]) for label in range(len(counts))]


def _costs(one: Sample, other: Sample, of_classes: Features) -> Features:
    """(n, m) the cost of moving each image of one sample to each of the other."""
    shift = one.features.min(axis=0)  # changes no distance, and keeps |x|² + |y|² − 2xy from cancelling
    x, y = one.features - shift, other.features - shift
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    costs: Features = np.maximum(squared, 0.0) + of_classes[np.ix_(one.labels, other.labels)]
    return costs


def _entropic_cost(costs: Features, blur: float, stop: float) -> float:
    """OT_ε between uniform weights, by its dual.

    It is never above the true value, and short of it by about ε times the KL divergence of the violated marginal.

    What is least in each row, then in each column, comes off the costs first, which moves the value by its mean and
    leaves the plan as it was: every image then has a partner at cost 0, and exp(−cost/ε) of none vanishes altogether.
    """
    import ot  # slow to import, and only this measure needs it

    rows = costs.min(axis=1, keepdims=True)
    reduced = costs - rows
    columns = reduced.min(axis=0, keepdims=True)
    reduced -= columns
    a, b = (np.full(size, 1 / size) for size in costs.shape)
    _, log = ot.sinkhorn(
        a, b, reduced, blur, method="sinkhorn", numItermax=_MAX_ITERATIONS, stopThr=stop, warn=False, log=True
    )
    potentials = np.log(log["u"] / a).mean() + np.log(log["v"] / b).mean()
    return float(rows.mean() + columns.mean() + blur * potentials)
