"""From a configuration and its data to a checked list of trials, and what of it is missing in a store."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from raytransfer.config import SweepConfig
from raytransfer.errors import UserError
from raytransfer.grid import Cell, Halving, base_of, cells, checkpoint_steps, trials
from raytransfer.networks import architecture, check_network
from raytransfer.specs import NetworkSpec, PretrainSpec, Recipe, TaskSpec, TrialSpec
from raytransfer.store import Store, failures, finished
from raytransfer.store import checkpoint_steps as stored_steps
from raytransfer.store.root import absolute
from raytransfer.tasks import Dataset, DataSource, halves, open_dataset, random_halves, task_spec

_NAME_LENGTH = 40


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

    @property
    def tasks(self) -> set[TaskSpec]:
        """The tasks that trials train on."""
        return {spec.task for spec in self.trials.values()}

    @property
    def longest_base(self) -> PretrainSpec:
        """The base whose training is longest; the trials' own half as a base where a sweep has none."""
        bases = [spec for spec in self.trials.values() if isinstance(spec, PretrainSpec)]
        if not bases:
            spec = next(iter(self.trials.values()))
            bases = [PretrainSpec(task=spec.task, network=spec.network, recipe=spec.recipe, seed=spec.seed)]
        return max(bases, key=lambda base: base.recipe.steps)


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
    n_layers = _n_layers(config)
    is_path = bool(config.data) and "/" in config.data
    source = DataSource(
        data=absolute("data", config.data) if is_path or not config.data else config.data,
        data_dir=absolute("data_dir", config.data_dir),
        cache_dir=absolute("cache_dir", config.cache_dir),
        image_size_px=config.image_size_px,
        label_column=config.label_column,
    )
    dataset = open_dataset(source)
    halvings = _halvings(config, dataset)
    recipe = _checked_recipe(config, network, dataset, halvings)
    fixed = config.treatments if config.fixed_treatments is None else config.fixed_treatments
    tasks: dict[tuple[tuple[int, ...], int], TaskSpec] = {}

    def task(classes: tuple[int, ...], seed: int) -> TaskSpec:
        if (classes, seed) not in tasks:
            tasks[classes, seed] = task_spec(dataset, classes, config.train_per_class, seed)
        return tasks[classes, seed]

    grid = [
        cell
        for halving in halvings
        for cell in cells(
            halving=halving,
            task=task,
            network=network,
            recipe=recipe,
            treatments=config.treatments if halving.halves == "random" else fixed,
            n_layers=n_layers,
            directions=config.directions,
            seeds=range(config.seeds),
        )
    ]
    specs = trials(grid)
    return Plan(
        cells=grid,
        trials=specs,
        checkpoint_steps=checkpoint_steps(list(specs.values())),
        source=source,
        dataset=dataset,
    )


def backlog(plan: Plan, store: Store, mode: str) -> Backlog:
    """What of a plan is to run, given what the store holds and the mode (``SweepConfig.mode``).

    A finished base whose weights are gone runs again if a trial that is to run needs them.
    """
    done = set() if mode == "force" else finished(store)
    recorded = failures(store)
    missing = {trial for trial in plan.trials if trial not in done or trial in recorded}
    needed: dict[str, set[int]] = {}
    for trial in missing:
        base = base_of(plan.trials[trial])
        if base is not None and base.id not in missing:
            needed.setdefault(base.id, set()).update(plan.checkpoint_steps[base.id])
    missing |= {base for base, steps in needed.items() if not steps <= stored_steps(store, base)}
    failed = {} if mode in ("force", "retry") else {t: error for t, error in recorded.items() if t in missing}
    blocked = [t for t in missing if (base := base_of(plan.trials[t])) and base.id in failed and t not in failed]
    out = missing - set(failed) - set(blocked)
    return Backlog(to_run={t: s for t, s in plan.trials.items() if t in out}, failed=failed, blocked=blocked)


def check_slots(wanted: int | None, units: int, share: float, kind: str) -> int:
    """How many trials run at once on GPUs, or on CPU cores, of which each trial takes a share.

    Args:
        wanted: As many as this, or None for all there are.
        units: GPUs or cores.
        share: What a trial takes; a share below 1 lies on one of them, so at 2/3 a third of each goes unused.
        kind: ``GPU`` or ``CPU``.

    Raises:
        UserError: More are wanted than there are, or there are none.
    """
    there = units * int(1 / share) if share <= 1 else units // int(share)
    if there < 1:
        raise UserError(f"no slot of {share:g} {kind} fits: there are {units} {kind}")
    if wanted is not None and wanted > there:
        raise UserError(f"slots={wanted} must not exceed what is there: {there} slots of {share:g} {kind}")
    return wanted or there


def _n_layers(config: SweepConfig) -> list[int]:
    """Numbers of copied layers, from numbers or names of layers."""
    names = [stage.name for stage in architecture(config.network).stages]
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
    asked = config.halves
    if not asked or any(entry in asked[:i] for i, entry in enumerate(asked)):
        raise UserError(f"halves={asked} must name at least one way to halve the classes, each once")
    found: list[Halving] = []
    for wanted in asked:
        if not isinstance(wanted, str | dict):
            raise UserError(f"halves={wanted} must be random, the name of a pair, or lists {{A: [...], B: [...]}}")
        if wanted == "random":
            for index in range(config.splits):
                a, b = random_halves(len(dataset.class_names), index)
                found.append(Halving(halves="random", split=f"random{index}", a=a, b=b))
        else:
            a, b = halves(dataset, wanted)
            name = wanted if isinstance(wanted, str) else _list_name(a, b)
            if any((a, b) == (other.a, other.b) and other.halves != "random" for other in found):
                raise UserError(f"halves={wanted} are there twice: each way to halve the classes counts once")
            found.append(Halving(halves=name, split=name, a=a, b=b))
    return found


def _list_name(a: Sequence[int], b: Sequence[int]) -> str:
    """A name for halves given as lists, short enough for a table."""
    name = "/".join(" ".join(map(str, half)) for half in (a, b))
    return name if len(name) <= _NAME_LENGTH else f"lists {hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _checked_recipe(config: SweepConfig, network: NetworkSpec, dataset: Dataset, halvings: Sequence[Halving]) -> Recipe:
    """The recipe, once the network has been seen to take its images."""
    recipe: Recipe = config.recipe
    channels, side = dataset.train_images.shape[1], dataset.train_images.shape[-1]
    if recipe.crop_px is not None and recipe.crop_px > side:
        raise UserError(f"recipe.crop_px={recipe.crop_px} must not exceed the images' side of {side} pixels")
    if recipe.pad_px > side:
        raise UserError(f"recipe.pad_px={recipe.pad_px} must not exceed the images' side of {side} pixels")
    if network.name == "caffenet" and network.init == "network" and recipe.normalization != "mean":
        raise UserError(
            f"recipe.normalization={recipe.normalization} starves caffenet, whose small initial weights are made for "
            "pixels on 0..255: choose recipe.normalization=mean, or init=kaiming"
        )
    for classes in sorted({len(half) for halving in halvings for half in (halving.a, halving.b)}):
        check_network(network, in_channels=channels, image_size_px=recipe.crop_px or side, classes=classes)
    return replace(recipe, crop_px=None) if recipe.crop_px == side else recipe
