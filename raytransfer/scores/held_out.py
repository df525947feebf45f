"""Accuracy of a classifier on images held out of its training."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from raytransfer.scores.content import places_by_content
from raytransfer.scores.representation import Features, Labels

_FOLDS = 5

Predict = Callable[[Features, Labels, Features], Labels]
"""Labels (m,) of features (m, D), by a classifier trained on features (n, D) and labels (n,) of at least 2 classes."""


def held_out_accuracy(predict: Predict, features: Features, labels: Labels) -> float:
    """Part of the images, 0..1, that a classifier trained on the other folds gets right.

    The different images are sorted by their features, shuffled with a fixed seed and dealt to 5 folds class by class,
    so every fold has its share of every class, and neither the order of the images nor a factor or a shift of the
    features changes the result. Copies of one image fall into one fold, whatever their labels; they are dealt with the
    class that most of them have. Where the other folds hold a single class or nothing, because so few images are
    different, the guess is the commonest class of all images.

    On noise the mean is chance from 20 images on, but a single value scatters (standard deviation 0.15 for 20 images of
    two classes, 0.07 for 50 of five); 12 images of two classes come out 0.03 below chance, since a class that a fold
    has more of is rarer in the others.

    Args:
        predict: Trains a classifier and applies it.
        features: (n, D).
        labels: (n,).
    """
    places = places_by_content(features)
    order = np.lexsort((labels, places))  # what a classifier makes of ties may depend on the order of its images
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
    # Unshuffled, neighbours in that order would be spread evenly over the folds, and noise would score above chance.
    shuffled = np.random.default_rng(0).permutation(len(classes))
    folds = np.empty(len(classes), dtype=np.int64)
    folds[np.lexsort((shuffled, classes))] = np.arange(len(classes)) % _FOLDS
    return folds
