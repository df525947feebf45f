"""H-score: how much of the features' variance lies between the classes."""

import numpy as np
from scipy import linalg

from raytransfer.scores.representation import Features, Representation
from raytransfer.scores.scaling import centred_to_unit_norm

_LEAST_SHRINKAGE = 1e-9  # keeps the covariance invertible if Ledoit and Wolf's formula gives 0


def hscore(r: Representation) -> float:
    """Shrunk H-score, from 0 for classes with equal means to K − 1 for classes without variance.

        H = tr(Σ⁻¹ (1 − δ) cov(E[f | y])),  Σ = (1 − δ) cov(f) + δ tr(cov(f))/D · I

    with Ledoit and Wolf's shrinkage δ. The factor 1 − δ on the second covariance keeps H below K − 1. Scaling or
    rotating the features changes nothing. Constant features score 0.

    Source: Bao et al. 2019, "An information-theoretic approach to transferability in task transfer learning" (ICIP);
    shrinkage as in Ibrahim, Ponomareva, Mazumder 2021, "Newer is not always better" (arXiv 2110.06893); δ from Ledoit,
    Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """
    features = centred_to_unit_norm(r.features)
    n, d = features.shape
    gram = (features @ features.T if n < d else features.T @ features) / n
    shrinkage = _ledoit_wolf_shrinkage(features, gram)
    # gram becomes (1 - δ) gram + δ tr/D · I, and the trace is 1.
    shrunk = (1 - shrinkage) * gram
    shrunk.flat[:: len(gram) + 1] += shrinkage / d
    indicators = np.eye(r.labels.max() + 1)[r.labels]
    indicators /= np.sqrt(n * indicators.sum(axis=0))
    # cov(E[f | y]) = MᵀM. Where n < D, X(aXᵀX + bI)⁻¹Xᵀ = (aXXᵀ + bI)⁻¹XXᵀ turns the D × D problem into an n × n one.
    if n < d:
        inside = indicators.T @ linalg.solve(shrunk, n * (gram @ indicators), assume_a="pos")
    else:
        means = features.T @ indicators
        inside = means.T @ linalg.solve(shrunk, means, assume_a="pos")
    return float((1 - shrinkage) * np.trace(inside))


def _ledoit_wolf_shrinkage(features: Features, gram: Features) -> float:
    """Ledoit and Wolf's δ, as scikit-learn's ``ledoit_wolf_shrinkage``, from a Gram matrix that is already computed.

    Args:
        features: (n, D) centred, of mean squared norm 1.
        gram: XᵀX/n or XXᵀ/n, which have the same Frobenius norm.
    """
    n, d = features.shape
    squared_norm = float((gram**2).sum())
    noise = (float((np.einsum("ij,ij->i", features, features) ** 2).mean()) - squared_norm) / n
    distance = squared_norm - 1 / d  # ‖cov − tr(cov)/D · I‖², with a trace of 1
    shrinkage = noise / distance if distance > 1e-12 else 0.0
    return min(max(shrinkage, _LEAST_SHRINKAGE), 1.0)
