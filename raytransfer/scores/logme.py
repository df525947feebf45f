"""LogME: evidence for the labels in a Bayesian linear model of the features."""

import numpy as np
from scipy import linalg

from raytransfer.scores.representation import Features, Representation

_LARGEST_BETA = 1e10
_LARGEST_ALPHA = 1e30
_TOLERANCE = 1e-12
_TINY = 1e-200  # keeps quotients finite
_MOST_STEPS = 10_000


def logme(r: Representation) -> float:
    """Maximum evidence of a Bayesian linear model of each one-vs-rest label, over n, mean over the classes (nats).

    For a label y of 0 and 1, features F (n × D), weights w ~ N(0, I/α) and y ~ N(Fw, I/β), with A = αI + βFᵀF and
    m = βA⁻¹Fᵀy:

        ln p(y | F, α, β) = D/2 ln α + n/2 ln β − n/2 ln 2π − β/2 ‖Fm − y‖² − α/2 ‖m‖² − ½ ln|A|

    maximised over α and β by the paper's fixed point γ = Σ βσ²/(α + βσ²), α = γ/‖m‖², β = (n − γ)/‖Fm − y‖². The
    iteration starts from the best of a grid of α/β, since there can be several local maxima. With the singular values σ
    of F, D/2 ln α − ½ ln|A| = ½ Σ ln α/(α + βσ²) over the non-zero σ, for any n and D.

    If the features fit the labels exactly, β is unbounded; it is limited to 1e10, a noise of 1e-5. There is no
    intercept, as in the paper, so shifting the features matters; scaling or rotating them does not.

    Source: You, Liu, Wang, Long 2021, "LogME: Practical assessment of pre-trained models for transfer learning"
    (arXiv 2102.11005), section 4.
    """
    n = len(r.labels)
    # Scaling changes only α, and lets one grid serve features of any scale.
    features = r.features / (np.abs(r.features).max() or 1.0)
    if n < features.shape[1]:  # F = RᵀQᵀ has the left singular vectors of the small Rᵀ
        features = linalg.qr(features.T, mode="r")[0][:n].T
    left, singular, _ = linalg.svd(features, full_matrices=False)
    variances = singular[:, None] ** 2 / (np.mean(singular**2) or 1.0)
    targets = np.eye(r.labels.max() + 1)[r.labels]
    projected = left.T @ targets
    outside = ((targets - left @ projected) ** 2).sum(axis=0)
    return float(_maximum_evidence(variances, projected**2, outside, n).mean()) / n


def _maximum_evidence(variances: Features, squares: Features, outside: Features, n: int) -> Features:
    """Iterate all K classes until none improves.

    Args:
        variances: (R, 1) σ², of mean 1.
        squares: (R, K) squared projections of the labels on the left singular vectors.
        outside: (K,) squared norm of each label's component outside their span.
        n: Number of images.

    Returns:
        (K,) the largest log evidence met.
    """
    alpha, beta = _best_of_grid(variances[:, 0], squares, outside, n)
    best = np.full(squares.shape[1], -np.inf)
    for _ in range(_MOST_STEPS):
        precision = alpha + beta * variances  # (R, K) eigenvalues of A
        unexplained = alpha / precision
        residual = (unexplained**2 * squares).sum(axis=0) + outside
        weights = (beta**2 * variances * squares / precision**2).sum(axis=0)
        evidence = 0.5 * (
            np.log(unexplained).sum(axis=0) + n * np.log(beta / (2 * np.pi)) - beta * residual - alpha * weights
        )
        gain, best = evidence - best, np.maximum(best, evidence)
        if (np.abs(gain) <= _TOLERANCE * n).all():
            break
        # n - γ is summed from the unexplained parts, as the difference loses precision if γ is close to n.
        gamma, n_less_gamma = (beta * variances / precision).sum(axis=0), n - len(variances) + unexplained.sum(axis=0)
        alpha = np.clip(gamma / np.maximum(weights, _TINY), 1 / _LARGEST_ALPHA, _LARGEST_ALPHA)
        beta = np.clip(n_less_gamma / np.maximum(residual, _TINY), 1 / _LARGEST_BETA, _LARGEST_BETA)
    return best


def _best_of_grid(variances: Features, squares: Features, outside: Features, n: int) -> tuple[Features, Features]:
    """The best α and β of each class over a grid of λ = α/β, with the best β for each λ.

    For a given λ, ln p = n/2 ln(β/2π) − βq/2 + ½ Σ ln λ/(λ + σ²) with q = Σ z² λ/(λ + σ²) + outside, so β = n/q.
    """
    ratios = np.logspace(-12, 8, 101)
    unexplained = ratios[:, None] / (ratios[:, None] + variances)  # (101, R)
    q = unexplained @ squares + outside
    betas = np.minimum(n / np.maximum(q, _TINY), _LARGEST_BETA)
    evidence = n * np.log(betas) - betas * q + np.log(unexplained).sum(axis=1, keepdims=True)
    place = evidence.argmax(axis=0)
    beta: Features = np.take_along_axis(betas, place[None], axis=0)[0]
    return ratios[place] * beta, beta
