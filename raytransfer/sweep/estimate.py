"""Estimate how long a sweep will take, from a few measured steps, within a bounded time."""

import functools
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean
from typing import Any

import numpy as np
import torch

from raytransfer.errors import UserError, first_line
from raytransfer.specs import PretrainSpec, TaskSpec, TrainingSpec, TrialSpec
from raytransfer.specs.dependencies import alike
from raytransfer.sweep.places import described, places
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.sweep.rehearsing import Rehearsal, Split, rehearse
from raytransfer.sweep.slots import UNITS
from raytransfer.sweep.timing import Cost, timed_measurement, timed_training
from raytransfer.tasks import TaskData, load_task
from raytransfer.training import EVALUATION_BATCH, evaluation_steps, use_one_core
from raytransfer.words import number_of

TIME_S = 12.0
"""After this time no further kind of trial is measured. Half of it is for trainings; measurements get the other half
even where trainings took longer."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long trials will take.

    Attributes:
        seconds: Seconds by trial identity.
        kinds: Kinds of trials.
        measured: How many of them were measured; the others are taken from those.
        broken_off: How many of those measured took so long that they were broken off: they take longer.
        splits: What it takes to split trainings, for each number of processes over which some are.
        failed: Those kinds that could not be measured, each in a line, with the reason.
    """

    seconds: dict[str, float]
    kinds: int
    measured: int
    broken_off: int
    splits: tuple[Split, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class _Kind:
    """Trainings that take about the same time, each split over ``count`` processes."""

    count: int
    specs: list[TrainingSpec]

    @property
    def network(self) -> tuple[int, str]:
        """Number of processes, and name of the network."""
        return self.count, self.specs[0].network.name

    @property
    def frozen(self) -> int:
        return self.specs[0].surgery.frozen_layers


def estimate(
    specs: Iterable[TrialSpec],
    plan: Plan[Cell, Any],
    device: str,
    memory_bytes: int,
    *,
    ranks: int = 1,
    base_ranks: int = 1,
    units: int = 1,
    slots: int = 1,
    of_base: int = 1,
) -> Estimate:
    """Estimate the time of trials, each by itself on an idle processor but for the decoding of streamed images.

    A few steps and an evaluation are measured for each kind of training (``alike``), and each kind of measurement is
    run once, all on untrained networks; nothing is kept. No kind is begun after ``TIME_S``, and batches are cut to the
    time there is. The fewest and the most frozen layers of a network come first: other trainings are interpolated, and
    other measurements take as long as similar ones.

    Of a training that is split over processes, the steps of one process are measured, with its part of a batch. Their
    communication and start are measured on as many processes if this machine has a GPU or core for each; else both
    count as nothing. Decoding takes all cores of the machine, which trainings side by side share.

    A kind that fails, such as one whose batch does not fit the GPU, counts as those next to it.

    Args:
        specs: The trials.
        plan: The sweep they belong to, with their data.
        device: ``cpu`` (one thread, as in a slot) or ``cuda``.
        memory_bytes: As for ``DeviceData``.
        ranks: How many processes a training is split over.
        base_ranks: The same of a base.
        units: GPUs of this machine, or its cores where it has none.
        slots: Trials at once on this machine.
        of_base: How many of these slots a base takes.

    Raises:
        UserError: No training that was tried could be measured.
    """
    use_one_core()
    trainings: dict[tuple[Any, ...], list[TrainingSpec]] = {}
    measurements: dict[tuple[str | int, ...], list[TrialSpec]] = {}
    for spec in specs:
        if isinstance(spec, TrainingSpec):
            count = base_ranks if isinstance(spec, PretrainSpec) else ranks
            trainings.setdefault((count, *alike(spec)), []).append(spec)
        else:
            measurements.setdefault(alike(spec), []).append(spec)
    started = time.monotonic()
    middle = started + TIME_S / 2 if measurements else started + TIME_S
    kinds = [_Kind(count=count, specs=same) for (count, *_), same in trainings.items()]
    failed: list[str] = []
    every = Counter(kind.count for kind in kinds for _ in kind.specs)
    at_once = {count: min(max(1, slots if count == ranks else slots // of_base), every[count]) for count in every}
    seconds, measured, splits = _trainings(
        kinds, plan, torch.device(device), memory_bytes, middle, units, at_once, failed
    )
    end = max(started + TIME_S, time.monotonic() + TIME_S / 2)
    found, taken, broken_off = _measurements(measurements, plan, device, memory_bytes, end, failed)
    torch.cuda.empty_cache()  # a notebook lives on, and trials want the GPU's memory
    return Estimate(
        seconds=seconds | found,
        kinds=len(trainings) + len(measurements),
        measured=measured + taken,
        broken_off=broken_off,
        splits=tuple(splits),
        failed=tuple(failed),
    )


def _measurements(
    kinds: Mapping[tuple[str | int, ...], Sequence[TrialSpec]],
    plan: Plan[Cell, Any],
    device: str,
    memory_bytes: int,
    end: float,
    failed: list[str],
) -> tuple[dict[str, float], int, int]:
    """Estimate measurements from as many kinds as can be taken before ``end``, one at least; notes what failed.

    Returns:
        Seconds by identity, how many kinds were measured, and how many of these were broken off.
    """
    taken: dict[tuple[str | int, ...], float] = {}
    broken_off = 0
    for kind in _spread(list(kinds)):
        if (taken or failed) and time.monotonic() > end:
            break
        same = kinds[kind]
        # Scores of one network share its outputs, which one of them computes; a distance has a task of its own.
        other = same[-1] if same[0].kind == "distance" else same[0]
        with _noting(failed, same[0], plan):
            taken[kind], whole = timed_measurement(same[0], other, plan, device, memory_bytes)
            broken_off += not whole
    seconds: dict[str, float] = {}
    for kind, same in kinds.items():
        seconds |= dict.fromkeys((trial.id for trial in same), _of_the_nearest(taken, kind))
    return seconds, len(taken), broken_off


def _of_the_nearest(taken: Mapping[tuple[str | int, ...], float], kind: tuple[str | int, ...]) -> float:
    """The time of a kind of measurement: its own, else the mean of those that share the most with it; 0 of none."""
    for shared in (len(kind), 2, 1, 0):
        near = [cost for other, cost in taken.items() if other[:shared] == kind[:shared]]
        if near:
            return fmean(near)
    return 0.0


@contextmanager
def _noting(failed: list[str], spec: TrialSpec, plan: Plan[Cell, Any]) -> Iterator[None]:
    """A block that times one kind of trial: if it raises, a line is added to ``failed``, and other kinds go on."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # as where a batch does not fit the GPU
        if isinstance(spec, TrainingSpec):
            frozen, size = number_of(spec.surgery.frozen_layers, "frozen layer"), spec.recipe.batch_size
            kind = f"training {spec.network.name} with {frozen}, recipe.batch_size={size}"
        else:
            (place, *_) = places({spec.id: spec}, plan.cells)[spec.id]
            kind = described(place)
        failed.append(f"{kind}: {type(error).__name__}: {first_line(error)}")


def _spread(kinds: Sequence[Any]) -> list[Any]:
    """First, last, middle, ...: in an order whose every beginning is spread evenly."""
    order = list(dict.fromkeys([0, len(kinds) - 1])) if kinds else []
    step = len(kinds)
    while step > 1:
        step = (step + 1) // 2
        order += [i for i in range(0, len(kinds), step) if i not in order]
    return [kinds[i] for i in order]


def _trainings(
    kinds: Sequence[_Kind],
    plan: Plan[Cell, Any],
    device: torch.device,
    memory_bytes: int,
    end: float,
    units: int,
    at_once: Mapping[int, int],
    failed: list[str],
) -> tuple[dict[str, float], int, list[Split]]:
    """Estimate trainings from as many kinds as can be measured before ``end``, one at least; notes what failed.

    Returns:
        Seconds by identity, how many kinds were measured, and what splits take.
    """

    @functools.cache
    def loaded(task: TaskSpec) -> TaskData:
        return load_task(plan.datasets[task.fingerprint], task)

    networks: dict[tuple[int, str], list[_Kind]] = {}
    for kind in sorted(kinds, key=lambda kind: kind.frozen):
        networks.setdefault(kind.network, []).append(kind)
    # The first kind of each network, then the second of each, and so on.
    turns = zip_longest(*(_spread(networks[network]) for network in sorted(networks)))
    measured: dict[_Kind, tuple[Cost, Rehearsal]] = {}
    for kind in (kind for turn in turns for kind in turn if kind is not None):
        if (measured or failed) and time.monotonic() > end:
            break
        spec = kind.specs[0]
        with _noting(failed, spec, plan):
            processes = kind.count * at_once[kind.count]
            measured[kind] = timed_training(spec, loaded(spec.task.plain), device, memory_bytes, kind.count, processes)
    if kinds and not measured:
        raise UserError(f"no training could be timed here, as it would fail in the sweep, too: {failed[0]}")
    costs: dict[tuple[int, str], dict[int, Cost]] = {network: {} for network in networks}  # by number of frozen layers
    for kind, (cost, _) in measured.items():
        costs[kind.network][kind.frozen] = cost
    splits: dict[int, Split] = {}
    messages_s: dict[tuple[int, str], dict[int, float]] = {network: {} for network in networks}  # likewise
    for count in sorted({kind.count for kind in kinds if kind.count > 1}):
        rehearsed = [kind for kind in measured if kind.count == count]
        splits[count] = _split(count, [measured[kind][1] for kind in rehearsed], device.type, units)
        for kind, found in zip(rehearsed, splits[count].messages_s, strict=False):  # as many as there was time for
            messages_s[kind.network][kind.frozen] = found
    seconds: dict[str, float] = {}
    for network, of_network in networks.items():
        known = costs[network] or {0: _from_others(network, costs)}
        for kind in of_network:
            cost = measured[kind][0] if kind in measured else _between(known, kind.frozen)
            for spec in kind.specs:
                seconds[spec.id] = _seconds(spec, loaded(spec.task.plain), cost, kind.count)
                if kind.count > 1:
                    split = splits[kind.count]
                    message_s = _on_line(messages_s[network] or {0: split.message_s}, kind.frozen)
                    seconds[spec.id] += split.start_s + spec.recipe.steps * message_s
    return seconds, len(measured), [*splits.values()]


def _split(count: int, rehearsals: Sequence[Rehearsal], device: str, units: int) -> Split:
    """What splitting over so many processes takes, measured if this machine has a GPU or a core for each."""
    if count > units:
        return Split(
            count=count, why_not=f"this machine has {number_of(units, UNITS['GPU' if device == 'cuda' else 'CPU'])}"
        )
    torch.cuda.empty_cache()  # of the GPUs of these processes the first is this one's, too
    return rehearse(rehearsals, count, device)


def _from_others(network: tuple[int, str], costs: dict[tuple[int, str], dict[int, Cost]]) -> Cost:
    """The cost of a network that was not measured: the mean of its own with other splits, or else of other networks.

    The cost of a step is scaled to the part of a batch that a process has.
    """
    count, name = network
    every = [(of, other, cost) for (of, other), found in costs.items() for cost in found.values()]
    like = [(of, cost) for of, other, cost in every if other == name] or [(of, cost) for of, _, cost in every]
    return Cost(
        step=fmean(cost.step * of / count for of, cost in like),
        image_frozen=fmean(cost.image_frozen for _, cost in like),
        image_trained=fmean(cost.image_trained for _, cost in like),
        views_reused=0,
    )


def _between(costs: dict[int, Cost], frozen: int) -> Cost:
    """The cost at a number of frozen layers, interpolated between measured ones."""
    nearest = min(sorted(costs), key=lambda n: abs(n - frozen))
    return Cost(
        step=_on_line({n: cost.step for n, cost in costs.items()}, frozen),
        image_frozen=_on_line({n: cost.image_frozen for n, cost in costs.items()}, frozen),
        image_trained=_on_line({n: cost.image_trained for n, cost in costs.items()}, frozen),
        views_reused=costs[nearest].views_reused,
    )


def _on_line(values: dict[int, float], frozen: int) -> float:
    """The value at a number of frozen layers, by linear interpolation; constant beyond the ends."""
    at = sorted(values)
    return float(np.interp(frozen, at, [values[n] for n in at]))


def _seconds(spec: TrainingSpec, task: TaskData, cost: Cost, count: int) -> float:
    """Seconds of a training, without the communication of the processes that it is split over.

    Each of them computes all reused outputs of frozen layers, and evaluates its share of the batches.
    """
    reused = len(task.train.rows) * cost.views_reused
    train, test = (
        min(len(part.rows), math.ceil(len(part.rows) / EVALUATION_BATCH / count) * EVALUATION_BATCH)
        for part in (task.train, task.test)
    )
    evaluated = train + len(evaluation_steps(spec.recipe)) * test
    once = reused + train + test
    return spec.recipe.steps * cost.step + once * cost.image_frozen + evaluated * cost.image_trained
