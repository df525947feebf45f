"""Accuracy of a classifier on images held out of its training."""

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from raytransfer.scores.representation import Features, Labels

_FOLDS = 5


def held_out_accuracy(classifier: ClassifierMixin, features: Features, labels: Labels) -> float:
    """Part of the images, 0..1, that a classifier trained on the other folds gets right.

    The folds are 5, or as many as the smallest class has images if those are fewer. Images are sorted by label and then
    by content and dealt to the folds in turn, so every fold has images of every class, nothing is drawn at random, and
    the result does not depend on the order of the images nor on the features' scale. Copies of one image fall into
    different folds.

    Args:
        classifier: A scikit-learn classifier; it is cloned for each fold.
        features: (n, D).
        labels: (n,), every class with at least 2 images.
    """
    order = _order_by_content(features, labels)
    features, labels = features[order], labels[order]
    folds = min(_FOLDS, int(np.bincount(labels).min()))
    split = PredefinedSplit(np.arange(len(labels)) % folds)
    return float(np.mean(cross_val_predict(classifier, features, labels, cv=split) == labels))


def _order_by_content(features: Features, labels: Labels) -> list[int]:
    # Big-endian floats compare as bytes by sign and size, so a positive factor changes nothing. Adding 0 makes -0 to 0.
    content = (features + 0.0).astype(">f8")
    return sorted(range(len(labels)), key=lambda i: (labels[i], content[i].tobytes()))
