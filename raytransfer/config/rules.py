"""What values options can take, whatever the data."""

import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any

from raytransfer.config.kinds import DISTANCE_FEATURES, GridConfig
from raytransfer.errors import UserError
from raytransfer.grid import DIRECTIONS, TREATMENTS
from raytransfer.specs import NetworkSpec, Recipe

MODES = ("cached", "retry", "force", "read-only")
BACKENDS = ("ray", "in-process")

_MOST = 2**31 - 1


def _at_least(low: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: low <= value <= _MOST, f"lie in {low}..{_MOST}"


def _is_share(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 < value <= 1 or (1 < value <= 64 and value == int(value))


def _are_fractions(value: Any) -> bool:
    return all(0 < entry < 1 for entry in value) and list(value) == sorted(value)


_FRACTIONS = "be fractions of the steps between 0 and 1, ascending"

_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "image_size_px": _at_least(1),
    "channels": (lambda v: v in (1, 3), "be 1, 3 or null"),
    "base_per_class": _at_least(1),
    "images": _at_least(2),
    "train_per_class": _at_least(1),
    "splits": _at_least(1),
    "seeds": _at_least(1),
    "slots": _at_least(1),
    "gpus_per_trial": (lambda v: v == "auto" or _is_share(v), "lie above 0 and up to 1, or be whole, or be auto"),
    "memory_gb": (lambda v: 0 <= v < float("inf"), "be zero or positive, and finite"),
    "price_per_hour": (lambda v: 0 <= v < float("inf"), "be zero or positive, and finite"),
    "patience_s": (lambda v: 0 <= v < float("inf"), "be zero or positive, and finite"),
    "save_every_s": (lambda v: 0 <= v < float("inf"), "be zero or positive, and finite"),
    "probe_images": _at_least(4),
    "eigenvalues": _at_least(1),
    "landscape_points": (lambda v: v >= 3 and v % 2 == 1, "be odd and at least 3: its centre is the network itself"),
    "base_steps": _at_least(1),
    "base_milestones": (_are_fractions, _FRACTIONS),
    "widths": (lambda v: v and all(w >= 2 and w % 2 == 0 for w in v), "be even numbers of at least 2"),
    "recipe.steps": _at_least(1),
    "recipe.batch_size": _at_least(1),
    "recipe.learning_rate": (lambda v: 0 < v < float("inf"), "be positive and finite"),
    "recipe.momentum": (lambda v: 0 <= v < 1, "lie in 0..1, 1 left out"),
    "recipe.weight_decay": (lambda v: 0 <= v < float("inf"), "be zero or positive, and finite"),
    "recipe.milestones": (_are_fractions, _FRACTIONS),
    "recipe.gamma": (lambda v: 0 < v < float("inf"), "be positive and finite"),
    "recipe.warmup_steps": _at_least(0),
    "recipe.bias_lr_multiplier": (lambda v: 0 <= v < float("inf"), "be zero or positive, and finite"),
    "recipe.bias_decay_multiplier": (lambda v: 0 <= v < float("inf"), "be zero or positive, and finite"),
    "recipe.pad_px": _at_least(0),
    "recipe.crop_px": _at_least(1),
    "recipe.evaluations": _at_least(1),
}

_CHOICES: dict[str, Sequence[str]] = {
    "mode": MODES,
    "backend": BACKENDS,
    "treatments": TREATMENTS,
    "fixed_treatments": TREATMENTS,
    "directions": DIRECTIONS,
    "distance_features": DISTANCE_FEATURES,
    "checkpoints": ("needed", "all"),
    "schedules": typing.get_args(typing.get_type_hints(Recipe)["schedule"]),
    "init": typing.get_args(typing.get_type_hints(NetworkSpec)["init"]),
    **{
        f"recipe.{name}": typing.get_args(hint)
        for name, hint in typing.get_type_hints(Recipe).items()
        if typing.get_origin(hint) is typing.Literal
    },
}


FOLLOWERS: dict[str, dict[str, Any]] = {
    "treatments": {"fixed_treatments": None},
    "tasks": {"targets": "all", "bases": "all"},
}
"""Options that narrow another one, and what they are where that other one is given and they are not."""


def _probed(*names: str) -> Callable[[Any], bool]:
    return lambda config: any(name in config.probes for name in names)


def _recipe_steps(config: Any) -> bool:
    return bool(config.recipe.schedule == "step")


def _reads_gamma(config: Any) -> bool:
    return _recipe_steps(config) or "step" in getattr(config, "schedules", ())


def _reads_data(config: Any) -> bool:
    tasks = getattr(config, "tasks", None)
    return not isinstance(tasks, dict) or any("data" not in task for task in tasks.values() if isinstance(task, dict))


def _is_measured(config: Any, name: str) -> bool:
    measure, _, features = name.partition(" of ")
    known = measure in config.distances or measure in config.scores
    return known and (not features or features in config.distance_features)


def _splits_variance(config: Any) -> bool:
    return _is_measured(config, config.input_distance) and _is_measured(config, config.label_distance)


_EFFECTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "data": (_reads_data, "a task without data of its own"),
    "splits": (lambda c: "random" in c.halves, "halves that are random"),
    "treatments": (
        lambda c: not isinstance(c, GridConfig) or "random" in c.halves or c.fixed_treatments is None,
        "halves that are random, or no fixed_treatments",
    ),
    "fixed_treatments": (lambda c: any(h != "random" for h in c.halves), "halves other than random"),
    "recipe.milestones": (_recipe_steps, "recipe.schedule=step"),
    "recipe.gamma": (_reads_gamma, "recipe.schedule=step"),
    "base_milestones": (lambda c: "step" in c.schedules, "step among the schedules"),
    "probe_steps": (lambda c: bool(c.probes), "probes"),
    "probe_images": (lambda c: bool(c.probes), "probes"),
    "eigenvalues": (_probed("flatness"), "flatness among the probes"),
    "landscape_points": (_probed("landscape", "initial-landscape"), "a landscape among the probes"),
    "images": (lambda c: bool(getattr(c, "widths", ()) or c.distances or c.scores), "distances or scores"),
    "distance_features": (lambda c: bool(c.distances), "distances"),
    "tree": (lambda c: c.tree is None or "tree" in c.distances, "tree among the distances"),
    "input_distance": (_splits_variance, "label_distance among the distances"),
    "label_distance": (_splits_variance, "input_distance among the distances"),
}


