"""All that a sweep consists of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from raytransfer.config.rules import choices_of
from raytransfer.specs import Imported, PretrainSpec, Recipe, TaskSpec, TrainingSpec, TrialSpec
from raytransfer.specs.dependencies import in_order
from raytransfer.store import Store
from raytransfer.tasks import Dataset, DataSource

if TYPE_CHECKING:
    import torch


class Cell(Protocol):
    """The place of one trial in a sweep."""

    @property
    def treatment(self) -> str:
        """What the trial is for: the heading under which people count it."""

    @property
    def spec(self) -> TrialSpec:
        """The trial."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Read:
    """Weights of others that have been read and fit a network.

    Attributes:
        weights: What a trial is told of them.
        state: The tensors.
        account: What matched, in a line for people.
    """

    weights: Imported
    state: "Mapping[str, torch.Tensor]"
    account: str


SomeCell = TypeVar("SomeCell", bound=Cell, covariant=True)
Design = TypeVar("Design")


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[SomeCell, Design]):
    """All that a sweep consists of.

    Attributes:
        cells: Places of the sweep.
        design: What the experiment's report needs to know of how they were laid out; None where nothing.
        trials: The distinct trials by identity, bases first.
        sources: Fingerprint of each data set, and where it is.
        datasets: The data sets, opened, by fingerprint.
        imports: Tensors of the weights of others that trials read, by digest: they go into the store before trials run.
        accounts: What matched of each of them, and what of the sweep is left out and why, a line each for people.
        then: The plan that follows once this one has finished, made of what the store then holds; None for none.
    """

    cells: Sequence[SomeCell]
    design: Design
    trials: dict[str, TrialSpec]
    sources: tuple[tuple[str, DataSource], ...]
    datasets: dict[str, Dataset]
    imports: "Mapping[str, Mapping[str, torch.Tensor]]" = field(default_factory=dict)
    accounts: Sequence[str] = ()
    then: "Callable[[Store], Plan[SomeCell, Design]] | None" = None

    @property
    def data(self) -> str:
        """Names of the data sets, for titles."""
        return ", ".join(dict.fromkeys(dataset.name for dataset in self.datasets.values()))

    @property
    def opened(self) -> list[tuple[DataSource, Dataset]]:
        """Where each data set is, and the data set."""
        return [(source, self.datasets[fingerprint]) for fingerprint, source in dict(self.sources).items()]

    @property
    def trainings(self) -> list[TrainingSpec]:
        """The trials that train."""
        return [spec for spec in self.trials.values() if isinstance(spec, TrainingSpec)]

    @property
    def network(self) -> str:
        """Names of the networks that train, for titles: with weights of others it is theirs."""
        return ", ".join(dict.fromkeys(training.network.name for training in self.trainings))

    @property
    def tasks(self) -> set[TaskSpec]:
        """The tasks that trials train on."""
        return {training.task for training in self.trainings}

    @property
    def longest_base(self) -> PretrainSpec:
        """The base whose training is longest; the trials' own half as a base where a sweep has none."""
        bases = [spec for spec in self.trainings if isinstance(spec, PretrainSpec)]
        if not bases:
            spec = self.trainings[0]
            bases = [PretrainSpec(task=spec.task, network=spec.network, recipe=spec.recipe, seed=spec.seed)]
        return max(bases, key=lambda base: base.recipe.steps)


def plan_of(
    cells: Sequence[SomeCell],
    opened: Sequence[tuple[DataSource, Dataset]],
    design: Design,
    read: Sequence[Read] = (),
    accounts: Sequence[str] = (),
) -> Plan[SomeCell, Design]:
    """The plan of a sweep's cells on the data sets that were opened, and the weights that were read, for it.

    Args:
        cells: Places of the sweep.
        opened: The data sets.
        design: As in ``Plan``.
        read: The weights; their accounts come first.
        accounts: Further ones.

    Raises:
        ValueError: The precision of a training is left open: ``raytransfer.sweep.arithmetic`` settles it beforehand.
    """
    plan = Plan(
        cells=cells,
        design=design,
        trials=in_order(cell.spec for cell in cells),
        sources=tuple(
            (dataset.fingerprint, replace(source, decoded="stream" if dataset.streamed else "cache"))
            for source, dataset in opened
        ),
        datasets={dataset.fingerprint: dataset for _, dataset in opened},
        imports={entry.weights.digest: entry.state for entry in read},
        accounts=[*(entry.account for entry in read), *accounts],
    )
    precisions = choices_of(Recipe)["precision"]
    if any(training.recipe.precision not in precisions for training in plan.trainings):
        raise ValueError("recipe.precision=auto is to be settled before a sweep is planned")
    return plan
