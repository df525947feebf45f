"""One trial from its spec to its rows: task, network, surgery, training, results."""

import functools
import importlib.metadata
import json
import platform
import subprocess
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from raytransfer.grid import frozen_layers
from raytransfer.networks import Network, build, copy_first, freeze_first
from raytransfer.specs import PretrainSpec, TaskSpec, TransferSpec, TrialSpec, to_json
from raytransfer.store import Store, load_checkpoint, publish, publish_failure, save_checkpoint
from raytransfer.tasks import Dataset, DataSource, load_task, open_fingerprint, task_label
from raytransfer.training import DeviceData, Outcome, stream_seed, train

_BEST = 10  # the 2014 score is the mean of the ten best evaluations


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a trial runs: what cannot change its result, and so is no part of its spec.

    Attributes:
        source: Where the data are.
        root: Root of the store.
        device: ``cpu`` or ``cuda``.
        memory_bytes: What a trial may use for images on a GPU and for outputs of frozen layers.
    """

    source: DataSource
    root: str
    device: str
    memory_bytes: int


def run(spec: TrialSpec, site: Site, checkpoint_steps: frozenset[int] = frozenset()) -> None:
    """Train and evaluate one network, then publish its checkpoints, its learning curve and its row.

    On a CPU it computes in one thread: slots are cores, and the same spec gives the same bits on any number of them.

    Args:
        spec: What to run.
        site: Where.
        checkpoint_steps: Training steps whose weights other trials need; a base keeps its last weights in any case,
            so that a later sweep can copy from it.
    """
    started = time.perf_counter()
    if isinstance(spec, PretrainSpec):
        checkpoint_steps |= {spec.recipe.steps}
    torch.set_num_threads(1)
    device = torch.device(site.device)
    store = Store(site.root)
    dataset = _open(site.source, spec.task.fingerprint)
    data = DeviceData(load_task(dataset, spec.task), spec.recipe, device, site.memory_bytes)
    network = prepare(spec, store, data)
    outcome = train(
        network,
        data,
        frozen=frozen_layers(spec),
        seed=training_seed(spec),
        checkpoint_steps=checkpoint_steps,
        on_checkpoint=lambda step, module: save_checkpoint(store, spec.id, step, module.state_dict()),
    )
    row = _row(spec, dataset, data, network, outcome)
    row["wall_time_s"] = time.perf_counter() - started
    publish(store, row, [{"id": spec.id, **asdict(evaluation)} for evaluation in outcome.curve])


def prepare(spec: TrialSpec, store: Store, data: DeviceData) -> Network:
    """The network before its first step: fresh weights, then, for a transfer, the copied and frozen layers."""
    network = untrained(spec, data)
    if isinstance(spec, TransferSpec):
        if spec.base is not None and spec.pretrain_step is not None:
            copy_first(load_checkpoint(store, spec.base.id, spec.pretrain_step), network, spec.n_layers)
        if spec.frozen:
            freeze_first(network, spec.n_layers)
    return network


def untrained(spec: TrialSpec, data: DeviceData) -> Network:
    """The network with fresh weights, on the device of the data and laid out in memory as the recipe says.

    Fresh weights of a base and of the transfers with the same seed come from two streams. From one, the upper layers
    of BnB would start where those of its base started, and find the same co-adapted solution again.
    """
    network = build(
        spec.network,
        in_channels=data.train.shape[0],
        image_size_px=data.image_size_px,
        classes=len(spec.task.classes),
        seed=stream_seed(spec.seed, _phase(spec), "init"),
    )
    network.module.to(data.device)
    if spec.recipe.channels_last:
        network.module.to(memory_format=torch.channels_last)
    return network


def training_seed(spec: TrialSpec) -> int:
    """The seed of a trial's batches, augmentation and dropout."""
    return stream_seed(spec.seed, _phase(spec))


def _phase(spec: TrialSpec) -> str:
    return "pretrain" if isinstance(spec, PretrainSpec) else "transfer"


@functools.lru_cache(maxsize=8)
def _open(source: DataSource, fingerprint: str) -> Dataset:
    return open_fingerprint(source, fingerprint)


def _row(spec: TrialSpec, dataset: Dataset, data: DeviceData, network: Network, outcome: Outcome) -> dict[str, Any]:
    """The trial's row of the table ``trials``, but for its wall time."""
    transfer = spec if isinstance(spec, TransferSpec) else None
    base = transfer.base if transfer else None
    names = [stage.name for stage in network.stages]
    best = sorted((evaluation.top1 for evaluation in outcome.curve), reverse=True)[:_BEST]
    enough = len(outcome.curve) >= 2 * _BEST  # the best of fewer would be most of the curve, its beginning included

    def label(task: TaskSpec) -> str:
        return task_label(dataset, task)

    return {
        "id": spec.id,
        "dataset": spec.task.dataset,
        "base_task": label(base.task) if base else None,
        "target_task": label(spec.task),
        "network": spec.network.name,
        "stages": names,
        "n_layers": transfer.n_layers if transfer else 0,
        "cut": names[transfer.n_layers - 1] if transfer else None,
        "frozen": transfer.frozen if transfer else None,
        "pretrain_id": base.id if base else None,
        "pretrain_step": transfer.pretrain_step if transfer else None,
        "seed": spec.seed,
        "steps": spec.recipe.steps,
        "train_images": len(data.train),
        "test_images": len(data.test),
        "top1": outcome.curve[-1].top1,
        "loss_nats": outcome.curve[-1].loss_nats,
        "top1_best10": fmean(best) if enough else None,
        "train_top1": outcome.train_top1,
        "train_loss_nats": outcome.train_loss_nats,
        "config": to_json(spec),
        "images_per_s": outcome.images_per_s,
        "reused_layers": outcome.reused_layers,
        "streamed": data.streamed,
        "device": device_name(data.device),
        "host": platform.node(),
        "finished_at": datetime.now(UTC),
        "versions": _versions(),
        "commit": _commit(),
    }


@functools.cache
def device_name(device: torch.device) -> str:
    """Name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@functools.cache
def _versions() -> str:
    packages = {name: importlib.metadata.version(name) for name in ("raytransfer", "torch", "ray")}
    return json.dumps({"python": platform.python_version(), **packages})


@functools.cache
def _commit() -> str | None:
    """Commit of the checkout that this package is imported from, with a + where tracked files differ from it."""
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", checkout, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def attempt(spec: TrialSpec, site: Site, checkpoint_steps: frozenset[int] = frozenset()) -> str | None:
    """Run a trial; if it raises, write the reason into the store and give it back.

    It is not tried again in the same sweep: on the same machine it would most likely raise again.
    """
    try:
        run(spec, site, checkpoint_steps)
    except Exception:  # whatever went wrong, the other trials of the sweep are worth their results
        reason = f"on {platform.node()}: {traceback.format_exc()}"
        publish_failure(Store(site.root), spec.id, reason)
        return reason
    return None
