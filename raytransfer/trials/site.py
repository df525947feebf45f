"""Where a trial runs, and what the rows of all trials say."""

import functools
import importlib.metadata
import json
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from raytransfer.specs import Recipe, TrialSpec, to_json
from raytransfer.storage.retries import PATIENCE_S
from raytransfer.store import Store
from raytransfer.tasks import Dataset, DataSource, TaskData, open_fingerprint
from raytransfer.training import SAVE_EVERY_S, DeviceData


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a trial runs: what cannot change its result, and so is no part of its spec.

    Attributes:
        sources: Fingerprints of data sets, and where each is.
        root: Root of the store.
        device: ``cpu`` or ``cuda``.
        memory_bytes: What a trial may use for images on a GPU and for outputs of frozen layers.
        store_id: Which store the driver sees there; None for a driver that trains by itself.
        retry_s: How long to wait for a storage that does not answer.
        save_every_s: How often a training saves its state, to go on from there if its process dies.
        ranks: How many processes a training is split over.
        base_ranks: The same of a base.
    """

    sources: tuple[tuple[str, DataSource], ...]
    root: str
    device: str
    memory_bytes: int
    store_id: str | None = None
    retry_s: float = PATIENCE_S
    save_every_s: float = SAVE_EVERY_S
    ranks: int = 1
    base_ranks: int = 1

    def store(self) -> Store:
        """The store.

        Raises:
            UserError: On this machine another one lies there, or none.
        """
        return _store(self.root, self.store_id, self.retry_s)

    def dataset(self, fingerprint: str) -> Dataset:
        """Open a data set; a process opens each once."""
        return _open(dict(self.sources)[fingerprint], fingerprint)

    def device_data(self, task: TaskData, recipe: Recipe) -> DeviceData:
        """Images as a recipe normalises and crops them; on a GPU they are sent as they are wanted."""
        return DeviceData(task, recipe, torch.device(self.device), memory_bytes=0)


@functools.lru_cache(maxsize=4)
def _store(root: str, identity: str | None, retry_s: float) -> Store:
    """A process looks once whether its machine sees the driver's store."""
    store = Store(root, retry_s)
    if identity is not None:
        store.check_identity(identity)
    return store


@functools.lru_cache(maxsize=16)
def _open(source: DataSource, fingerprint: str) -> Dataset:
    return open_fingerprint(source, fingerprint)


def common_columns(spec: TrialSpec, device: torch.device, wall_time_s: float) -> dict[str, Any]:
    """The columns that rows of all trials have: what was asked for, and where, when and with what it ran."""
    return {
        "id": spec.id,
        "seed": spec.seed,
        "config": to_json(spec),
        "wall_time_s": wall_time_s,
        "device": device_name(device),
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
    checkout = Path(__file__).parent.parent.parent
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
