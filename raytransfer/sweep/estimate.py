"""How long a sweep will take, from a few measured steps."""

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from raytransfer.networks import Network, freeze_first, train_mode
from raytransfer.specs import TaskSpec, TrainingSpec, TrialSpec
from raytransfer.specs.dependencies import alike, as_training, imports, needs
from raytransfer.store import Store, import_weights, save_checkpoint
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


def trial_seconds(
    specs: Iterable[TrialSpec], plan: Plan[Cell, Any], device: str, memory_bytes: int
) -> dict[str, float]:
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
    costs: dict[tuple[str | int, ...], _Cost] = {}
    tasks: dict[TaskSpec, TaskData] = {}
    measurements: dict[tuple[str | int, ...], list[TrialSpec]] = {}
    seconds = {}
    for trial in specs:
        spec = as_training(trial)
        if spec is None:
            measurements.setdefault(alike(trial), []).append(trial)
            continue
        dataset = plan.datasets[spec.task.fingerprint]
        plain = replace(spec.task, dials=None)  # as many images, and dials take time
        if plain not in tasks:
            tasks[plain] = load_task(dataset, plain)
        kind = alike(spec)
        if kind not in costs:
            costs[kind] = _measure(spec, load_task(dataset, spec.task), torch.device(device), memory_bytes)
        seconds[spec.id] = _seconds(spec, tasks[plain], costs[kind])
    for same in measurements.values():
        # Scores of one network share its outputs, which one of them computes; a distance has a task of its own.
        other = same[-1] if same[0].kind == "distance" else same[0]
        cost = _measurement_seconds(same[0], other, plan, device, memory_bytes)
        seconds |= dict.fromkeys((trial.id for trial in same), cost)
    return seconds


def _measurement_seconds(
    spec: TrialSpec, other: TrialSpec, plan: Plan[Cell, Any], device: str, memory_bytes: int
) -> float:
    """Take a measurement, then another of its kind, in a store of their own, with untrained networks.

    The second time counts: by then libraries are loaded, and what the two share is read, as in a sweep.
    """
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        site = Site(sources=plan.sources, root=root, device=device, memory_bytes=memory_bytes)
        for digest in imports([spec, other]):
            import_weights(store, plan.imports[digest])
        for weights in (*needs(spec), *needs(other)):
            base = weights.training
            task = sample_task(plan.datasets[base.task.fingerprint], base.task, images=1, seed=0)  # for their shape
            network = untrained(base, DeviceData(task, base.recipe, torch.device(device), memory_bytes))
            save_checkpoint(store, base.id, weights.step, network.module.state_dict())
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
    frozen = spec.surgery.frozen_layers
    few = DeviceData(replace(task, train=_first(task.train), test=_first(task.test)), spec.recipe, device, memory_bytes)
    network = untrained(spec, few)
    freeze_first(network, frozen)
    train_mode(network)
    stages = reusable_stages(network, DeviceData(task, spec.recipe, device, memory_bytes), spec.recipe.steps)
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
    first, again = (_timed_evaluation(network, few, test) for _ in range(2))
    return _Cost(
        step=per_step,
        image_frozen=max(first - again, 0.0) / len(few.test),
        image_trained=again / len(few.test),
        views_reused=few.views_per_image if stages else 0,
    )


def _first(part: Part) -> Part:
    return replace(part, rows=part.rows[:_IMAGES], labels=part.labels[:_IMAGES])


def _timed_evaluation(network: Network, data: DeviceData, batches: EvaluationInputs) -> float:
    started = time.perf_counter()
    evaluate(network, data, batches)
    return time.perf_counter() - started
