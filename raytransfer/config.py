"""From the defaults, a YAML file and the command line to one checked configuration."""

import dataclasses
import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raytransfer.errors import UserError
from raytransfer.grid import DIRECTIONS, TREATMENTS
from raytransfer.specs import NetworkSpec, Recipe

MODES = ("cached", "retry", "force", "read-only")
BACKENDS = ("ray", "in-process")
DISTANCE_FEATURES = ("pixels", "probe")

_PER_DATA = "per_data"  # the YAML's section of values that go with a data set
_PRESETS = "presets"  # and of values that go by a name
_PRESET = "preset="

Config = TypeVar("Config", bound="SweepConfig")


@dataclass
class SweepConfig:
    """What every sweep has: data, network and recipe, and where and how it runs.

    Attributes:
        data: Data set: digits, a torchvision classification set by name, or a folder or Parquet file of images.
        data_dir: Folder in which named data sets lie, or are downloaded to.
        cache_dir: Folder on each machine for decoded images.
        image_size_px: Side to which images are resized and cropped when they are decoded; null keeps their own.
        channels: 1 to decode colour images as grey, 3 to decode grey ones as colour; null keeps their own.
        label_column: Label column of Parquet files that have several.
        train_per_class: Training images drawn of each class; null for all.
        seeds: Repeats of everything, with seeds 0, 1, ...
        network: Network of the zoo.
        init: Initial weights: network (its own), kaiming or gaussian (standard deviation 0.01).
        n_layers: Layers to copy: all (1 to N-1), or a list of numbers or layer names.
        recipe: How every network is trained.
        out: Folder or s3:// or gs:// URI of the store; sweeps that share one share their trials.
        mode: cached (run what is missing, report what failed), retry (run what failed, too), force (run everything
            again) or read-only (run nothing, report what is there).
        backend: ray (many trials at once) or in-process (one after the other in this process, for debugging).
        slots: Trials at once; null for as many as the machine or cluster holds.
        gpus_per_trial: GPU share of a slot where there are GPUs, or auto to measure first how many trials are best run
            side by side on one; without a GPU a slot is a CPU core.
        memory_gb: Memory of a slot, in 10^9 bytes, for its images on a GPU, which are streamed if they do not fit, and
            for outputs of frozen layers, which are computed again if they do not fit.
    """

    data: str = "digits"
    data_dir: str = "~/.cache/raytransfer-data"
    cache_dir: str = "~/.cache/raytransfer"
    image_size_px: int | None = None
    channels: int | None = None
    label_column: str | None = None
    train_per_class: int | None = None
    seeds: int = 2
    network: str = "convnet8"
    init: str = "network"
    n_layers: Any = "all"
    recipe: Any = None
    out: str = "results"
    mode: str = "cached"
    backend: str = "ray"
    slots: int | None = None
    gpus_per_trial: Any = 1.0
    memory_gb: float = 1.0

    @property
    def memory_bytes(self) -> int:
        """``memory_gb`` in bytes."""
        return int(self.memory_gb * 1e9)


@dataclass
class GridConfig(SweepConfig):
    """The grid of Yosinski et al. 2014.

    Attributes:
        halves: Ways to halve the classes, a list of: random, the name of a fixed pair such as animals/vehicles, or
            lists of classes as {A: [...], B: [...]}.
        splits: Random halvings (of halves=random).
        directions: A->B, B->A or both.
        treatments: Treatments to run, a list.
        fixed_treatments: Treatments on halves other than random, a list; null for the same.
    """

    halves: Any = field(default_factory=lambda: ["random"])
    splits: int = 2
    directions: list[str] = field(default_factory=lambda: list(DIRECTIONS))
    treatments: list[str] = field(default_factory=lambda: list(TREATMENTS))
    fixed_treatments: list[str] | None = None


