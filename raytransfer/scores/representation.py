"""What a score reads of a trained network on a target task."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raytransfer.errors import UserError

Features = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

LEAST_LABELS = 2
"""Number of labels, with at least two images each, that a task must have for any score."""


@dataclass(frozen=True, kw_only=True)
class Representation:
    """A network's outputs, and perhaps another network's, for labelled images of a target task, as float64.

    Attributes:
        name: Its name in errors.
        features: (n, D) outputs of one stage.
        labels: (n,) the target's labels, 0..K-1; every class has at least 2 images.
        head: (n, K_s) the network's softmax over the classes it was trained on, rows summing to 1; None for scores of a
            stage below the head.
        reference: (n, D_r) outputs of the same stage of a network trained on the target; None if there is none.
    """

    name: str
    features: Features
    labels: Labels
    head: Features | None = None
    reference: Features | None = None

    def __post_init__(self) -> None:
        for part in ("features", "head", "reference"):
            array = getattr(self, part)
            if array is None:
                continue
            array = np.asarray(array, dtype=np.float64)
            object.__setattr__(self, part, array)  # the dataclass is frozen
            if array.ndim != 2 or array.shape[1] == 0 or len(array) != len(self.labels):
                raise UserError(
                    f"{self.name}: {part} of shape {array.shape} for {len(self.labels)} labels; "
                    "it must be (n, D) with a row for each label and D at least 1"
                )
            if not np.isfinite(array).all():
                raise UserError(f"{self.name}: its {part} holds NaN or infinity, of which no score can be taken")
        # A softmax in float16 sums to 1 within about 1e-3.
        if self.head is not None and ((self.head < 0).any() or (np.abs(self.head.sum(axis=1) - 1) > 0.01).any()):
            raise UserError(f"{self.name}: its head must hold probabilities, each row at least 0 and summing to 1")
        if self.labels.ndim != 1 or self.labels.dtype.kind not in "iu" or self.labels.min(initial=0) < 0:
            raise UserError(f"{self.name}: labels must be (n,) whole numbers 0..K-1")
        counts = np.bincount(self.labels)
        if len(counts) < LEAST_LABELS or (counts < 2).any():
            raise UserError(
                f"{self.name}: a score needs at least {LEAST_LABELS} classes with at least 2 images each; "
                f"images of each are {counts.tolist()}"
            )


def head_of(r: Representation) -> Features:
    """The softmax of the network's head, (n, K_s).

    Raises:
        UserError: There is none.
    """
    if r.head is None:
        raise UserError(f"{r.name}: this score reads the softmax of the network's own head, and none is given")
    return r.head


def reference_of(r: Representation) -> Features:
    """The outputs of the reference network, (n, D_r).

    Raises:
        UserError: There is none.
    """
    if r.reference is None:
        raise UserError(f"{r.name}: this score compares with a network trained on the target, and none is given")
    return r.reference
