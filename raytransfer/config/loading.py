"""From the defaults, a YAML file and the command line to one checked configuration."""

import copy
import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from raytransfer.config import plain_yaml
from raytransfer.config.rules import check_effects, check_values, declared
from raytransfer.config.shared import SweepConfig, TrainingConfig, reads_gamma
from raytransfer.errors import UserError, one_line
from raytransfer.specs import Recipe
from raytransfer.specs.identity import type_hints
from raytransfer.storage.addresses import without_options

_PER_DATA = "per_data"  # the YAML's section of values that go with a data set
_PRESETS = "presets"  # and of values that go by a name
_PRESET = "preset="
_NAMES = ("targets", "bases")  # of tasks: all, one or a list

Config = TypeVar("Config", bound=SweepConfig)


@functools.cache
def _recipe_schema() -> type:
    """Recipe as a dataclass that OmegaConf accepts as a schema: mutable, strings for choices, lists for tuples."""

    def accepted(hint: Any) -> Any:
        if typing.get_origin(hint) is typing.Literal:
            return str
        return list[float] if typing.get_origin(hint) is tuple else hint

    hints = type_hints(Recipe)
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

    The command line always wins. An option of the file that only narrows another one is reset where that one is given:
    ``fixed_treatments`` by ``treatments``, ``targets`` and ``bases`` by ``tasks``. Options that only add, such as
    ``dials`` and ``dial_grid`` beside ``tasks``, stay as the file has them. The values of a preset replace those of the
    data set. Arguments that contradict each other, or could change nothing of this sweep, are refused: an option or
    preset given twice with different values, data beside a preset or tasks that have their own, or an option that needs
    another one (see ``raytransfer.config.rules``).

    Text is taken literally, also in lists, names of tasks and their data; null is null where an option takes it. Quotes
    around text are refused. Other values are YAML, in which a word is a number only where it plainly looks like one
    (``raytransfer.config.plain_yaml``); text never becomes a number, true or false. ``${...}`` is refused, as nothing
    would fill it in.

    Args:
        cls: The sweep's kind of configuration.
        yaml: The sweep's own file.
        arguments: Command-line overrides, such as ``data=cifar10`` or ``recipe.steps=100``, and ``preset=NAME`` for a
            set of values that the file has under that name.

    Raises:
        UserError: A key does not exist, a value has the wrong type or lies outside its range, or arguments contradict
            each other or change nothing.
    """
    schema = copy.deepcopy(_schema(typing.cast(Any, cls)))
    named = sorted({argument.removeprefix(_PRESET) for argument in arguments if argument.startswith(_PRESET)})
    if len(named) > 1:
        raise UserError(f"preset={named[0]} and preset={named[1]} are both given: choose one")
    given = _parse_arguments([argument for argument in arguments if not argument.startswith(_PRESET)], cls, schema)
    content = _read_yaml(yaml, cls)
    sections = {name: content.pop(name, {}) for name in (_PER_DATA, _PRESETS)}
    file = dotted(content)
    _check_keys(file, schema, yaml.name)
    if named:
        place, chosen = f"{_PRESETS}.{named[0]}", _preset(named[0], sections[_PRESETS], given, yaml)
    else:
        path = without_options(str(given.get("data", file.get("data", cls.data))))
        data = Path(path).name.lower().removesuffix(".parquet")
        place, chosen = f"{_PER_DATA}.{data}", sections[_PER_DATA].get(data, {})
    chosen = dotted(chosen)
    _check_keys(chosen, schema, f"{yaml.name}, {place}")
    followers = declared(cls, "FOLLOWERS")
    narrowing = {name: value for option in given for name, value in followers.get(option, {}).items()}
    for layer in (file, chosen, narrowing, given):
        _merge(schema, layer, cls)
    for name in sorted(OmegaConf.missing_keys(schema)):
        raise UserError(f"{name} has no value: give {name}=...")
    config: Any = OmegaConf.to_object(schema)
    check_values(config)
    chose_values = bool(chosen) and not named  # which a data set does even where no task is of it
    check_effects(config, [name for name in given if name != "data" or not chose_values])
    if isinstance(config, TrainingConfig):
        config.recipe = _recipe(config)
    checked: Config = config
    return checked


def dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name: a mapping ``recipe`` is taken apart, into ``recipe.steps`` and so on."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name == "recipe" and isinstance(value, Mapping):
            found |= {f"recipe.{inner}": entry for inner, entry in value.items()}
        else:
            found[name] = value
    return found


def presets(cls: type[SweepConfig], yaml: Path) -> list[str]:
    """The names of a sweep's presets, in the order of its file."""
    return list(_read_yaml(yaml, cls).get(_PRESETS, {}))


