"""PARC: whether images of one class lie closer together than images of different classes."""

import numpy as np
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from raytransfer.scores.representation import Features, Representation
from raytransfer.scores.scaling import centred_to_unit_norm

_DECIMALS = 9


def parc(r: Representation) -> float:
    """Spearman correlation, over pairs of images, of the distances of their features and of their labels (−1..1).

    A distance is 1 minus the Pearson correlation of two images' vectors. Those of features have D dimensions, each
    standardised over the images, as in the authors' code. Those of labels are one-hot, with distances of 0 within a
    class and K/(K − 1) between classes. Equal distances share their mean rank. So uninformative features score about 0,
    and features whose distances are 0 within and equal between classes score 1. If all distances differ, the score is
    at most about √(3p(1 − p)), with p the share of pairs of different classes: 0.87 for two classes, 0.52 for ten.

    The paper first reduces features to 32 principal components. We do not, since the Pearson correlation would depend
    on their arbitrary signs. The authors report 100 times this number. Scaling or shifting each feature changes
    nothing; a rotation does. An image whose standardised features are all equal has a distance of 1 to all others.
    Distances are rounded to 9 decimals, so that copies tie. Constant features, or a single one, score 0.

    Source: Bolya, Mittapalli, Hoffman 2021, "Scalable diverse model selection for accessible transfer learning" (arXiv
    2111.06977), section 4.
    """
    vectors = _centred_rows(_standardised(r.features))
    # squareform takes the upper triangle; its checks would fail, as rounding leaves the diagonal near 0.
    ranks = rankdata(squareform(np.round(1 - vectors @ vectors.T, _DECIMALS), checks=False))
    ranks -= ranks.mean()
    differ = squareform((r.labels[:, None] != r.labels).astype(np.float64), checks=False)
    differ -= differ.mean()
    norm = np.linalg.norm(ranks) * np.linalg.norm(differ)
    return float(np.clip(ranks @ differ / norm, -1.0, 1.0)) if norm > 0 else 0.0


def _standardised(features: Features) -> Features:
    """(n, D) with columns of mean 0 and standard deviation 1, or all 0 where a column is constant."""
    centred = centred_to_unit_norm(features)
    largest = np.abs(centred).max(axis=0)
    centred /= np.where(largest > 0, largest, 1.0)  # so that squares of very small numbers do not underflow
    deviations = centred.std(axis=0)
    standardised: Features = centred / np.where(deviations > 0, deviations, 1.0)
    return standardised


def _centred_rows(features: Features) -> Features:
    """(n, D) with rows of mean 0 and norm 1, or all 0 if a row is constant up to rounding."""
    centred = features - features.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    is_constant = norms <= 1e-12 * np.linalg.norm(features, axis=1, keepdims=True)
    unit: Features = np.where(is_constant, 0.0, centred / np.where(is_constant, 1.0, norms))
    return unit
