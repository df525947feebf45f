"""The Wasserstein distance between Gaussians, at any number of images and features."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial.distance import cdist

from raytransfer.distances.sample import Features


@dataclass(frozen=True)
class Gaussian:
    """The Gaussian of some images' features.

    Attributes:
        mean: (D,) their mean.
        root: (r, D) R with RᵀR their covariance Σ, unbiased (n − 1); r is the lesser of n and D.
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
    """W₂² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), at least 0, of each Gaussian of one list and each of the other.

    Dowson and Landau 1982, *The Fréchet distance between multivariate normal distributions*. With Σᵢ = RᵢᵀRᵢ, the
    nonzero eigenvalues of Σ₁Σ₂ are the squared singular values of R₁R₂ᵀ, so tr (Σ₁Σ₂)^½ is their sum: exact, for any
    rank, without a D × D matrix.

    Returns:
        (len(a), len(b)) the distances, in squared units of a feature.
    """
    means = [np.stack([one.mean for one in side]) for side in (a, b)]
    traces = [np.array([(one.root**2).sum() for one in side]) for side in (a, b)]
    # One product of all the roots is far quicker than one of each pair.
    products = np.concatenate([one.root for one in a]) @ np.concatenate([other.root for other in b]).T
    rows, columns = _starts(a), _starts(b)
    overlaps = np.array(
        [[np.linalg.norm(products[i:j, k:m], "nuc") for k, m in pairwise(columns)] for i, j in pairwise(rows)]
    )
    shifts = cdist(means[0], means[1], "sqeuclidean")
    # Rounding could make equal Gaussians' distance negative.
    squared: Features = np.maximum(0.0, shifts + traces[0][:, None] + traces[1] - 2 * overlaps)
    return squared


def _starts(side: Sequence[Gaussian]) -> list[int]:
    return [0, *np.cumsum([len(one.root) for one in side]).tolist()]
