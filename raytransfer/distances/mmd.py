"""The maximum mean discrepancy with a Gaussian kernel."""

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from raytransfer.distances.sample import Sample, check_comparable
from raytransfer.errors import UserError

# Squared distances are computed as |x|² + |y|² − 2xy; below this fraction of the largest they are rounding errors.
_EQUAL = 1e-12


def mmd2(source: Sample, target: Sample) -> float:
    """Unbiased estimate of MMD² with the kernel k(x, y) = exp(−‖x − y‖² / (2σ²)).

    Gretton et al. 2012, *A kernel two-sample test*, lemma 6: with m source images x and n target images y,
    Σ_{i≠j} k(xᵢ, xⱼ) / (m(m−1)) + Σ_{i≠j} k(yᵢ, yⱼ) / (n(n−1)) − 2 Σ_{ij} k(xᵢ, yⱼ) / (mn). The bandwidth σ is the
    median distance between two images of the pooled sample, over pairs that are not equal (as in the authors' code), so
    that constant features and copies do not make it 0.

    Returns:
        About −2/n to 2. As the estimate is unbiased, it is slightly negative about half the time for samples of one
        task, and always for two copies of one sample. 0 if all images are equal.

    Raises:
        UserError: The features differ in length, or a sample has a single image.
    """
    check_comparable(source, target)
    m, n = len(source.features), len(target.features)
    if min(m, n) < 2:
        raise UserError(
            f"{source.name} and {target.name}: unbiased MMD needs at least 2 images of each, not {m} and {n}"
        )
    pooled = np.concatenate([source.features, target.features])
    # Subtracting the minimum makes constant features exactly 0, and changes no distance.
    squared = euclidean_distances(pooled - pooled.min(axis=0), squared=True)
    different = squared[squared > _EQUAL * squared.max()]
    if not len(different):
        return 0.0
    kernel = np.exp(squared / (-2 * np.median(np.sqrt(different)) ** 2))
    np.fill_diagonal(kernel, 0.0)
    within = kernel[:m, :m].sum() / (m * (m - 1)) + kernel[m:, m:].sum() / (n * (n - 1))
    return float(within - 2 * kernel[:m, m:].mean())
