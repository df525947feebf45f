"""The input of a probe, a network and images, and its output, readings."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from raytransfer.errors import UserError
from raytransfer.networks import Network

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number that a probe read off.

    Attributes:
        quantity: What it is, such as ``eigenvalue``.
        value: The number, finite.
        stage: Name of the layer it belongs to; None for the whole network.
        index: Rank of an eigenvalue or step of a walk, counted from 1 unless the probe says otherwise.
        x: Place in a landscape or on a path.
        y: Second coordinate of the place in a landscape.
    """

    quantity: str
    value: float
    stage: str | None = None
    index: int | None = None
    x: float | None = None
    y: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise FloatingPointError(f"{self.quantity} is {self.value} at stage={self.stage}, index={self.index}")


# Compared and hashed by identity: == of tensors is elementwise.
@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """A network at one checkpoint, and the images and settings to probe it with. Probes do not change it.

    Attributes:
        name: Its name in errors.
        network: In eval mode; parameters that trained have ``requires_grad``.
        inputs: (n, C, H, W) a fixed draw of training images, normalised and centrally cropped, on its device.
        labels: (n,) int64, 0..K-1.
        seed: Seed of random directions.
        learning_rate: The recipe's peak rate: the step of a walk along the gradient.
        initial: The same network before its first training step; None where no probe asks.
        other: A network with the same stages, such as one trained from another seed, in eval mode; None likewise.
        train: Batches of inputs (B, C, H, W) and labels (B,) of all training images, as for evaluation; read again
            each time it is iterated over.
        test: The same of all test images.
        eigenvalues: How many of the Hessian are wanted; None where no probe asks.
        points: Points on a side of a landscape, odd; None likewise.
    """

    name: str
    network: Network
    inputs: torch.Tensor
    labels: torch.Tensor
    seed: int
    learning_rate: float
    initial: Network | None = None
    other: Network | None = None
    train: Batches = ()
    test: Batches = ()
    eigenvalues: int | None = None
    points: int | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels):
            raise UserError(f"{self.name}: {len(self.inputs)} inputs for {len(self.labels)} labels")
        if any(module.training for module in self.network.module.modules()):
            raise ValueError(f"{self.name}: the network must be in eval mode")


def initial_of(subject: Subject) -> Network:
    """The network before its first training step.

    Raises:
        UserError: There is none.
    """
    if subject.initial is None:
        raise UserError(f"{subject.name}: this probe compares with the network at step 0, and none is given")
    return subject.initial


def other_of(subject: Subject) -> Network:
    """The network to compare with.

    Raises:
        UserError: There is none, or its stages have other names.
    """
    if subject.other is None:
        raise UserError(f"{subject.name}: this probe compares two networks, and one is given")
    names, others = ([stage.name for stage in network.stages] for network in (subject.network, subject.other))
    if names != others:
        raise UserError(f"{subject.name}: its stages are {names}, and {others} in the network to compare with")
    return subject.other
