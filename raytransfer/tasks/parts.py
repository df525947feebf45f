"""Telling the training part of a data set from its test part by the names of files and folders.

A name says its part by one of the words in ``PARTS``, in any case, with no letter right before or after it: ``Train``,
``training_set``, ``cats-test-00000-of-00002``. What is called test is the test part. If nothing is, the only held-out
part of another name (val, dev, eval, holdout, ...) is. If there is a test part, other held-out parts are set aside, and
the plan says so. A name that fits no part is refused: nothing is left out silently.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from raytransfer.errors import UserError
from raytransfer.tasks.places import Place, inside
from raytransfer.words import some_of

PARTS = {
    "train": ("train", "training", "trainval", "trainset"),
    "test": ("test", "testing", "testset"),
    "held-out": ("val", "valid", "validation", "dev", "devel", "eval", "evaluation", "holdout", "heldout"),
}
"""The words for each part."""

_WORDS = {word: part for part, words in PARTS.items() for word in words}
_SHOWN = 5  # names listed at most
_LIKE_A_WORD = re.compile("train|test|valid|holdout")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a source is used for, in words.

    Attributes:
        train: Where the training images come from.
        test: Where the test images come from.
        left_out: What was set aside or skipped, an entry each.
    """

    train: str
    test: str
    left_out: tuple[str, ...] = ()


HALVED = "a fixed half of each class, as there is no test part"
"""Where the test images come from if a source has no test part."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Paths by their part.

    Attributes:
        train: The training part.
        test: The test part; empty if there is none.
        set_aside: Held-out parts that are not used.
    """

    train: tuple[Place, ...]
    test: tuple[Place, ...]
    set_aside: tuple[Place, ...]


def part_of(name: str) -> str | None:
    """The part that a name says, ``train``, ``test`` or ``held-out``; None if it says none.

    Raises:
        UserError: It says several.
    """
    said = {_WORDS[word] for word in _words(name)}
    if len(said) > 1:
        raise UserError(f"{name} is named like several parts of a data set ({', '.join(sorted(said))}): {choices()}")
    return said.pop() if said else None


def says_only_its_part(name: str) -> bool:
    """Whether a name has no letters but the word for its part, as ``test`` and ``val2017``."""
    return re.sub(r"[\W\d_]+", "", name.lower()) in _WORDS


def nearly_says_a_part(name: str) -> bool:
    """Whether a name has a word for a part inside a longer one, as ``mytrain`` and ``TestImages``."""
    return _LIKE_A_WORD.search(name.lower()) is not None


def placed(paths: Sequence[Place], place: Place) -> Parts | None:
    """Sort files or folders into parts; None if no name says a part.

    Args:
        paths: The files or folders.
        place: The folder that holds them, for errors.

    Raises:
        UserError: A name says no part though others do; no name says a part, but one has a word for a part inside a
            longer one; there is no training part; or different words are used for one part.
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


def unread(root: Place, folders: Collection[Place], read: Collection[Place]) -> tuple[str, ...]:
    """What is named like a part, and is not read, as ``test.zip`` beside ``train``: an entry for ``Contents``, or none.

    Args:
        root: The data set's folder, from which names are told.
        folders: The folders to look into.
        read: What is known of what they hold.
    """
    names = []
    for folder in folders:
        entries: list[Place] = [entry for entry in folder.iterdir() if entry not in read and _words(entry.name)]
        names += [inside(root, entry) for entry in entries if not entry.name.startswith(".")]
    return (f"{some_of(sorted(names), _SHOWN)} (named like a part of the data set, and not read)",) if names else ()


def choices() -> str:
    """The words for parts, for errors."""
    return "a part is named by one word of " + "; ".join(", ".join(words) for words in PARTS.values())


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", name.lower()) if word in _WORDS]
