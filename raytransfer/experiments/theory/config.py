"""What simulations of the two-layer theory can be asked for."""

from dataclasses import dataclass, field
from typing import ClassVar

from raytransfer.config.rules import Effect, Rule, at_least
from raytransfer.config.shared import PairsConfig


@dataclass
class TheoryConfig(PairsConfig):
    """Simulations of the two-layer theory, over pairs of tasks with two labels.

    Attributes:
        widths: Hidden units, a list.
        images: Training images of each task, at most.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "images": at_least(2),
        "widths": (
            lambda v: v and all(w >= 2 and w % 2 == 0 for w in v) and len(set(v)) == len(v),
            "be even numbers of at least 2, each once",
        ),
    }
    EFFECTS: ClassVar[dict[str, Effect]] = {"base_steps": (lambda _: False, "trainings, and here is none")}

    widths: list[int] = field(default_factory=lambda: [100, 1000, 10000])
    images: int = 30
