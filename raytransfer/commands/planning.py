"""What a plan tells before it runs: its data, how many trials are left, and about how long they take."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from raytransfer.config import SweepConfig, TrainingConfig
from raytransfer.console.table import NumberTable
from raytransfer.errors import UnreadableError, UserError
from raytransfer.experiments import Experiment
from raytransfer.specs.dependencies import as_base
from raytransfer.store import Store, lock, repair
from raytransfer.sweep.arithmetic import settled
from raytransfer.sweep.backlog import Backlog, backlog
from raytransfer.sweep.driver import print_slow_arithmetic
from raytransfer.sweep.failures import NOT_IN_A_CELL
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.sweep.progress import duration
from raytransfer.sweep.slots import UNITS, check_slots, of_this_machine, slots_of_base, without_gpus
from raytransfer.sweep.trying import check_trials
from raytransfer.tasks import Dataset
from raytransfer.words import number_of, some_of

if TYPE_CHECKING:
    from raytransfer.sweep.rehearsing import Split

_CLASSES = 30  # that are named
STATES = ("to run", "there", "failed", "waiting")
"""How a trial of a plan can stand: waiting is for the weights of one that failed."""

Done = TypeVar("Done")


def contents(dataset: Dataset) -> list[str]:
    """What a data set holds, which of its files are for what, and what was left out, a line each."""
    train, test = len(dataset.train_labels), len(dataset.test_labels)
    _, channels, height, width = dataset.train_images.shape
    kind = "grey" if channels == 1 else "colour"
    held = f"{train} training and {number_of(test, 'test image')} of {len(dataset.class_names)} classes"
    lines = [f"{dataset.name}: {held}, {height} x {width} pixels, {kind}"]
    if dataset.contents is not None:
        lines.append(f"  training: {dataset.contents.train}; test: {dataset.contents.test}")
        lines += [f"  left out: {entry}" for entry in dataset.contents.left_out]
    if dataset.streamed:
        decoded_gb = (train + test) * channels * height * width / 1e9
        lines.append(f"  streamed: decoded whenever they are taken; decoded=cache would keep {decoded_gb:.3g} GB")
    if dataset.sample is not None:
        lines.append(
            f"  large: mean, standard deviation and fingerprint are of {dataset.sample} of the training images, drawn "
            "once and for all, and of the names and sizes of all files; a broken image ends the trial that meets it"
        )
    return lines


def classes(names: Sequence[str]) -> str:
    """The classes of a data set in a line."""
    return f"  classes: {some_of(names, _CLASSES)}"


def state_of(trial: str, todo: Backlog) -> str:
    """How a trial of a plan stands: one of ``STATES``."""
    if trial in todo.blocked:
        return "waiting"
    return "to run" if trial in todo.to_run else "failed" if trial in todo.failed else "there"


def counts(plan: Plan[Cell, Any], todo: Backlog) -> dict[str, Counter[str]]:
    """How many trials of each treatment stand how; a trial with places in two treatments counts for both."""
    found: dict[str, Counter[str]] = {}
    asked = {cell.spec.id for cell in plan.cells}
    places = [(cell.treatment, cell.spec.id) for cell in plan.cells]
    places += [(NOT_IN_A_CELL, trial) for trial in plan.trials if trial not in asked]
    for treatment, trial in dict.fromkeys(places):
        found.setdefault(treatment, Counter())[state_of(trial, todo)] += 1
    return found


def print_plan(console: Console, plan: Plan[Cell, Any], todo: Backlog, store: Store) -> None:
    """Print what a plan consists of, and what of it is to run."""
    by_treatment = counts(plan, todo)
    states = [state for state in STATES if any(count[state] for count in by_treatment.values())]
    table = NumberTable({"treatment": "left", **dict.fromkeys(["trials", *states], "right")}, line=False)
    for treatment, count in by_treatment.items():
        table.add_row(treatment, str(count.total()), *(str(count[state]) for state in states))
    for dataset in plan.datasets.values():
        for line in contents(dataset):
            console.print(line, soft_wrap=True)
    console.print(table)
    console.print(f"{number_of(len(plan.trials), 'trial')}, {len(todo.to_run)} to run, in {store.root}", soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A sweep that has been planned.

    Attributes:
        plan: The sweep.
        todo: What of it is to run.
        store: Where its results go.
    """

    plan: Plan[Cell, Any]
    todo: Backlog
    store: Store


def plan_sweep(console: Console, experiment: Experiment[Any], config: SweepConfig) -> Planned:
    """Check and plan a sweep, and print what would run; nothing is written.

    Raises:
        UserError: It cannot run.
    """

    def planned(config: SweepConfig) -> Planned:
        store, config, plan = open_sweep(console, experiment, config)
        plan = plan if plan.then is None else plan.then(store)
        todo = checked_backlog(plan, store, config)
        print_plan(console, plan, todo, store)
        return Planned(plan=plan, todo=todo, store=store)

    return repaired(console, config, planned, may_write=False)


