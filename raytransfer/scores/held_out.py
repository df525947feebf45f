"""Cross-validated accuracy of a classifier."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from raytransfer.scores.content import places_by_content
from raytransfer.scores.representation import Features, Labels
from raytransfer.scores.scaling import centred_to_unit_norm

_FOLDS = 5

Predict = Callable[[Features, Labels, Features], Labels]
"""Labels (m,) of features (m, D), by a classifier trained on features (n, D) and labels (n,) of at least 2 classes."""


def held_out_accuracy(predict: Predict, features: Features, labels: Labels) -> float:
    """Accuracy, 0..1, in stratified 5-fold cross-validation.

    Features are centred and divided by their norm first. Distinct images are sorted by their features, shuffled with a
    fixed seed and dealt to the folds class by class. So the result does not depend on the order of the images, nor on
    scaling or shifting the features. Copies of an image fall into one fold, whatever their labels, and are dealt as
    their most common class. If the other folds hold fewer than two classes, because so few images are distinct, the
    most common class of all images is predicted.

    On noise the mean is chance from 20 images on, but a single value scatters (standard deviation 0.15 for 20 images of
    two classes, 0.07 for 50 of five). With 12 images of two classes the mean is 0.03 below chance, since a class that
    is more common in a fold is rarer in the others.

    Args:
        predict: Trains a classifier and applies it.
        features: (n, D).
        labels: (n,).
    """
    # Sorted before the means are computed: their last bits decide between copies with different labels, and where a
    # regression stops.
    order = np.argsort(places_by_content(features), kind="stable")
    features, labels = centred_to_unit_norm(features[order]), labels[order]
    places = places_by_content(features)
    order = np.lexsort((labels, places))  # a classifier may break ties by the order of its images
    features, labels, places = features[order], labels[order], places[order]
    counts = np.zeros((places[-1] + 1, labels.max() + 1))
    np.add.at(counts, (places, labels), 1)
    predicted = np.full(len(labels), counts.sum(axis=0).argmax())
    folds = _folds(counts.argmax(axis=1))[places]
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if len(np.unique(labels[train])) > 1:
            predicted[test] = predict(features[train], labels[train], features[test])
    return float((predicted == labels).mean())


def _folds(classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(G,) the fold of each of G different images of the given classes, in the order of their features."""
    # Without shuffling, neighbours would be spread evenly over the folds, and noise would score above chance.
    shuffled = np.random.default_rng(0).permutation(len(classes))
    folds = np.empty(len(classes), dtype=np.int64)
    folds[np.lexsort((shuffled, classes))] = np.arange(len(classes)) % _FOLDS
    return folds
