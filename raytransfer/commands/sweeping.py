"""Plan, run and report a sweep on a console: what the command and the library both do."""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from rich.console import Console

from raytransfer.commands.planning import checked_backlog, classes, contents, open_sweep, print_plan, repaired, shared
from raytransfer.commands.status import print_interrupted
from raytransfer.config import WHERE_AND_HOW, SweepConfig, differing, plain_yaml, to_yaml
from raytransfer.errors import StorageError, UserError
from raytransfer.experiments import Experiment
from raytransfer.report import Report
from raytransfer.report.console import show_answer, show_places, show_tables
from raytransfer.report.files import write_files
from raytransfer.report.page import FAILURES_FRAME, Asked
from raytransfer.store import Store, compact, held, is_compact, lock, read_table, write_failures, write_places
from raytransfer.store.schema import FAILURES
from raytransfer.sweep.backlog import Backlog, backlog
from raytransfer.sweep.curves import Curves, Tracker, trackers
from raytransfer.sweep.driver import run_missing
from raytransfer.sweep.failures import failure_rows
from raytransfer.sweep.places import described, place_of, place_rows, places
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.words import number_of

_SHOWN = 5  # of the trials that failed for one reason
_LONGEST_NAME = 120  # bytes of a folder's name, of which a file system takes 255
_STARTED = {"config.yaml", "places.parquet"}  # what a sweep's folder holds before its report


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A sweep that has run, as far as it could.

    Attributes:
        report: What came out.
        store: Where it lies.
        folder: Its folder within the store.
        failed: Rows of the table ``failures``.
        left: What is still missing.
        files: Places of the report's files by name; none where they could not be written.
        code: Exit code: 0 where all asked for is there, else 1.
    """

    report: Report
    store: Store
    folder: str
    failed: Sequence[Mapping[str, Any]]
    left: Backlog
    files: Mapping[str, str]
    code: int

    @property
    def failures(self) -> pd.DataFrame:
        """The trials that failed, a row a place."""
        return pd.DataFrame(self.failed, columns=[column.name for column in FAILURES])

    @property
    def as_json(self) -> dict[str, Any]:
        """What the command prints of it as JSON; what a frame lacks is null."""
        frames = {name: frame.astype(object) for name, frame in self.report.frames.items()}
        return {
            "sweep": self.folder.rpartition("/")[2],
            "store": self.store.root,
            "answer": self.report.answer,
            "notes": self.report.notes,
            "failed": len(self.left.failed),
            "left": len(self.left.to_run),
            "files": self.files,
            "frames": {name: frame.where(frame.notna(), None).to_dict("records") for name, frame in frames.items()},
        }


def run_sweep(console: Console, experiment: Experiment[Any], config: SweepConfig, asked: Sequence[str]) -> Reported:
    """Check and plan a sweep, run what is missing of it, print and write its report; ``mode=read-only`` runs nothing.

    Args:
        console: Where to print.
        experiment: The experiment.
        config: Its options.
        asked: What was asked for, as options of the command.

    Raises:
        KeyboardInterrupt: It was told to stop.
        UserError: It cannot run, or ``mode=read-only`` is to report a store without results.
        StorageError: The storage failed on the way.
    """
    command = shlex.join(["raytransfer", "run", experiment.name, *asked])
    return repaired(
        console, config, lambda config: _run(console, experiment, config, command), may_write=config.mode != "read-only"
    )


def _run(console: Console, experiment: Experiment[Any], config: SweepConfig, command: str) -> Reported:
    store, config, plan = open_sweep(console, experiment, config)
    if plan.then is not None and config.mode == "read-only":
        plan = plan.then(store)
    found = trackers(config) if config.mode != "read-only" else []
    while True:
        todo = checked_backlog(plan, store, config)
        print_plan(console, plan, todo, store)
        folder = _folder(experiment, plan)
        _run_missing(console, plan, todo, store, config, folder, found)
        if plan.then is None:
            break
        plan = plan.then(store)
        if folder != _folder(experiment, plan) and set(store.names(folder)) == _STARTED:
            store.delete_folder(folder)  # the sweep goes on by another name
    return _report(console, experiment, plan, store, config, command)


def _run_missing(
    console: Console,
    plan: Plan[Cell, Any],
    todo: Backlog,
    store: Store,
    config: SweepConfig,
    folder: str,
    found: Sequence[Tracker],
) -> None:
    """Run what is to run, and give trackers the learning curves of all that has; ``mode=read-only`` runs nothing."""
    if config.mode == "read-only":
        if not store.is_made():
            raise UserError(f"out={store.root} holds no results, and mode=read-only runs nothing")
        return
    name = folder.rpartition("/")[2]
    with Curves(found, console, store, name, plan) as curves:
        if todo.to_run:
            try:
                run_missing(console, plan, store, config, folder, curves)
            except KeyboardInterrupt:
                print_interrupted(console, store, name)
                raise
        elif not is_compact(store) and held(store) is None:
            _merge(store)


def _merge(store: Store) -> None:
    """Merge rows, some of which a command left twice that was killed while it did, unless another holds the store."""
    with ExitStack() as locked:
        try:
            locked.enter_context(lock(store))
        except UserError:  # another took it in this moment: that one, or a later one, merges them
            return
        compact(store)


def _report(
    console: Console,
    experiment: Experiment[Any],
    plan: Plan[Cell, Any],
    store: Store,
    config: SweepConfig,
    command: str,
) -> Reported:
    """Print and write what came out."""
    folder = _folder(experiment, plan)
    report = experiment.report(plan, store, config)
    if any(dataset.streamed for dataset in plan.datasets.values()):
        report = replace(report, notes=[*report.notes, *_what_bound(plan, store)])
    left = backlog(plan, store, "cached")
    if report.frames and (unfinished := _unfinished(plan, left)):
        report = replace(report, notes=[*report.notes, unfinished])
    failed = failure_rows(left.failed, places({trial: plan.trials[trial] for trial in left.failed}, plan.cells))
    if failed and report.frames:
        report = replace(report, frames={**report.frames, FAILURES_FRAME: pd.DataFrame(failed)})
    show_tables(console, report)  # first, since nothing that befalls the files may cost them
    files: dict[str, str] = {}
    if report.frames:
        try:
            asked = _asked(experiment, plan, config, command)
            placed = place_rows(plan)
            files = write_files(report, store, folder=folder, cells=plan.cells, asked=asked, places=placed)
            write_places(store, folder, placed)
            show_places(console, report, store, files)
        except StorageError as error:
            if config.mode != "read-only":  # of a store that one may only read, the report is what is above
                raise
            console.print(f"The report's files are not written: {error}", soft_wrap=True)
    show_answer(console, report)
    code = _print_left(console, left, failed, store, config.mode, folder)
    return Reported(report=report, store=store, folder=folder, failed=failed, left=left, files=files, code=code)


def _unfinished(plan: Plan[Cell, Any], left: Backlog) -> str:
    """How much of a sweep the report covers, where that is not all of it."""
    if not left.unfinished:
        return ""
    done = len(plan.trials) - len(left.unfinished)
    failed = f", and {len(left.failed)} failed" if left.failed else ""
    return (
        f"{done} of {number_of(len(plan.trials), 'trial')} have finished{failed}: all results here are of these alone."
    )


def _what_bound(plan: Plan[Cell, Any], store: Store) -> list[str]:
    """Whether trainings of streamed images took as long as their arithmetic, or as decoding; none where none tells."""
    rows = read_table(store, "trials")
    waited = rows.loc[rows["id"].isin(plan.trials), "waited"].dropna()
    if waited.empty:
        return []
    bound = "decoding binds: more CPU cores for each slot would help" if waited.mean() >= 0.5 else "arithmetic binds"
    spread = f"{waited.min():.0%} to {waited.max():.0%}"
    return [f"Streamed images: trainings waited for them {waited.mean():.0%} of their time ({spread}), so {bound}."]


def _folder(experiment: Experiment[Any], plan: Plan[Cell, Any]) -> str:
    """The folder of a sweep within its store: by its experiment and data, which are cut where long, and its trials."""
    name = f"{experiment.script}-{plan.data.replace(', ', '-')}".encode()[:_LONGEST_NAME].decode(errors="ignore")
    identity = hashlib.sha256("".join(sorted({cell.spec.id for cell in plan.cells})).encode()).hexdigest()[:8]
    return f"sweeps/{name}-{identity}"


def _asked(experiment: Experiment[Any], plan: Plan[Cell, Any], config: SweepConfig, command: str) -> Asked:
    """What the report's page says of a sweep."""
    return Asked(
        title=f"{experiment.name} on {plan.data}",
        question=experiment.question,
        command=command,
        data=[
            *(
                line
                for source, dataset in plan.opened
                for line in [*contents(dataset, source), classes(dataset.class_names)]
            ),
            *shared(plan),
            *plan.accounts,
        ],
        changed=[
            (f"{option.name} = {plain_yaml.one_line(value)}", plain_yaml.one_line(option.default), option.meaning)
            for option, value in differing(config, experiment.defaults)
            if option.name not in WHERE_AND_HOW
        ],
        config=to_yaml(config),
    )


