"""A sweep's trials, what of them is missing in a store, and the checks that every kind of sweep shares."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from raytransfer.config import SweepConfig, TrainingConfig
from raytransfer.errors import UserError
from raytransfer.networks import Shape, architecture, check_network
from raytransfer.specs import NetworkSpec, PretrainSpec, Recipe, TaskSpec, TrainingSpec, TransferSpec, TrialSpec
from raytransfer.specs.dependencies import checkpoint_steps, in_order, needs
from raytransfer.store import Store, failures, finished
from raytransfer.store import checkpoint_steps as stored_steps
from raytransfer.store.root import absolute
from raytransfer.tasks import Dataset, DataSource


class Cell(Protocol):
    """The place of one trial in a sweep."""

    @property
    def treatment(self) -> str:
        """What the trial is for: the heading under which people count it."""

    @property
    def spec(self) -> TrialSpec:
        """The trial."""


Placed = TypeVar("Placed", bound=Cell, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[Placed]):
    """All that a sweep consists of.

    Attributes:
        cells: Places of the sweep.
        trials: The distinct trials by identity, bases first.
        sources: Fingerprint of each data set, and where it is.
        datasets: The data sets, opened, by fingerprint.
    """

    cells: Sequence[Placed]
    trials: dict[str, TrialSpec]
    sources: tuple[tuple[str, DataSource], ...]
    datasets: dict[str, Dataset]

    @property
    def tasks(self) -> set[TaskSpec]:
        """The tasks that trials train on."""
        return {spec.task for spec in self.trials.values() if isinstance(spec, TrainingSpec)}

    @property
    def longest_base(self) -> PretrainSpec:
        """The base whose training is longest; the trials' own half as a base where a sweep has none."""
        bases = [spec for spec in self.trials.values() if isinstance(spec, PretrainSpec)]
        if not bases:
            spec = next(spec for spec in self.trials.values() if isinstance(spec, TransferSpec))
            bases = [PretrainSpec(task=spec.task, network=spec.network, recipe=spec.recipe, seed=spec.seed)]
        return max(bases, key=lambda base: base.recipe.steps)


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """How a plan stands in a store.

    Attributes:
        to_run: Trials to run by identity, in the plan's order.
        failed: Trials that failed before and are left alone, with the reason.
        blocked: Trials that read the weights of one that failed before.
    """

    to_run: dict[str, TrialSpec]
    failed: dict[str, str]
    blocked: list[str]


def plan_of(cells: Sequence[Placed], opened: Sequence[tuple[DataSource, Dataset]]) -> Plan[Placed]:
    """The plan of a sweep's cells on the data sets that were opened for it."""
    specs = in_order(cell.spec for cell in cells)
    return Plan(
        cells=cells,
        trials=specs,
        sources=tuple((dataset.fingerprint, source) for source, dataset in opened),
        datasets={dataset.fingerprint: dataset for _, dataset in opened},
    )


def backlog(plan: Plan[Cell], store: Store, mode: str) -> Backlog:
    """What of a plan is to run, given what the store holds and the mode (``SweepConfig.mode``).

    A finished training whose weights are gone runs again if a trial that is to run reads them.
    """
    done = set() if mode == "force" else finished(store)
    recorded = failures(store)
    missing = {trial for trial in plan.trials if trial not in done or trial in recorded}
    reading = missing
    while reading:  # a training that runs again for its weights reads those of its own base
        steps = checkpoint_steps(plan.trials[trial] for trial in reading)
        reading = {t for t, wanted in steps.items() if t not in missing and not wanted <= stored_steps(store, t)}
        missing |= reading
    failed = {} if mode in ("force", "retry") else {t: error for t, error in recorded.items() if t in missing}
    blocked: dict[str, None] = {}
    while waiting := [t for t in missing - {*failed, *blocked} if _reads_one_of(plan.trials[t], {*failed, *blocked})]:
        blocked |= dict.fromkeys(waiting)
    out = missing - {*failed, *blocked}
    return Backlog(to_run={t: s for t, s in plan.trials.items() if t in out}, failed=failed, blocked=[*blocked])


def _reads_one_of(spec: TrialSpec, trials: Collection[str]) -> bool:
    return any(training.id in trials for training, _ in needs(spec))


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
    there = slot_count(units, share)
    if there < 1:
        raise UserError(f"no slot of {share:g} {kind} fits: there are {units} {kind}")
    if wanted is not None and wanted > there:
        raise UserError(f"slots={wanted} must not exceed what is there: {there} slots of {share:g} {kind}")
    return wanted or there


def slot_count(units: int, share: float) -> int:
    """How many trials of this share run at once on so many GPUs or cores."""
    return units * int(1 / share) if share <= 1 else units // int(share)


def layer_numbers(config: TrainingConfig) -> list[int]:
    """Numbers of layers to copy, from numbers or names of layers.

    Raises:
        UserError: A number or name is not one of the network's, or is there twice.
    """
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


def checked_recipe(config: TrainingConfig, network: NetworkSpec, shape: Shape, label_counts: Collection[int]) -> Recipe:
    """The recipe, once the network has been seen to take its images.

    Args:
        config: The configuration.
        network: The network.
        shape: Channels, height and width of the images.
        label_counts: Numbers of outputs that the network needs.

    Raises:
        UserError: The images are too small for the recipe, or the network does not take them.
    """
    recipe: Recipe = config.recipe
    _, height, width = shape
    side = min(height, width)
    if recipe.crop_px is not None and recipe.crop_px > side:
        raise UserError(f"recipe.crop_px={recipe.crop_px} must not exceed the images' side: {height} x {width} pixels")
    if recipe.pad_px > side:
        raise UserError(f"recipe.pad_px={recipe.pad_px} must not exceed the images' side: {height} x {width} pixels")
    if network.name == "caffenet" and network.init == "network" and recipe.normalization != "mean":
        raise UserError(
            f"recipe.normalization={recipe.normalization} starves caffenet, whose small initial weights are made for "
            "pixels on 0..255: choose recipe.normalization=mean, or init=kaiming"
        )
    for labels in sorted(set(label_counts)):
        check_network(network, image=seen_shape(recipe, shape), classes=labels)
    return replace(recipe, crop_px=None) if recipe.crop_px == height == width else recipe


def seen_shape(recipe: Recipe, shape: Shape) -> Shape:
    """The shape of what a network sees of images: the crop's, or the images' own."""
    return shape if recipe.crop_px is None else (shape[0], recipe.crop_px, recipe.crop_px)


def data_source(config: SweepConfig, data: str) -> DataSource:
    """Where a data set is, as the configuration says.

    Raises:
        UserError: A path is empty, or names the home of a user that does not exist.
    """
    is_path = bool(data) and "/" in data
    return DataSource(
        data=absolute("data", data) if is_path or not data else data,
        data_dir=absolute("data_dir", config.data_dir),
        cache_dir=absolute("cache_dir", config.cache_dir),
        image_size_px=config.image_size_px,
        channels=config.channels,
        label_column=config.label_column,
    )
