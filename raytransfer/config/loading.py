"""From the defaults, a YAML file and the command line to one checked configuration."""

import dataclasses
import difflib
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raytransfer.config.kinds import GridConfig, SweepConfig, TrainingConfig
from raytransfer.config.rules import check_values
from raytransfer.errors import UserError
from raytransfer.specs import Recipe

_PER_DATA = "per_data"  # the YAML's section of values that go with a data set
_PRESETS = "presets"  # and of values that go by a name
_PRESET = "preset="

Config = TypeVar("Config", bound=SweepConfig)


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


def _recipe_schema() -> type:
    """Recipe as a dataclass that OmegaConf accepts as a schema: mutable, strings for choices, lists for tuples."""

    def accepted(hint: Any) -> Any:
        if typing.get_origin(hint) is typing.Literal:
            return str
        return list[float] if typing.get_origin(hint) is tuple else hint

    hints = typing.get_type_hints(Recipe)
    columns: list[Any] = []
    for item in dataclasses.fields(Recipe):
        default = "???" if item.default is dataclasses.MISSING else item.default  # OmegaConf's mark of a missing value
        if isinstance(default, tuple):
            columns.append((item.name, accepted(hints[item.name]), field(default_factory=list)))
        else:
            columns.append((item.name, accepted(hints[item.name]), field(default=default)))
    return dataclasses.make_dataclass("RecipeConfig", columns)


def load_config(cls: type[Config], yaml: Path, arguments: Sequence[str]) -> Config:
    """Defaults, then the YAML file, then its values for the chosen data set or preset, then ``key=value`` arguments.

    Args:
        cls: The sweep's kind of configuration.
        yaml: The sweep's own file.
        arguments: Command-line overrides, such as ``data=cifar10`` or ``recipe.steps=100``, and ``preset=NAME`` for a
            set of values that the file has under that name.

    Raises:
        UserError: A key does not exist, or a value has the wrong type or lies outside its range.
    """
    schema = _schema(cls)
    wanted = [argument.removeprefix(_PRESET) for argument in arguments if argument.startswith(_PRESET)]
    given = _parse_arguments([argument for argument in arguments if not argument.startswith(_PRESET)], schema)
    file = _read_yaml(yaml)
    per_data, presets = file.pop(_PER_DATA, {}), file.pop(_PRESETS, {})
    _check_keys(file, schema, yaml.name)
    data = Path(str(given.get("data", file.get("data", cls.data)))).name.lower().removesuffix(".parquet")
    chosen, place = per_data.get(data, {}), f"{_PER_DATA}.{data}"
    if wanted:
        if wanted[-1] not in presets:
            there = f"choose from {', '.join(presets)}" if presets else "it has none"
            raise UserError(f"preset={wanted[-1]} is not in {yaml.name}: {there}")
        chosen, place = presets[wanted[-1]], f"{_PRESETS}.{wanted[-1]}"
    _check_keys(chosen, schema, f"{yaml.name}, {place}")
    for layer in (file, chosen, given):
        schema = _merge(schema, layer, cls)
    for name in sorted(OmegaConf.missing_keys(schema)):
        raise UserError(f"{name} has no value: give {name}=...")
    config: Any = OmegaConf.to_object(schema)
    check_values(config)
    if hasattr(config, "recipe"):
        config.recipe = _recipe(config.recipe)
    if isinstance(config, GridConfig):
        config.halves = config.halves if isinstance(config.halves, list) else [config.halves]
    checked: Config = config
    return checked


def _recipe(given: Any) -> Recipe:
    values = {item.name: getattr(given, item.name) for item in dataclasses.fields(given)}
    if given.schedule != "step":  # what a schedule does not read must not make another run of it
        values |= {"milestones": [], "gamma": Recipe.gamma}
    typed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Recipe(**typed)


