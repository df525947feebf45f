"""The Fréchet distance of two tasks' features."""

from raytransfer.distances.bures import gaussian, w2_squared
from raytransfer.distances.sample import Sample, check_comparable
from raytransfer.errors import UserError


def fid(source: Sample, target: Sample) -> float:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) of the samples' means and covariances.

    Heusel et al. 2017, *GANs trained by a two time-scale update rule*, on the samples' features. It needs n ≫ D: with
    fewer images covariances are noisy, and two samples of one task are far apart, by about 2 tr Σ if n ≪ D. Compare
    values only at equal n.

    Returns:
        At least 0, in squared units of a feature.

    Raises:
        UserError: The features differ in length, or a sample has a single image.
    """
    check_comparable(source, target)
    m, n = len(source.features), len(target.features)
    if min(m, n) < 2:
        raise UserError(f"{source.name} and {target.name}: FID needs at least 2 images of each, not {m} and {n}")
    return float(w2_squared([gaussian(source.features)], [gaussian(target.features)])[0, 0])
