"""LEEP: how well the network's predictions for its own classes predict the target's classes."""

import numpy as np

from raytransfer.scores.representation import Representation, head_of


def leep(r: Representation) -> float:
    """Log expected empirical prediction, mean over the images (nats, −ln K at worst, 0 at best).

    With θ(x) the softmax over the source's classes z and P̂(y, z) = (1/n) Σ_{i: y_i = y} θ(x_i)_z:

        LEEP = (1/n) Σ_i ln Σ_z P̂(y_i | z) θ(x_i)_z

    Source: Nguyen, Hassner, Seeger, Archambeau 2020, "LEEP: A new measure to evaluate transferability of learned
    representations" (arXiv 2002.12462), section 3.

    Raises:
        UserError: There is no head.
    """
    head = head_of(r)
    head = head / head.sum(axis=1, keepdims=True)
    head = head[:, head.sum(axis=0) > 0]  # P̂(y | z) is undefined, and not needed, if all images have θ(x)_z = 0
    joint = np.eye(r.labels.max() + 1)[r.labels].T @ head
    conditional = joint / joint.sum(axis=0)
    predicted = (conditional[r.labels] * head).sum(axis=1)
    return min(float(np.log(predicted).mean()), 0.0)
