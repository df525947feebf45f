"""What a sweep along the training of bases can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raytransfer.config.rules import FRACTIONS, Effect, Rule, choices_of
from raytransfer.config.shared import PairsConfig, TrainingConfig
from raytransfer.errors import UserError
from raytransfer.specs import Recipe


@dataclass
class CheckpointsConfig(PairsConfig, TrainingConfig):
    """Transfer from checkpoints along a base's training, over pairs of tasks.

    Attributes:
        schedules: Learning-rate schedules of the bases, a list of step, cosine and constant.
        base_milestones: Where the step schedule of a base drops, as fractions of its steps.
        base_checkpoints: How many steps of a base to transfer from, the first and the last among them, evenly on a
            logarithmic axis; or a list of steps. The steps before and after each drop are added.
    """

    RULES: ClassVar[dict[str, Rule]] = {"base_milestones": FRACTIONS}
    CHOICES: ClassVar[dict[str, Sequence[str]]] = {"schedules": choices_of(Recipe)["schedule"]}
    EFFECTS: ClassVar[dict[str, Effect]] = {
        "base_milestones": (lambda c: "step" in c.schedules, "step among the schedules"),
    }

    schedules: list[str] = field(default_factory=lambda: ["step", "cosine", "constant"])
    base_milestones: list[float] = field(default_factory=lambda: [0.5, 0.75])
    base_checkpoints: Any = 12

    def check(self) -> None:
        """Check values that belong together.

        Raises:
            UserError: They do not fit each other.
        """
        super().check()
        if "step" in self.schedules and not self.base_milestones:
            raise UserError("schedules has step, which drops at base_milestones, and there are none: give some")
