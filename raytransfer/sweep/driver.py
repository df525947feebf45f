"""Run what is missing of a plan: start Ray, hold the store, hand out, merge the rows."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from raytransfer.config import SweepConfig, TrainingConfig, to_yaml
from raytransfer.errors import UnreadableError
from raytransfer.networks import sources_of
from raytransfer.specs import TrialSpec
from raytransfer.specs.dependencies import imports, scouts_first
from raytransfer.store import (
    Store,
    all_checkpoints,
    clear_failures,
    compact,
    delete_progress,
    delete_state,
    failures,
    finished,
    import_weights,
    lock,
    read_places,
    sweep_names,
    top1_of,
    write_places,
)
from raytransfer.sweep.arithmetic import print_slow_arithmetic
from raytransfer.sweep.backlog import backlog, left_to_run, reads_of
from raytransfer.sweep.mps import is_served
from raytransfer.sweep.observer import Observer
from raytransfer.sweep.places import place_rows
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.sweep.progress import ProgressView
from raytransfer.sweep.record import Record
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.sweep.slots import beyond_memory, check_ranks, of_this_machine, slot_count, without_gpus
from raytransfer.tasks import load_task
from raytransfer.training import image_bytes
from raytransfer.trials import Site, device_name
from raytransfer.words import number_of

if TYPE_CHECKING:
    from raytransfer.sweep.ray import Slots

_SHARING = "gpu_sharing.json"  # in the store: what gpus_per_trial=auto measured last
_PASSES = 3


def run_missing(
    console: Console,
    plan: Plan[Cell, Any],
    store: Store,
    config: SweepConfig,
    folder: str,
    also: Observer,
) -> None:
    """Run what is missing, and once more what turned out to need weights that were damaged or gone.

    Before the first trial the sweep's folder gets its configuration and the places of its trials, so that the store
    tells of a sweep that runs, or was killed, as it does of one that ended.

    Args:
        console: Where it tells how it gets on.
        plan: The sweep.
        store: Where its results go; held against other drivers meanwhile.
        config: How to run it.
        folder: The sweep's folder within the store.
        also: Who else is told how it gets on.

    Raises:
        KeyboardInterrupt: It was told to stop.
        UserError: Another driver holds the store, or the slots that are asked for are not there.
        StorageError: The storage failed on the way.
    """
    for passes_left in reversed(range(_PASSES)):
        with _slots(console, plan, store, config) as slots:
            run = _run(slots, console, plan, store, config, folder, also)
        config = replace(config, mode="cached")
        if not passes_left or not run.failures or not (left := backlog(plan, store, config.mode).to_run):
            break
        console.print(f"Still to run: {number_of(len(left), 'trial')}; weights that they read are trained anew")


@contextmanager
def _slots(console: Console, plan: Plan[Cell, Any], store: Store, config: SweepConfig) -> Iterator["Slots | None"]:
    """Slots of Ray, which runs meanwhile; None to run in this process."""
    if config.backend == "in-process":
        check_ranks(config.ranks, config.base_ranks, *of_this_machine())
        yield None
        return
    console.print("Starting Ray ...")
    from raytransfer.sweep.ray import Slots, cluster, wait_for_machines

    networks = {training.network for training in plan.trainings}
    sources = {path: text for network in networks for path, text in sources_of(network).items()}
    with cluster(sources, share_gpus=_may_share(plan, store, config)) as joined:
        wait_for_machines(max(config.ranks, config.base_ranks) if joined else 1)
        share = _gpus_per_trial(console, plan, store, config, served=None if joined else is_served())
        yield Slots(config.slots, share, config.base_ranks, may_grow=joined)


def _run(
    slots: "Slots | None",
    console: Console,
    plan: Plan[Cell, Any],
    store: Store,
    config: SweepConfig,
    folder: str,
    also: Observer,
) -> Run:
    """Run on slots of Ray, or in this process."""
    on_gpu = "GPU" in slots.per_trial if slots else torch.cuda.is_available()
    with lock(store) as lost:
        site = Site(
            sources=plan.sources,
            root=store.root,
            device="cuda" if on_gpu else "cpu",
            memory_bytes=config.memory_bytes,
            store_id=store.create(),
            retry_s=config.retry_s,
            save_every_s=config.save_every_s,
            ranks=config.ranks,
            base_ranks=config.base_ranks,
        )
        delete_progress(store)  # of a sweep that was killed
        at_once = slots.now() if slots else 1
        todo = scouts_first(_cleared(plan, store, config.mode), at_once)
        store.write(f"{folder}/config.yaml", to_yaml(config).encode())
        write_places(store, folder, place_rows(plan))
        for digest in imports(todo.values()).keys() & plan.imports.keys():
            import_weights(store, plan.imports[digest])
        console.print(f"Running {number_of(len(todo), 'trial')}, {at_once} at once, on {site.device}{_split(config)}")
        if on_gpu:
            _print_streaming(console, plan, config)
            share = slots.per_trial["GPU"] if slots else 1.0
            if note := beyond_memory(config.memory_gb, share, at_once):
                console.print(note, soft_wrap=True)
        elif isinstance(config, TrainingConfig):
            print_slow_arithmetic(console, config)
        with (
            ProgressView(console, plan.cells, todo, lambda trial: top1_of(store, trial)) as progress,
            Record(store, folder, progress.seconds_left, lost) as record,
        ):
            keep = isinstance(config, TrainingConfig) and config.checkpoints == "all"
            read = _read_by_others(store, todo)
            run = Run(todo, site, progress, record, also, keep_checkpoints=keep, also_read=read, lost=lost)
            if slots:
                from raytransfer.sweep.ray import run_on_ray

                run_on_ray(run, slots)
            else:
                run_in_process(run)
        compact(store)
    return run


def _split(config: SweepConfig) -> str:
    """What a line about running trials says of trainings that are split, if any are."""
    if config.base_ranks == config.ranks:
        return f", each training split over {config.ranks} processes" if config.ranks > 1 else ""
    return f", each base split over {number_of(config.base_ranks, 'process')}, others over {config.ranks}"


def _cleared(plan: Plan[Cell, Any], store: Store, mode: str) -> dict[str, TrialSpec]:
    """What is to run, looked up again under the lock, without the traces of earlier attempts at it."""
    store.delete_unfinished()
    todo = backlog(plan, store, mode).to_run
    failed = clear_failures(store, todo)
    for trial in todo if mode == "force" else failed:
        delete_state(store, trial)  # what failed may have failed for it
    for trial in todo if mode == "force" else ():  # else trials would start from the checkpoints of the time before
        store.delete_folder(f"checkpoints/{trial}")
    return todo


def _read_by_others(store: Store, todo: Collection[str]) -> set[tuple[str, int]]:
    """The checkpoints that trials of the store's sweeps read which are left to run, those aside that run now."""
    places = []
    for name in sweep_names(store):
        with suppress(UnreadableError):  # its own driver writes it anew
            if (rows := read_places(store, f"sweeps/{name}")) is not None:
                places.append(rows[~rows["id"].isin(list(todo))])
    reads = reads_of(places)
    _, read = left_to_run(reads.keys() - (finished(store) - set(failures(store))), reads, all_checkpoints(store))
    return {(trial, int(step)) for trial, _, step in (weights.partition("/") for weights in read)}


