"""Centring and scaling features, and reducing their dimensions."""

import numpy as np
from scipy import linalg

from raytransfer.scores.representation import Features


def centred_to_unit_norm(features: Features) -> Features:
    """Subtract each column's mean, then scale the whole matrix so that rows have a mean squared norm of 1.

    A column that deviates from its mean by at most 1e-12 of its largest magnitude is constant up to rounding, and set
    to 0.

    Args:
        features: (n, D).

    Returns:
        (n, D), all 0 where every column is constant.
    """
    centred: Features = features - features.mean(axis=0)
    spread = np.abs(centred).max(axis=0)
    centred[:, spread <= 1e-12 * np.abs(features).max(axis=0)] = 0.0
    largest = np.abs(centred).max()
    if largest == 0:
        return centred
    centred /= largest  # so that squares do not underflow or overflow
    centred *= np.sqrt(len(centred)) / np.linalg.norm(centred)
    return centred


def principal_components(centred: Features, kept: int) -> Features:
    """The first principal components of each row; their signs are arbitrary.

    Args:
        centred: (n, D) features whose columns have mean 0.
        kept: Number of components, at most min(n, D).

    Returns:
        (n, kept), in order of increasing variance.
    """
    n, d = centred.shape
    gram = centred @ centred.T if n < d else centred.T @ centred
    values, vectors = linalg.eigh(gram, subset_by_index=(len(gram) - kept, len(gram) - 1))
    components: Features = vectors * np.sqrt(np.maximum(values, 0)) if n < d else centred @ vectors
    return components