def check_effects(config: Any, given: Collection[str]) -> None:
    """Check that every option of the command line can change something of this sweep, as a whole.

    Raises:
        UserError: One cannot, or asks for what another one has to say.
    """
    for option in {"drawn", "input_distance", "label_distance"}.intersection(given):
        value = getattr(config, option)
        for name in value if isinstance(value, list) else [value]:
            if not _is_measured(config, name):
                there = ", ".join([*config.distances, *config.scores]) or "nothing"
                raise UserError(f"{option} names {name}, which this sweep does not measure: it measures {there}")
    for name in given:
        has_effect, needed = _EFFECTS.get(name, (lambda _: True, ""))
        if not has_effect(config):
            raise UserError(f"{name} is given and would change nothing: it takes {needed}")
    if "distances" in given and "tree" in config.distances and config.tree is None:
        raise UserError("distances has tree, which takes tree={group: [class, ...], ...}: give it, or leave tree out")


def check_values(config: Any) -> None:
    """Check every option of a configuration by itself, and those that belong together.

    Raises:
        UserError: A value lies outside its range or is none of its choices.
    """

    def value_of(name: str) -> Any:
        if name.startswith("recipe."):
            return getattr(getattr(config, "recipe", None), name.removeprefix("recipe."), None)
        return getattr(config, name, None)

    for name, (holds, rule) in _RULES.items():
        value = value_of(name)
        if value is not None and not holds(value):
            raise UserError(f"{name}={value} must {rule}")
    recipe = getattr(config, "recipe", None)
    if recipe and recipe.warmup_steps > recipe.steps:
        raise UserError(f"recipe.warmup_steps={recipe.warmup_steps} must not exceed recipe.steps={recipe.steps}")
    if recipe and recipe.schedule == "step" and not recipe.milestones:
        raise UserError(
            "recipe.schedule=step drops at recipe.milestones, and there are none: give recipe.milestones=[...], or "
            "recipe.schedule=constant"
        )
    if "step" in getattr(config, "schedules", ()) and not config.base_milestones:
        raise UserError("schedules has step, which drops at base_milestones, and there are none: give some")
    if config.backend == "in-process" and (config.slots or 1) > 1:
        raise UserError(
            f"slots={config.slots} must be 1 or null with backend=in-process, which runs one trial at a time"
        )
    for name, choices in _CHOICES.items():
        values = value_of(name)
        if values is None:
            continue
        listed = values if isinstance(values, list) else [values]
        for value in listed:
            if value not in choices:
                raise UserError(f"{name}={value} is not known; choose from {', '.join(choices)}")
        if not listed or len(set(listed)) < len(listed):
            raise UserError(f"{name}={values} must name at least one, each once; choose from {', '.join(choices)}")
