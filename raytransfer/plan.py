"""From a configuration and its data to a checked list of trials, and what of it is missing in a store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytransfer.config import SweepConfig
from raytransfer.errors import UserError
from raytransfer.grid import Cell, Halving, base_of, cells, checkpoint_steps, trials
from raytransfer.networks import ZOO, check_network
from raytransfer.specs import NetworkSpec, TaskSpec, TrialSpec
from raytransfer.store import Store, failures, finished
from raytransfer.store import checkpoint_steps as stored_steps
from raytransfer.tasks import Dataset, DataSource, halves, open_dataset, random_halves, task_spec


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a sweep consists of.

    Attributes:
        cells: Places of the grid.
        trials: The distinct trials by identity, bases first.
        checkpoint_steps: For each base, the training steps whose weights are needed.
        source: Where the data are.
        dataset: The data set, opened.
    """

    cells: list[Cell]
    trials: dict[str, TrialSpec]
    checkpoint_steps: dict[str, frozenset[int]]
    source: DataSource
    dataset: Dataset


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """How a plan stands in a store.

    Attributes:
        to_run: Trials to run by identity, in the plan's order.
        failed: Trials that failed before and are left alone, with the reason.
        blocked: Trials whose base failed before.
    """

    to_run: dict[str, TrialSpec]
    failed: dict[str, str]
    blocked: list[str]


def make_plan(config: SweepConfig) -> Plan:
    """Open the data and lay out the grid, checking everything that can be checked before training.

    Raises:
        UserError: Something asked for cannot be done.
    """
    network = NetworkSpec(name=config.network, init=config.init)  # type: ignore[arg-type]
    if network.name not in ZOO:
        raise UserError(f"network={network.name} is not in the zoo; choose one of {', '.join(ZOO)}")
    n_layers = _n_layers(config)
    source = DataSource(
        data=config.data,
        data_dir=str(Path(config.data_dir).expanduser()),
        cache_dir=str(Path(config.cache_dir).expanduser()),
        image_size_px=config.image_size_px,
        label_column=config.label_column,
    )
    dataset = open_dataset(source)
    halvings = _halvings(config, dataset)
    _check_images(config, network, dataset, halvings)
    tasks: dict[tuple[tuple[int, ...], int], TaskSpec] = {}

    def task(classes: tuple[int, ...], seed: int) -> TaskSpec:
        if (classes, seed) not in tasks:
            tasks[classes, seed] = task_spec(dataset, classes, config.train_per_class, seed)
        return tasks[classes, seed]

    grid = cells(
        halvings=halvings,
        task=task,
        network=network,
        recipe=config.recipe,
        treatments=config.treatments,
        n_layers=n_layers,
        directions=config.directions,
        seeds=range(config.seeds),
    )
    specs = trials(grid)
    return Plan(
        cells=grid,
        trials=specs,
        checkpoint_steps=checkpoint_steps(list(specs.values())),
        source=source,
        dataset=dataset,
    )


def backlog(plan: Plan, store: Store, mode: str) -> Backlog:
    """What of a plan is to run, given what the store holds and the mode (``config.MODES``).

    A finished base whose weights are gone runs again if a trial that is to run needs them.
    """
    done = set() if mode == "force" else finished(store)
    failed = {} if mode in ("force", "retry") else failures(store)
    missing = {trial for trial in plan.trials if trial not in done}
    needed: dict[str, set[int]] = {}
    for trial in missing:
        base = base_of(plan.trials[trial])
        if base is not None and base.id not in missing:
            needed.setdefault(base.id, set()).update(plan.checkpoint_steps[base.id])
    missing |= {base for base, steps in needed.items() if not steps <= stored_steps(store, base)}
    failed = {trial: error for trial, error in failed.items() if trial in missing}
    blocked = [t for t in missing if (base := base_of(plan.trials[t])) and base.id in failed and t not in failed]
    out = missing - set(failed) - set(blocked)
    return Backlog(to_run={t: s for t, s in plan.trials.items() if t in out}, failed=failed, blocked=blocked)


def _n_layers(config: SweepConfig) -> list[int]:
    """Numbers of copied layers, from numbers or names of layers."""
    names = [stage.name for stage in ZOO[config.network].stages]
    highest = len(names) - 1
    if config.n_layers == "all":
        return list(range(1, highest + 1))
    asked = config.n_layers if isinstance(config.n_layers, list) else [config.n_layers]
    chosen = [names.index(entry) + 1 if entry in names else entry for entry in asked]
    for entry, n in zip(asked, chosen, strict=True):
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= highest:
            layers = ", ".join(f"{i} {name}" for i, name in enumerate(names[:-1], start=1))
            below = f"name a layer of {config.network} below its head: {layers}"
            raise UserError(f"n_layers={entry} must lie in 1..{highest} or {below}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"n_layers={asked} must name at least one layer, each once")
    return chosen


def _halvings(config: SweepConfig, dataset: Dataset) -> list[Halving]:
    found: list[Halving] = []
    for wanted in _distinct(config.halves):
        if wanted == "random":
            for index in range(config.splits):
                a, b = random_halves(len(dataset.class_names), index)
                found.append(Halving(halves="random", split=f"random{index}", a=a, b=b))
        else:
            a, b = halves(dataset, wanted)
            name = wanted if isinstance(wanted, str) else _list_name(wanted)
            found.append(Halving(halves=name, split=name, a=a, b=b))
    return found


def _distinct(asked: Sequence[Any]) -> Sequence[Any]:
    if not asked or any(entry in asked[:i] for i, entry in enumerate(asked)):
        raise UserError(f"halves={asked} must name at least one way to halve the classes, each once")
    return asked


def _list_name(halves_by_class: Any) -> str:
    return "/".join(" ".join(str(entry) for entry in half) for half in halves_by_class.values())


def _check_images(config: SweepConfig, network: NetworkSpec, dataset: Dataset, halvings: Sequence[Halving]) -> None:
    channels, side = dataset.train_images.shape[1], dataset.train_images.shape[-1]
    crop, room = config.recipe.crop_px, side + 2 * config.recipe.pad_px
    if crop is not None and crop > side:
        raise UserError(f"recipe.crop_px={crop} must not exceed the images' side of {side} pixels (room {room})")
    for halving in halvings:
        for classes in (halving.a, halving.b):
            check_network(network, in_channels=channels, image_size_px=crop or side, classes=len(classes))
