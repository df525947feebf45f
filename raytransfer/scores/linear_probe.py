"""Linear probe: accuracy of a logistic regression."""

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raytransfer.scores.held_out import held_out_accuracy
from raytransfer.scores.representation import Features, Labels, Representation
from raytransfer.scores.scaling import centred_to_unit_norm


def linear_probe(r: Representation) -> float:
    """Held-out accuracy, 0..1, of a multinomial logistic regression on standardised features.

    It is cross-validated over the images of ``r`` alone, with copies of an image held out together (see
    ``held_out_accuracy``), and standardised by the mean and standard deviation of the training folds. The penalty is
    scikit-learn's, ‖w‖²/2 against the summed loss (C = 1). A factor or a shift of the features changes nothing
    but by rounding. How classes are numbered decides which images are held out together. Constant features give the
    share of the commonest class.
    """
    return held_out_accuracy(_predict, centred_to_unit_norm(r.features), r.labels)


def _predict(features: Features, labels: Labels, unseen: Features) -> Labels:
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    predicted: Labels = classifier.fit(features, labels).predict(unseen)
    return predicted
