"""kNN: accuracy of the nearest neighbours."""

from sklearn.neighbors import KNeighborsClassifier

from raytransfer.scores.held_out import held_out_accuracy
from raytransfer.scores.representation import Features, Labels, Representation

_NEIGHBOURS = 5


def knn(r: Representation) -> float:
    """Held-out accuracy, 0..1, of the 5 nearest neighbours by Euclidean distance, weighted by 1/distance.

    It is cross-validated over the images of ``r`` (see ``held_out_accuracy``). The weights matter if a class has fewer
    than 5 training images and equal votes would tie. With fewer than 5 training images, all of them vote. Scaling or
    shifting the features changes nothing, unless rounding decides between images that are equally near. The folds
    depend on how classes are numbered.
    """
    return held_out_accuracy(_predict, r.features, r.labels)


def _predict(features: Features, labels: Labels, unseen: Features) -> Labels:
    neighbours = min(_NEIGHBOURS, len(labels))
    classifier = KNeighborsClassifier(neighbours, weights="distance", algorithm="brute")
    predicted: Labels = classifier.fit(features, labels).predict(unseen)
    return predicted
