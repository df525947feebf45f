"""The optimal transport dataset distance."""

import numpy as np

from raytransfer.distances.bures import Gaussian, gaussian, w2_squared
from raytransfer.distances.sample import Features, Sample, check_comparable
from raytransfer.errors import UserError

_BLUR = 0.1  # ε as a fraction of the mean cost
# Norms of the violated marginal at which to stop. Between a sample and itself the iteration converges slowly, but only
# in a direction that does not change the value: there 1e-5 gives it to 1e-6.
_STOP_ACROSS, _STOP_WITHIN = 1e-6, 1e-5
_MAX_ITERATIONS = 1000


def otdd(source: Sample, target: Sample) -> float:
    """Debiased entropic optimal transport of labelled images, S = OT_ε(a, b) − ½ OT_ε(a, a) − ½ OT_ε(b, b).

    Alvarez-Melis and Fusi 2020, *Geometric dataset distances via optimal transport*: the cost of moving (x, y) to
    (x', y') is ‖x − x'‖² + W₂²(N(μ_y, Σ_y), N(μ_y', Σ_y')), with the mean and covariance of each class of each sample
    (``w2_squared``, exact at any D). OT_ε = min_P ⟨P, cost⟩ + ε KL(P | a ⊗ b) includes the entropy term, so that S is 0
    between a sample and itself, and not negative (Feydy et al. 2019, *Interpolating between optimal transport and
    MMD*). ε is 0.1 times the mean cost between the samples, in all three terms.

    Two samples of one task are near 0 only if their classes have many images: class covariances are as noisy as FID's.
    Compare values at equal n. If a few images are far from all others, S may be off by some percent after 1,000
    iterations, and differ as much between the two directions.

    Returns:
        S in squared units of a feature, as MMD² and FID, at least 0: the class term may make it negative, which is
        replaced by 0.

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
    """(n, m) the cost of moving each image of one sample to each image of the other."""
    shift = one.features.min(axis=0)  # changes no distance, and avoids cancellation in |x|² + |y|² − 2xy
    x, y = one.features - shift, other.features - shift
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    costs: Features = np.maximum(squared, 0.0) + of_classes[np.ix_(one.labels, other.labels)]
    return costs


def _entropic_cost(costs: Features, blur: float, stop: float) -> float:
    """OT_ε between uniform weights, from its dual, which is a lower bound.

    The bound is below the true value by about ε times the KL divergence of the violated marginal.

    The minimum of each row, and then of each column, is subtracted from the costs first. That changes the value by
    their means, and does not change the plan. Every image then has a partner at cost 0, so that no row or column of
    exp(−cost/ε) vanishes.
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
