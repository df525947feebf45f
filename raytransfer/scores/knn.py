"""kNN: accuracy of the nearest neighbours."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from raytransfer.scores.content import places_by_content
from raytransfer.scores.held_out import held_out_accuracy
from raytransfer.scores.representation import Features, Labels, Representation
from raytransfer.scores.scaling import centred_to_unit_norm

_NEIGHBOURS = 5


def knn(r: Representation) -> float:
    """Held-out accuracy, 0..1, of the 5 nearest neighbours by Euclidean distance, weighted by 1/distance.

    It is cross-validated over the images of ``r`` (see ``held_out_accuracy``). The weights matter if a class has fewer
    than 5 training images and equal votes would tie. With fewer than 5 training images, all of them vote. Scaling or
    shifting the features changes nothing, unless rounding decides between images that are equally near. The folds
    depend on how classes are numbered.
    """
    # Sorted before the means are computed, whose last bits decide between copies with different labels.
    order = np.argsort(places_by_content(r.features), kind="stable")
    return held_out_accuracy(_predict, centred_to_unit_norm(r.features[order]), r.labels[order])


def _predict(features: Features, labels: Labels, unseen: Features) -> Labels:
    neighbours = min(_NEIGHBOURS, len(labels))
    classifier = KNeighborsClassifier(neighbours, weights="distance", algorithm="brute")
    predicted: Labels = classifier.fit(features, labels).predict(unseen)
    return predicted
