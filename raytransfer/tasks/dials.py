"""Checking the values of dials against a task, before anything runs."""

import dataclasses
from collections.abc import Callable
from typing import Any

from raytransfer.errors import UserError
from raytransfer.specs import Dials
from raytransfer.words import number_of

INPUT_DIALS = ("resolution_px", "blur_px", "grey", "inverted", "noise", "shuffle_px")
LABEL_DIALS = ("labelling", "merged", "split", "random_labels")

_DRAWN = ("noise", "shuffle_px", "merged", "random_labels")  # dials that draw random numbers
_LARGEST = 2**31 - 1


Rule = tuple[Callable[[Any], bool], str]
"""A check of a dial's value, and the requirement in words."""


def _whole_from(low: int) -> Rule:
    return lambda v: _is_a(v, int) and low <= v <= _LARGEST, f"be a whole number of at least {low}"


def _within(high: int, meaning: str = "") -> Rule:
    return lambda v: _is_a(v, int | float) and 0 <= v <= high, f"lie in 0..{high}{meaning}"


def _is_a(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)  # which Python takes for a number


_RULES: dict[str, Rule] = {
    "resolution_px": _whole_from(1),
    "blur_px": _within(1000),
    "grey": _within(1),
    "inverted": (lambda v: isinstance(v, bool), "be true or false"),
    "noise": _within(1000, ", as a standard deviation of pixels on 0..255"),
    "shuffle_px": _whole_from(1),
    "labelling": (lambda v: v in ("class", "brightness"), "be class or brightness"),
    "merged": _whole_from(2),
    "split": _whole_from(2),
    "random_labels": _within(1),
}


def check_dials(
    values: dict[str, Any], *, shape: tuple[int, int, int], classes: int, per_class: int, seed: int
) -> Dials | None:
    """Check values of dials against a task.

    Values that change nothing are dropped, so that the same task always has the same spec.

    Args:
        values: Value of each dial, or None for no change.
        shape: Channels, height and width of the images.
        classes: Classes of the task.
        per_class: Training images of its smallest class.
        seed: Seed for dials that draw random numbers.

    Returns:
        The dials; None if nothing changes.

    Raises:
        UserError: A dial is unknown, a value is out of range, or the images or classes do not allow it.
    """
    given = {name: value for name, value in values.items() if value is not None}
    for name, value in given.items():
        if name not in _RULES:
            raise UserError(f"{name}={value} is no dial; there are {', '.join(_RULES)}")
        holds, rule = _RULES[name]
        if not holds(value):
            raise UserError(f"{name}={value} must {rule}")
    plain = dataclasses.asdict(Dials())
    channels, height, width = shape
    side = min(height, width)
    plain |= {"resolution_px": side, "shuffle_px": height if height == width else None, "merged": classes}
    turned = {name: value for name, value in given.items() if value != plain[name]}
    _check_against_task(turned, channels, height, width, classes, per_class)
    if not turned:
        return None
    return Dials(**turned, seed=seed if any(name in _DRAWN for name in turned) else 0)


def _check_against_task(
    turned: dict[str, Any], channels: int, height: int, width: int, classes: int, per_class: int
) -> None:
    if "grey" in turned and channels != 3:
        raise UserError(f"grey={turned['grey']} takes colour out of images that have none: they have 1 channel")
    resolution = turned.get("resolution_px")
    if resolution is not None and resolution > min(height, width):
        raise UserError(f"resolution_px={resolution} must not exceed the images' side of {min(height, width)} pixels")
    block = turned.get("shuffle_px")
    if block is not None and (height % block or width % block):
        fitting = [size for size in range(1, min(height, width)) if not height % size and not width % size]
        raise UserError(
            f"shuffle_px={block} must divide the images' side of {height} x {width} pixels into several blocks: "
            f"choose from {', '.join(map(str, fitting))}"
        )
    if "labelling" in turned and ("merged" in turned or "split" in turned):
        raise UserError("labelling=brightness leaves no classes to be merged or split: choose one of them")
    merged = turned.get("merged")
    if merged is not None and merged > classes:
        raise UserError(f"merged={merged} must not exceed the task's {number_of(classes, 'class')}")
    split = turned.get("split")
    if split is not None and 2 * split > per_class:
        raise UserError(
            f"split={split} leaves fewer than 2 training images a label: the smallest class has {per_class}, which "
            f"allows at most {per_class // 2}"
        )
