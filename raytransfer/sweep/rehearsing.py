"""Measure what splitting a training over processes costs, on as many processes."""

import functools
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from raytransfer.errors import first_line
from raytransfer.networks import Network, freeze, train_mode, trainable
from raytransfer.specs import TrainingSpec
from raytransfer.tasks import Part, TaskData
from raytransfer.training import ALONE, DeviceData, Ranks, Step, never, share_batch_norm
from raytransfer.trials import untrained
from raytransfer.trials.splitting import run_ranks

_TIME_S = 6.0  # about what it all takes once the processes have started
_PATIENCE_S = 60.0  # with a process that does not answer


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Steps of one kind of training, on blank images.

    Attributes:
        spec: The training.
        shape: Channels, height and width of the data set's images.
        images: Images of a step in each process.
        steps: How many steps.
    """

    spec: TrainingSpec
    shape: tuple[int, int, int]
    images: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """What splitting trainings takes beside their arithmetic.

    Attributes:
        count: Over how many processes.
        start_s: Seconds in which they start.
        messages_s: Of each rehearsal that there was time for, seconds of a step in which gradients are averaged and
            batch normalisation is shared.
        why_not: Why neither was measured; empty where they were.
    """

    count: int
    start_s: float = 0.0
    messages_s: Sequence[float] = ()
    why_not: str = ""

    @property
    def message_s(self) -> float:
        """The mean of ``messages_s``; zero where nothing was measured."""
        return fmean(self.messages_s) if self.messages_s else 0.0


def rehearse(rehearsals: Sequence[Rehearsal], count: int, device: str) -> Split:
    """Let ``count`` processes take a few steps together; an error becomes ``Split.why_not``.

    Communication takes as much as a step is longer with it than without, both while all processes compute, and at least
    as much as averaging the gradients alone: for long steps the difference is lost in the noise.

    Args:
        rehearsals: What to rehearse, most important first.
        count: How many processes.
        device: ``cpu``, or ``cuda`` with as many GPUs.
    """
    with tempfile.TemporaryDirectory(prefix="raytransfer-rehearsal-") as folder:
        written = Path(folder) / "seconds"
        started = time.time()
        try:
            run_ranks(functools.partial(_rehearse, rehearsals, device, str(written)), device, count, never, _PATIENCE_S)
        except Exception as error:  # what a plan can still tell is worth having
            return Split(count=count, why_not=first_line(error))
        begun, *messages_s = json.loads(written.read_text())
    return Split(count=count, start_s=max(0.0, begun - started), messages_s=messages_s)


def _rehearse(
    rehearsals: Sequence[Rehearsal], device: str, written: str, ranks: Ranks, _stop: Callable[[], bool]
) -> None:
    """Write down, on the first rank, when it had started, and what messages take in each rehearsal."""
    place = torch.device(device)
    ranks.agree(0, place)  # the last has started
    begun, end = time.time(), time.monotonic() + _TIME_S / 2
    without: list[float] = []
    for rehearsal in rehearsals:
        late = torch.tensor(float(time.monotonic() > end), device=place)
        ranks.total([late])  # so that all stop after the same one
        if late and without:
            break
        without.append(_step_s(rehearsal, place, ALONE))
    share_batch_norm()  # for good
    with_messages = [_step_s(rehearsal, place, ranks) for rehearsal in rehearsals[: len(without)]]
    least = [_average_s(rehearsal, place, ranks) for rehearsal in rehearsals[: len(without)]]
    messages_s = [max(bare, after - before) for bare, before, after in zip(least, without, with_messages, strict=True)]
    if ranks.rank == 0:
        Path(written).write_text(json.dumps([begun, *messages_s]))


def _average_s(rehearsal: Rehearsal, device: torch.device, ranks: Ranks) -> float:
    """Seconds in which gradients as large as the training's are averaged, and nothing else."""
    network, _ = _prepared(rehearsal, device, ranks)
    gradients = [torch.zeros_like(tensor) for _, tensor in trainable(network)]
    took = math.nan
    for _ in range(3):  # the first is slower
        ranks.agree(0, device)
        started = time.perf_counter()
        ranks.average(gradients)
        gradients[0].sum().item()  # waits for the device
        took = time.perf_counter() - started
    return took


def _prepared(rehearsal: Rehearsal, device: torch.device, ranks: Ranks) -> tuple[Network, DeviceData]:
    """The network before its first step, and blank images."""
    spec, count = rehearsal.spec, rehearsal.images  # of one process: each takes them all
    images = np.zeros((count, *rehearsal.shape), np.uint8)
    blank = Part(images=images, rows=np.arange(count), labels=np.zeros(count, np.int64))
    channels = np.ones(rehearsal.shape[0], np.float32)
    task = TaskData(train=blank, test=blank, channel_mean=channels, channel_std=channels)
    data = DeviceData(task, spec.recipe, device, 2 * images.nbytes, ranks)
    network = untrained(spec, data)
    freeze(network, range(spec.surgery.frozen_layers))
    train_mode(network)
    return network, data


def _step_s(rehearsal: Rehearsal, device: torch.device, ranks: Ranks) -> float:
    """Seconds of a step, alone or with the others."""
    network, data = _prepared(rehearsal, device, ranks)
    step = Step(network, data, data)
    sent = data.fetch(next(data.draw(torch.Generator())))
    took = math.nan
    for steps in (1, rehearsal.steps):  # the first is slower
        ranks.agree(0, device)
        started = time.perf_counter()
        for _ in range(steps):
            step(sent)
        step.loss_sum.item()  # waits for the device
        took = (time.perf_counter() - started) / steps
    return took