def repaired(console: Console, config: SweepConfig, do: Callable[[SweepConfig], Done], *, may_write: bool) -> Done:
    """Do something with a sweep; where a file of rows turns out damaged, set it aside and do it again."""
    while True:
        try:
            return do(config)
        except UnreadableError as error:
            if not may_write:
                raise UserError(f"{error}; run the sweep, and it is set aside and its trials run again") from error
            store = Store(config.out, config.retry_s)
            with lock(store):
                damaged = repair(store)
            if not damaged:
                raise
            if config.mode == "force":  # everything has run: damage shows when it is read at the end
                config = replace(config, mode="cached")
            for file in damaged:
                console.print(f"{file} was damaged; it lies in damaged/ now, and its trials run again", soft_wrap=True)


def open_sweep(
    console: Console, experiment: Experiment[Any], config: SweepConfig
) -> tuple[Store, SweepConfig, Plan[Cell, Any]]:
    """The store, checked, the configuration with nothing left open, and its plan."""
    store = Store(config.out, config.retry_s)
    store.check()
    config, plan, chosen = settled(config, store, experiment.plan)
    for account in [*([chosen] if chosen else []), *plan.accounts]:
        console.print(account, soft_wrap=True)
    return store, config, plan


def checked_backlog(plan: Plan[Cell, Any], store: Store, config: SweepConfig) -> Backlog:
    """What of a plan is to run, which is tried before any of it does."""
    todo = backlog(plan, store, config.mode)
    if config.mode != "read-only":
        check_trials(
            todo.to_run.values(),
            plan,
            images="images" if hasattr(config, "images") else "probe_images",
            ranks=config.ranks,
            base_ranks=config.base_ranks,
        )
    return todo


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
        at_least: Whether something takes longer: what was broken off, or what a split takes and is not measured.
    """

    seconds: Mapping[str, float]
    bases: Set[str]
    slots: int
    of_base: int
    share: float
    base_share: float
    unit: str
    basis: str
    splits: Sequence[str]
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
    return max([sum(seconds) / most, *seconds]) if seconds else 0.0


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
    from raytransfer.sweep.estimate import TIME_S, estimate

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
    share = float(ranks)
    if config.backend == "in-process":
        slots = of_base = 1
    else:
        if kind == "GPU" and config.gpus_per_trial != "auto":
            share = config.gpus_per_trial
        elif note := without_gpus(config.gpus_per_trial):
            console.print(note, soft_wrap=True)
        slots = check_slots(config.slots, units, share, kind, base_ranks)
        of_base = slots_of_base(base_ranks, share)
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
    )
    basis = "a few measured steps of each kind of training and one measurement of each kind"
    if found.measured < found.kinds:
        basis = f"{found.measured} of {found.kinds} kinds of trials, as many as could be measured in {TIME_S:.0f} s"
    if found.broken_off:
        basis += f"; {found.broken_off} kinds of measurements take longer than that, for they were broken off"
    return Forecast(
        seconds=found.seconds,
        bases={trial for trial, spec in todo.to_run.items() if as_base(spec) is not None},
        slots=slots,
        of_base=of_base,
        share=share,
        base_share=float(base_ranks) if base_ranks > 1 else share,
        unit=UNITS[kind],
        basis=basis,
        splits=[_of_split(split, UNITS[kind]) for split in found.splits],
        at_least=found.broken_off > 0 or any(split.why_not for split in found.splits),
    )


def _of_split(split: "Split", unit: str) -> str:
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
    for line in found.splits:
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


def plan_as_json(plan: Plan[Cell, Any], todo: Backlog, store: Store, found: Forecast | None) -> dict[str, Any]:
    """What a plan tells, as plain values: its data, how many trials of each treatment stand how, and the forecast."""
    estimate: dict[str, Any] | None = None
    if found is not None:
        estimate = {
            "duration_s": found.duration_s,
            "at_least": found.at_least,
            "work_s": found.work_s,
            "slots": found.slots,
            "held_s": 3600 * found.paid_hours,
            "unit": found.unit,
            "basis": "; ".join([found.basis, *found.splits]),
            "work_s_by_treatment": {treatment: sum(each) for treatment, each in costs(plan, found.seconds).items()},
        }
    return {
        "store": store.root,
        "data": [line for dataset in plan.datasets.values() for line in contents(dataset)],
        "accounts": list(plan.accounts),
        "trials": len(plan.trials),
        "to_run": len(todo.to_run),
        "treatments": {
            treatment: {state: count[state] for state in STATES} for treatment, count in counts(plan, todo).items()
        },
        "estimate": estimate,
    }
