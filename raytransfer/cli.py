"""The command: read what is asked, show the plan, run what is missing, show what came out."""

import importlib.metadata
import logging
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raytransfer.config import SweepConfig, TrainingConfig, differing, load_config, options, plain_yaml, to_yaml
from raytransfer.console.output import Output, new_console
from raytransfer.console.table import NumberTable
from raytransfer.errors import StorageError, UnreadableError, UserError
from raytransfer.experiments import EXPERIMENTS, Experiment
from raytransfer.sweep.garbage import lasting, release
from raytransfer.sweep.interrupts import EXIT_CODE, INTERRUPTED, interruptible
from raytransfer.words import number_of

if TYPE_CHECKING:
    from raytransfer.report.page import Asked
    from raytransfer.store import Store
    from raytransfer.sweep.backlog import Backlog
    from raytransfer.sweep.plan import Cell, Plan
    from raytransfer.tasks import Dataset

_HELP_FLAGS = ("--help", "-h")
_SHOWN = 5  # of the trials that failed for one reason
_CLASSES = 30  # that are named
_WHERE_AND_HOW = {  # options that say so, and change no result
    *("data_dir", "cache_dir", "out", "mode", "backend", "slots", "gpus_per_trial", "memory_gb"),
    *("price_per_hour", "retry_s", "save_every_s", "checkpoints"),
}
_USAGE = """raytransfer: how transferable are a network's features, layer by layer, and why?

Usage: raytransfer run EXPERIMENT [name=value ...]      run what is missing of a sweep, then report
       raytransfer plan EXPERIMENT [name=value ...]     what would run, and about how long
       raytransfer report EXPERIMENT [name=value ...]   report what has finished, and run nothing; with --markdown,
                                                        as Markdown for a paper or an issue
       raytransfer list [WHAT]                          experiments, treatments, networks, distances, scores, probes
                                                        or columns
       raytransfer networks NAME [name=value ...]       how a network is cut into layers; options are image_size_px,
                                                        channels, classes, network_args, granularity and stages
       raytransfer run EXPERIMENT --help                every option of an experiment
       raytransfer --version

Experiments:"""


def main() -> None:
    """The command ``raytransfer``. Exit codes are those of ``run_script``."""
    arguments = sys.argv[1:]
    console = new_console()
    _exit(console, lambda: _command(console, *(arguments or ["--help"])))


def run_script(name: str, description: str) -> None:
    """Run an experiment as its script below ``sweeps/`` does, with the command line's options.

    Exit codes: 0 all trials are there; 1 some failed; 2 what was asked cannot be done; 3 the storage failed on the way;
    130 interrupted. Unless it is 0 or 2, the same command goes on from what is there. Standard output that cannot be
    written, since its disk is full, ends no sweep: the report's files are written, and the exit code is 3.

    Args:
        name: Key of ``EXPERIMENTS``.
        description: What ``--help`` says first.
    """
    console = new_console()
    experiment = EXPERIMENTS[name]
    usage = f"python sweeps/{experiment.script}.py"
    _exit(console, lambda: _run(console, experiment, sys.argv[1:], usage, description))


def _command(console: Console, command: str, *arguments: str) -> int:
    """One command of ``raytransfer``; gives the exit code."""
    if command in _HELP_FLAGS:
        console.print(_USAGE, soft_wrap=True)
        _print_list(console, "experiments")
        return 0
    if command == "--version":
        console.print(f"raytransfer {importlib.metadata.version('raytransfer')}")
        return 0
    if command == "list":
        if len(arguments) > 1:
            raise UserError(f"list takes one thing to list, and got {' '.join(arguments)}")
        _print_list(console, arguments[0] if arguments else "experiments")
        return 0
    if command == "networks":
        _print_network(console, arguments)
        return 0
    if command not in ("run", "plan", "report"):
        raise UserError(f"{command} is no command; there are run, plan, report, list and networks (raytransfer --help)")
    name, *rest = arguments or ["nothing"]
    if name not in EXPERIMENTS:
        raise UserError(f"{command} takes an experiment, one of {', '.join(EXPERIMENTS)}, and got {name}")
    added = {"run": [], "plan": ["--plan"], "report": ["mode=read-only"]}[command]
    experiment = EXPERIMENTS[name]
    return _run(console, experiment, [*rest, *added], f"raytransfer {command} {name}", experiment.question)


