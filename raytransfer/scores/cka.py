"""CKA: similarity of two networks' features of the same images."""

import numpy as np

from raytransfer.scores.representation import Features, Representation, reference_of
from raytransfer.scores.scaling import centred_to_unit_norm


def cka(r: Representation) -> float:
    """Debiased linear CKA between a stage and the same stage of a network trained on the target (−1..1).

        CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)),  K = XXᵀ and L = YYᵀ without their diagonals,
        HSIC(K, L) = [tr(KL) + 1ᵀK1 · 1ᵀL1/((n − 1)(n − 2)) − 2/(n − 2) · 1ᵀKL1] / (n(n − 3))

    HSIC is unbiased, so independent features score about 0, or slightly less, even if n < D. Identical features score
    1. Scaling, shifting or rotating either features changes nothing. Constant features score 0.

    Source: Kornblith, Norouzi, Lee, Hinton 2019, "Similarity of neural network representations revisited" (arXiv
    1905.00414), section 3; HSIC of Song et al. 2012, "Feature selection via dependence maximization", equation 5, as in
    Nguyen, Raghu, Kornblith 2021, "Do wide and deep networks learn the same things?" (arXiv 2010.15327), section 3.

    Raises:
        UserError: There is no reference.
    """
    x, y = centred_to_unit_norm(r.features), centred_to_unit_norm(reference_of(r))
    if len(x) < max(x.shape[1], y.shape[1]):
        gram_x, gram_y = x @ x.T, y @ y.T
        products = (gram_x * gram_y).sum(), (gram_x**2).sum(), (gram_y**2).sum()
    else:
        products = ((x.T @ y) ** 2).sum(), ((x.T @ x) ** 2).sum(), ((y.T @ y) ** 2).sum()
    norms_x, norms_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
    xy = _unbiased_hsic(products[0], norms_x, norms_y)
    xx = _unbiased_hsic(products[1], norms_x, norms_x)
    yy = _unbiased_hsic(products[2], norms_y, norms_y)
    # For constant features one is 0 up to rounding; rows have a mean squared norm of 1.
    if min(xx, yy) <= 1e-12 * len(x) ** 2:
        return 0.0
    return float(np.clip(xy / np.sqrt(xx * yy), -1.0, 1.0))


def _unbiased_hsic(product: float, norms_x: Features, norms_y: Features) -> float:
    """n(n − 3) times HSIC.

    X is centred, so the rows of XXᵀ sum to 0, and those of K to −‖x_i‖². So all terms but one are sums over images.

    Args:
        product: ‖XᵀY‖²_F = tr(XXᵀYYᵀ).
        norms_x: (n,) ‖x_i‖².
        norms_y: (n,) ‖y_i‖².
    """
    n = len(norms_x)
    sums = float(norms_x.sum() * norms_y.sum()) / ((n - 1) * (n - 2))
    return float(product) + sums - n / (n - 2) * float(norms_x @ norms_y)
