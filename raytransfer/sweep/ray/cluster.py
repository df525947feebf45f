"""The Ray cluster: how to join it, what it has, who joins and who leaves."""

import logging
import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import MappingProxyType

import ray
import torch
import yaml
from joblib import cpu_count

# Ray has no public way to ask for these: where it keeps its files, what it makes of an address, the one that the last
# cluster on this machine left, and which machines are being taken away.
from ray._common.utils import get_default_ray_temp_dir, get_ray_address_file
from ray._private.services import canonicalize_bootstrap_address
from ray._private.state import state
from ray._private.utils import read_ray_address
from ray.autoscaler.sdk import request_resources
from ray.exceptions import AuthenticationError, RayTaskError

from raytransfer.errors import UserError, first_line, one_line
from raytransfer.specs import PretrainSpec
from raytransfer.sweep import mps
from raytransfer.sweep.gpu_sharing import GpuSharing, measure
from raytransfer.sweep.slots import UNITS, check_ranks, check_slots, slot_count, slots_of_base, usable_gpus
from raytransfer.tasks import DataSource
from raytransfer.words import number_of

_CONNECT_S = 10.0
_HOST_AND_PORT = re.compile(r"(\[[^/\s\]]+\]|[^/\s:]+):\d{1,5}")  # brackets tell colons of IPv6 from that of the port
_HTTP2_SETTINGS = b"\x04" + bytes(5)  # the type of a frame, its flags and its stream
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _HTTP2_SETTINGS
_GRPC_SETTING = b"\xfe\x03"
_JOIN_S = 1200.0  # a cloud may take minutes to give a machine, and that to install
_BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # where `ray up` leaves its cluster file on the head
_LOOK_S = 5.0  # between a worker's looks at whether its machine is to leave
_LOG = logging.getLogger("raytransfer")


@contextmanager
def cluster(sources: Mapping[str, str] = MappingProxyType({}), *, share_gpus: bool = False) -> Iterator[bool]:
    """The Ray cluster this machine is part of (or ``RAY_ADDRESS`` names), else one of this machine alone.

    Workers of a Ray that is started have this process's environment, and so run under a service that it names. Those of
    a Ray that is joined have their own: who shares its GPUs starts NVIDIA's Multi-Process Service there beforehand.

    Args:
        sources: Python files of the user's own that workers import from, by path; Ray takes them to every machine.
        share_gpus: Whether several trials may share a GPU: a Ray of this machine alone then runs under NVIDIA's
            Multi-Process Service, if it has NVIDIA's GPUs.

    Yields:
        Whether it was there before, and so may grow.

    Raises:
        UserError: The address leads nowhere, or to a cluster of another version of Ray or Python; Ray cannot start
            on this machine; or this process uses Ray already, as a notebook may.
    """
    if ray.is_initialized():
        raise UserError(
            "this process has called ray.init: call ray.shutdown() first; a sweep starts or joins Ray itself"
        )
    named, where = _address()
    served = share_gpus and where is None and torch.version.hip is None and usable_gpus() > 0
    with tempfile.TemporaryDirectory() as folder, mps.service() if served else nullcontext():
        yield from _started(named, where, _environment(sources, Path(folder)))