def _exit(console: Console, do: Callable[[], int]) -> None:
    """Do something and exit with its code, or with an error's in one line."""
    os.environ["MPLBACKEND"] = "agg"  # figures go to files alone, and a notebook's backend may not be there
    handler = _ConsoleHandler(console)
    logging.getLogger("raytransfer").addHandler(handler)
    logging.getLogger("raytransfer").setLevel(logging.INFO)
    try:
        with interruptible():
            code = do()
    except UserError as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"error: {error}")
        if not isinstance(error, StorageError):
            sys.exit(2)
        console.print(
            "What finished is in the store; once the storage works, the same command goes on from there.",
            soft_wrap=True,
        )
        sys.exit(3)
    except KeyboardInterrupt:
        try:
            console.print(INTERRUPTED, soft_wrap=True)
        finally:  # nothing is left to tidy up, and what is done at a usual exit may wait for what is gone
            os._exit(EXIT_CODE)
    finally:  # its console may be gone when something is logged next
        logging.getLogger("raytransfer").removeHandler(handler)
    if code == 0 and isinstance(console.file, Output) and console.file.lost:
        code = 3
    release()
    sys.exit(code)


def _run(console: Console, experiment: Experiment[Any], arguments: Sequence[str], usage: str, description: str) -> int:
    """Run an experiment with the arguments of a command line; gives the exit code."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    for flag in flags:
        if flag not in ("--plan", "--markdown", *_HELP_FLAGS):
            raise UserError(f"{flag} is no flag; there are --plan, --markdown and --help, and options as name=value")
    if any(flag in _HELP_FLAGS for flag in flags):
        _print_help(console, experiment, overrides, usage, description)
        return 0
    config = load_config(experiment.config, experiment.defaults, overrides)
    plan_only, markdown = "--plan" in flags, "--markdown" in flags
    if markdown and (plan_only or config.mode != "read-only"):
        raise UserError("--markdown goes with raytransfer report, which runs nothing (mode=read-only)")
    asked = [override for override in overrides if not override.startswith("mode=")]
    command = shlex.join(["raytransfer", "run", experiment.name, *asked])

    def sweep(config: SweepConfig) -> int:
        return _sweep(console, experiment, config, command, plan_only=plan_only, as_markdown=markdown)

    return _repaired(console, config, sweep, plan_only=plan_only)


def _repaired(console: Console, config: SweepConfig, sweep: Callable[[SweepConfig], int], *, plan_only: bool) -> int:
    """Run a sweep; where a file of rows turns out to be damaged, set it aside and run what it held again."""
    while True:
        try:
            return sweep(config)
        except UnreadableError as error:
            if plan_only or config.mode == "read-only":
                raise UserError(f"{error}; run the sweep, and it is set aside and its trials run again") from error
            from raytransfer.store import Store, lock, repair

            store = Store(config.out, config.retry_s)
            with lock(store):
                damaged = repair(store)
            if not damaged:
                raise
            if config.mode == "force":  # everything has run: damage shows when it is read at the end
                config = replace(config, mode="cached")
            for file in damaged:
                console.print(f"{file} was damaged; it lies in damaged/ now, and its trials run again", soft_wrap=True)


def _sweep(
    console: Console,
    experiment: Experiment[Any],
    config: SweepConfig,
    command: str,
    *,
    plan_only: bool,
    as_markdown: bool,
) -> int:
    """Plan, run and report; as Markdown, standard output gets that alone, and the rest goes to standard error."""
    with lasting():
        # Imported here so that --help and a mistyped option need not wait for torch.
        import pandas as pd

        from raytransfer.report.console import show_answer, show_places, show_tables
        from raytransfer.report.files import sweep_folder, write_files
        from raytransfer.report.grids import markdown
        from raytransfer.report.page import FAILURES_FRAME
        from raytransfer.store import Store
        from raytransfer.sweep.arithmetic import settled
        from raytransfer.sweep.backlog import backlog
        from raytransfer.sweep.failures import failure_rows
        from raytransfer.sweep.trying import check_trials

    output = console
    if as_markdown:
        console = Console(stderr=True, highlight=False, markup=False)  # where people look on
    store = Store(config.out, config.retry_s)
    store.check()
    config, plan, chosen = settled(config, store, experiment.plan)
    if chosen:
        console.print(chosen, soft_wrap=True)
    for account in plan.accounts:
        console.print(account, soft_wrap=True)
    if plan.then is not None and (plan_only or config.mode == "read-only"):
        plan = plan.then(store)
    while True:
        todo = backlog(plan, store, config.mode)
        if config.mode != "read-only":
            check_trials(todo.to_run.values(), plan, images="images" if hasattr(config, "images") else "probe_images")
        _print_plan(console, plan, todo, store)
        if plan_only:
            _print_estimate(console, plan, todo, config)
            return 0
        _run_missing(console, plan, todo, store, config)
        if plan.then is None:
            break
        plan = plan.then(store)
    report = experiment.report(plan, store, config)
    left = backlog(plan, store, "cached")
    failed = failure_rows(plan.trials, plan.cells, left.failed)
    if failed and report.frames:
        report = replace(report, frames={**report.frames, FAILURES_FRAME: pd.DataFrame(failed)})
    show_tables(console, report)  # first, since nothing that befalls the files may cost them
    name = f"{experiment.script}-{plan.data.replace(', ', '-')}"
    if report.frames:
        try:
            asked = _asked(experiment, plan, config, command)
            files = write_files(report, store, name=name, cells=plan.cells, asked=asked)
            show_places(console, report, store, files)
        except StorageError as error:
            if config.mode != "read-only":  # of a store that one may only read, the report is what is above
                raise
            console.print(f"The report's files are not written: {error}", soft_wrap=True)
    show_answer(console, report)
    if as_markdown:
        output.print(markdown(report), soft_wrap=True)
    return _print_left(console, left, failed, store, config.mode, sweep_folder(name, plan.cells))


def _asked(experiment: Experiment[Any], plan: "Plan[Cell, Any]", config: SweepConfig, command: str) -> "Asked":
    """What the report's page says of a sweep."""
    from raytransfer.report.page import Asked

    def written(value: Any) -> str:
        return plain_yaml.one_line(list(value) if isinstance(value, tuple) else value)

    return Asked(
        title=f"{experiment.name} on {plan.data}",
        question=experiment.question,
        command=command,
        data=[
            *(line for data in plan.datasets.values() for line in [*_contents(data), _classes(data.class_names)]),
            *plan.accounts,
        ],
        changed=[
            (f"{option.name} = {written(value)}", written(option.default), option.meaning)
            for option, value in differing(config, experiment.defaults)
            if option.name not in _WHERE_AND_HOW
        ],
        config=to_yaml(config),
    )


