"""What is measured: distances between tasks, scores of weights on a task, probes of a training, simulations."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from raytransfer.specs.identity import Identified
from raytransfer.specs.task import TaskSpec
from raytransfer.specs.training import TrainingSpec, Weights


@dataclass(frozen=True, kw_only=True)
class DistanceSpec(Identified):
    """One measure of how far apart two tasks are.

    Attributes:
        measure: Key of ``raytransfer.distances.DISTANCES``.
        source: The task to come from.
        target: The task to go to.
        reference: The weights of the network whose outputs, or weights, are compared; None where pixels or names of
            classes are.
        n_layers: Layers of that network which the images pass; None without it.
        images: Training images of each task, at most, drawn whatever their labels.
        seed: Seed of their draw.
        tree: The hierarchy of class names as canonical JSON, for a measure that takes one.
        revision: Which reading of the distance's definition, as ``raytransfer.distances.DISTANCES`` has it.
    """

    kind: ClassVar[str] = "distance"

    measure: str
    source: TaskSpec
    target: TaskSpec
    reference: Weights | None = None
    n_layers: int | None = None
    images: int
    seed: int
    tree: str | None = None
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class ScoreSpec(Identified):
    """One score of what a network with given weights makes of a target task's images.

    Attributes:
        measure: Key of ``raytransfer.scores.SCORES``.
        weights: The weights that are scored.
        task: The target task; its training images alone are seen.
        n_layers: Layers that the images pass; N for the whole network with its head.
        reference: The weights of the target's own network, for a similarity; None else.
        images: Images, at most, drawn whatever their labels.
        seed: Seed of their draw.
        revision: Which reading of the score's definition, as ``raytransfer.scores.SCORES`` has it.
    """

    kind: ClassVar[str] = "score"

    measure: str
    weights: Weights
    task: TaskSpec
    n_layers: int
    reference: Weights | None = None
    images: int
    seed: int
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class ProbeSpec(Identified):
    """One probe of a trained network's weights, gradients or loss at one step of its training.

    Attributes:
        probe: Key of ``raytransfer.probes.PROBES``.
        trained: The training whose network is probed.
        step: The step of its checkpoint, 0..recipe.steps.
        since: The step of an earlier checkpoint that it is compared with; None for none.
        against: What the other network is to this one: ``base``, ``scratch``, ``twin`` or ``cousin`` (the twin of a
            network that was made from weights, itself made from the twin of those); None without one.
        other: The weights of the other network.
        images: Training images of the task, at most, drawn whatever their labels; None for a probe that reads none, or
            all.
        eigenvalues: How many of the Hessian's; None for other probes.
        points: Points on a side of a landscape; None for other probes.
        settled: Whether batch normalisation that trains takes the statistics of the images it is looked at with.
        seed: Seed of the draw of images, and of random directions, whose stream the task names, too.
        revision: Which reading of the probe's definition, as ``raytransfer.probes.PROBES`` has it.
    """

    kind: ClassVar[str] = "probe"

    probe: str
    trained: TrainingSpec
    step: int
    since: int | None = None
    against: Literal["base", "scratch", "twin", "cousin"] | None = None
    other: Weights | None = None
    images: int | None = None
    eigenvalues: int | None = None
    points: int | None = None
    settled: bool = False
    seed: int
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class SimulationSpec(Identified):
    """One simulation of the two-layer theory: a network of one hidden layer, trained on P and then on Q.

    Attributes:
        source: The task P, of two labels.
        target: The task Q, of two labels.
        width: Hidden units.
        images: Training images of each task, at most, drawn whatever their labels.
        seed: Seed of the draw, and of the initial weights, whose stream the target names, too.
    """

    kind: ClassVar[str] = "simulation"

    source: TaskSpec
    target: TaskSpec
    width: int
    images: int
    seed: int


MeasureSpec = DistanceSpec | ScoreSpec | ProbeSpec | SimulationSpec
