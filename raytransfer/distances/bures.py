"""The Wasserstein distance between Gaussians, exact for any number of images and features."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial.distance import cdist

from raytransfer.distances.sample import Features


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian fitted to features.

    Attributes:
        mean: (D,) mean.
        root: (r, D) R with RᵀR = Σ, the unbiased covariance (n − 1); r = min(n, D).
    """

    mean: Features
    root: Features


def gaussian(features: Features) -> Gaussian:
    """Fit a Gaussian.

    Args:
        features: (n, D), n at least 2.
    """
    mean = features.mean(axis=0)
    root = (features - mean) / np.sqrt(len(features) - 1)
    if len(root) > root.shape[1]:
        root = np.linalg.qr(root, mode="r")
    return Gaussian(mean, root)


def w2_squared(a: Sequence[Gaussian], b: Sequence[Gaussian]) -> Features:
    """W₂² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) between each Gaussian in ``a`` and each in ``b``.

    Dowson and Landau 1982, *The Fréchet distance between multivariate normal distributions*. With Σᵢ = RᵢᵀRᵢ, the
    nonzero eigenvalues of Σ₁Σ₂ are the squared singular values of R₁R₂ᵀ, so tr (Σ₁Σ₂)^½ is their sum: exact, for any
    rank, without a D × D matrix.

    Returns:
        (len(a), len(b)) distances, at least 0, in squared units of a feature.
    """
    means = [np.stack([one.mean for one in side]) for side in (a, b)]
    traces = [np.array([(one.root**2).sum() for one in side]) for side in (a, b)]
    # One product of all roots is far faster than one for each pair.
    products = np.concatenate([one.root for one in a]) @ np.concatenate([other.root for other in b]).T
    rows, columns = _starts(a), _starts(b)
    overlaps = np.array(
        [[np.linalg.norm(products[i:j, k:m], "nuc") for k, m in pairwise(columns)] for i, j in pairwise(rows)]
    )
    shifts = cdist(means[0], means[1], "sqeuclidean")
    # Rounding could make the distance of equal Gaussians negative.
    squared: Features = np.maximum(0.0, shifts + traces[0][:, None] + traces[1] - 2 * overlaps)
    return squared


def _starts(side: Sequence[Gaussian]) -> list[int]:
    return [0, *np.cumsum([len(one.root) for one in side]).tolist()]
