"""The pairs of a sweep: its named tasks, each with each, and the bases that dials make of every target."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raytransfer.config import PairsConfig, trains_bases
from raytransfer.config.rules import as_list
from raytransfer.errors import UserError
from raytransfer.experiments.tasks import NamedTask, Pair, ReadTask, chosen, read_tasks
from raytransfer.networks import Shape
from raytransfer.specs import Recipe, TaskSpec
from raytransfer.tasks import INPUT_DIALS, LABEL_DIALS, Dataset, DataSource, task_spec
from raytransfer.tasks.draws import stable_permutation
from raytransfer.words import number_of

SHARED = "shared"
KIND_OF_DIAL = {
    **dict.fromkeys(INPUT_DIALS, "input"),
    SHARED: "shared",
    **dict.fromkeys(LABEL_DIALS, "labelling"),
    "random_labels": "random labels",
}
"""What each dial changes; ``shared`` is the share of the target's classes that a base has."""


@dataclass(frozen=True, kw_only=True)
class DialRow:
    """Where a base stands on a dial of its target.

    Attributes:
        target: Name of the target.
        base: Name of the base.
        dial: Name of the dial.
        kind: ``input``, ``shared``, ``labelling`` or ``random labels``.
        level: How far it is turned: 0 for not at all.
        setting: The dial's value as text; None where the base is the target unchanged.
    """

    target: str
    base: str
    dial: str
    kind: str
    level: float
    setting: str | None


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """Where a base stands on the grid of two dials: their levels, and their settings as text."""

    target: str
    base: str
    input_level: float
    label_level: float
    input_setting: str
    label_setting: str


@dataclass(frozen=True, kw_only=True)
class Design:
    """All pairs of a sweep and where they stand.

    Attributes:
        targets: What to transfer to.
        pairs: What to transfer from and to; none where weights of others are transferred.
        dials: Bases on dials; a base that is the target unchanged stands on every one.
        grid: Bases on the grid of two dials.
        opened: The data sets and where they are.
    """

    targets: list[NamedTask]
    pairs: list[Pair]
    dials: list[DialRow]
    grid: list[GridRow]
    opened: list[tuple[DataSource, Dataset]]

    @property
    def shape(self) -> Shape:
        """Channels, height and width of all images."""
        (shape,) = {dataset.train_images.shape[1:] for _, dataset in self.opened}
        return shape

    def specs(self, seeds: Sequence[int]) -> set[TaskSpec]:
        """All tasks, for these seeds."""
        tasks = [*self.targets, *(pair.base for pair in self.pairs)]
        return {task.spec(seed) for task in tasks for seed in seeds}


def base_recipe(config: PairsConfig, recipe: Recipe) -> Recipe:
    """The recipe of bases: the sweep's, with steps of their own where ``base_steps`` gives some."""
    steps = config.base_steps or recipe.steps
    return replace(recipe, steps=steps, warmup_steps=min(recipe.warmup_steps, steps))


def trained_for(config: PairsConfig, recipe: Recipe) -> str:
    """Training steps of the targets' networks, and of bases where these differ, for titles."""
    own = number_of(recipe.steps, "step")
    return own if config.base_steps in (None, recipe.steps) else f"{own}, bases {config.base_steps:,}"


def make_design(config: PairsConfig, dial_grid: Any = None) -> Design:
    """Resolve tasks, dials and pairs.

    Args:
        config: Names them.
        dial_grid: Two dials whose values are combined, as ``DistanceConfig`` has them; None for none.

    Raises:
        UserError: Something is unknown, out of range, or cannot be compared.
    """
    tasks, opened = read_tasks(config)
    targets = chosen(config.targets, "targets", tasks)
    bases = chosen(config.bases, "bases", tasks)
    if not targets:
        raise UserError("targets=[] must name at least one task")
    goals = [target.named(config.train_per_class) for target in targets]
    if not trains_bases(config):
        return Design(targets=goals, pairs=[], dials=[], grid=[], opened=opened)
    pairs, dials, grid = [], [], []
    for target, own in zip(targets, goals, strict=True):
        sources = [base.named(config.base_per_class) for base in bases if base != target]
        turned = _Turned(config, target, dial_grid)
        taken = [base.name for base in sources if base.name in turned.bases]
        if taken:
            raise UserError(f"task {taken[0]} is called like the base that dials make of {target.name}: rename it")
        sources += turned.bases.values()
        pairs += [Pair(base=base, target=own) for base in sources]
        dials += turned.dials
        grid += turned.grid
    if not pairs:
        raise UserError(
            f"bases={config.bases} leave no pair with targets={config.targets}: name other tasks, or give dials"
        )
    return Design(targets=goals, pairs=pairs, dials=dials, grid=grid, opened=opened)


