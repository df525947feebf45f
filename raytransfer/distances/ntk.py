"""The NTK residual: how far a two-layer network trained on one task must move to fit another."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from raytransfer.distances.sample import Features, Sample, check_comparable
from raytransfer.errors import UserError

_RIDGE = 1e-3 * 0.5  # ½ is every diagonal entry of H


def ntk_residual(source: Sample, target: Sample) -> float:
    """(1/n_Q) Σ_classes (y_Q − y_{P→Q})ᵀ (H_Q)⁻¹ (y_Q − y_{P→Q}), with y_{P→Q} = H_PQᵀ (H_P)⁻¹ y_P.

    This is our definition from the bound of Liu et al. 2019, *Towards understanding the transferability of deep
    representations*: the squared bound on how far an infinitely wide two-layer ReLU network, trained on the source P,
    moves when it is trained on the target Q, divided by the number of target images. H_ij = xᵢᵀxⱼ (π − arccos xᵢᵀxⱼ) /
    2π, with images scaled to unit norm. Labels are one-hot. 5e-4 is added to the diagonals of H_P and H_Q, which are ½,
    so that copies of an image leave them invertible; copies with different labels cost up to 2,000 each.

    Both tasks must have the same labels, as P's network predicts those of Q. With a column for each class of either
    task, its predictions for classes that Q lacks would count as errors, and the same images under other names would be
    farther away than noise.

    It is not symmetric. All-zero images, for which a network without biases always gives 0, are left out, also of n_Q.

    Returns:
        At least 0; 0 if the source's network already fits the target.

    Raises:
        UserError: The features differ in length, the tasks in their labels, or all images of a sample are zero.
    """
    check_comparable(source, target)
    names = sorted(source.classes)
    if names != sorted(target.classes):
        raise UserError(
            f"the NTK residual is defined for tasks with the same labels: {source.name} has {names}, {target.name} "
            f"has {sorted(target.classes)}"
        )
    x_p, y_p = _directions(source, names)
    x_q, y_q = _directions(target, names)
    predicted = gram(x_p, x_q).T @ _solve(x_p, y_p)
    residual = y_q - predicted
    return float((residual * _solve(x_q, residual)).sum() / len(x_q))


def _directions(sample: Sample, names: list[str]) -> tuple[Features, Features]:
    """(n, D) images of unit norm, without the all-zero ones, and their (n, len(names)) one-hot labels."""
    kept = sample.features.any(axis=1)
    if not kept.any():
        raise UserError(f"{sample.name}: all its images are zero, and the NTK residual needs directions")
    columns = np.array([names.index(name) for name in sample.classes])
    return unit_rows(sample.features[kept]), np.eye(len(names))[columns[sample.labels[kept]]]


def unit_rows(images: Features) -> Features:
    """(n, D) images scaled to unit norm; none of them is zero."""
    # Dividing by the largest value first keeps squares from underflow and overflow.
    scaled = images / np.abs(images).max(axis=1, keepdims=True)
    unit: Features = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def gram(x: Features, other: Features) -> Features:
    """H∞_ij = xᵢᵀx′ⱼ (π − arccos xᵢᵀx′ⱼ) / 2π, the Gram matrix of infinitely many random ReLU units.

    E[xᵢᵀx′ⱼ 1{wᵀxᵢ > 0} 1{wᵀx′ⱼ > 0}] over Gaussian w (Du et al. 2019, *Gradient descent provably optimizes
    over-parameterized neural networks*, Definition 1.2).

    Args:
        x: (n, D) images of unit norm.
        other: (m, D) likewise.

    Returns:
        (n, m), each between −0.09 and 0.5.
    """
    cosine = np.clip(x @ other.T, -1.0, 1.0)
    return np.asarray(cosine * (np.pi - np.arccos(cosine)) / (2 * np.pi), dtype=np.float64)


def _solve(x: Features, y: Features) -> Features:
    """(H(x, x) + ridge)⁻¹ y."""
    factor = cho_factor(gram(x, x) + _RIDGE * np.eye(len(x)), lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(cho_solve(factor, y, check_finite=False), dtype=np.float64)