def _may_share(plan: Plan[Cell, Any], store: Store, config: SweepConfig) -> bool:
    """Whether several trials will share a GPU, or are to be tried side by side."""
    if config.slots == 1:
        return False
    if config.gpus_per_trial != "auto":
        return slot_count(1, config.gpus_per_trial) > 1
    kept = _kept_sharing(store)
    return bool(plan.tasks) and not (_is_kept(kept, plan, config, served=True) and kept["trials_per_gpu"] == 1)


def _gpus_per_trial(
    console: Console, plan: Plan[Cell, Any], store: Store, config: SweepConfig, *, served: bool | None
) -> float:
    """The GPU share of a slot: as configured, or measured; a measurement is kept in the store for the next time.

    Args:
        console: Where it tells what it does.
        plan: The sweep.
        store: Where the measurement is kept.
        config: What is asked for.
        served: Whether trials run under the Multi-Process Service; None where nobody here knows.
    """
    from raytransfer.sweep.ray import has_gpus, measure_sharing

    if not has_gpus() and (note := without_gpus(config.gpus_per_trial)):
        console.print(note, soft_wrap=True)
    if config.gpus_per_trial != "auto":
        share: float = config.gpus_per_trial
        return share
    if not has_gpus() or not plan.tasks:
        return 1.0  # means nothing on CPU cores, and for sweeps that train no network of the zoo
    kept = _kept_sharing(store)
    if not _is_kept(kept, plan, config, served):
        console.print("gpus_per_trial=auto: measuring how many trials are best run side by side ...")
        with lock(store):
            store.create()
            base = plan.longest_base
            kept = asdict(measure_sharing(base, dict(plan.sources)[base.task.fingerprint], config.memory_bytes))
            store.write(_SHARING, json.dumps(kept).encode())
    console.print(f"gpus_per_trial=auto: {kept['reason']} ({kept['device']}{', MPS' if kept['mps'] else ''})")
    if served is None and not kept["mps"]:
        console.print(
            "gpus_per_trial=auto: without NVIDIA's Multi-Process Service trials side by side take turns on the GPU. "
            f"With it (nvidia-cuda-mps-control -d, before Ray starts) remove {_SHARING} of the store to measure again",
            soft_wrap=True,
        )
    return 1 / int(kept["trials_per_gpu"])


def _is_kept(kept: Mapping[str, Any], plan: Plan[Cell, Any], config: SweepConfig, served: bool | None) -> bool:
    """Whether a kept measurement holds: it is of this trial, as much memory and, unless on a cluster, this GPU.

    It also has to be made with the Multi-Process Service if trials run under it now, and without if they do not; but
    where one trial at a time was best even with the service, that holds without it, too.
    """
    if (kept.get("trial"), kept.get("memory_bytes")) != (plan.longest_base.id, config.memory_bytes):
        return False
    if served is not None and torch.cuda.is_available() and kept["device"] != device_name(torch.device("cuda")):
        return False
    return served is None or kept["mps"] == served or (kept["mps"] and kept["trials_per_gpu"] == 1)


def _kept_sharing(store: Store) -> dict[str, Any]:
    try:
        return dict(json.loads(store.read(_SHARING)))
    except (FileNotFoundError, ValueError, TypeError):  # a damaged one is as good as none
        return {}


def _print_streaming(console: Console, plan: Plan[Cell, Any], config: SweepConfig) -> None:
    """Say so if the images of a task are too many to lie on the GPU."""
    plain = {task.plain for task in plan.tasks}
    needed_gb = max((image_bytes(load_task(plan.datasets[task.fingerprint], task)) for task in plain), default=0) / 1e9
    if needed_gb > config.memory_gb:
        console.print(
            f"A task's images take up to {needed_gb:.1f} GB and do not fit memory_gb={config.memory_gb:g} of the GPU: "
            "those that do not fit are sent batch by batch"
        )
