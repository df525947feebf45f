"""What values options can take, whatever the data.

Each class of a configuration says so of the options it adds:

- ``RULES``: by option, what a value must hold, and the rule in words;
- ``CHOICES``: by option, the words it takes; a list must name at least one, each once;
- ``EFFECTS``: by option, what the configuration must hold for it to change anything, and that in words;
- ``FOLLOWERS``: by option, options that narrow it, and what they are where it is given and they are not;
- ``check`` and ``check_given``: methods for what belongs together.
"""

import operator
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any

from raytransfer.errors import UserError
from raytransfer.specs.identity import type_hints

Rule = tuple[Callable[[Any], bool], str]
Effect = tuple[Callable[[Any], bool], str]

_MOST = 2**31 - 1


def is_whole_number(value: Any) -> bool:
    """Whether a value is a whole number; Python takes true and false for such, too."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_list(value: Any) -> list[Any]:
    """A list as it is, and any other value as the only entry of one: many options take either."""
    return value if isinstance(value, list) else [value]


def at_least(low: int) -> Rule:
    """A whole number from ``low`` on."""
    return lambda value: low <= value <= _MOST, f"lie in {low}..{_MOST}"


def _are_fractions(value: Any) -> bool:
    return all(0 < entry < 1 for entry in value) and list(value) == sorted(value)


AT_LEAST_ONE: Rule = at_least(1)
REPEATS: Rule = (lambda v: 1 <= v <= 1000, "lie in 1..1000")  # a plan lays all of them out
NOT_NEGATIVE: Rule = (lambda v: 0 <= v < float("inf"), "be zero or positive, and finite")
UP_TO_ONE: Rule = (lambda v: 0 <= v <= 1, "lie in 0..1")
BELOW_ONE: Rule = (lambda v: 0 <= v < 1, "lie in 0..1, 1 left out")
POSITIVE: Rule = (lambda v: 0 < v < float("inf"), "be positive and finite")
FRACTIONS: Rule = (_are_fractions, "be fractions of the steps between 0 and 1, ascending")


def probed(*names: str) -> Callable[[Any], bool]:
    """Whether one of these probes is asked for."""
    return lambda config: any(name in config.probes for name in names)


def choices_of(cls: type) -> dict[str, Sequence[str]]:
    """The words that each field of a dataclass takes that takes only some."""
    hints = type_hints(cls).items()
    return {name: typing.get_args(hint) for name, hint in hints if typing.get_origin(hint) is typing.Literal}


def declared(cls: type, table: str) -> dict[str, Any]:
    """A table of a class and of those that it extends."""
    found: dict[str, Any] = {}
    for part in reversed(cls.__mro__):
        found |= vars(part).get(table, {})
    return found


def check_effects(config: Any, given: Collection[str]) -> None:
    """Check that every option of the command line can change something of this sweep, as a whole.

    Raises:
        UserError: One cannot, or asks for what another one has to say.
    """
    config.check_given(given)
    effects: dict[str, Effect] = declared(type(config), "EFFECTS")
    for name in given:
        has_effect, needed = effects.get(name, (lambda _: True, ""))
        if not has_effect(config):
            raise UserError(f"{name} is given and would change nothing: it takes {needed}")


def check_names(option: str, names: Collection[str], known: Collection[str]) -> None:
    """Check a list of names, which may be empty.

    Raises:
        UserError: One is not among those known, or is there twice.
    """
    for name in names:
        if name not in known:
            raise UserError(f"{option} has {name}, which is not known; choose from {', '.join(known)}")
    if len(set(names)) < len(names):
        raise UserError(f"{option}={names} must name each once")


def check_values(config: Any) -> None:
    """Check every option of a configuration by itself, and those that belong together.

    Raises:
        UserError: A value lies outside its range or is none of its choices.
    """
    for name, (holds, rule) in declared(type(config), "RULES").items():
        value = operator.attrgetter(name)(config)
        if value is not None and not holds(value):
            raise UserError(f"{name}={value} must {rule}")
    for name, choices in declared(type(config), "CHOICES").items():
        values = operator.attrgetter(name)(config)
        if values is None:
            continue
        listed = as_list(values)
        for value in listed:
            if value not in choices:
                raise UserError(f"{name}={value} is not known; choose from {', '.join(choices)}")
        if not listed or len(set(listed)) < len(listed):
            raise UserError(f"{name}={values} must name at least one, each once; choose from {', '.join(choices)}")
    config.check()