def _run_missing(
    console: Console, plan: "Plan[Cell, Any]", todo: "Backlog", store: "Store", config: SweepConfig
) -> None:
    """Run what is to run."""
    if todo.to_run and config.mode != "read-only":
        from raytransfer.sweep.driver import run_missing

        run_missing(console, plan, store, config)
    elif not store.exists("store.json"):
        raise UserError(f"out={store.root} holds no results, and mode=read-only runs nothing")


def _print_left(
    console: Console, left: "Backlog", rows: Sequence[Mapping[str, Any]], store: "Store", mode: str, folder: str
) -> int:
    """Say what is still missing, and which trials failed, each reason once with its traceback; gives the exit code.

    What failed, the rows, is also a table in the sweep's folder.
    """
    from raytransfer.report.files import write_failures
    from raytransfer.store.schema import PLACES
    from raytransfer.sweep.failures import described

    by_reason: dict[tuple[str | None, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        by_reason.setdefault((row["error"], row["reason"]), []).append(row)
    for alike in by_reason.values():
        shown = [f"{row['id']}, {described({column.name: row[column.name] for column in PLACES})}" for row in alike]
        more = [f"and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
        console.print("", *shown[:_SHOWN], *more, f"failed {alike[0]['traceback'].strip()}", sep="\n", soft_wrap=True)
    missing = bool(left.to_run) and mode != "read-only"  # which asked for no more than is there
    if missing:
        console.print(f"\nNot run: {number_of(len(left.to_run), 'trial')}; the same command runs them.", soft_wrap=True)
    place = ""
    with suppress(StorageError) if mode == "read-only" else nullcontext():  # of which one may only read
        place = write_failures(rows, store, folder)
    if left.failed:
        failed = f"{number_of(len(left.failed), 'trial')} failed, {len(left.blocked)} waiting for others"
        console.print(f"\n{failed}; mode=retry runs them again.", soft_wrap=True)
        if place:
            console.print(f"Failures: {place}", soft_wrap=True)
    return 1 if left.failed or missing else 0


def _print_plan(console: Console, plan: "Plan[Cell, Any]", todo: "Backlog", store: "Store") -> None:
    from raytransfer.sweep.failures import NOT_IN_A_CELL

    counts: dict[str, Counter[str]] = {}
    asked = {cell.spec.id for cell in plan.cells}
    places = [(cell.treatment, cell.spec.id) for cell in plan.cells]
    places += [(NOT_IN_A_CELL, trial) for trial in plan.trials if trial not in asked]
    for treatment, trial in dict.fromkeys(places):
        state = "to run" if trial in todo.to_run else "failed" if trial in todo.failed else "there"
        counts.setdefault(treatment, Counter())["waiting" if trial in todo.blocked else state] += 1
    states = [
        state for state in ("to run", "there", "failed", "waiting") if any(count[state] for count in counts.values())
    ]
    table = NumberTable({"treatment": "left", **dict.fromkeys(["trials", *states], "right")}, line=False)
    for treatment, count in counts.items():
        table.add_row(treatment, str(count.total()), *(str(count[state]) for state in states))
    for dataset in plan.datasets.values():
        for line in _contents(dataset):
            console.print(line, soft_wrap=True)
    console.print(table)
    console.print(f"{number_of(len(plan.trials), 'trial')}, {len(todo.to_run)} to run, in {store.root}", soft_wrap=True)


def _contents(dataset: "Dataset") -> list[str]:
    """What a data set holds, which of its files are for what, and what was left out, a line each."""
    train, test = len(dataset.train_labels), len(dataset.test_labels)
    _, channels, height, width = dataset.train_images.shape
    kind = "grey" if channels == 1 else "colour"
    held = f"{train} training and {number_of(test, 'test image')} of {len(dataset.class_names)} classes"
    lines = [f"{dataset.name}: {held}, {height} x {width} pixels, {kind}"]
    if dataset.contents is not None:
        lines.append(f"  training: {dataset.contents.train}; test: {dataset.contents.test}")
        lines += [f"  left out: {entry}" for entry in dataset.contents.left_out]
    return lines


def _classes(names: Sequence[str]) -> str:
    more = f" and {len(names) - _CLASSES} more" if len(names) > _CLASSES else ""
    return f"  classes: {', '.join(names[:_CLASSES])}{more}"


def _print_estimate(console: Console, plan: "Plan[Cell, Any]", todo: "Backlog", config: SweepConfig) -> None:
    import torch

    from raytransfer.sweep.driver import print_slow_arithmetic
    from raytransfer.sweep.estimate import TIME_S, estimate
    from raytransfer.sweep.progress import duration
    from raytransfer.sweep.slots import check_slots, without_gpus

    if not todo.to_run:
        return
    gpus = torch.cuda.device_count()
    if config.backend == "in-process":
        slots, share, start = 1, 1.0, ""
    elif gpus:
        share = 1.0 if config.gpus_per_trial == "auto" else config.gpus_per_trial
        slots, start = check_slots(config.slots, gpus, share, "GPU"), ", after Ray has started"
    else:
        share = 1.0
        if note := without_gpus(config.gpus_per_trial):
            console.print(note, soft_wrap=True)
        slots, start = check_slots(config.slots, os.cpu_count() or 1, share, "CPU"), ", after Ray has started"
    device = "cuda" if gpus else "cpu"
    if device == "cpu" and isinstance(config, TrainingConfig):
        print_slow_arithmetic(console, config)
    found = estimate(todo.to_run.values(), plan, device, config.memory_bytes)
    by_trial = found.seconds
    seconds = sum(by_trial.values())
    console.print(_costs(plan, by_trial))
    basis = "a few measured steps of each kind of training and one measurement of each kind"
    if found.measured < found.kinds:
        basis = f"{found.measured} of {found.kinds} kinds of trials, as many as could be measured in {TIME_S:.0f} s"
    if found.broken_off:
        basis += f"; {found.broken_off} kinds of measurements take longer than that, for they were broken off"
    console.print(
        f"{'At least' if found.broken_off else 'About'} {duration(seconds / slots)} on {number_of(slots, 'slot')} of "
        f"this machine{start}: {duration(seconds)} of work, from {basis}",
        soft_wrap=True,
    )
    if config.price_per_hour is not None:
        unit, paid = "GPU" if gpus else "CPU core", seconds * share
        console.print(
            f"At a price of {config.price_per_hour:g} an hour of a {unit}: about "
            f"{config.price_per_hour * paid / 3600:.2f}, in the currency of that price, for {duration(paid)} of a "
            f"{unit} as fast as this machine's; hours in which machines start, idle or are lost come on top",
            soft_wrap=True,
        )


def _costs(plan: "Plan[Cell, Any]", seconds: Mapping[str, float]) -> NumberTable:
    """What each treatment takes; a trial with several places counts for the first."""
    from raytransfer.sweep.failures import NOT_IN_A_CELL
    from raytransfer.sweep.progress import duration

    treatments = {cell.spec.id: cell.treatment for cell in reversed(plan.cells)}
    times: dict[str, list[float]] = {}
    for trial, time in seconds.items():
        times.setdefault(treatments.get(trial, NOT_IN_A_CELL), []).append(time)
    headings = ("to run", "each", "together")
    table = NumberTable({"treatment": "left", **dict.fromkeys(headings, "right")}, line=False)
    for treatment, each in times.items():
        table.add_row(treatment, str(len(each)), f"{sum(each) / len(each):.2f} s", duration(sum(each)))
    return table


def _print_list(console: Console, what: str) -> None:
    """Print one of the project's tables, a line an entry."""
    lists: dict[str, Callable[[], Mapping[str, str]]] = {
        "experiments": _experiments,
        "treatments": _treatments,
        "networks": _networks,
        "distances": _distances,
        "scores": _scores,
        "probes": _probes,
        "columns": _columns,
    }
    if what not in lists:
        raise UserError(f"list {what} is not known; choose from {', '.join(lists)}")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, meaning in lists[what]().items():
        table.add_row(Text(name), Text(meaning))
    console.print(table)


def _print_network(console: Console, arguments: Sequence[str]) -> None:
    """Print the stages of a network, as a sweep would cut it."""
    if not arguments or "=" in arguments[0]:
        raise UserError("networks takes the name of a network first, as raytransfer networks torchvision/resnet18")
    from raytransfer.config.rules import choices_of
    from raytransfer.experiments.checks import network_spec
    from raytransfer.networks import check_network, default_image_size, describe
    from raytransfer.specs import NetworkSpec

    name, *rest = arguments
    values: dict[str, Any] = {"image_size_px": None, "channels": 3, "classes": 1000}
    values |= {"network_args": {}, "granularity": "block", "stages": None}
    for argument in rest:
        key, _, text = argument.partition("=")
        if key not in values:
            raise UserError(f"{argument} is no option of networks; there are {', '.join(values)}")
        values[key] = plain_yaml.load(text)
    for key, least in (("image_size_px", 1), ("channels", 1), ("classes", 2)):
        value = values[key]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise UserError(f"{key}={value} must be a whole number from {least} on")
    choices = choices_of(NetworkSpec)["granularity"]
    if values["granularity"] not in choices:
        raise UserError(f"granularity={values['granularity']} is not known; choose from {', '.join(choices)}")
    spec = network_spec(TrainingConfig(network=name, **{key: values[key] for key in list(values)[3:]}))
    side = values["image_size_px"] or default_image_size(spec)
    network = check_network(spec, image=(values["channels"], side, side), classes=values["classes"])
    rows = describe(network)
    draws, moves = any(row.random for row in rows), any(row.statistics for row in rows)
    headings = ["n", "layer", "parameters", "output", "MFLOPs", *["draws"] * draws, *["moves"] * moves, "parts"]
    table = NumberTable(
        {name: "right" if name in ("n", "parameters", "MFLOPs") else "left" for name in headings}, keys=2, line=False
    )
    for row in rows:
        table.add_row(
            str(row.n) if row.n < len(rows) else "head",
            row.name,
            f"{row.parameters:,}",
            "x".join(map(str, row.output)),
            f"{row.mflops:.3g}",
            *["random" if row.random else ""] * draws,
            *["statistics" if row.statistics else ""] * moves,
            ", ".join(row.parts),
        )
    total = sum(row.parameters for row in rows), sum(row.mflops for row in rows)
    console.print(
        f"{name}: {number_of(len(rows), 'layer')}, {total[0]:,} parameters, {total[1]:.1f} MFLOPs an image of {side} "
        "pixels",
        soft_wrap=True,
    )
    console.print(table)
    console.print(
        "In parentheses: what has no weights or only normalises. It joins the layer before it; what pools, flattens or "
        "drops out right before the head joins the head. No cut lies inside a part.",
        soft_wrap=True,
    )


def _experiments() -> dict[str, str]:
    return {name: experiment.question for name, experiment in EXPERIMENTS.items()}


def _treatments() -> dict[str, str]:
    from raytransfer.specs.treatments import TREATMENTS

    return {name: treatment.meaning for name, treatment in TREATMENTS.items()}


def _networks() -> dict[str, str]:
    from raytransfer.networks import ZOO

    return {name: architecture.meaning for name, architecture in ZOO.items()} | {
        "torchvision/NAME": "any classifier of torchvision, such as torchvision/vit_b_16",
        "timm/NAME": "any of timm, such as timm/convnext_tiny",
        "package.module:function": "one of your own: a function of num_classes that gives a torch.nn.Module",
    }


def _distances() -> dict[str, str]:
    from raytransfer.distances import DISTANCES

    return {name: distance.meaning for name, distance in DISTANCES.items()}


def _scores() -> dict[str, str]:
    from raytransfer.scores import SCORES

    return {name: score.meaning for name, score in SCORES.items()}


def _probes() -> dict[str, str]:
    from raytransfer.probes import PROBES

    return {name: probe.meaning for name, probe in PROBES.items()}


def _columns() -> dict[str, str]:
    from raytransfer.store.schema import TABLES

    return {
        f"{table}.{column.name}": f"{column.type}: {column.meaning}"
        for table, columns in TABLES.items()
        for column in columns
    }


def _print_help(
    console: Console, experiment: Experiment[Any], overrides: Sequence[str], usage: str, description: str
) -> None:
    console.print(description.strip())
    console.print(
        f"\nUsage: {usage} [name=value ...] [--plan] [--markdown] [--help]\n\n"
        "  --plan      show what would run and about how long, and stop\n"
        "  --markdown  with report: print answer and tables as Markdown\n"
        "  --help      show this; with data=... or preset=..., the defaults for that data set or preset\n"
    )
    table = Table("option", "default", "meaning", box=None, padding=(0, 2, 0, 0))
    for option in options(experiment.config, experiment.defaults, overrides):
        default = "null" if option.default is None else option.default
        if isinstance(default, bool):
            default = str(default).lower()
        elif isinstance(default, list | tuple):
            default = f"[{','.join(str(entry) for entry in default)}]"
        table.add_row(option.name, Text(str(default)), Text(option.meaning))
    console.print(table)


class _ConsoleHandler(logging.Handler):
    """Log lines of the package on the console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), soft_wrap=True)
