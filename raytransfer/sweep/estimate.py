"""How long a sweep will take, from a few measured steps, in a time of its own that is bounded."""

import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np
import torch

from raytransfer.networks import Network, freeze_first, train_mode
from raytransfer.specs import Recipe, TaskSpec, TrainingSpec, TrialSpec, to_json
from raytransfer.specs.dependencies import alike, as_base, as_training, frozen_layers, imports, needs
from raytransfer.store import Store, import_weights, save_checkpoint
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.sweep.rehearsing import Rehearsal, Split, rehearse
from raytransfer.sweep.slots import UNITS
from raytransfer.tasks import Part, TaskData, load_task, sample_task
from raytransfer.tasks.decode import THREADS
from raytransfer.training import (
    EVALUATION_BATCH,
    BatchSource,
    DeviceData,
    EvaluationInputs,
    FrozenOutputs,
    Step,
    evaluate,
    evaluation_steps,
    fastest,
    reusable_stages,
    use_one_core,
)
from raytransfer.trials import Site, run, untrained
from raytransfer.words import number_of

TIME_S = 12.0
"""No kind of trial is measured once so much time has passed; half of it is for trainings."""

_STEPS = 5
_STEPS_TOGETHER = 50
_IMAGES = 500
_PART_S = 0.6  # for the steps of one kind of training, and for its evaluation; the measured batch is cut to that
_MEASUREMENT_S = 3.0  # after which a measurement of one kind is broken off
_TRIED = 2  # images of the step that says how many there is time for


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long trials will take.

    Attributes:
        seconds: Seconds by trial identity.
        kinds: Kinds of trials.
        measured: How many of them were measured; the others are taken from those.
        broken_off: How many of those measured took so long that they were broken off: they take longer.
        splits: What it takes to split trainings, for each number of processes over which some are.
    """

    seconds: dict[str, float]
    kinds: int
    measured: int
    broken_off: int
    splits: tuple[Split, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Cost:
    """Seconds that a step takes, and an image on its way through the frozen stages and through the others.

    Of a training that is split they are those of one process: for its part of a batch, and without messages.
    """

    step: float
    image_frozen: float
    image_trained: float
    views_reused: int


def estimate(
    specs: Iterable[TrialSpec],
    plan: Plan[Cell, Any],
    device: str,
    memory_bytes: int,
    *,
    ranks: int = 1,
    base_ranks: int = 1,
    units: int = 1,
) -> Estimate:
    """Estimate the time of trials, each by itself on an idle processor.

    Measures a few steps and one evaluation for each number of frozen layers and each size of task that occurs, and
    takes each kind of measurement once, on untrained networks; nothing is kept. It begins no kind after ``TIME_S``, and
    cuts batches to what there is time for. Of a network the fewest and the most frozen layers come first: trainings
    that are not measured lie between their neighbours, measurements are as long as others of their kind.

    Of a training that is split, steps are measured as one process takes them, with its part of a batch. What the
    processes have to tell each other in a step, and how long they take to start, is measured on as many of them, where
    this machine has a GPU or a core for each; else both count as nothing.

    Args:
        specs: The trials.
        plan: The sweep they belong to, with their data.
        device: ``cpu`` (one thread, as in a slot) or ``cuda``.
        memory_bytes: As for ``DeviceData``.
        ranks: How many processes a training is split over.
        base_ranks: The same of a base.
        units: GPUs of this machine, or its cores where it has none.
    """
    use_one_core()
    trainings: dict[tuple[Any, ...], list[TrainingSpec]] = {}
    measurements: dict[tuple[str | int, ...], list[TrialSpec]] = {}
    for trial in specs:
        spec = as_training(trial)
        if spec is None:
            measurements.setdefault(alike(trial), []).append(trial)
        else:
            count = ranks if as_base(spec) is None else base_ranks
            trainings.setdefault((count, *alike(spec)), []).append(spec)
    started = time.monotonic()
    middle = started + TIME_S / 2 if measurements else started + TIME_S
    counted = [(count, same) for (count, *_), same in trainings.items()]
    seconds, measured, splits = _trainings(counted, plan, torch.device(device), memory_bytes, middle, units)
    end = max(started + TIME_S, time.monotonic() + TIME_S / 2)
    taken: dict[tuple[str | int, ...], float] = {}
    broken_off = 0
    for kind in _spread(list(measurements)):
        if taken and time.monotonic() > end:
            break
        same = measurements[kind]
        # Scores of one network share its outputs, which one of them computes; a distance has a task of its own.
        other = same[-1] if same[0].kind == "distance" else same[0]
        taken[kind], whole = _measurement_seconds(same[0], other, plan, device, memory_bytes)
        broken_off += not whole
    for kind, same in measurements.items():
        near = [cost for other, cost in taken.items() if other == kind] or [
            cost for other, cost in taken.items() if other[:2] == kind[:2]
        ]
        cost = fmean(near or [cost for other, cost in taken.items() if other[0] == kind[0]] or taken.values())
        seconds |= dict.fromkeys((trial.id for trial in same), cost)
    return Estimate(
        seconds=seconds,
        kinds=len(trainings) + len(measurements),
        measured=measured + len(taken),
        broken_off=broken_off,
        splits=tuple(splits),
    )


def _spread(kinds: Sequence[Any]) -> list[Any]:
    """The first and the last, then what halves the gaps, so that wherever one stops they are spread."""
    order = list(dict.fromkeys([0, len(kinds) - 1])) if kinds else []
    step = len(kinds)
    while step > 1:
        step = (step + 1) // 2
        order += [i for i in range(0, len(kinds), step) if i not in order]
    return [kinds[i] for i in order]


def _trainings(
    kinds: Sequence[tuple[int, Sequence[TrainingSpec]]],
    plan: Plan[Cell, Any],
    device: torch.device,
    memory_bytes: int,
    end: float,
    units: int,
) -> tuple[dict[str, float], int, list[Split]]:
    """Seconds of trainings by identity, from how many kinds, as many as can be measured before ``end``, and of splits.

    Each kind is some trainings and the number of processes that each of them is split over.
    """
    tasks: dict[TaskSpec, TaskData] = {}

    def task_of(spec: TrainingSpec) -> TaskData:
        plain = replace(spec.task, dials=None)  # as many images, and dials take time
        if plain not in tasks:
            tasks[plain] = load_task(plan.datasets[plain.fingerprint], plain)
        return tasks[plain]

    networks: dict[tuple[int, str], list[Sequence[TrainingSpec]]] = {}
    for count, same in sorted(kinds, key=lambda kind: frozen_layers(kind[1][0])):
        networks.setdefault((count, same[0].network.name), []).append(same)
    costs: dict[tuple[int, str], dict[int, _Cost]] = {network: {} for network in networks}
    measured: list[tuple[int, Sequence[TrainingSpec], _Cost, Rehearsal]] = []
    for _, (count, name), same in sorted(
        ((i, network, same) for network, every in networks.items() for i, same in enumerate(_spread(every))),
        key=lambda entry: entry[:2],
    ):
        if measured and time.monotonic() > end:
            break
        cost, rehearsal = _measure(same[0], task_of(same[0]), device, memory_bytes, count)
        costs[count, name][frozen_layers(same[0])] = cost
        measured.append((count, same, cost, rehearsal))
    splits: dict[int, Split] = {}
    messages_s: dict[tuple[int, str], dict[int, float]] = {}
    for count in sorted({count for count, _ in kinds if count > 1}):
        rehearsed = [(same[0], rehearsal) for of, same, _, rehearsal in measured if of == count]
        splits[count] = _split(count, [rehearsal for _, rehearsal in rehearsed], device.type, units)
        for (spec, _), found in zip(rehearsed, splits[count].messages_s, strict=False):  # as many as there was time for
            messages_s.setdefault((count, spec.network.name), {})[frozen_layers(spec)] = found
    every = [(of, name, cost) for (of, name), found in costs.items() for cost in found.values()]
    of_its_own = {spec.id: cost for _, same, cost, _ in measured for spec in same}
    seconds: dict[str, float] = {}
    for (count, name), kinds_of in networks.items():
        # Of a network that none was measured of nothing is known but what it takes split otherwise, or others take.
        like = [entry for entry in every if entry[1] == name] or every
        known = costs[count, name] or {
            0: _mean(
                [replace(cost, step=cost.step * of / count) for of, _, cost in like]
            )  # of a larger or smaller part
        }
        for spec in (spec for same in kinds_of for spec in same):
            cost = of_its_own.get(spec.id) or _between(known, frozen_layers(spec))
            seconds[spec.id] = _seconds(spec, task_of(spec), cost, count)
            if count > 1:
                told = messages_s.get((count, name), {0: splits[count].message_s})
                message_s = np.interp(frozen_layers(spec), sorted(told), [told[n] for n in sorted(told)])
                seconds[spec.id] += splits[count].start_s + spec.recipe.steps * float(message_s)
    return seconds, len(measured), [*splits.values()]


def _split(count: int, rehearsals: Sequence[Rehearsal], device: str, units: int) -> Split:
    """What splitting over so many processes takes, measured if this machine has a GPU or a core for each."""
    if count > units:
        return Split(
            count=count, why_not=f"this machine has {number_of(units, UNITS['GPU' if device == 'cuda' else 'CPU'])}"
        )
    return rehearse(rehearsals, count, device)


def _between(costs: dict[int, _Cost], frozen: int) -> _Cost:
    """The cost at a number of frozen layers, on the line between the measured ones next to it."""
    at = sorted(costs)

    def line(name: str) -> float:
        return float(np.interp(frozen, at, [getattr(costs[n], name) for n in at]))

    nearest = min(at, key=lambda n: abs(n - frozen))
    return _Cost(
        step=line("step"),
        image_frozen=line("image_frozen"),
        image_trained=line("image_trained"),
        views_reused=costs[nearest].views_reused,
    )


def _mean(costs: Sequence[_Cost]) -> _Cost:
    return _Cost(
        step=fmean(cost.step for cost in costs),
        image_frozen=fmean(cost.image_frozen for cost in costs),
        image_trained=fmean(cost.image_trained for cost in costs),
        views_reused=0,
    )


class _TimeUpError(BaseException):  # no error of a trial's, so that nothing in it takes it for one
    """The time of a measurement is over."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Break off what runs inside after a time, with _TimeUpError; only in a main thread, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: Any) -> None:
        raise _TimeUpError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _measurement_seconds(
    spec: TrialSpec, other: TrialSpec, plan: Plan[Cell, Any], device: str, memory_bytes: int
) -> tuple[float, bool]:
    """Take a measurement, then another of its kind, in a store of their own, with untrained networks.

    The second time counts: by then libraries are loaded, and what the two share is read, as in a sweep. Where one is
    broken off its time counts.

    Returns:
        Seconds, and whether it came to its end.
    """
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        try:
            with _at_most(_MEASUREMENT_S):
                store = Store(root)
                site = Site(sources=plan.sources, root=root, device=device, memory_bytes=memory_bytes)
                for digest in imports([spec, other]):
                    import_weights(store, plan.imports[digest])
                for weights in (*needs(spec), *needs(other)):
                    base = weights.training
                    # For its shape.
                    one = sample_task(plan.datasets[base.task.fingerprint], base.task, images=1, seed=0)
                    network = untrained(base, DeviceData(one, base.recipe, torch.device(device), memory_bytes))
                    save_checkpoint(store, base.id, weights.step, network.module.state_dict())
                started = time.perf_counter()
                run(spec, site)
            with _at_most(_MEASUREMENT_S):
                started = time.perf_counter()
                run(other, site)
        except _TimeUpError:
            return time.perf_counter() - started, False
        return time.perf_counter() - started, True


