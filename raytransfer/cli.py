"""The command of a sweep: read what is asked, show the plan, run what is missing, show what came out."""

import importlib
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raytransfer.config import (
    DistanceConfig,
    GridConfig,
    StageConfig,
    SweepConfig,
    TheoryConfig,
    TrainingConfig,
    WhyConfig,
    load_config,
    options,
)
from raytransfer.errors import UserError

if TYPE_CHECKING:
    from raytransfer.plan import Backlog, Cell, Plan
    from raytransfer.store import Store

_PACKING = "packing.json"  # in the store: what gpus_per_trial=auto measured last
_HELP_FLAGS = ("--help", "-h")
_NOT_IN_A_CELL = "only read by others"
_EXPERIMENTS: dict[type[SweepConfig], str] = {
    GridConfig: "yosinski",
    DistanceConfig: "distance",
    StageConfig: "stages",
    WhyConfig: "why",
    TheoryConfig: "theory",
}


def main(script: str, description: str, kind: type[SweepConfig]) -> None:
    """Run the sweep whose script this is, with the YAML file beside it and the command line's overrides.

    Exit codes: 0 all trials are there; 1 some failed; 2 what was asked cannot be done; 130 interrupted.

    Args:
        script: Path of the script.
        description: What ``--help`` says first.
        kind: The kind of sweep, by its configuration.
    """
    console = Console(highlight=False, markup=False)
    yaml = _yaml_of(Path(script))
    arguments = sys.argv[1:]
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    logging.getLogger("raytransfer").addHandler(_ConsoleHandler(console))
    logging.getLogger("raytransfer").setLevel(logging.INFO)
    try:
        for flag in flags:
            if flag not in ("--plan", *_HELP_FLAGS):
                raise UserError(f"{flag} is no flag; there are --plan and --help, and options as name=value")
        if any(flag in _HELP_FLAGS for flag in flags):
            _print_help(console, Path(script).name, description, kind, yaml, overrides)
            return
        code = _sweep(console, Path(script).stem, load_config(kind, yaml, overrides), plan_only="--plan" in flags)
    except UserError as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        code = 130
    if code == 130:
        console.print("Interrupted: what finished is in the store; the same command goes on from there.")
    sys.exit(code)


def _yaml_of(script: Path) -> Path:
    """The YAML file beside a script, or beside its original: ``ray submit`` copies the script alone to a cluster."""
    beside = script.with_suffix(".yaml")
    return beside if beside.exists() else Path(__file__).parents[1] / "sweeps" / beside.name


def _sweep(console: Console, name: str, config: SweepConfig, *, plan_only: bool) -> int:
    # Imported here so that --help and a mistyped option need not wait for torch.
    from raytransfer.plan import backlog
    from raytransfer.store import Store

    experiment: Any = importlib.import_module(f"raytransfer.experiments.{_EXPERIMENTS[type(config)]}")
    store = Store(config.out)
    store.check()
    plan = experiment.make_plan(config)
    todo = backlog(plan, store, config.mode)
    _print_plan(console, plan, todo, store)
    if plan_only:
        _print_estimate(console, plan, todo, config)
        return 0
    interrupted = False
    if todo.to_run and config.mode != "read-only":
        interrupted = _run(console, plan, todo, store, config)
    elif not store.exists("store.json"):
        raise UserError(f"out={store.root} holds no results, and mode=read-only runs nothing")
    experiment.report(console, name, plan, store, config)
    if interrupted:
        return 130
    return _print_failures(console, plan, store)


def _print_failures(console: Console, plan: "Plan[Cell]", store: "Store") -> int:
    """Say which trials failed, each reason once with its traceback; gives the exit code."""
    from raytransfer.plan import backlog

    left = backlog(plan, store, "cached")
    trials_by_reason: dict[str, list[str]] = {}
    for trial, reason in left.failed.items():
        trials_by_reason.setdefault(reason.strip().splitlines()[-1], []).append(trial)
    for trials in trials_by_reason.values():
        console.print(f"\n{', '.join(trials)} failed {left.failed[trials[0]].strip()}", soft_wrap=True)
    if left.failed:
        waiting = f"{len(left.blocked)} wait for them"
        console.print(f"\n{len(left.failed)} trials failed, {waiting}; mode=retry runs them again.")
    return 1 if left.failed else 0


