"""GBC: overlap of the classes, each modelled as a Gaussian."""

import numpy as np

from raytransfer.scores.representation import Representation
from raytransfer.scores.scaling import centred_to_unit_norm, principal_components

_DIMENSIONS = 64
_LEAST_VARIANCE = 1e-4


def gbc(r: Representation) -> float:
    """Minus the sum of Gaussian Bhattacharyya coefficients between classes (−K(K − 1) at worst, 0 at best).

        GBC = −Σ_{i≠j} exp(−D_B(i, j)),  D_B = ‖μ_i − μ_j‖²/(8σ²) + d/2 ln(σ²/(σ_i σ_j)),  σ² = (σ_i² + σ_j²)/2

    over ordered pairs of classes, after a principal component analysis to d = min(64, D, n − 1) dimensions. Covariances
    are spherical, the default of the authors' code: σ_c² is the mean over dimensions of the class's variance (over
    n_c). The features are first scaled so that the kept dimensions have a mean variance of 1, and σ_c² is at least
    1e-4. Scaling, shifting or rotating the features changes nothing. Constant features score −K(K − 1).

    Source: Pándy, Agostinelli, Uijlings, Ferrari, Mensink 2022, "Transferability estimation using Bhattacharyya class
    separability" (arXiv 2111.12780), section 3.
    """
    centred = centred_to_unit_norm(r.features)
    d = min(_DIMENSIONS, centred.shape[1], len(centred) - 1)
    features = principal_components(centred, d)
    features /= np.sqrt((features**2).mean()) or 1.0
    classes = [features[r.labels == label] for label in range(r.labels.max() + 1)]
    means = np.stack([members.mean(axis=0) for members in classes])
    variances = np.maximum([members.var(axis=0).mean() for members in classes], _LEAST_VARIANCE)
    first, second = np.triu_indices(len(classes), k=1)
    shared = (variances[first] + variances[second]) / 2
    distances = ((means[first] - means[second]) ** 2).sum(axis=1) / (8 * shared)
    distances += d / 2 * np.log(shared / np.sqrt(variances[first] * variances[second]))
    return -2 * float(np.exp(-distances).sum())