def options(cls: type[SweepConfig], yaml: Path, arguments: Sequence[str]) -> list[Option]:
    """Every option with its default for this sweep (and its data set or preset) and its meaning."""
    config = load_config(cls, yaml, arguments)
    meanings = {name: text for part in reversed(cls.__mro__[:-1]) for name, text in _meanings(part).items()}
    rows = []
    for name, meaning in meanings.items():
        if name == "recipe":
            recipe = _meanings(Recipe).items()
            rows += [Option(f"recipe.{key}", getattr(config.recipe, key), text) for key, text in recipe]  # type: ignore[attr-defined]
        else:
            rows.append(Option(name, getattr(config, name), meaning))
    return rows


def to_yaml(config: SweepConfig) -> str:
    """The resolved configuration, as YAML that a sweep can be started from."""
    plain = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    if isinstance(config, TrainingConfig):
        plain["recipe"] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(config.recipe).items()
        }
    return OmegaConf.to_yaml(OmegaConf.create(plain))


def _schema(cls: type[SweepConfig]) -> DictConfig:
    schema: DictConfig = OmegaConf.structured(cls)
    if issubclass(cls, TrainingConfig):
        schema.recipe = OmegaConf.structured(_recipe_schema())
    return schema


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, OmegaConfBaseException) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return typing.cast(dict[str, Any], content)


def _parse_arguments(arguments: Sequence[str], schema: DictConfig) -> dict[str, Any]:
    """Values by dotted name; of an option given twice the last counts."""
    values = {}
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if not equals:
            raise UserError(f"{argument} is no option: options are given as name=value; --help lists them")
        _check_key(key, schema, "the command line")
        try:
            values[key] = OmegaConf.to_container(OmegaConf.from_dotlist([argument]))
        except Exception as error:  # PyYAML's and ANTLR's errors have no common base
            reason = str(error).splitlines()[0]
            raise UserError(f"{argument} cannot be read: {reason} (YAML wants a space after each colon)") from error
        for part in key.split("."):
            values[key] = typing.cast(dict[str, Any], values[key])[part]
    return values


def _check_keys(content: Mapping[str, Any], schema: DictConfig, place: str) -> None:
    for key, value in content.items():
        _check_key(key, schema, place)
        if key == "recipe" and isinstance(value, Mapping):
            for inner in value:
                _check_key(f"recipe.{inner}", schema, place)


def _check_key(key: str, schema: DictConfig, place: str) -> None:
    recipe = schema.recipe if "recipe" in schema else ()
    known = [str(name) for name in schema if name != "recipe"] + [f"recipe.{name}" for name in recipe]
    if key in known or (key == "recipe" and place != "the command line"):
        return
    near = [name for name in known if name.endswith(f".{key}")] or difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"{key} in {place} is no option: {hint}--help lists them")


def _merge(schema: DictConfig, layer: Mapping[str, Any], cls: type[SweepConfig]) -> DictConfig:
    """Merge one value at a time, so that an error can name the option."""
    for key, value in layer.items():
        parts = {f"recipe.{k}": v for k, v in value.items()} if key == "recipe" else {key: value}
        for name, part in parts.items():
            try:
                OmegaConf.update(schema, name, part, merge=False)
            except OmegaConfBaseException as error:
                hints = typing.get_type_hints(Recipe if name.startswith("recipe.") else cls)
                rule = _type_name(hints[name.removeprefix("recipe.")])
                raise UserError(f"{name}={part} has the wrong type: it takes {rule}") from error
    return schema


def _type_name(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", types.NoneType: "null"}
    if typing.get_origin(hint) in (list, tuple):
        return f"a list of {'numbers' if float in typing.get_args(hint) else 'words'}"
    if isinstance(hint, types.UnionType):
        return " or ".join(_type_name(part) for part in typing.get_args(hint))
    return "a word" if typing.get_origin(hint) is typing.Literal else names[hint]


def _meanings(cls: type) -> dict[str, str]:
    """Field meanings from the Attributes section of a docstring, so that --help and the code say the same."""
    section = inspect.getdoc(cls).partition("Attributes:\n")[2]  # type: ignore[union-attr]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).replace("``", "") for name, text in entries}
