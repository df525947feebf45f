"""What a sweep of transfer against distance can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raytransfer.config.rules import Effect, Rule, at_least
from raytransfer.config.shared import PairsConfig, TrainingConfig

DISTANCE_FEATURES = ("pixels", "probe")


@dataclass
class DistanceConfig(PairsConfig, TrainingConfig):
    """Transfer against distance, over pairs of tasks and settings of dials.

    Attributes:
        dial_grid: Two dials, as {input: {dial: values}, label: {dial: values}}, whose values are combined, each with
            each; null for none.
        distances: Distances between tasks, a list.
        distance_features: What distances of features compare, a list of pixels and probe: outputs, below the head, of
            the network trained on the target alone.
        scores: Scores of a base on the target, a list.
        images: Training images of each task, at most, that distances and scores look at.
        drawn: Distances and scores against which transfer is drawn, by the names they have in tables.
        input_distance: The distance that stands for the input where the variance of transfer is split.
        label_distance: The distance that stands for the label there.
        tree: Class names in nested groups, for the tree distance; null leaves that distance out.
    """

    RULES: ClassVar[dict[str, Rule]] = {"images": at_least(2)}
    CHOICES: ClassVar[dict[str, Sequence[str]]] = {"distance_features": DISTANCE_FEATURES}
    EFFECTS: ClassVar[dict[str, Effect]] = {
        "images": (lambda c: bool(c.distances or c.scores), "distances or scores"),
        "distance_features": (lambda c: bool(c.distances), "distances"),
        "tree": (lambda c: c.tree is None or "tree" in c.distances, "tree among the distances"),
    }

    dial_grid: Any = None
    distances: list[str] = field(default_factory=list)
    distance_features: list[str] = field(default_factory=lambda: list(DISTANCE_FEATURES))
    scores: list[str] = field(default_factory=list)
    images: int = 500
    drawn: list[str] = field(default_factory=list)
    input_distance: str = "MMD2 of pixels"
    label_distance: str = "class overlap"
    tree: Any = None
