"""The tasks that a sweep over pairs names: from the option ``tasks`` to data, classes and dials."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raytransfer.config import PairsConfig
from raytransfer.config.rules import as_list
from raytransfer.errors import UserError
from raytransfer.experiments.checks import check_told_apart, data_source
from raytransfer.specs import TaskSpec
from raytransfer.tasks import (
    INPUT_DIALS,
    LABEL_DIALS,
    Dataset,
    DataSource,
    class_indices,
    open_dataset,
    random_halves,
    task_spec,
)

_KEYS = ("data", "classes", *INPUT_DIALS, *LABEL_DIALS)


@dataclass(frozen=True, kw_only=True)
class NamedTask:
    """A task as a sweep knows it.

    Attributes:
        name: Its name in tables and pictures, the same for all seeds.
        setting: Of a base that a dial makes of a target, what was turned, such as shared=0: the same for every target.
        block: What it shares with the tasks that are not independent of it: the name of its data set or, for a base
            that a dial makes of a target, that of the dial.
        spec: From the seed to the task.
    """

    name: str
    setting: str | None = None
    block: str
    spec: Callable[[int], TaskSpec]

    def as_target(self, seed: int) -> dict[str, Any]:
        """What a cell says of it as the target, and of the seed."""
        return {"target": self.name, "target_block": self.block, "seed": seed}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A task to transfer from and a task to transfer to."""

    base: NamedTask
    target: NamedTask

    def place(self, seed: int) -> dict[str, Any]:
        """What a cell says of the two tasks, and of the seed."""
        return self.target.as_target(seed) | {"base": self.base.name, "base_block": self.base.block}


@dataclass(frozen=True, kw_only=True)
class ReadTask:
    """One entry of the option ``tasks``, checked."""

    name: str
    dataset: Dataset
    classes: tuple[int, ...]
    dials: Mapping[str, Any]

    def named(self, per_class: int | None) -> NamedTask:
        """With so many training images a class; None for all there are."""
        spec = functools.cache(lambda seed: task_spec(self.dataset, self.classes, per_class, seed, self.dials))
        return NamedTask(name=self.name, block=self.dataset.name, spec=spec)


def read_tasks(config: PairsConfig) -> tuple[dict[str, ReadTask], list[tuple[DataSource, Dataset]]]:
    """Read the option ``tasks``: what it names, and the data sets that were opened for it.

    Raises:
        UserError: An entry is none, names what is not there, or has images of another shape than the others.
    """
    if not isinstance(config.tasks, Mapping) or not config.tasks:
        raise UserError(
            f"tasks={config.tasks} must name at least one task, as {{name: {{data: digits, classes: [0, 1]}}, ...}}"
        )
    opened: dict[str, tuple[DataSource, Dataset]] = {}
    tasks = {str(name): _task(config, str(name), entry, opened) for name, entry in config.tasks.items()}
    check_told_apart(opened.values())
    _check_shapes(tasks)
    return tasks, list(opened.values())


def _task(config: PairsConfig, name: str, entry: Any, opened: dict[str, tuple[DataSource, Dataset]]) -> ReadTask:
    if not isinstance(entry, Mapping):
        raise UserError(f"task {name} is {entry}: it must be a mapping such as {{data: digits, classes: [0, 1]}}")
    for key in entry:
        if key not in _KEYS:
            raise UserError(f"task {name} has the key {key}: a task takes {', '.join(_KEYS)}")
    data = entry.get("data", config.data)
    if not isinstance(data, str) or data == "null":
        raise UserError(f"task {name} has data={data}: it must name a data set; leave it out for the option data")
    if data not in opened:
        source = data_source(config, data)
        opened[data] = source, open_dataset(source)
    dataset = opened[data][1]
    wanted = entry.get("classes", "all")
    if wanted == "all":
        classes = tuple(range(len(dataset.class_names)))
    elif wanted in ("A", "B"):
        classes = random_halves(len(dataset.class_names), 0)["AB".index(wanted)]
    else:
        if not isinstance(wanted, list):
            raise UserError(f"task {name} has classes={wanted}: they must be a list, all, A or B")
        classes = class_indices(dataset, f"task {name}", wanted)
    return ReadTask(
        name=name,
        dataset=dataset,
        classes=classes,
        dials={key: value for key, value in entry.items() if key not in ("data", "classes")},
    )


def _check_shapes(tasks: Mapping[str, ReadTask]) -> None:
    first, *others = tasks.values()
    shape = first.dataset.train_images.shape[1:]
    for other in others:
        if other.dataset.train_images.shape[1:] != shape:
            sizes = [f"{'x'.join(map(str, task.dataset.train_images.shape[1:]))}" for task in (first, other)]
            raise UserError(
                f"images of task {first.name} are {sizes[0]} and those of {other.name} {sizes[1]}: a network takes one "
                "shape; give image_size_px=... and channels=1 or 3, to which all are then converted"
            )


def chosen(wanted: Any, option: str, tasks: Mapping[str, ReadTask]) -> list[ReadTask]:
    """The tasks that an option names: all, one or a list.

    Raises:
        UserError: It names what is no task, or one twice.
    """
    if wanted == "all":
        return list(tasks.values())
    names = as_list(wanted)
    for name in names:
        if not isinstance(name, str) or name not in tasks:
            raise UserError(f"{option} name {name}, which is no task; choose from {', '.join(tasks)}, or all")
    if len(set(names)) < len(names):
        raise UserError(f"{option}={names} must name each task once")
    return [tasks[name] for name in names]
