"""The proxy A-distance: how well a linear classifier tells the images of two tasks apart."""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from raytransfer.distances.content import digests
from raytransfer.distances.sample import Features, Sample, check_comparable
from raytransfer.errors import UserError

_FOLDS = 5


def proxy_a(source: Sample, target: Sample) -> float:
    """2(1 − 2ε), with ε the held-out error of a classifier of source images against target images.

    Ben-David et al. 2007, *Analysis of representations for domain adaptation*. ε is the error over 5-fold
    cross-validation of logistic regression (L2, C = 1/D) on features standardised over both samples; this penalty
    constrains the weights equally for 64 and 3,072 features. The larger sample is cut to the size of the smaller, so
    that chance is ½. The cut and the folds depend on a digest of each image's content, so that the order of a sample
    does not matter, and copies of an image fall into one fold.

    Returns:
        0 (cannot be told apart) to 2 (always told apart). It is clipped to that range: ε scatters about ½ if there is
        nothing to learn, and exceeds ½ if training images of one sample have near-copies in the other.

    Raises:
        UserError: The features differ in length, or a sample has a single image.
    """
    check_comparable(source, target)
    n = min(len(source.features), len(target.features))
    if n < 2:  # with one image of each, nothing is left to train on once it is held out
        raise UserError(f"{source.name} and {target.name}: proxy-A needs at least 2 images of each, not {n}")
    features, keys = zip(*(_first_by_content(sample.features, n) for sample in (source, target)), strict=True)
    pooled, folds = np.concatenate(features), _folds([*keys[0], *keys[1]])
    scaled = StandardScaler().fit_transform(pooled)
    is_target = np.repeat([False, True], n)
    wrong = 0
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if len(np.unique(is_target[train])) < 2:  # as where all images are copies: no classifier, so it is a coin toss
            wrong += test.sum() / 2
            continue
        classifier = LogisticRegression(C=1 / scaled.shape[1], max_iter=1000).fit(scaled[train], is_target[train])
        wrong += (classifier.predict(scaled[test]) != is_target[test]).sum()
    return float(np.clip(2 * (1 - 2 * wrong / (2 * n)), 0, 2))


def _first_by_content(features: Features, n: int) -> tuple[Features, list[bytes]]:
    """The n rows whose digests come first, and their digests."""
    keys = digests(features)
    order = sorted(range(len(keys)), key=keys.__getitem__)[:n]
    return features[order], [keys[i] for i in order]


def _folds(keys: list[bytes]) -> npt.NDArray[np.int64]:
    """(n,) the fold of each row; rows of equal content share one, and different ones take turns."""
    turn = {key: i % _FOLDS for i, key in enumerate(sorted(set(keys)))}
    return np.array([turn[key] for key in keys])
