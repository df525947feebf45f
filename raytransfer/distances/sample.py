"""What a distance reads of a task."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raytransfer.distances.tree import Tree
from raytransfer.errors import UserError
from raytransfer.networks import Network

Features = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


# Compared and hashed by identity, as arrays do not compare to a single truth value.
@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """Some labelled images of a task.

    Attributes:
        name: What errors call the task.
        features: (n, D) pixels, or outputs of a stage of the probe network.
        labels: (n,) 0..K-1; every class has at least one image.
        classes: Name of the class and data set of each of the K labels; equal names mean equal classes.
        inputs: (n, C, H, W) images as input of the probe network, on its device.
        probe: The network for Task2Vec, the same for both tasks; None if there is none.
        tree: The hierarchy of classes, the same for both tasks; None if there is none.
    """

    name: str
    features: Features
    labels: Labels
    classes: tuple[str, ...]
    inputs: torch.Tensor | None = None
    probe: Network | None = None
    tree: Tree | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.features.shape[1] == 0 or len(self.features) != len(self.labels):
            raise UserError(
                f"{self.name}: features of shape {self.features.shape} for {len(self.labels)} labels; "
                "they must be (n, D) with a row for each label and D at least 1"
            )
        if not np.isfinite(self.features).all():
            raise UserError(f"{self.name}: its features hold NaN or infinity, of which no distance can be taken")
        if self.inputs is not None and (len(self.inputs) != len(self.labels) or not self.inputs.isfinite().all()):
            raise UserError(
                f"{self.name}: {len(self.inputs)} inputs for {len(self.labels)} labels; "
                "there must be an image for each label, without NaN or infinity"
            )
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise UserError(f"{self.name}: classes are {list(self.classes)}; they must be named, each once")
        if (self.labels < 0).any() or (self.labels >= len(self.classes)).any():
            raise UserError(f"{self.name}: labels must be 0..{len(self.classes) - 1}, one for each of its classes")
        counts = np.bincount(self.labels, minlength=len(self.classes))
        if (counts == 0).any():
            raise UserError(f"{self.name}: every class needs an image; images of each are {counts.tolist()}")


def check_comparable(source: Sample, target: Sample) -> None:
    """Check that two samples' features can be compared.

    Raises:
        UserError: They differ in length.
    """
    if source.features.shape[1] != target.features.shape[1]:
        raise UserError(
            f"{source.name} has {source.features.shape[1]} features an image and {target.name} "
            f"{target.features.shape[1]}: bring their images to one size and channel count (image_size_px, channels)"
        )
