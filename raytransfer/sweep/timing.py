"""Time one training, by a few of its steps, or one measurement, by running it."""

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from joblib import cpu_count

from raytransfer.networks import Network, freeze, train_mode
from raytransfer.specs import Recipe, TrainingSpec, TrialSpec
from raytransfer.specs.dependencies import imports, needs
from raytransfer.store import Store, import_weights, save_checkpoint
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.sweep.rehearsing import Rehearsal
from raytransfer.tasks import Part, TaskData, sample_task
from raytransfer.tasks.threads import THREADS
from raytransfer.training import (
    BatchSource,
    DeviceData,
    EvaluationInputs,
    FrozenOutputs,
    Step,
    evaluate,
    fastest,
    reusable_stages,
)
from raytransfer.trials import Site, run, untrained

_STEPS = 5
_STEPS_TOGETHER = 50
_IMAGES = 500
_PART_S = 0.6  # for the steps of one kind of training, and for its evaluation; the measured batch is cut to that
_MEASUREMENT_S = 3.0  # after which a measurement of one kind is broken off
_TRIED = 2  # images of the step that says how many there is time for


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training takes; of one that is split, in each process, for its part of a batch and without messages.

    Attributes:
        step: Seconds of a step.
        image_frozen: Seconds of an image on its way through the frozen stages.
        image_trained: Seconds of an image on its way through the others.
        views_reused: Views of each training image for which the frozen stages compute once what is then reused; 0 where
            they compute it at every step.
    """

    step: float
    image_frozen: float
    image_trained: float
    views_reused: int


def timed_training(
    spec: TrainingSpec, task: TaskData, device: torch.device, memory_bytes: int, count: int, processes: int
) -> tuple[Cost, Rehearsal]:
    """Take a few steps of a training and evaluate it, with an untrained network and a few of its images.

    Streamed images are decoded by as many threads as this machine has cores, up to a number: by as many in every
    process, those of other trainings included, so that these may have to share the cores.

    Args:
        spec: The training.
        task: Its data.
        device: Where it computes.
        memory_bytes: As for ``DeviceData``.
        count: How many processes it is split over.
        processes: How many train on this machine at once.

    Returns:
        What it costs one of the processes, and the steps to rehearse on all of them.
    """
    frozen = spec.surgery.frozen_layers
    whole = DeviceData(task, spec.recipe, device, memory_bytes)
    own = max(_TRIED, whole.batch_size // count)  # batch normalisation takes no single image
    decoded = isinstance(task.train.images, np.ndarray)
    crowd = 1.0 if decoded else max(1.0, processes * THREADS / cpu_count())

    def few(recipe: Recipe, images: int) -> DeviceData:
        part = replace(task, train=_first(task.train, images), test=_first(task.test, images))
        return DeviceData(part, recipe, device, 0 if whole.streamed else memory_bytes)  # a few would fit any GPU

    tried = few(replace(spec.recipe, batch_size=_TRIED), _TRIED)
    network = untrained(spec, tried)
    freeze(network, range(frozen))
    train_mode(network)
    stages = reusable_stages(network, whole, spec.recipe.steps)
    eager = Step(network, tried, tried)
    # The first is slower.
    per_image = min(_timed_step(eager, tried, tried, 1, eager) for _ in range(2)) / tried.batch_size
    affordable = max(_TRIED, int(_PART_S / per_image))
    batch = own if device.type == "cuda" else min(own, affordable)
    recipe = replace(spec.recipe, batch_size=batch)
    # One view of an image is as good as all, and many are slow to compute.
    data = few(replace(recipe, pad_px=0, mirror=False) if stages else recipe, batch if stages else _IMAGES)
    source = FrozenOutputs(network, data, stages) if stages else data
    step = Step(network, data, source)
    take = fastest(step, data) if count == 1 else step
    steps = max(1, min(_STEPS, affordable // batch))
    _timed_step(take, data, source, steps, step)  # the first are slower
    per_step = _timed_step(take, data, source, steps, step, crowd) * whole.batch_size / count / batch
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
    cost = Cost(
        step=per_step,
        image_frozen=max(first - again, 0.0) / len(seen.test),
        image_trained=again / len(seen.test),
        views_reused=whole.views_per_image if stages else 0,
    )
    return cost, Rehearsal(spec=spec, shape=task.train.images.shape[1:], images=batch, steps=together)


def _timed_step(
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


def timed_measurement(
    spec: TrialSpec, other: TrialSpec, plan: Plan[Cell, Any], device: str, memory_bytes: int
) -> tuple[float, bool]:
    """Time a measurement on untrained networks, in a temporary store, after another of its kind has run there.

    By then libraries are imported and shared data are read, as in a sweep. If either takes too long it is broken off,
    and its time until then counts.

    Args:
        spec: The measurement that is taken first.
        other: The one that counts; it may be the same.
        plan: The sweep they belong to, with their data.
        device: ``cpu`` or ``cuda``.
        memory_bytes: As for ``DeviceData``.

    Returns:
        Seconds, and whether it came to its end.
    """
    before = torch.is_grad_enabled()
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
            _put_back(computes_gradients=before)
            return time.perf_counter() - started, False
        return time.perf_counter() - started, True


class _TimeUpError(BaseException):  # no error of a trial's, so that nothing in it takes it for one
    """The time of a measurement is over."""


def _put_back(*, computes_gradients: bool) -> None:
    """Restore torch's modes, which code that the alarm broke off may have left changed.

    Later trainings in this process would have no gradients, or use the weights that autocast cached.
    """
    torch.set_grad_enabled(computes_gradients)
    for kind in ("cpu", "cuda"):
        torch.set_autocast_enabled(kind, enabled=False)
    for _ in range(torch.autocast_increment_nesting()):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()


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
