"""An order of images that depends on their features, and not on where they stand."""

import itertools

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
    rows = features.tolist()
    order = sorted(range(len(rows)), key=rows.__getitem__)
    is_new = [False, *(rows[i] != rows[before] for before, i in itertools.pairwise(order))]
    places = np.empty(len(rows), dtype=np.int64)
    places[order] = np.cumsum(is_new)
    return places
