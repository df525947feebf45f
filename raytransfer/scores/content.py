"""Ordering images by their features, so that results do not depend on the order of a sample."""

import numpy as np
import numpy.typing as npt

from raytransfer.scores.representation import Features


def places_by_content(features: Features) -> npt.NDArray[np.int64]:
    """The rank (n,), 0..G-1, of each row (n, D) among the G different rows in lexicographic order.

    Equal rows share a rank. Scaling by a positive factor or shifting the features changes no rank.
    """
    places: npt.NDArray[np.int64] = np.unique(features, axis=0, return_inverse=True)[1]
    return places.ravel()  # NumPy 2.0 gives them as a column
