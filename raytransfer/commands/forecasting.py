"""About how long what a plan leaves to run will take, and what that costs."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from raytransfer.config import SweepConfig, TrainingConfig
from raytransfer.console.table import NumberTable
from raytransfer.specs import PretrainSpec
from raytransfer.sweep.arithmetic import print_slow_arithmetic
from raytransfer.sweep.backlog import Backlog
from raytransfer.sweep.estimate import TIME_S, Estimate, estimate
from raytransfer.sweep.places import NOT_IN_A_CELL
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.sweep.rehearsing import Split
from raytransfer.sweep.slots import UNITS, beyond_memory, check_slots, of_this_machine, slots_of_base, without_gpus
from raytransfer.words import duration, number_of


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How long what is to run will take on this machine.

    Attributes:
        seconds: Seconds of work by trial.
        bases: Those that are bases: they run first, for the others wait for them.
        slots: Trials at once.
        of_base: How many slots a base takes.
        share: What of a GPU or CPU core a trial takes, or how many.
        base_share: The same of a base.
        unit: GPU or CPU core.
        basis: What the times were measured on, in words.
        splits: What is said of trainings that are split, a line for each number of processes.
        failed: What could not be measured and why, a line for each kind.
        at_least: Whether something takes longer: what was broken off or failed, or what a split takes and is not
            measured.
    """

    seconds: Mapping[str, float] = field(repr=False)  # a line a trial would hide the rest in a notebook
    bases: Set[str] = field(repr=False)
    slots: int
    of_base: int
    share: float
    base_share: float
    unit: str
    basis: str
    splits: Sequence[str]
    failed: Sequence[str]
    at_least: bool

    @property
    def work_s(self) -> float:
        """Seconds of work, on one slot, or on those that a training is split over."""
        return sum(self.seconds.values())

    @property
    def duration_s(self) -> float:
        """Seconds until all is done: first the bases, as many at once as there is room for, then the others."""
        bases, others = self._parts
        return _side_by_side(bases, self.slots // self.of_base) + _side_by_side(others, self.slots)

    @property
    def paid_hours(self) -> float:
        """Hours of the unit that work holds."""
        bases, others = self._parts
        return (sum(bases) * self.base_share + sum(others) * self.share) / 3600

    @property
    def _parts(self) -> tuple[list[float], list[float]]:
        """Seconds of the bases, and of the others."""
        return (
            [time for trial, time in self.seconds.items() if trial in self.bases],
            [time for trial, time in self.seconds.items() if trial not in self.bases],
        )


def _side_by_side(seconds: Sequence[float], most: int) -> float:
    """How long trials take of which so many run at once: no trial is shared between two places."""
    return max([sum(seconds) / most, *seconds])


def forecast(console: Console, plan: Plan[Cell, Any], todo: Backlog, config: SweepConfig) -> Forecast | None:
    """Measure how long what is to run will take; None where nothing is.

    Args:
        console: Where what speaks against the options is told.
        plan: The sweep.
        todo: What of it is to run.
        config: How it is to run.

    Raises:
        UserError: The slots that are asked for are not there.
    """
    if not todo.to_run:
        return None
    there, kind = of_this_machine()
    ranks, base_ranks = config.ranks, config.base_ranks
    units = max(there, ranks, base_ranks)
    if units > there:
        console.print(
            f"A training is to be split over {number_of(units, UNITS[kind])}, and this machine has {there}, on which "
            f"the sweep would not start: what follows is for a machine of {units} as fast",
            soft_wrap=True,
        )
    slots, of_base, share = _room(console, config, units, kind)
    if kind == "GPU" and (note := beyond_memory(config.memory_gb, share, slots)):
        console.print(note, soft_wrap=True)
    device = "cuda" if kind == "GPU" else "cpu"
    if device == "cpu" and isinstance(config, TrainingConfig):
        print_slow_arithmetic(console, config)
    found = estimate(
        todo.to_run.values(),
        plan,
        device,
        config.memory_bytes,
        ranks=ranks,
        base_ranks=base_ranks,
        units=there,
        slots=max(1, slots * there // units),  # the cores of a larger machine decode as many more
        of_base=of_base,
    )
    return Forecast(
        seconds=found.seconds,
        bases={trial for trial, spec in todo.to_run.items() if isinstance(spec, PretrainSpec)},
        slots=slots,
        of_base=of_base,
        share=share,
        base_share=float(base_ranks) if base_ranks > 1 else share,
        unit=UNITS[kind],
        basis=_basis(found),
        splits=[_of_split(split, UNITS[kind]) for split in found.splits],
        failed=[f"Not measured, as it failed, which it would in the sweep, too: {line}" for line in found.failed],
        at_least=found.broken_off > 0 or bool(found.failed) or any(split.why_not for split in found.splits),
    )


def _room(console: Console, config: SweepConfig, units: int, kind: str) -> tuple[int, int, float]:
    """Trials at once, how many slots a base takes, and what of a unit a trial takes."""
    share = float(config.ranks)
    if config.backend == "in-process":
        return 1, 1, share
    if kind == "GPU" and config.gpus_per_trial != "auto":
        share = config.gpus_per_trial
    elif note := without_gpus(config.gpus_per_trial):
        console.print(note, soft_wrap=True)
    slots = check_slots(config.slots, units, share, kind, config.base_ranks)
    return slots, min(slots_of_base(config.base_ranks, share), slots), share  # a base has at most all there are


def _basis(found: Estimate) -> str:
    basis = "a few measured steps of each kind of training and one measurement of each kind"
    if found.measured < found.kinds:
        basis = f"{found.measured} of {found.kinds} kinds of trials"
        if found.measured + len(found.failed) < found.kinds:
            basis += f", as many as could be measured in {TIME_S:.0f} s"
    if found.broken_off:
        basis += (
            f"; {number_of(found.broken_off, 'kind')} of measurements broken off, which would take longer than that"
        )
    return basis


def _of_split(split: Split, unit: str) -> str:
    """What is measured and what is not of trainings that are split."""
    said = f"Split over {number_of(split.count, unit)}: a step is measured with 1/{split.count} of its images"
    if split.why_not:
        return (
            f"{said}; what its processes tell each other, above all their gradients, and their start come on top and "
            f"are not measured ({split.why_not})"
        )
    return (
        f"{said}; added are {1000 * split.message_s:.3g} ms a step for what its processes tell each other, above all "
        f"their gradients, and {split.start_s:.1f} s for their start, measured on {split.count} processes"
    )


def costs(plan: Plan[Cell, Any], seconds: Mapping[str, float]) -> dict[str, list[float]]:
    """Seconds of each trial to run by treatment; a trial with several places counts for the first."""
    treatments = {cell.spec.id: cell.treatment for cell in reversed(plan.cells)}
    times: dict[str, list[float]] = {}
    for trial, time in seconds.items():
        times.setdefault(treatments.get(trial, NOT_IN_A_CELL), []).append(time)
    return times


def print_forecast(console: Console, found: Forecast, plan: Plan[Cell, Any], config: SweepConfig) -> None:
    """Print how long what is to run will take, and what that costs where its price is known."""
    headings = ("to run", "each", "together")
    table = NumberTable({"treatment": "left", **dict.fromkeys(headings, "right")}, line=False)
    for treatment, each in costs(plan, found.seconds).items():
        mean = sum(each) / len(each)
        taken = f"{mean:.2f} s" if mean < 1000 else duration(mean)
        table.add_row(treatment, str(len(each)), taken, duration(sum(each)))
    console.print(table)
    start = "" if config.backend == "in-process" else ", after Ray has started"
    console.print(
        f"{'At least' if found.at_least else 'About'} {duration(found.duration_s)} on "
        f"{number_of(found.slots, 'slot')} of this machine{start}: {duration(found.work_s)} of work, from "
        f"{found.basis}",
        soft_wrap=True,
    )
    for line in (*found.splits, *found.failed):
        console.print(line, soft_wrap=True)
    if found.splits:
        console.print(_held(found), soft_wrap=True)
    if config.price_per_hour is not None:
        console.print(
            f"At a price of {config.price_per_hour:g} an hour of a {found.unit}: about "
            f"{config.price_per_hour * found.paid_hours:.2f}, in the currency of that price, for "
            f"{duration(3600 * found.paid_hours)} of a {found.unit} as fast as this machine's; hours in which machines "
            "start, idle or are lost come on top",
            soft_wrap=True,
        )


def _held(found: Forecast) -> str:
    """What trials hold of a machine whose trainings are split."""
    bases, others = len(found.bases), len(found.seconds) - len(found.bases)
    parts = [
        f"{number_of(count, noun)}, {min(most, count)} at once, each on {share:g}"
        for count, noun, most, share in (
            (bases, "base", found.slots // found.of_base, found.base_share),
            (others, "other trial" if bases else "trial", found.slots, found.share),
        )
        if count
    ]
    hours = f"{duration(3600 * found.paid_hours)} of a {found.unit}"
    return f"What runs holds {hours} in all: {', then '.join(parts)}"
