"""How many trials to run side by side on one GPU, by measurement.

``python -m raytransfer.sweep.gpu_sharing`` is one of them.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

import torch

from raytransfer.networks import train_mode
from raytransfer.specs import PretrainSpec, from_json, to_json
from raytransfer.sweep.failures import why
from raytransfer.sweep.mps import is_served
from raytransfer.tasks import DataSource, load_task, open_fingerprint
from raytransfer.tasks.threads import ahead
from raytransfer.training import DeviceData, Step, evaluate, evaluation_inputs, fastest, use_one_core
from raytransfer.trials import device_name, untrained
from raytransfer.words import number_of

_GAIN = 1.1  # what twice as many trials must bring to be worth their memory
_FULL = 0.9  # of the GPU's memory
_SECONDS = 3.0
_STEPS = 10  # between two looks at the clock, for which the device has to be waited for


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """What some trials side by side did.

    Attributes:
        trials: How many.
        images_per_s: Training images a second, all together.
        used_gb: Memory in use on the GPU meanwhile, in 10^9 bytes; 0 on a CPU.
        total_gb: The GPU's memory.
    """

    trials: int
    images_per_s: float
    used_gb: float
    total_gb: float


@dataclass(frozen=True, kw_only=True)
class GpuSharing:
    """How many trials share a GPU, and why.

    Attributes:
        trial: Identity of the base that was measured.
        device: Name of the processor.
        memory_bytes: What each trial could use, as for ``DeviceData``.
        mps: Whether NVIDIA's Multi-Process Service was running, which lets kernels of several processes overlap.
        trials_per_gpu: The choice.
        measured: What it rests on.
        reason: The choice in words.
    """

    trial: str
    device: str
    memory_bytes: int
    mps: bool
    trials_per_gpu: int
    measured: tuple[SideBySide, ...]
    reason: str


def measure(
    spec: PretrainSpec, source: DataSource, device: str, memory_bytes: int, most: int, seconds: float = _SECONDS
) -> GpuSharing:
    """Train one base by itself, then two, four, ... side by side, for as long as that brings more images a second.

    Nothing is kept of what they learn. Takes about half a minute.

    Args:
        spec: The base: the trial that needs most, since none of its layers is frozen.
        source: Where its data are.
        device: ``cuda``, or ``cpu``.
        memory_bytes: As for ``DeviceData``.
        most: Trials side by side at most: each needs a CPU core.
        seconds: How long each group trains.

    Raises:
        RuntimeError: Not even one trial runs.
    """
    measured: list[SideBySide] = []
    count, stopped = 1, ""
    while not stopped:
        try:
            measured.append(_side_by_side(count, spec, source, device, memory_bytes, seconds))
        except RuntimeError as error:
            if count == 1:
                raise
            stopped = f"{count} failed: {error}"
        else:
            stopped = _why_stop(measured, most)
        count *= 2
    return _choice(spec, device, memory_bytes, measured, stopped)


def _why_stop(measured: Sequence[SideBySide], most: int) -> str:
    """Why not to try twice as many as the last; empty to go on."""
    last = measured[-1]
    if len(measured) > 1 and not _pays(last, measured[-2]):
        return f"{last.trials} bring less than {_GAIN - 1:.0%} more than {measured[-2].trials}"
    if 2 * last.trials > most:
        return f"{most} at most"
    if 2 * last.used_gb > _FULL * last.total_gb and last.total_gb:
        return f"{2 * last.trials} do not fit: {last.trials} use {last.used_gb:.1f} of {last.total_gb:.1f} GB"
    return ""


def _pays(more: SideBySide, fewer: SideBySide) -> bool:
    return more.images_per_s >= _GAIN * fewer.images_per_s


def _choice(
    spec: PretrainSpec, device: str, memory_bytes: int, measured: Sequence[SideBySide], stopped: str
) -> GpuSharing:
    chosen = measured[0]
    for more in measured[1:]:
        if _pays(more, chosen):
            chosen = more
    speeds = ", ".join(f"{group.trials}: {group.images_per_s:.0f}" for group in measured)
    return GpuSharing(
        trial=spec.id,
        device=device_name(torch.device(device)),
        memory_bytes=memory_bytes,
        mps=device == "cuda" and is_served(),
        trials_per_gpu=chosen.trials,
        measured=tuple(measured),
        reason=f"{number_of(chosen.trials, 'trial')} on each GPU: images a second by trials side by side {speeds}; "
        f"{stopped}",
    )


def _side_by_side(
    count: int, spec: PretrainSpec, source: DataSource, device: str, memory_bytes: int, seconds: float
) -> SideBySide:
    """Let some processes train for some seconds, all at once."""
    asked = {"spec": to_json(spec), "source": asdict(source), "device": device, "memory_bytes": memory_bytes}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "raytransfer.sweep.gpu_sharing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in processes:
            _tell(process, {**asked, "seconds": seconds})
        for process in processes:
            _told(process)  # it is ready
        for process in processes:
            _tell(process, "go")
        results = [_told(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return SideBySide(
        trials=count,
        images_per_s=sum(result["images_per_s"] for result in results),
        used_gb=max(result["used_gb"] for result in results),
        total_gb=results[0]["total_gb"],
    )


def _tell(process: "subprocess.Popen[str]", message: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def _told(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, errors = process.communicate()
        kind, reason = why(errors)
        raise RuntimeError(f"{kind}: {reason}" if kind else reason or "a process ended without a word")
    return json.loads(line)


def _main(asked: IO[str], answer: IO[str]) -> None:
    """One of the processes: get ready, say so, train when told to, say how fast that was."""
    request = json.loads(asked.readline())
    spec, device = from_json(request["spec"]), torch.device(request["device"])
    assert isinstance(spec, PretrainSpec)
    use_one_core()
    task = load_task(open_fingerprint(DataSource(**request["source"]), spec.task.fingerprint), spec.task)
    data = DeviceData(task, spec.recipe, device, request["memory_bytes"])
    network = untrained(spec, data)
    evaluate(network, data, evaluation_inputs(network, data))  # for the memory that it takes
    train_mode(network)
    step = Step(network, data, data)
    do = fastest(step, data)
    views = data.draw(torch.Generator())
    batches = ahead(data.fetch, views) if data.streamed else map(data.fetch, views)
    for _ in range(_STEPS):
        do(next(batches))
    step.loss_sum.item()  # waits for the device
    print(json.dumps("ready"), file=answer, flush=True)
    asked.readline()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < request["seconds"]:
        for _ in range(_STEPS):
            do(next(batches))
        step.loss_sum.item()
        steps += _STEPS
    speed = steps * data.batch_size / (time.perf_counter() - started)
    free, total = torch.cuda.mem_get_info() if device.type == "cuda" else (0, 0)
    print(
        json.dumps({"images_per_s": speed, "used_gb": (total - free) / 1e9, "total_gb": total / 1e9}),
        file=answer,
        flush=True,
    )


if __name__ == "__main__":
    _main(sys.stdin, sys.stdout)
