"""Which files and folders are the training part of a data set and which its test part, by their names.

The rule: a name says its part by one of the usual words (``PARTS``), in any case, standing alone between what are no
letters: ``Train``, ``training_set``, ``cats-test-00000-of-00002``. The test part is what is called test; where nothing
is, the one held-out part of another name (val, dev, eval, holdout, ...) is. Where there is a test part, other held-out
parts are set aside, which the plan says. Whatever cannot be placed is refused by its name: nothing is left out unsaid.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from raytransfer.errors import UserError
from raytransfer.tasks.places import Place

PARTS = {
    "train": ("train", "training", "trainval", "trainset"),
    "test": ("test", "testing", "testset"),
    "held-out": ("val", "valid", "validation", "dev", "devel", "eval", "evaluation", "holdout", "heldout"),
}
"""The words for each part."""

_WORDS = {word: part for part, words in PARTS.items() for word in words}
_LIKE_A_WORD = re.compile("train|test|valid|holdout")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What of a source is used for what, for people.

    Attributes:
        train: Where the training images come from.
        test: Where the test images come from.
        left_out: What was set aside or passed over, an entry each.
    """

    train: str
    test: str
    left_out: tuple[str, ...] = ()


HALVED = "a fixed half of each class, as there is no test part"
"""Where the test images come from in a source of one part."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Paths by their part.

    Attributes:
        train: The training part.
        test: The test part; empty where there is none.
        set_aside: Held-out parts that are not used.
    """

    train: tuple[Place, ...]
    test: tuple[Place, ...]
    set_aside: tuple[Place, ...]


def part_of(name: str) -> str | None:
    """The part that a name says, ``train``, ``test`` or ``held-out``; None where it says none.

    Raises:
        UserError: It says several.
    """
    said = {_WORDS[word] for word in _words(name)}
    if len(said) > 1:
        raise UserError(f"{name} is named like several parts of a data set ({', '.join(sorted(said))}): {choices()}")
    return said.pop() if said else None


def says_only_its_part(name: str) -> bool:
    """Whether a name has no letters beside the word for its part, as ``test`` and ``val2017``."""
    return re.sub(r"[\W\d_]+", "", name.lower()) in _WORDS


def nearly_says_a_part(name: str) -> bool:
    """Whether a name has a word for a part inside a longer one, as ``mytrain`` and ``TestImages``."""
    return _LIKE_A_WORD.search(name.lower()) is not None


def placed(paths: Sequence[Place], place: Place) -> Parts | None:
    """Sort files, or folders, into parts; None where no name says a part: then they are one.

    Args:
        paths: What is to be sorted.
        place: Where they lie, for errors.

    Raises:
        UserError: One says no part where others do, or nearly says one; there is no training part; or two words stand
            for one part.
    """
    by_part: dict[str | None, list[Place]] = {}
    for path in paths:
        by_part.setdefault(part_of(path.name), []).append(path)
    unplaced = by_part.pop(None, [])
    if not by_part:
        for path in unplaced:
            if nearly_says_a_part(path.stem):
                raise UserError(f"{path} has a name that may or may not say a part of a data set: {choices()}")
        return None
    if unplaced:
        named = ", ".join(path.name for paths in by_part.values() for path in paths[:1])
        raise UserError(f"{unplaced[0]} is of no part of the data set, though {named} beside it says one: {choices()}")
    for same in by_part.values():
        words = sorted({word for path in same for word in _words(path.name)})
        if len(words) > 1:
            raise UserError(
                f"{place} has several parts that could be meant ({', '.join(words)}): remove or rename all but one"
            )
    if "train" not in by_part:
        only = next(iter(by_part.values()))[0].name
        raise UserError(f"{place} has {only} and no training part: {choices()}")
    held_out = by_part.get("held-out", [])
    test = by_part.get("test", held_out)
    return Parts(
        train=tuple(by_part["train"]),
        test=tuple(test),
        set_aside=tuple(held_out) if test is not held_out else (),
    )


def choices() -> str:
    """The words for parts, for errors."""
    return "a part is named by one word of " + "; ".join(", ".join(words) for words in PARTS.values())


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", name.lower()) if word in _WORDS]