def _preset(name: str, presets: Mapping[str, dict[str, Any]], given: Mapping[str, Any], yaml: Path) -> dict[str, Any]:
    """The values of a preset, which must be of the data that are given."""
    if name not in presets:
        there = f"choose from {', '.join(presets)}" if presets else "it has none"
        raise UserError(f"preset={name} is not in {yaml.name}: {there}")
    chosen = presets[name]
    if "data" in chosen and given.get("data", chosen["data"]) != chosen["data"]:
        raise UserError(f"preset={name} is of data={chosen['data']}, and data={given['data']} is given")
    return chosen


def _recipe(config: TrainingConfig) -> Recipe:
    given = config.recipe
    values = {item.name: getattr(given, item.name) for item in dataclasses.fields(given)}
    # What a schedule or an optimiser does not read must not make another run of it.
    for name in ("beta1", "beta2") if given.optimizer == "sgd" else ("momentum",):
        values[name] = getattr(Recipe, name)
    if given.schedule != "step":
        values["milestones"] = []
    if not reads_gamma(config):
        values["gamma"] = Recipe.gamma
    if given.normalization != "given":  # likewise
        values["channel_mean"] = values["channel_std"] = []
    typed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Recipe(**typed)


@functools.cache
def _schema(cls: Any) -> DictConfig:
    """The options of a kind of configuration with their defaults. Callers copy it, which is faster than building it."""
    schema: DictConfig = OmegaConf.structured(cls)
    if issubclass(cls, TrainingConfig):
        schema.recipe = OmegaConf.structured(_recipe_schema())
    return schema


