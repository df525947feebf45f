"""All that a sweep consists of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from raytransfer.specs import PretrainSpec, TaskSpec, TrialSpec
from raytransfer.specs.dependencies import as_base, as_training, as_transfer, in_order
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
Design = TypeVar("Design")


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[Placed, Design]):
    """All that a sweep consists of.

    Attributes:
        cells: Places of the sweep.
        design: What the experiment's report needs to know of how they were laid out; None where nothing.
        trials: The distinct trials by identity, bases first.
        sources: Fingerprint of each data set, and where it is.
        datasets: The data sets, opened, by fingerprint.
    """

    cells: Sequence[Placed]
    design: Design
    trials: dict[str, TrialSpec]
    sources: tuple[tuple[str, DataSource], ...]
    datasets: dict[str, Dataset]

    @property
    def data(self) -> str:
        """Names of the data sets, for titles."""
        return ", ".join(dict.fromkeys(dataset.name for dataset in self.datasets.values()))

    @property
    def tasks(self) -> set[TaskSpec]:
        """The tasks that trials train on."""
        return {training.task for spec in self.trials.values() if (training := as_training(spec)) is not None}

    @property
    def longest_base(self) -> PretrainSpec:
        """The base whose training is longest; the trials' own half as a base where a sweep has none."""
        bases = [base for spec in self.trials.values() if (base := as_base(spec)) is not None]
        if not bases:
            spec = next(transfer for spec in self.trials.values() if (transfer := as_transfer(spec)) is not None)
            bases = [PretrainSpec(task=spec.task, network=spec.network, recipe=spec.recipe, seed=spec.seed)]
        return max(bases, key=lambda base: base.recipe.steps)


def plan_of(
    cells: Sequence[Placed], opened: Sequence[tuple[DataSource, Dataset]], design: Design
) -> Plan[Placed, Design]:
    """The plan of a sweep's cells on the data sets that were opened for it."""
    return Plan(
        cells=cells,
        design=design,
        trials=in_order(cell.spec for cell in cells),
        sources=tuple((dataset.fingerprint, source) for source, dataset in opened),
        datasets={dataset.fingerprint: dataset for _, dataset in opened},
    )
