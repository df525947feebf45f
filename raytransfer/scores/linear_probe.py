"""Linear probe: accuracy of a logistic regression."""

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raytransfer.scores.held_out import held_out_accuracy
from raytransfer.scores.representation import Features, Labels, Representation


def linear_probe(r: Representation) -> float:
    """Held-out accuracy, 0..1, of a multinomial logistic regression on standardised features.

    It is cross-validated over the images of ``r`` (see ``held_out_accuracy``); the mean and standard deviation are
    those of the training folds. The penalty is scikit-learn's, ‖w‖²/2 added to the summed loss (C = 1). Scaling or
    shifting the features changes nothing but rounding. The folds depend on how classes are numbered. Constant features
    score the share of the most common class.
    """
    return held_out_accuracy(_predict, r.features, r.labels)


def _predict(features: Features, labels: Labels, unseen: Features) -> Labels:
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    predicted: Labels = classifier.fit(features, labels).predict(unseen)
    return predicted
