"""What a plan tells before it runs: its data, and how many trials are left."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeVar

from rich.console import Console

from raytransfer.commands.forecasting import Forecast, costs
from raytransfer.config import SweepConfig
from raytransfer.console.table import counts_table
from raytransfer.errors import UnreadableError, UserError
from raytransfer.experiments import Experiment
from raytransfer.store import Store, lock, repair
from raytransfer.sweep.arithmetic import settled
from raytransfer.sweep.backlog import Backlog, backlog
from raytransfer.sweep.places import NOT_IN_A_CELL
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.sweep.trying import check_trials
from raytransfer.tasks import Dataset, DataSource
from raytransfer.words import number_of, some_of

_CLASSES = 30  # that are named
STATES = ("to run", "there", "failed", "waiting")
"""How a trial of a plan can stand: waiting is for the weights of one that failed."""

Done = TypeVar("Done")


def contents(dataset: Dataset, source: DataSource) -> list[str]:
    """What a data set holds, which of its files are for what, and what was left out, a line each."""
    train, test = len(dataset.train_labels), len(dataset.test_labels)
    _, channels, height, width = dataset.train_images.shape
    kind = "grey" if channels == 1 else "colour"
    held = f"{train} training and {number_of(test, 'test image')} of {len(dataset.class_names)} classes"
    resized = ", resized bicubically" if source.image_size_px is not None and source.interpolation == "bicubic" else ""
    lines = [f"{dataset.name}: {held}, {height} x {width} pixels{resized}, {kind}"]
    if dataset.contents is not None:
        lines.append(f"  training: {dataset.contents.train}; test: {dataset.contents.test}")
        lines += [f"  left out: {entry}" for entry in dataset.contents.left_out]
    if dataset.repeated:
        are = "is a training image" if dataset.repeated == 1 else "are training images"
        lines.append(
            f"  in both: {dataset.repeated} of {number_of(test, 'test image')} {are}, too, by their pixels: "
            "networks have seen them, and accuracies may be too high"
        )
    if dataset.streamed:
        decoded_gb = (train + test) * channels * height * width / 1e9
        lines.append(f"  streamed: decoded whenever they are taken; decoded=cache would keep {decoded_gb:.2f} GB")
    if dataset.sample is not None:
        lines.append(
            f"  large: mean, standard deviation and fingerprint are of {dataset.sample} of the training images, drawn "
            "once and for all, and of the names and sizes of all files; a broken image ends the trial that meets it"
        )
    return lines


def shared(plan: Plan[Any, Any]) -> list[str]:
    """Which data sets of a plan have images in common, a line for each two."""
    lines = []
    for (one, source), (other, another) in combinations(plan.sources, 2):
        count = plan.datasets[one].shared_with(plan.datasets[other])
        if count and source.data != another.data:  # else it is one, decoded in two ways
            images = len(plan.datasets[one].train_labels) + len(plan.datasets[one].test_labels)
            lines.append(
                f"in two data sets: {count} of {number_of(images, 'image')} of {source.data} "
                f"{'is' if count == 1 else 'are'} in {another.data}, too, by their pixels: what is transferred between "
                "them has seen them"
            )
    return lines


def data_lines(plan: Plan[Any, Any]) -> list[str]:
    """What the data sets of a plan hold and have in common, in lines for people."""
    return [*(line for source, dataset in plan.opened for line in contents(dataset, source)), *shared(plan)]


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
    for line in data_lines(plan):
        console.print(line, soft_wrap=True)
    console.print(counts_table(by_treatment, STATES))
    shares = len(plan.trials) < sum(count.total() for count in by_treatment.values())
    once = "; a trial of two treatments counts once" if shares else ""
    console.print(
        f"{number_of(len(plan.trials), 'trial')}, {len(todo.to_run)} to run, in {store.root}{once}", soft_wrap=True
    )


def plan_sweep(
    console: Console, experiment: Experiment[Any], config: SweepConfig
) -> tuple[Plan[Cell, Any], Backlog, Store]:
    """Check and plan a sweep, and print what would run; nothing is written.

    Returns:
        The sweep, what of it is to run, and the store where its results go.

    Raises:
        UserError: It cannot run.
    """

    def planned(config: SweepConfig) -> tuple[Plan[Cell, Any], Backlog, Store]:
        store, config, plan = open_sweep(console, experiment, config)
        plan = plan if plan.then is None else plan.then(store)
        todo = checked_backlog(plan, store, config)
        print_plan(console, plan, todo, store)
        return plan, todo, store

    return repaired(console, config, planned, may_write=False)


def repaired(console: Console, config: SweepConfig, do: Callable[[SweepConfig], Done], *, may_write: bool) -> Done:
    """Do something with a sweep; where a file of rows turns out damaged, set it aside and do it again.

    Args:
        console: Where what is set aside is printed.
        config: The sweep's configuration.
        do: Gets the configuration, the second time with ``mode=cached`` in place of ``force``.
        may_write: Whether damaged files may be set aside.

    Returns:
        What ``do`` gives.

    Raises:
        UserError: A file is damaged, and may not be set aside.
        UnreadableError: A file was damaged, and none is that can be set aside.
    """
    if config.mode == "force" and may_write:  # so that damage which shows later does so when everything has run
        store = Store(config.out, config.retry_s)
        store.check()
        if store.is_made():
            _set_aside(console, store)
    while True:
        try:
            return do(config)
        except UnreadableError as error:
            if not may_write:
                raise UserError(f"{error}; run the sweep, and it is set aside and its trials run again") from error
            if not _set_aside(console, Store(config.out, config.retry_s)):
                raise
            if config.mode == "force":  # everything has run
                config = replace(config, mode="cached")


def _set_aside(console: Console, store: Store) -> list[str]:
    """Set damaged files of rows aside; gives them."""
    with lock(store):
        damaged = repair(store)
    for file in damaged:
        console.print(f"{file} was damaged; it lies in damaged/ now, and its trials run again", soft_wrap=True)
    return damaged


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


def plan_as_json(
    plan: Plan[Cell, Any], todo: Backlog, store: Store, found: Forecast | None, price_per_hour: float | None
) -> dict[str, Any]:
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
            "price": None if price_per_hour is None else price_per_hour * found.paid_hours,
            "basis": "; ".join([found.basis, *found.splits, *found.failed]),
            "work_s_by_treatment": {treatment: sum(each) for treatment, each in costs(plan, found.seconds).items()},
        }
    return {
        "store": store.root,
        "data": data_lines(plan),
        "accounts": list(plan.accounts),
        "trials": len(plan.trials),
        "to_run": len(todo.to_run),
        "treatments": {
            treatment: {state: count[state] for state in STATES} for treatment, count in counts(plan, todo).items()
        },
        "estimate": estimate,
    }
