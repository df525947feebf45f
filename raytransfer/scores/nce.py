"""NCE: entropy of the target's labels given the network's predicted class."""

import numpy as np
from scipy.special import xlogy

from raytransfer.scores.representation import Representation, head_of


def nce(r: Representation) -> float:
    """Negative conditional entropy −H(Y | Z) of the labels (nats, −ln K at worst, 0 at best).

    Z is the source's class of largest softmax, the first of them on a tie:

        −H(Y | Z) = Σ_{y,z} P̂(y, z) ln (P̂(y, z) / P̂(z))

    Source: Tran, Nguyen, Hassner 2019, "Transferability and hardness of supervised classification tasks"
    (arXiv 1908.08142), section 4.

    Raises:
        UserError: There is no head.
    """
    head = head_of(r)
    joint = np.zeros((r.labels.max() + 1, head.shape[1]))
    np.add.at(joint, (r.labels, head.argmax(axis=1)), 1 / len(head))
    return min(float(xlogy(joint, joint).sum() - xlogy(joint.sum(axis=0), joint.sum(axis=0)).sum()), 0.0)