def _seconds(spec: TrainingSpec, task: TaskData, cost: _Cost, count: int) -> float:
    """Seconds of a training, but for what the processes that it is split over have to tell each other.

    Each computes all that is reused of frozen layers, and evaluates its share of the batches.
    """
    reused = len(task.train.rows) * cost.views_reused
    train, test = (
        min(len(part.rows), math.ceil(len(part.rows) / EVALUATION_BATCH / count) * EVALUATION_BATCH)
        for part in (task.train, task.test)
    )
    evaluated = train + len(evaluation_steps(spec.recipe)) * test
    once = reused + train + test
    return spec.recipe.steps * cost.step + once * cost.image_frozen + evaluated * cost.image_trained


def _measure(
    spec: TrainingSpec, task: TaskData, device: torch.device, memory_bytes: int, count: int
) -> tuple[_Cost, Rehearsal]:
    """What a training costs one of so many processes, and the steps from which that is known.

    Streamed images are decoded by as many threads as this machine has cores, up to a number: by as many in every
    process, so that these may have to share the cores.
    """
    frozen = spec.surgery.frozen_layers
    whole = DeviceData(task, spec.recipe, device, memory_bytes)
    own = max(_TRIED, whole.batch_size // count)  # batch normalisation takes no single image
    decoded = isinstance(task.train.images, np.ndarray)
    crowd = 1.0 if decoded else max(1.0, count * THREADS / (os.cpu_count() or 1))

    def few(recipe: Recipe, images: int) -> DeviceData:
        part = replace(task, train=_first(task.train, images), test=_first(task.test, images))
        return DeviceData(part, recipe, device, memory_bytes)

    tried = few(replace(spec.recipe, batch_size=_TRIED), _TRIED)
    network = untrained(spec, tried)
    freeze_first(network, frozen)
    train_mode(network)
    stages = reusable_stages(network, whole, spec.recipe.steps)
    eager = Step(network, tried, tried)
    per_image = min(_timed(eager, tried, tried, 1, eager) for _ in range(2)) / tried.batch_size  # the first is slower
    affordable = max(_TRIED, int(_PART_S / per_image))
    batch = own if device.type == "cuda" else min(own, affordable)
    recipe = replace(spec.recipe, batch_size=batch)
    # One view of an image is as good as all, and many are slow to compute.
    data = few(replace(recipe, pad_px=0, mirror=False) if stages else recipe, _IMAGES if not stages else batch)
    source = FrozenOutputs(network, data, stages) if stages else data
    step = Step(network, data, source)
    take = fastest(step, data) if count == 1 else step
    steps = max(1, min(_STEPS, affordable // batch))
    _timed(take, data, source, steps, step)  # the first are slower
    per_step = _timed(take, data, source, steps, step, crowd) * whole.batch_size / count / batch
    seen = few(recipe, min(_IMAGES, affordable))
    # Streamed images are decoded again at each evaluation, unless what the frozen stages make of them is kept.
    test = EvaluationInputs(network, seen, seen.test, frozen, keep=not seen.streamed)
    first, again = (_timed_evaluation(network, seen, test) for _ in range(2))
    if crowd > 1:
        started = time.perf_counter()
        seen.test.take(torch.arange(len(seen.test)))
        again += (crowd - 1) * (time.perf_counter() - started)
    # More steps than above: how long processes wait for one another differs from step to step.
    together = max(1, min(_STEPS_TOGETHER, affordable // batch))
    cost = _Cost(
        step=per_step,
        image_frozen=max(first - again, 0.0) / len(seen.test),
        image_trained=again / len(seen.test),
        views_reused=whole.views_per_image if stages else 0,
    )
    return cost, Rehearsal(spec=to_json(spec), shape=task.train.images.shape[1:], images=batch, steps=together)


def _timed(
    take: Callable[[tuple[torch.Tensor, ...]], None],
    data: DeviceData,
    source: BatchSource,
    count: int,
    step: Step,
    crowd: float = 1.0,
) -> float:
    """Seconds that one of ``count`` steps takes.

    Batches that are streamed to a GPU are read and decoded while it computes, so that the longer of the two counts; on
    a CPU both are work of the slot's core. Where cores are shared, decoding takes ``crowd`` times as long.
    """
    started = time.perf_counter()
    batches = [source.fetch(views) for views in islice(data.draw(torch.Generator()), count)]
    fetched = time.perf_counter()
    for batch in batches:
        take(batch)
    step.loss_sum.item()  # waits for the device
    fetching, computing = crowd * (fetched - started), time.perf_counter() - fetched
    overlapped = data.streamed and data.device.type == "cuda"
    return (max(fetching, computing) if overlapped else fetching + computing) / count


def _first(part: Part, images: int) -> Part:
    """The first images, all of one label: which one changes no time, and dials may have made fewer than classes."""
    return replace(part, rows=part.rows[:images], labels=np.zeros_like(part.labels[:images]))


def _timed_evaluation(network: Network, data: DeviceData, batches: EvaluationInputs) -> float:
    started = time.perf_counter()
    evaluate(network, data, batches)
    return time.perf_counter() - started
