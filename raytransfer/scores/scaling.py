"""Features brought to one centre and one scale."""

import numpy as np

from raytransfer.scores.representation import Features


def centred_to_unit_norm(features: Features) -> Features:
    """Subtract each column's mean, then divide all by one number, so that rows have a mean squared norm of 1.

    A column whose spread is below 1e-12 of its largest magnitude is taken for constant: what remains of it is rounding.

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
    centred /= largest  # before squaring, which very small or large numbers do not survive
    centred *= np.sqrt(len(centred)) / np.linalg.norm(centred)
    return centred