def _read_yaml(path: Path, cls: type[SweepConfig]) -> dict[str, Any]:
    try:
        content, texts = copy.deepcopy(_both(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, YAMLError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} cannot be read: it must be a mapping of options to values")
    for key in (_PER_DATA, _PRESETS):
        sections = content.get(key, {})
        if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
            raise UserError(f"{path} cannot be read: {key} must be a mapping of names to options and values")
        for section in (content, *sections.values()):
            if not isinstance(section.get("recipe", {}), dict):
                raise UserError(f"{path} cannot be read: recipe must be a mapping of options to values")
    return {key: _typed(cls, key, value, texts[key]) for key, value in content.items()}


@functools.cache
def _both(text: str) -> tuple[Any, Any]:
    """A file as ``plain_yaml`` reads it, and as text; cached, since a notebook plans often."""
    return plain_yaml.load(text) or {}, plain_yaml.load_texts(text) or {}


def _typed(cls: type[SweepConfig], key: str, value: Any, text: Any) -> Any:
    """A value as YAML reads it, with text as it was written where an option takes text.

    Args:
        cls: The kind of configuration.
        key: Dotted name of the option, or a section of the file.
        value: What ``plain_yaml.load`` made of it.
        text: What ``plain_yaml.load_texts`` made of it.
    """
    if value is None:
        return None
    if key in (_PER_DATA, _PRESETS):
        return {
            name: {inner: _typed(cls, inner, entry, text[name][inner]) for inner, entry in section.items()}
            for name, section in value.items()
        }
    if key == "recipe" and isinstance(value, dict):
        return {inner: _typed(cls, f"recipe.{inner}", entry, text[inner]) for inner, entry in value.items()}
    if key in ("tasks", "targets") and isinstance(value, dict):  # targets of a selection are tasks, not names of some
        return {
            name: {**task, "data": text[name]["data"]} if isinstance(task, dict) and "data" in task else task
            for name, task in value.items()
        }
    hint = _hint(cls, key)
    texts = key in _NAMES or list[str] in (hint, *typing.get_args(hint))
    return text if texts or (_is_text(hint) and not isinstance(value, dict | list)) else value


def _parse_arguments(arguments: Sequence[str], cls: type[SweepConfig], schema: DictConfig) -> dict[str, Any]:
    """Values by dotted name."""
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not key or not equals:
            raise UserError(f"{argument} is no option: options are given as name=value; --help lists them")
        _check_keys([key], schema, "the command line")
        value = _parsed(argument, cls, key, text)
        if key in values and repr(values[key]) != repr(value):  # as text, since 1 == True
            raise UserError(f"{key}={texts[key]} and {argument} are both given: choose one")
        values[key], texts[key] = value, text
    return values


def _parsed(argument: str, cls: type[SweepConfig], key: str, text: str) -> Any:
    if any("\ud800" <= character <= "\udfff" for character in text):  # how Python shows bytes that are no text
        raise UserError(f"{argument} is not valid UTF-8")
    if "\0" in text:  # no command line holds one, but a program may
        raise UserError(f"{argument} holds the character 0, which no name can")
    hint, may_be_null = _hint(cls, key), _takes_null(cls, key)
    if not text:
        raise UserError(f"{argument} is empty: give a value{', or null' if may_be_null else ''}")
    if _is_text(hint):
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            raise UserError(f"{argument} is in quotes of its own: give text as it is, without them")
        return None if text == "null" and may_be_null else text
    try:
        return _typed(cls, key, plain_yaml.load(text), plain_yaml.load_texts(text))
    except (YAMLError, ValueError) as error:
        reason = one_line(error)
        raise UserError(f"{argument} cannot be read: {reason} (YAML wants a space after each colon)") from error


def _hint(cls: type[SweepConfig], key: str) -> Any:
    """The declared type of an option; None for a key that is none."""
    declares: Any = Recipe if key.startswith("recipe.") else cls
    return type_hints(declares).get(key.removeprefix("recipe."))


def _takes_null(cls: type[SweepConfig], key: str) -> bool:
    """Whether null is a value of an option: where its type says so, or it takes anything and is null by default."""
    hint = _hint(cls, key)
    return types.NoneType in typing.get_args(hint) or (hint is Any and getattr(cls, key, ...) is None)


def takes_text(cls: type[SweepConfig], key: str) -> bool:
    """Whether an option takes any text and never null, which would be the text null to it."""
    return _is_text(_hint(cls, key)) and not _takes_null(cls, key)


def _is_text(hint: Any) -> bool:
    """Whether an option takes text: a word of one's own, or one of several."""
    return hint in (str, str | None) or typing.get_origin(hint) is typing.Literal


def _check_keys(keys: Iterable[str], schema: DictConfig, place: str) -> None:
    recipe = schema.recipe if "recipe" in schema else ()
    known = [str(name) for name in schema if name != "recipe"] + [f"recipe.{name}" for name in recipe]
    last = {name: name.rpartition(".")[2] for name in known}  # that recipe. is common to two names means nothing
    for key in keys:
        if key in known:
            continue
        wanted = key.rpartition(".")[2]
        near = [name for name in known if last[name] == wanted or (len(wanted) > 1 and _initials(name) == wanted)]
        close = difflib.get_close_matches(wanted, last.values(), n=1, cutoff=0.75)
        near = near or [name for name in known if last[name] in close]
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{key} in {place} is no option: {hint}--help lists them")


def _initials(name: str) -> str:
    """The first letters of a name's words: lr of recipe.learning_rate."""
    return "".join(word[:1] for word in name.rpartition(".")[2].split("_"))


def _merge(schema: DictConfig, layer: Mapping[str, Any], cls: type[SweepConfig]) -> None:
    """Merge values into the schema, one at a time, so that an error can name the option."""
    for name, value in layer.items():
        if "${" in str(value):
            raise UserError(f"{name}={value} holds ${{...}}, which nothing fills in: write out what it stands for")
        hint = _hint(cls, name)
        if value is None and not _takes_null(cls, name):
            raise UserError(f"{name}=null has the wrong type: it takes {_type_name(hint)}")
        if not _fits(value, hint):
            raise UserError(f"{name}={plain_yaml.one_line(value)} has the wrong type: it takes {_type_name(hint)}")
        OmegaConf.update(schema, name, value, merge=False)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has an option's type; OmegaConf would make 7 of the text 007, and true of yes."""
    if hint is Any:
        return True
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) in (list, tuple):
        return isinstance(value, list) and all(_fits(entry, typing.get_args(hint)[0]) for entry in value)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, str if _is_text(hint) else hint)


def _type_name(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", types.NoneType: "null"}
    names[Any] = "any other value"
    if typing.get_origin(hint) in (list, tuple):
        kinds = {int: "whole numbers", float: "numbers"}
        return f"a list of {kinds.get(typing.get_args(hint)[0], 'words')}"
    if isinstance(hint, types.UnionType):
        return " or ".join(_type_name(part) for part in typing.get_args(hint))
    return "a word" if typing.get_origin(hint) is typing.Literal else names[hint]
