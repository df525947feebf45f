"""What the grid can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raytransfer.config.rules import REPEATS, Effect, Rule, as_list, is_whole_number
from raytransfer.config.shared import WeightsConfig
from raytransfer.specs.treatments import (
    ANB,
    ANB_PLUS,
    BASE_A,
    BASE_B,
    BASE_B_2X,
    BNB,
    BNB_PLUS,
    RNB,
    TREATMENTS,
)

DIRECTIONS = ("A->B", "B->A")

_OF_THE_GRID = tuple(name for name, treatment in TREATMENTS.items() if treatment is not BASE_A)


def _are_numbers(value: Any) -> bool:
    numbers = as_list(value)
    whole = all(is_whole_number(number) and number >= 1 for number in numbers)
    return bool(numbers) and whole and len(set(numbers)) == len(numbers)


@dataclass
class GridConfig(WeightsConfig):
    """The grid of Yosinski et al. 2014; where it is given ``weights``, they stand in for those of base A.

    Attributes:
        train_per_class: Training images drawn of each class, of both halves; a list runs the grid with each number,
            the fewer among the more; null for all.
        halves: Ways to halve the classes, a list of: random, a named pair such as animals/vehicles, or lists of classes
            as {A: [...], B: [...]}. The distance effect and the value of distant features are read of named pairs
            alone, which were chosen to be unlike.
        splits: Random halvings (of halves=random). Intervals are over these: three or more give one, and many with one
            seed each narrower ones than few with many.
        directions: A->B, B->A or both.
        treatments: Treatments to run, a list; raytransfer list treatments shows all.
        fixed_treatments: Treatments on halves other than random, a list; null for the same.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "splits": REPEATS,
        "train_per_class": (_are_numbers, "be at least 1, or list such numbers, each once"),
    }
    CHOICES: ClassVar[dict[str, Sequence[str]]] = {
        "treatments": _OF_THE_GRID,
        "fixed_treatments": _OF_THE_GRID,
        "directions": DIRECTIONS,
    }
    EFFECTS: ClassVar[dict[str, Effect]] = {
        "splits": (lambda c: "random" in c.halves, "halves that are random"),
        "treatments": (
            lambda c: "random" in c.halves or c.fixed_treatments is None,
            "halves that are random, or no fixed_treatments",
        ),
        "fixed_treatments": (lambda c: any(h != "random" for h in c.halves), "halves other than random"),
    }
    FOLLOWERS: ClassVar[dict[str, dict[str, Any]]] = {"treatments": {"fixed_treatments": None}}

    train_per_class: Any = None
    halves: Any = field(default_factory=lambda: ["random"])
    splits: int = 4
    directions: list[str] = field(default_factory=lambda: list(DIRECTIONS))
    treatments: list[str] = field(
        default_factory=lambda: [each.name for each in (BASE_B, BASE_B_2X, BNB, BNB_PLUS, ANB, ANB_PLUS, RNB)]
    )
    fixed_treatments: list[str] | None = None

    def __post_init__(self) -> None:
        """One way to halve needs no list."""
        self.halves = as_list(self.halves)

    @property
    def numbers_of_images(self) -> list[int | None]:
        """``train_per_class`` one by one, the fewest first."""
        return sorted(self.train_per_class) if isinstance(self.train_per_class, list) else [self.train_per_class]