@dataclass
class DistanceConfig(SweepConfig):
    """Transfer against distance, over pairs of tasks and settings of dials.

    Attributes:
        tasks: Tasks by name, each a mapping: data (a data set; the option data where left out), classes (a list, all,
            or A or B for one of two random halves) and any dials.
        targets: Names of the tasks to transfer to, a list; all for every task.
        bases: Names of the tasks to transfer from, a list; all for every task. No task is paired with itself.
        dials: Dials, each with a list of values: each value makes one more base of every target. shared is the share
            of the target's classes that the base has; the others are resolution_px, blur_px, grey, inverted, noise,
            shuffle_px, labelling, merged, split and random_labels.
        dial_grid: Two dials, as {input: {dial: values}, label: {dial: values}}, whose values are combined, each with
            each; null for none.
        base_per_class: Training images drawn of each class of a base; null for all. (train_per_class: of a target.)
        distances: Distances between tasks, a list.
        distance_features: What distances of features compare, a list of pixels and probe: outputs, below the head, of
            the network trained on the target alone.
        scores: Scores of a base on the target, a list.
        images: Training images of each task, at most, that distances and scores look at.
        drawn: Distances and scores against which transfer is drawn, by the names they have in tables.
        input_distance: The distance that stands for the input where the variance of transfer is split.
        label_distance: The distance that stands for the label there.
        tree: Class names in nested groups, for the tree distance; null leaves that distance out.
    """

    tasks: Any = field(default_factory=dict)
    targets: Any = "all"
    bases: Any = "all"
    dials: Any = field(default_factory=dict)
    dial_grid: Any = None
    base_per_class: int | None = None
    distances: list[str] = field(default_factory=list)
    distance_features: list[str] = field(default_factory=lambda: list(DISTANCE_FEATURES))
    scores: list[str] = field(default_factory=list)
    images: int = 500
    drawn: list[str] = field(default_factory=list)
    input_distance: str = "MMD2 of pixels"
    label_distance: str = "class overlap"
    tree: Any = None


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
    _check_values(config)
    recipe = config.recipe
    values = {item.name: getattr(recipe, item.name) for item in dataclasses.fields(recipe)}
    if recipe.schedule != "step":  # what a schedule does not read must not make another run of it
        values |= {"milestones": [], "gamma": Recipe.gamma}
    typed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    config.recipe = Recipe(**typed)
    if isinstance(config, GridConfig):
        config.halves = config.halves if isinstance(config.halves, list) else [config.halves]
    checked: Config = config
    return checked


def options(cls: type[SweepConfig], yaml: Path, arguments: Sequence[str]) -> list[Option]:
    """Every option with its default for this sweep (and its data set or preset) and its meaning."""
    config = load_config(cls, yaml, arguments)
    meanings = {name: text for part in reversed(cls.__mro__[:-1]) for name, text in _meanings(part).items()}
    rows = []
    for name, meaning in meanings.items():
        if name == "recipe":
            recipe = _meanings(Recipe).items()
            rows += [Option(f"recipe.{key}", getattr(config.recipe, key), text) for key, text in recipe]
        else:
            rows.append(Option(name, getattr(config, name), meaning))
    return rows


def to_yaml(config: SweepConfig) -> str:
    """The resolved configuration, as YAML that a sweep can be started from."""
    plain = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    plain["recipe"] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(config.recipe).items()
    }
    return OmegaConf.to_yaml(OmegaConf.create(plain))


def _schema(cls: type[SweepConfig]) -> DictConfig:
    schema: DictConfig = OmegaConf.structured(cls)
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
    known = [str(name) for name in schema if name != "recipe"] + [f"recipe.{name}" for name in schema.recipe]
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


_MOST = 2**31 - 1


def _at_least(low: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: low <= value <= _MOST, f"lie in {low}..{_MOST}"


def _is_share(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 < value <= 1 or (1 < value <= 64 and value == int(value))


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
    "recipe.steps": _at_least(1),
    "recipe.batch_size": _at_least(1),
    "recipe.learning_rate": (lambda v: 0 < v < float("inf"), "be positive and finite"),
    "recipe.momentum": (lambda v: 0 <= v < 1, "lie in 0..1, 1 left out"),
    "recipe.weight_decay": (lambda v: 0 <= v < float("inf"), "be zero or positive, and finite"),
    "recipe.milestones": (
        lambda v: all(0 < m < 1 for m in v) and list(v) == sorted(v),
        "be fractions of the steps between 0 and 1, ascending",
    ),
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
    "init": typing.get_args(typing.get_type_hints(NetworkSpec)["init"]),
    **{
        f"recipe.{name}": typing.get_args(hint)
        for name, hint in typing.get_type_hints(Recipe).items()
        if typing.get_origin(hint) is typing.Literal
    },
}


def _check_values(config: Any) -> None:
    def value_of(name: str) -> Any:
        return getattr(config.recipe, name[7:]) if name.startswith("recipe.") else getattr(config, name, None)

    for name, (holds, rule) in _RULES.items():
        value = value_of(name)
        if value is not None and not holds(value):
            raise UserError(f"{name}={value} must {rule}")
    if config.recipe.warmup_steps > config.recipe.steps:
        raise UserError(
            f"recipe.warmup_steps={config.recipe.warmup_steps} must not exceed recipe.steps={config.recipe.steps}"
        )
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


def _meanings(cls: type) -> dict[str, str]:
    """Field meanings from the Attributes section of a docstring, so that --help and the code say the same."""
    section = inspect.getdoc(cls).partition("Attributes:\n")[2]  # type: ignore[union-attr]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).replace("``", "") for name, text in entries}
