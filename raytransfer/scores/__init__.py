"""Scores that predict from a representation how well it transfers to a target task; larger is better.

To add one, write a function of a `Representation` in a file of its own, and add it to ``SCORES``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from raytransfer.scores.cka import cka
from raytransfer.scores.gbc import gbc
from raytransfer.scores.hscore import hscore
from raytransfer.scores.knn import knn
from raytransfer.scores.leep import leep
from raytransfer.scores.linear_probe import linear_probe
from raytransfer.scores.logme import logme
from raytransfer.scores.nce import nce
from raytransfer.scores.nleep import nleep
from raytransfer.scores.parc import parc
from raytransfer.scores.representation import Representation
from raytransfer.scores.sfda import sfda
from raytransfer.scores.transrate import transrate

__all__ = ["SCORES", "Representation", "Score"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score and its properties.

    Attributes:
        function: The score, a pure function.
        reads: What it reads: ``stage``, features of one stage; ``head``, the network's softmax; ``reference``, features
            of one stage, and of the same stage of a network trained on the target.
        low: Lower bound; None if there is none, or it depends on the number of classes.
        high: Upper bound, likewise.
        meaning: One line for the user.
        revision: Incremented when values for the same input change, so that old ones are not reused.
    """

    function: Callable[[Representation], float]
    reads: Literal["stage", "head", "reference"]
    low: float | None
    high: float | None
    meaning: str
    revision: int = 1


SCORES: dict[str, Score] = {
    "LogME": Score(
        function=logme, reads="stage", low=None, high=None, meaning="evidence of a Bayesian linear model", revision=2
    ),
    "LEEP": Score(
        function=leep, reads="head", low=None, high=0.0, meaning="log-likelihood by way of the source's classes"
    ),
    "NCE": Score(
        function=nce, reads="head", low=None, high=0.0, meaning="labels known from the source's class, −H(Y|Z)"
    ),
    "H-score": Score(
        function=hscore, reads="stage", low=0.0, high=None, meaning="share of spread between the classes", revision=2
    ),
    "TransRate": Score(
        function=transrate,
        reads="stage",
        low=0.0,
        high=None,
        meaning="coding rate that labels explain, of scaled features, ε = 1e-4",
        revision=2,
    ),
    "GBC": Score(
        function=gbc, reads="stage", low=None, high=0.0, meaning="overlap of classes as Gaussians, negative", revision=2
    ),
    "N-LEEP": Score(
        function=nleep,
        reads="stage",
        low=None,
        high=0.0,
        meaning="log-likelihood by way of clusters of the features",
        revision=2,
    ),
    "PARC": Score(
        function=parc,
        reads="stage",
        low=-1.0,
        high=1.0,
        meaning="rank correlation of feature and label distances",
        revision=2,
    ),
    "SFDA": Score(
        function=sfda,
        reads="stage",
        low=None,
        high=0.0,
        meaning="log-likelihood by a self-challenging Fisher discriminant",
        revision=2,
    ),
    "kNN": Score(
        function=knn, reads="stage", low=0.0, high=1.0, meaning="held-out accuracy of 5 nearest neighbours", revision=3
    ),
    "linear probe": Score(
        function=linear_probe,
        reads="stage",
        low=0.0,
        high=1.0,
        meaning="held-out accuracy of a logistic regression",
        revision=3,
    ),
    "CKA": Score(
        function=cka,
        reads="reference",
        low=-1.0,
        high=1.0,
        meaning="CKA with the target's own network, debiased",
        revision=2,
    ),
}
