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

    It is cross-validated over the images of ``r`` alone, with copies of an image held out together (see
    ``held_out_accuracy``). The weights decide where a class has fewer than 5 images in training and equal votes would
    tie. With fewer than 5 images in training, all of them vote. A factor or a shift of the features changes
    nothing, but where rounding decides between images that are equally near. How classes are numbered decides which
    images are held out together.
    """
    # In one order before the means are taken: their last bits decide between copies that are labelled differently.
    order = np.argsort(places_by_content(r.features), kind="stable")
    return held_out_accuracy(_predict, centred_to_unit_norm(r.features[order]), r.labels[order])


def _predict(features: Features, labels: Labels, unseen: Features) -> Labels:
    neighbours = min(_NEIGHBOURS, len(labels))
    classifier = KNeighborsClassifier(neighbours, weights="distance", algorithm="brute")
    predicted: Labels = classifier.fit(features, labels).predict(unseen)
    return predicted
