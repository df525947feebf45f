"""What a sweep of transfer against distance can be asked for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raytransfer.config.rules import Effect, Rule, as_list, at_least
from raytransfer.config.shared import PairsConfig, TrainingConfig
from raytransfer.errors import UserError

DISTANCE_FEATURES = ("pixels", "probe")


def _is_measured(config: Any, name: str) -> bool:
    measure, _, features = name.partition(" of ")
    known = measure in config.distances or measure in config.scores
    return known and (not features or features in config.distance_features)


def _splits_variance(config: Any) -> bool:
    return _is_measured(config, config.input_distance) and _is_measured(config, config.label_distance)


@dataclass
class DistanceConfig(PairsConfig, TrainingConfig):
    """Transfer against distance, over pairs of tasks and settings of dials.

    Attributes:
        dial_grid: Two dials, as {input: {dial: values}, label: {dial: values}}, whose values are combined, each with
            each; null for none.
        distances: Distances between tasks, a list; raytransfer list distances shows all.
        distance_features: What distances of features compare, a list of pixels and probe: outputs, below the head, of
            the network trained on the target alone.
        scores: Scores of a base on the target, a list; raytransfer list scores shows all.
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
        "input_distance": (_splits_variance, "label_distance among the distances"),
        "label_distance": (_splits_variance, "input_distance among the distances"),
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

    def check_given(self, given: Collection[str]) -> None:
        """Check that what is to be drawn or split by is measured, and that the tree distance has a tree.

        Raises:
            UserError: It is not, or has none.
        """
        for option in [name for name in ("drawn", "input_distance", "label_distance") if name in given]:
            for name in as_list(getattr(self, option)):
                if not _is_measured(self, name):
                    there = ", ".join([*self.distances, *self.scores]) or "nothing"
                    raise UserError(f"{option} names {name}, which this sweep does not measure: it measures {there}")
        if "distances" in given and "tree" in self.distances and self.tree is None:
            raise UserError(
                "distances has tree, which takes tree={group: [class, ...], ...}: give it, or leave tree out"
            )
