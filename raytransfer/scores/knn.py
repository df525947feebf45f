"""kNN: accuracy of the nearest neighbours."""

from sklearn.neighbors import KNeighborsClassifier

from raytransfer.scores.held_out import held_out_accuracy
from raytransfer.scores.representation import Representation
from raytransfer.scores.scaling import centred_to_unit_norm

_NEIGHBOURS = 5


def knn(r: Representation) -> float:
    """Held-out accuracy, 0..1, of the 5 nearest neighbours by Euclidean distance, weighted by 1/distance.

    It is cross-validated over the images of ``r`` alone (see ``held_out_accuracy``). The weights decide where a class
    has fewer than 5 images in training and equal votes would tie. With fewer than 10 images, n/2 neighbours vote. A
    factor or a shift of the features changes nothing.
    """
    neighbours = min(_NEIGHBOURS, len(r.labels) // 2)
    classifier = KNeighborsClassifier(neighbours, weights="distance", algorithm="brute")
    return held_out_accuracy(classifier, centred_to_unit_norm(r.features), r.labels)
