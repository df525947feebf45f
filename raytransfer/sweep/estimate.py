"""How long a sweep will take, from a few measured steps."""

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from raytransfer.networks import Network, freeze_first, train_mode
from raytransfer.specs import DistanceSpec, MeasureSpec, TaskSpec, TrainingSpec, TrialSpec
from raytransfer.specs.dependencies import frozen_layers, kind_of, needs
from raytransfer.store import Store, save_checkpoint
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.tasks import Part, TaskData, load_task, sample_task
from raytransfer.training import (
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

_STEPS = 5
_IMAGES = 500


@dataclass(frozen=True, kw_only=True)
class _Cost:
    """Seconds that a step takes, and an image on its way through the frozen stages and through the others."""

    step: float
    image_frozen: float
    image_trained: float
    views_reused: int


def trial_seconds(specs: Iterable[TrialSpec], plan: Plan[Cell], device: str, memory_bytes: int) -> dict[str, float]:
    """Estimate the time of trials, each by itself on an idle processor.

    Measures a few steps and one evaluation for each number of frozen layers and each size of task that occurs, and
    takes each kind of measurement once, on untrained networks; nothing is kept.

    Args:
        specs: The trials.
        plan: The sweep they belong to, with their data.
        device: ``cpu`` (one thread, as in a slot) or ``cuda``.
        memory_bytes: As for ``DeviceData``.

    Returns:
        Seconds by trial identity.
    """
    use_one_core()
    costs: dict[tuple[int, int, int], _Cost] = {}
    tasks: dict[TaskSpec, TaskData] = {}
    measurements: dict[tuple[str, str, int], list[MeasureSpec]] = {}
    seconds = {}
    for spec in specs:
        if isinstance(spec, MeasureSpec):
            measurements.setdefault(kind_of(spec), []).append(spec)
            continue
        dataset = plan.datasets[spec.task.fingerprint]
        plain = replace(spec.task, dials=None)  # as many images, and dials take time
        if plain not in tasks:
            tasks[plain] = load_task(dataset, plain)
        kind = frozen_layers(spec), spec.task.label_count, spec.recipe.steps
        if kind not in costs:
            costs[kind] = _measure(spec, load_task(dataset, spec.task), torch.device(device), memory_bytes)
        seconds[spec.id] = _seconds(spec, tasks[plain], costs[kind])
    for alike in measurements.values():
        # Scores of one network share its outputs, which one of them computes; a distance has a task of its own.
        other = alike[-1] if isinstance(alike[0], DistanceSpec) else alike[0]
        cost = _measurement_seconds(alike[0], other, plan, device, memory_bytes)
        seconds |= dict.fromkeys((spec.id for spec in alike), cost)
    return seconds


def _measurement_seconds(
    spec: MeasureSpec, other: MeasureSpec, plan: Plan[Cell], device: str, memory_bytes: int
) -> float:
    """Take a measurement, then another of its kind, in a store of their own, with untrained networks.

    The second time counts: by then libraries are loaded, and what the two share is read, as in a sweep.
    """
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        site = Site(sources=plan.sources, root=root, device=device, memory_bytes=memory_bytes)
        for base, step in (*needs(spec), *needs(other)):
            task = sample_task(plan.datasets[base.task.fingerprint], base.task, images=1, seed=0)  # for their shape
            network = untrained(base, DeviceData(task, base.recipe, torch.device(device), memory_bytes))
            save_checkpoint(store, base.id, step, network.module.state_dict())
        run(spec, site)
        started = time.perf_counter()
        run(other, site)
        return time.perf_counter() - started


def _seconds(spec: TrainingSpec, task: TaskData, cost: _Cost) -> float:
    train, test = len(task.train.rows), len(task.test.rows)
    once = train * (1 + cost.views_reused) + test
    evaluated = train + len(evaluation_steps(spec.recipe)) * test
    return spec.recipe.steps * cost.step + once * cost.image_frozen + evaluated * cost.image_trained


def _measure(spec: TrainingSpec, task: TaskData, device: torch.device, memory_bytes: int) -> _Cost:
    frozen = frozen_layers(spec)
    few = DeviceData(replace(task, train=_first(task.train), test=_first(task.test)), spec.recipe, device, memory_bytes)
    network = untrained(spec, few)
    freeze_first(network, frozen)
    train_mode(network, frozen)
    stages = reusable_stages(network, DeviceData(task, spec.recipe, device, memory_bytes), frozen)
    source = FrozenOutputs(network, few, stages) if stages else few
    step = Step(network, few, source)
    take = fastest(step, few)
    batches = map(source.fetch, few.draw(torch.Generator()))

    def steps(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            take(next(batches))
        step.loss_sum.item()  # waits for the device
        return (time.perf_counter() - started) / count

    steps(_STEPS)  # the first are slower
    per_step = steps(_STEPS)
    test = EvaluationInputs(network, few, few.test, frozen, keep=True)
    first, again = (_timed_evaluation(network, few, test, frozen) for _ in range(2))
    return _Cost(
        step=per_step,
        image_frozen=max(first - again, 0.0) / len(few.test),
        image_trained=again / len(few.test),
        views_reused=few.views_per_image if stages else 0,
    )


def _first(part: Part) -> Part:
    return replace(part, rows=part.rows[:_IMAGES], labels=part.labels[:_IMAGES])


def _timed_evaluation(network: Network, data: DeviceData, batches: EvaluationInputs, frozen: int) -> float:
    started = time.perf_counter()
    evaluate(network, data, batches, frozen)
    return time.perf_counter() - started
