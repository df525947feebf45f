"""A configuration for people: its options with what they mean, those that were changed, as arguments and as YAML."""

import dataclasses
import inspect
import json
import operator
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytransfer.config import plain_yaml
from raytransfer.config.loading import dotted, load_config
from raytransfer.config.shared import SweepConfig, TrainingConfig
from raytransfer.errors import UserError
from raytransfer.specs import Recipe


@dataclass(frozen=True)
class Option:
    """One option of the command line.

    Attributes:
        name: Dotted name.
        default: Its value without any command line.
        meaning: What it does.
    """

    name: str
    default: Any
    meaning: str


def options(cls: type[SweepConfig], yaml: Path, arguments: Sequence[str]) -> list[Option]:
    """Every option with its default for this sweep (and its data set or preset) and its meaning."""
    config = load_config(cls, yaml, arguments)
    meanings: dict[str, Any] = {}
    for part in reversed(cls.__mro__[:-1]):
        meanings |= _meanings(part)
    if "recipe" in meanings:
        meanings["recipe"] = _meanings(Recipe)
    return [Option(name, operator.attrgetter(name)(config), text) for name, text in dotted(meanings).items()]


def differing(config: SweepConfig, yaml: Path) -> list[tuple[Option, Any]]:
    """Every option whose value is not what the sweep has without any command line, with that value."""
    found = []
    for option in options(type(config), yaml, []):
        value = operator.attrgetter(option.name)(config)
        if value != option.default:
            found.append((option, value))
    return found


def as_argument(name: str, value: Any) -> str:
    """An option and its value as the command takes them: text as it stands, other values as JSON, which is YAML, too.

    Raises:
        UserError: The value is neither text, a number, true, false or None, nor a list or mapping of them.
    """
    if isinstance(value, str | os.PathLike):
        return f"{name}={os.fspath(value)}"
    try:
        return f"{name}={json.dumps(value, ensure_ascii=False, default=_plain)}"
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}={value!r} has the wrong type: {error}") from error


def _plain(value: Any) -> Any:
    """A number or list of NumPy or torch as one of Python."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"{type(value).__name__} is neither text, a number, nor a list or mapping of them")
    return value.tolist()


def to_yaml(config: SweepConfig) -> str:
    """The resolved configuration, as YAML that a sweep can be started from."""
    plain = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    if isinstance(config, TrainingConfig):
        plain["recipe"] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(config.recipe).items()
        }
    return plain_yaml.dump(plain)


def _meanings(cls: type) -> dict[str, str]:
    """Field meanings from the Attributes section of a docstring, so that --help and the code say the same."""
    section = inspect.getdoc(cls).partition("Attributes:\n")[2]  # type: ignore[union-attr]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).replace("``", "") for name, text in entries}