def _run(console: Console, plan: "Plan[Cell]", todo: "Backlog", store: "Store", config: SweepConfig) -> bool:
    """Run what is to run on slots, holding the store's lock, and merge the small files that the trials leave.

    Returns:
        Whether it was interrupted.
    """
    import torch

    from raytransfer.plan import backlog
    from raytransfer.progress import ProgressBar
    from raytransfer.store import clear_failures, compact
    from raytransfer.sweep import Run, run_in_process
    from raytransfer.trial import Site

    on_ray = config.backend == "ray"
    if on_ray:
        console.print("Starting Ray ...")
        from raytransfer.on_ray import cluster, run_on_ray, slots
    with cluster() if on_ray else nullcontext():
        concurrent, share = slots(config.slots, _gpus_per_trial(console, plan, store, config)) if on_ray else (1, {})
        device = "cuda" if "GPU" in share or (not on_ray and torch.cuda.is_available()) else "cpu"
        store.create()
        with store.lock():
            todo = backlog(plan, store, config.mode)  # again: another driver may have been at work until now
            clear_failures(store, todo.to_run)
            if config.mode == "force":  # else trials would start from the checkpoints of the time before
                for trial in todo.to_run:
                    store.delete_folder(f"checkpoints/{trial}")
            console.print(f"Running {len(todo.to_run)} trials, {concurrent} at once, on {device}")
            if device == "cuda":
                _print_streaming(console, plan, config)
            elif isinstance(config, TrainingConfig):
                _print_slow_arithmetic(console, config)
            with ProgressBar(console, plan.cells, todo.to_run, concurrent) as progress:
                site = Site(sources=plan.sources, root=store.root, device=device, memory_bytes=config.memory_bytes)
                run = Run(todo.to_run, site, progress, keep_checkpoints=_keeps_checkpoints(config))
                if on_ray:
                    run_on_ray(run, concurrent, share)
                else:
                    run_in_process(run)
            compact(store)
    return run.unfinished > 0


def _keeps_checkpoints(config: SweepConfig) -> bool:
    return isinstance(config, TrainingConfig) and config.checkpoints == "all"


def _gpus_per_trial(console: Console, plan: "Plan[Cell]", store: "Store", config: SweepConfig) -> float:
    """The GPU share of a slot: as configured, or measured; a measurement is kept in the store for the next time."""
    from raytransfer.on_ray import has_gpus, measure_packing

    if config.gpus_per_trial != "auto":
        share: float = config.gpus_per_trial
        return share
    if not has_gpus() or not plan.tasks:
        return 1.0  # means nothing on CPU cores, and for sweeps that train no network of the zoo
    base = plan.longest_base
    kept = json.loads(store.read(_PACKING)) if store.exists(_PACKING) else {}
    if kept.get("trial") != base.id:
        console.print("gpus_per_trial=auto: measuring how many trials are best run side by side ...")
        store.create()
        kept = asdict(measure_packing(base, dict(plan.sources)[base.task.fingerprint], config.memory_bytes))
        store.write(_PACKING, json.dumps(kept).encode())
    console.print(f"gpus_per_trial=auto: {kept['reason']} ({kept['device']}{', MPS' if kept['mps'] else ''})")
    return 1 / int(kept["trials_per_gpu"])


def _print_streaming(console: Console, plan: "Plan[Cell]", config: SweepConfig) -> None:
    """Say so if the images of a task are too many to lie on the GPU."""
    from raytransfer.tasks import load_task
    from raytransfer.training import image_bytes

    plain = {replace(task, dials=None) for task in plan.tasks}  # dials leave sizes as they are, and take time
    needed_gb = max((image_bytes(load_task(plan.datasets[task.fingerprint], task)) for task in plain), default=0) / 1e9
    if needed_gb > config.memory_gb:
        console.print(
            f"A task's images take up to {needed_gb:.1f} GB and do not fit memory_gb={config.memory_gb:g} of the GPU: "
            "those that do not fit are sent batch by batch"
        )


