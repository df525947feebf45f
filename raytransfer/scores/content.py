"""An order of images that depends on their features, and not on where they stand."""

import numpy as np
import numpy.typing as npt

from raytransfer.scores.representation import Features


def places_by_content(features: Features) -> npt.NDArray[np.int64]:
    """The place, 0..G-1, of each row among the G different rows, sorted as lists of numbers; copies share one.

    Numbers and not their bytes are compared, so a positive factor or a shift of the features changes no place.

    Args:
        features: (n, D).

    Returns:
        (n,).
    """
    places: npt.NDArray[np.int64] = np.unique(features, axis=0, return_inverse=True)[1]
    return places.ravel()  # NumPy 2.0 gives them as a column