def _print_left(
    console: Console, left: Backlog, rows: Sequence[Mapping[str, Any]], store: Store, mode: str, folder: str
) -> int:
    """Say what is still missing, and which trials failed, each reason once with its traceback; gives the exit code.

    What failed, the rows, is also a table in the sweep's folder.
    """
    by_reason: dict[tuple[str | None, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        by_reason.setdefault((row["error"], row["reason"]), []).append(row)
    for alike in by_reason.values():
        shown = [f"{row['id']}, {described(place_of(row))}" for row in alike]
        more = [f"and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
        console.print("", *shown[:_SHOWN], *more, f"failed {alike[0]['traceback'].strip()}", sep="\n", soft_wrap=True)
    missing = bool(left.to_run) and mode != "read-only"  # which asked for no more than is there
    if missing:
        console.print(f"\nNot run: {number_of(len(left.to_run), 'trial')}; the same command runs them.", soft_wrap=True)
    place = ""
    with suppress(StorageError) if mode == "read-only" else nullcontext():  # of which one may only read
        place = write_failures(store, folder, rows)
    if left.failed:
        failed = f"{number_of(len(left.failed), 'trial')} failed, {len(left.blocked)} waiting for others"
        console.print(f"\n{failed}; mode=retry runs them again.", soft_wrap=True)
        if place:
            console.print(f"Failures: {place}", soft_wrap=True)
    return 1 if left.failed or missing else 0