class _Turned:
    """The bases that dials, and a grid of two dials, make of one target.

    The block of a base is the dial that is turned. Two dials that are turned together on the grid are one block, with
    all their levels, alone and together. The unchanged target is a block of its own. Two settings that make the same
    task, as shares of classes that round to the same number, give one base, named by the first of them.

    Attributes:
        bases: By name; the target unchanged comes first.
        dials: Where they stand.
        grid: Where they stand on the grid.
    """

    def __init__(self, config: PairsConfig, target: ReadTask, dial_grid: Any) -> None:
        self._per_class, self._target = config.base_per_class, target
        self._together: dict[str, str] = {}
        self.bases: dict[str, NamedTask] = {}
        self.dials: list[DialRow] = []
        self.grid: list[GridRow] = []
        values = _checked_values("dials", config.dials)
        axes = None if dial_grid is None else self._axes(dial_grid)
        if values:
            unchanged = self._base({})
            for dial, settings in values.items():
                rows: dict[str, Any] = {unchanged: None}
                for setting in settings:
                    rows.setdefault(self._base({dial: setting}), setting)
                self._place(dial, rows)
        if axes is not None:
            self._cross(*axes)

    def _place(self, dial: str, rows: Mapping[str, Any]) -> None:
        self.dials += [
            DialRow(
                target=self._target.name,
                base=base,
                dial=dial,
                kind=KIND_OF_DIAL[dial],
                level=0.0 if setting is None else self._level(dial, setting),
                setting=None if setting is None else str(setting),
            )
            for base, setting in rows.items()
        ]

    def _axes(self, wanted: Any) -> list[tuple[str, list[Any]]]:
        if not isinstance(wanted, Mapping) or set(wanted) != {"input", "label"}:
            raise UserError(f"dial_grid={wanted} must be {{input: {{dial: values}}, label: {{dial: values}}}}")
        axes = [self._axis(side, wanted[side]) for side in ("input", "label")]
        self._together = dict.fromkeys((dial for dial, _ in axes), " and ".join(dial for dial, _ in axes))
        return axes

    def _cross(self, of_input: tuple[str, list[Any]], of_label: tuple[str, list[Any]]) -> None:
        (input_dial, inputs), (label_dial, labels) = of_input, of_label
        for a, b in itertools.product(inputs, labels):
            base = self._base({input_dial: a, label_dial: b})
            if base in {row.base for row in self.grid}:
                continue
            self.grid.append(
                GridRow(
                    target=self._target.name,
                    base=base,
                    input_level=self._level(input_dial, a),
                    label_level=self._level(label_dial, b),
                    input_setting=f"{input_dial}={a}",
                    label_setting=f"{label_dial}={b}",
                )
            )

    def _axis(self, side: str, wanted: Any) -> tuple[str, list[Any]]:
        axis = _checked_values(f"dial_grid.{side}", wanted)
        if len(axis) != 1:
            raise UserError(f"dial_grid.{side}={wanted} must have one dial")
        ((dial, values),) = axis.items()
        if (KIND_OF_DIAL[dial] == "input") != (side == "input"):
            fitting = [name for name, kind in KIND_OF_DIAL.items() if (kind == "input") == (side == "input")]
            raise UserError(f"dial_grid.{side} has {dial}: choose from {', '.join(fitting)}")
        return dial, values

    def _base(self, settings: Mapping[str, Any]) -> str:
        """Add the base with these settings, those that change nothing left out; gives its name."""
        unchanged = self._spec({})(0)
        turned = {dial: value for dial, value in settings.items() if self._spec({dial: value})(0) != unchanged}
        described = " ".join(dial if value is True else f"{dial}={value}" for dial, value in turned.items())
        setting = described or "unchanged"
        name = f"{self._target.name} {setting}"
        spec = self._spec(turned)
        same = [base.name for base in self.bases.values() if base.spec(0) == spec(0)]
        if same:
            return same[0]
        dial = next(iter(turned), "unchanged")
        block = self._together.get(dial, dial)
        self.bases[name] = NamedTask(name=name, setting=setting, block=block, spec=spec)
        return name

    def _spec(self, settings: Mapping[str, Any]) -> Callable[[int], TaskSpec]:
        target = self._target
        share = settings.get(SHARED, 1.0)
        dials = {**target.dials, **{dial: value for dial, value in settings.items() if dial != SHARED}}
        return functools.cache(
            lambda seed: task_spec(
                target.dataset,
                _shared_classes(target, share, seed),
                self._per_class,
                seed,
                dials,
                paired_with=target.classes,  # ``shared`` is a dial, too: its bases differ in their classes alone
            )
        )

    def _level(self, dial: str, setting: Any) -> float:
        classes, side = len(self._target.classes), min(self._target.dataset.train_images.shape[2:])
        if dial in ("resolution_px", "shuffle_px"):
            return math.log2(side / setting)
        if dial == "labelling":
            return float(setting != "class")
        number = float(setting)
        return {SHARED: 1.0 - number, "merged": classes - number, "split": number - 1.0}.get(dial, number)


def _checked_values(option: str, wanted: Any) -> dict[str, list[Any]]:
    """Dials and their values, as far as they can be checked without a task."""
    if not isinstance(wanted, Mapping):
        raise UserError(f"{option}={wanted} must be dials with lists of values, such as {{blur_px: [1, 2]}}")
    found = {}
    for dial, values in wanted.items():
        if dial not in KIND_OF_DIAL:
            raise UserError(f"{option} has {dial}, which is no dial; choose from {', '.join(KIND_OF_DIAL)}")
        listed = as_list(values)
        if not listed or None in listed or len({repr(value) for value in listed}) < len(listed):
            raise UserError(f"{option}.{dial}={values} must list at least one value, each once")
        found[str(dial)] = listed
    return found


def _shared_classes(target: ReadTask, share: Any, seed: int) -> tuple[int, ...]:
    """As many classes as the target has, of which a share are its own; drawn from the seed."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UserError(f"shared={share} must lie in 0..1")
    count = len(target.classes)
    kept = round(share * count)
    others = [index for index in range(len(target.dataset.class_names)) if index not in target.classes]
    if count - kept > len(others):
        raise UserError(
            f"shared={share} asks for {number_of(count - kept, 'class')} that task {target.name} does not have, and "
            f"{target.dataset.name} has only {len(others)} others"
        )
    own = [target.classes[i] for i in stable_permutation(count, "shared", seed)[:kept]]
    new = [others[i] for i in stable_permutation(len(others), "not shared", seed)[: count - kept]]
    return tuple(sorted(own + new))
