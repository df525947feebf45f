"""What a choice among checkpoints can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raytransfer.config.rules import AT_LEAST_ONE, Effect, Rule, at_least
from raytransfer.config.shared import WeightsConfig
from raytransfer.errors import UserError
from raytransfer.specs.treatments import ANB, ANB_PLUS, BASE_B, RNB, TREATMENTS

TREATED = (BASE_B.name, RNB.name, *(name for name, entry in TREATMENTS.items() if entry.source == "other"))


@dataclass
class SelectionConfig(WeightsConfig):
    """Checkpoints against each other on one's own images: scored, then transferred at every cut.

    Attributes:
        weights: Checkpoints to compare, a list, which has to be given; of each what weights of raytransfer run yosinski
            takes.
        targets: Tasks to transfer to by name, each a mapping with data (a data set; the option data where left out) and
            classes (a list of them; all where left out); empty for all of data as one task.
        treatments: What is trained of every checkpoint, a list of baseB (its network from scratch), RnB (on random
            frozen layers), AnB (on its frozen layers), AnB+ (fine-tuned) and others that start from it.
        scores: Scores of every checkpoint at every cut, a list; raytransfer list scores shows all.
        images: Training images of a target, at most, that scores look at.
        best: How many checkpoints are trained: those that rank_by ranks highest, on the mean over targets; null for
            all.
        rank_by: The score, at the last cut, that chooses them.
    """

    RULES: ClassVar[dict[str, Rule]] = {"images": at_least(2), "best": AT_LEAST_ONE}
    CHOICES: ClassVar[dict[str, Sequence[str]]] = {"treatments": TREATED}
    EFFECTS: ClassVar[dict[str, Effect]] = {
        "images": (lambda c: bool(c.scores), "scores"),
        "rank_by": (lambda c: c.best is not None, "best"),
    }

    targets: Any = field(default_factory=dict)
    treatments: list[str] = field(default_factory=lambda: [BASE_B.name, RNB.name, ANB.name, ANB_PLUS.name])
    scores: list[str] = field(default_factory=list)
    images: int = 500
    best: int | None = None
    rank_by: str = "LogME"

    def check(self) -> None:
        """Check values that belong together.

        Raises:
            UserError: They do not fit each other.
        """
        super().check()
        if self.best is not None and self.rank_by not in self.scores:
            raise UserError(
                f"rank_by={self.rank_by} is none of the scores: {', '.join(self.scores) or 'there are none'}"
            )