def _print_slow_arithmetic(console: Console, config: TrainingConfig) -> None:
    """Say so if this processor has to emulate bf16: a training step then takes a multiple of its time in fp32."""
    import torch

    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 does not tell
    lacks = has.get("architecture") == "x86_64" and not (has.get("avx512_bf16") or has.get("amx_bf16"))
    if config.recipe.precision == "bf16" and lacks:
        console.print(
            "recipe.precision=bf16 is slow here: this processor has no instructions for it, and fp32 would be several "
            "times as fast",
            soft_wrap=True,
        )


def _print_plan(console: Console, plan: "Plan[Cell]", todo: "Backlog", store: "Store") -> None:
    counts: dict[str, Counter[str]] = {}
    asked = {cell.spec.id for cell in plan.cells}
    places = [(cell.treatment, cell.spec.id) for cell in plan.cells]
    places += [(_NOT_IN_A_CELL, trial) for trial in plan.trials if trial not in asked]
    for treatment, trial in dict.fromkeys(places):
        state = "to run" if trial in todo.to_run else "failed" if trial in todo.failed else "there"
        counts.setdefault(treatment, Counter())["waiting" if trial in todo.blocked else state] += 1
    states = [
        state for state in ("to run", "there", "failed", "waiting") if any(count[state] for count in counts.values())
    ]
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("treatment")
    for state in ("trials", *states):
        table.add_column(state, justify="right")
    for treatment, count in counts.items():
        table.add_row(treatment, str(count.total()), *(str(count[state]) for state in states))
    console.print(table)
    console.print(f"{len(plan.trials)} trials, {len(todo.to_run)} to run, in {store.root}", soft_wrap=True)


def _print_estimate(console: Console, plan: "Plan[Cell]", todo: "Backlog", config: SweepConfig) -> None:
    import torch

    from raytransfer.estimate import trial_seconds
    from raytransfer.plan import check_slots
    from raytransfer.progress import duration

    if not todo.to_run:
        return
    gpus = torch.cuda.device_count()
    if config.backend == "in-process":
        slots, start = 1, ""
    elif gpus:
        per_trial = 1.0 if config.gpus_per_trial == "auto" else config.gpus_per_trial
        slots, start = check_slots(config.slots, gpus, per_trial, "GPU"), ", after Ray has started"
    else:
        slots, start = check_slots(config.slots, os.cpu_count() or 1, 1.0, "CPU"), ", after Ray has started"
    device = "cuda" if gpus else "cpu"
    if device == "cpu" and isinstance(config, TrainingConfig):
        _print_slow_arithmetic(console, config)
    by_trial = trial_seconds(todo.to_run.values(), plan, device, config.memory_bytes)
    seconds = sum(by_trial.values())
    console.print(_costs(plan, by_trial))
    console.print(
        f"About {duration(seconds / slots)} on {slots} slots of this machine{start}: {duration(seconds)} of work, from "
        "a few measured steps of each kind of training and one measurement of each kind",
        soft_wrap=True,
    )


def _costs(plan: "Plan[Cell]", seconds: Mapping[str, float]) -> Table:
    """What each treatment takes; a trial with several places counts for the first."""
    from raytransfer.progress import duration

    treatments = {cell.spec.id: cell.treatment for cell in reversed(plan.cells)}
    times: dict[str, list[float]] = {}
    for trial, time in seconds.items():
        times.setdefault(treatments.get(trial, _NOT_IN_A_CELL), []).append(time)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("treatment")
    for heading in ("to run", "each", "together"):
        table.add_column(heading, justify="right")
    for treatment, each in times.items():
        table.add_row(treatment, str(len(each)), f"{sum(each) / len(each):.2f} s", duration(sum(each)))
    return table


def _print_help(
    console: Console, script: str, description: str, kind: type[SweepConfig], yaml: Path, overrides: list[str]
) -> None:
    console.print(description.strip())
    console.print(
        f"\nUsage: python sweeps/{script} [name=value ...] [--plan] [--help]\n\n"
        "  --plan   show what would run and about how long, and stop\n"
        "  --help   show this; with data=... or preset=..., the defaults for that data set or preset\n"
    )
    table = Table("option", "default", "meaning", box=None, padding=(0, 2, 0, 0))
    for option in options(kind, yaml, overrides):
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