def _address() -> tuple[str | None, str | None]:
    """The address to give Ray, and where the cluster is that it will join; None for a Ray of this machine alone.

    ``RAY_ADDRESS`` means what it means to Ray, except that Ray's client is refused, through which no sweep runs. Since
    Ray would try to connect for minutes, whether a Ray answers is checked first. A cluster that is named must be there;
    one whose address the last cluster on this machine left in a file need not.

    Raises:
        UserError: ``RAY_ADDRESS`` is no address, or leads to no Ray.
    """
    named = os.environ.get("RAY_ADDRESS")
    if named == "local":
        return named, None
    if named is None:
        return _found()
    choices = "give the head's address as host:port (the port is mostly 6379), auto or local, or unset it"
    if named != "auto" and not _HOST_AND_PORT.fullmatch(named):
        kind = " but of Ray's client or jobs, through which no sweep runs" if "://" in named else ""
        raise UserError(f"RAY_ADDRESS={named} is no address of a Ray cluster{kind}: {choices}")
    try:
        where = canonicalize_bootstrap_address(named)  # "auto", and this machine's address in place of localhost
    except ConnectionError as error:
        raise UserError(f"RAY_ADDRESS={named}, and no Ray cluster runs on this machine: {choices}") from error
    if where is not None and not _is_ray(where):
        raise UserError(f"RAY_ADDRESS={named} leads to no Ray cluster: start one there, or unset it")
    return named, where


def _found() -> tuple[str | None, str | None]:
    """As ``_address``, where none is named: of the last cluster on this machine, if that is still there."""
    file = get_ray_address_file(None)
    try:
        found = read_ray_address()
    except (OSError, ValueError) as error:  # another user's, or no text
        _LOG.info("%s cannot be read (%s): starting a Ray of this machine alone", file, first_line(error))
        return "local", None
    if found is None:
        return None, None
    if _is_ray(found):  # anybody may have started it
        _LOG.info("joining the Ray cluster at %s; RAY_ADDRESS=local starts one of this machine alone", found)
        return None, found
    # What was killed leaves its address in a file.
    _LOG.info("no Ray answers at %r, which %s names: starting one of this machine alone", found, file)
    return "local", None


