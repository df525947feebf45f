"""TransRate: mutual information of features and labels, estimated by coding rates."""

import numpy as np

from raytransfer.scores.representation import Features, Representation
from raytransfer.scores.scaling import centred_to_unit_norm

_EPSILON = 1e-4


def transrate(r: Representation) -> float:
    """Coding rate of all features minus the mean coding rate of each class's features (nats, at least 0).

        TransRate = R(Z) − Σ_c (n_c/n) R(Z_c),  R(Z) = ½ ln det(I + ZᵀZ/(nε))

    with n the number of rows of the matrix at hand and ε = 1e-4. Z is centred over all images, and Z_c are its rows of
    class c, not centred again, as in the paper; so two classes of equal size that are each a single point score 0, and
    three or more do not. As in the paper, 1/ε stands for the D/ε² of the rate-distortion literature. The paper's
    listing divides by the number of classes; we weight by n_c/n, which is the same for classes of equal size, and never
    negative.

    The rate depends on the features' scale. We scale them so that rows have a mean squared norm of 1; the paper's
    listing does not. So scaling, shifting or rotating the features changes nothing. Constant features score 0. This
    choice and ε decide which bases score higher, and even the sign of the score's correlation with transfer (a table is
    in the README of this folder).

    Source: Huang, Huang, Rong, Yang, Wei 2022, "Frustratingly easy transferability estimation" (arXiv 2106.09362),
    section 3.
    """
    features = centred_to_unit_norm(r.features)
    counts = np.bincount(r.labels)
    within = sum(count * _coding_rate(features[r.labels == label]) for label, count in enumerate(counts))
    return max(_coding_rate(features) - float(within) / len(features), 0.0)


def _coding_rate(z: Features) -> float:
    """½ ln det(I + ZᵀZ/(nε)), which is the same for ZZᵀ."""
    n, d = z.shape
    gram = z @ z.T if n < d else z.T @ z
    return 0.5 * float(np.linalg.slogdet(np.eye(len(gram)) + gram / (n * _EPSILON)).logabsdet)