def _environment(sources: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What Ray is told of the workers' surroundings: that they run, and so import, in a copy of this folder."""
    for name, text in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {"working_dir": str(folder)} if sources else {}


def _started(named: str | None, where: str | None, environment: dict[str, str]) -> Iterator[bool]:
    try:
        with _handlers_kept():
            ray.init(
                address=named,
                # Ray would count cores, too, that this process may not use, and GPUs that this PyTorch cannot. A
                # cluster's machines have told.
                num_cpus=cpu_count() if where is None else None,
                num_gpus=usable_gpus() if where is None else None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=environment or None,
            )
    except (ConnectionError, AuthenticationError) as error:
        raise UserError(
            f"the Ray cluster at {where} does not let this machine in: start one there, or unset RAY_ADDRESS; "
            "if it wants a token, set RAY_AUTH_MODE=token and copy its ~/.ray/auth_token here"
        ) from error
    except Exception as error:
        if "Version mismatch" in str(error):
            raise UserError(
                f"the Ray cluster at {where} cannot be used from here: {one_line(error)} "
                "Install the same versions on all machines (constraints.txt pins them)"
            ) from error
        if where is not None and not isinstance(error, OSError):
            raise
        # Where its folder has no room, Ray waits for its own processes in vain and raises bare exceptions.
        folder = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
        raise UserError(
            f"Ray does not start on this machine: {one_line(error)}; it writes to {folder}, which must have room (set "
            "RAY_TMPDIR to have another folder, of a short path) and to ~/.ray (set HOME to have another)"
        ) from error
    except SystemExit as stopped:  # Ray's handler of SIGTERM, as long as it starts
        raise KeyboardInterrupt from stopped
    try:
        yield where is not None
    finally:
        ray.shutdown()


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """A block after which SIGTERM is handled as before: Ray's own handler aborts the process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray, too, sets it there alone
            signal.signal(signal.SIGTERM, before)


def _is_ray(address: str) -> bool:
    """Whether a gRPC server, as Ray's head is, answers at an address within 10 s: it sends an HTTP/2 setting of gRPC's.

    Ray's own ``GcsClient`` takes 40 s to find out. With TLS a server sends nothing before a handshake: that something
    listens has to do.
    """
    greetings: list[bytes | None] = []
    # To look a name up can take longer than any socket's own time limit.
    thread = threading.Thread(target=lambda: greetings.append(_greeting(address)), daemon=True)
    thread.start()
    thread.join(_CONNECT_S)
    if not greetings or greetings[0] is None:
        return False
    with_tls = os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")
    return with_tls or any(greetings[0].startswith(_GRPC_SETTING, at) for at in range(0, len(greetings[0]), 6))


def _greeting(address: str) -> bytes | None:
    """The settings that are sent from an address to a client that speaks HTTP/2; None where nothing listens."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S / 2) as connection:
            with suppress(OSError):
                connection.sendall(_HTTP2_PREFACE)
                head = connection.recv(9, socket.MSG_WAITALL)  # a frame's length and type, and what is 0 in this one
                if head[3:] == _HTTP2_SETTINGS:
                    return connection.recv(int.from_bytes(head[:3], "big"), socket.MSG_WAITALL)
            return b""
    except (OSError, ValueError, OverflowError):
        return None


class Slots:
    """How many trials the cluster runs at once; it may grow and shrink while the sweep runs.

    Args:
        wanted: As many as this at most, or None for all there are.
        gpus_per_trial: Share of a GPU that a trial takes, or how many of one machine; where there is no GPU it takes a
            CPU core, or so many.
        base_ranks: How many a base takes, if more than one.
        may_grow: Whether more machines may join, so that more slots can be wanted than are there.

    Attributes:
        per_trial: What a trial takes.
        per_base: What a base takes.
        of_base: How many slots that is.

    Raises:
        UserError: More are wanted than there can be.
    """

    def __init__(
        self, wanted: int | None, gpus_per_trial: float, base_ranks: int = 1, *, may_grow: bool = False
    ) -> None:
        self._wanted, self._may_grow = wanted, may_grow
        self._kind = _kind()
        ranks = max(1, int(gpus_per_trial))
        share = gpus_per_trial if self._kind == "GPU" else ranks
        self._ranks = ranks
        self.per_trial = {self._kind: float(share)}
        self.per_base = {self._kind: float(base_ranks)} if base_ranks > 1 else self.per_trial
        self.of_base = slots_of_base(base_ranks, share)
        self._most = self._slots(_could_become(ranks)) if may_grow else 0
        if not may_grow:
            check_ranks(ranks, base_ranks, _most_on_one_machine(self._kind), self._kind)
            check_slots(wanted, int(_resources(ranks).get(self._kind, 0)), share, self._kind, base_ranks)

    def now(self) -> int:
        """How many run at once on the machines that are there."""
        return self._slots(_resources(self._ranks))

    def gone(self) -> bool:
        """Whether there are none and none can come: of a Ray of this machine alone, that has died."""
        return not self._may_grow and not self.now()

    def wanted_now(self) -> int:
        """How many to ask for: a cluster that starts machines does so where trials wait for a slot."""
        if self._may_grow and self._wanted is not None:
            return self._wanted
        return max(self.now(), self._most)

    def _slots(self, resources: Mapping[str, float]) -> int:
        there = slot_count(int(resources.get(self._kind, 0)), self.per_trial[self._kind])
        return there if self._wanted is None else min(self._wanted, there)


def wait_for_machines(together: int = 1) -> None:
    """Wait until the cluster has a machine that can run trials, or is known to start some when they are wanted.

    Args:
        together: How many GPUs of one machine a trial takes at most; cores, where there is no GPU.

    Raises:
        UserError: None came within 20 minutes.
    """
    if _has_room(together):
        return
    split = f"{number_of(together, UNITS[_kind()])} for a training that is split"
    what = "a CPU or GPU for trials" if together == 1 else split
    _LOG.info("waiting for a machine with %s to join the Ray cluster ...", what)
    # An autoscaler starts nothing that nobody wants.
    request_resources(bundles=[{"CPU": 1} if together == 1 else {_kind(): together}])
    try:
        deadline = time.monotonic() + _JOIN_S
        while not _has_room(together):
            if time.monotonic() > deadline:
                raise UserError(f"no machine with {what} joined the Ray cluster within {_JOIN_S:.0f} s")
            time.sleep(1)
    finally:
        request_resources(bundles=[])  # Ray remembers the wish, and would keep a machine for nobody


def _has_room(together: int) -> bool:
    return any(found.get(_kind()) for found in (_resources(together), _could_become(together)))


def _kind() -> str:
    """What trials take."""
    return "GPU" if has_gpus() else "CPU"


def has_gpus() -> bool:
    """Whether a machine of the cluster has a GPU, or one that it can start."""
    return bool(_resources().get("GPU") or _could_become().get("GPU"))


def measure_sharing(spec: PretrainSpec, source: DataSource, memory_bytes: int) -> GpuSharing:
    """How many trials to run side by side on a GPU of the cluster, measured on one of them.

    Args:
        spec: A base of the sweep.
        source: Where its data are.
        memory_bytes: As for ``raytransfer.training.DeviceData``.

    Raises:
        UserError: The base does not train on it.
    """

    @ray.remote(num_cpus=0, num_gpus=1)
    def on_a_gpu() -> GpuSharing:
        return measure(spec, source, "cuda", memory_bytes, _cores_per_gpu())

    try:
        sharing: GpuSharing = ray.get(on_a_gpu.remote())
    except RayTaskError as error:  # as where its batch does not fit the GPU
        raise UserError(f"gpus_per_trial=auto: a base does not train on a GPU here: {one_line(error.cause)}") from error
    return sharing


def _cores_per_gpu() -> int:
    """CPU cores for each GPU of the machine on which this task of Ray's runs."""
    here = ray.get_runtime_context().get_node_id()
    (found,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == here)  # type: ignore[no-untyped-call]
    return max(1, int(found.get("CPU", 0) / found["GPU"]))


def _resources(together: int = 1) -> dict[str, float]:
    """GPUs and CPU cores of the cluster; a machine counts with the largest multiple of ``together`` that it has."""
    if together > 1:
        return {
            kind: sum(found.get(kind, 0.0) // together * together for found in _machines()) for kind in ("CPU", "GPU")
        }
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return total


def _machines() -> list[dict[str, float]]:
    """What each machine has, by kind."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _most_on_one_machine(kind: str) -> int:
    return int(max((found.get(kind, 0.0) for found in _machines()), default=0))


def _could_become(together: int = 1) -> Mapping[str, float]:
    """The same once the autoscaler has started every machine that the cluster file on this head allows.

    Ray itself does not tell. Nothing where there is no such file, as on Kubernetes: there ``slots`` says how many.
    """
    path = _BOOTSTRAP.expanduser()
    if not path.exists():
        return {}
    config = yaml.safe_load(path.read_text())
    workers = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    most: Counter[str] = Counter()
    for resource in ("CPU", "GPU"):
        left = config["max_workers"]
        for kind in sorted(workers, key=lambda kind: -kind.get("resources", {}).get(resource, 0)):
            count = min(left, kind.get("max_workers", 0))
            most[resource] += count * (kind.get("resources", {}).get(resource, 0) // together * together)
            left -= count
    return most


def machines_gone() -> int:
    """How many machines have left the cluster since it started."""
    return sum(not node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


def machines_leave() -> bool:
    """Whether one is about to."""
    return bool(state.get_draining_nodes())


class Leaving:
    """Whether this process's machine is about to leave the cluster: clouds tell two minutes before they take one."""

    def __init__(self) -> None:
        self._node = ray.get_runtime_context().get_node_id()
        self._next_look_s, self._answer = 0.0, False

    def __call__(self) -> bool:
        """Look, every five seconds at most."""
        now = time.monotonic()
        if now >= self._next_look_s:
            self._answer = self._node in state.get_draining_nodes()
            self._next_look_s = now + _LOOK_S
        return self._answer
