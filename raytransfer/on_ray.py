"""Run a sweep as Ray Tune trials, one a slot. The only module that imports Ray."""

import gc
import logging
import os
import platform
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Read by Ray when it is imported, or by its workers when they start.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the store keeps what these would write
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the newer reporter prints a banner whatever its verbosity
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")  # its snapshots are never restored: the store is the truth

import ray
import torch
from ray import tune

# Ray has no public way to ask for these: which machines are being taken away, what the autoscaler may start, and the
# address that the last cluster on this machine left.
from ray._private.state import state
from ray._private.utils import read_ray_address
from ray.tune.search import Searcher

from raytransfer.errors import StorageError, UserError
from raytransfer.packing import Packing, measure
from raytransfer.plan import check_slots, slot_count
from raytransfer.specs import PretrainSpec, from_json, to_json
from raytransfer.store import failure, finished, is_finished, publish_failure
from raytransfer.sweep import Run
from raytransfer.tasks import DataSource
from raytransfer.training import Interrupted
from raytransfer.trial import Site, attempt

_RETRIES = 3  # of a trial whose process died
_MOST_PENDING = 10_000
_LOOK_S = 2.0  # between looks at who has joined and who is leaving
_CONNECT_S = 5.0
_HOST_AND_PORT = re.compile(r"[^/]+:\d+")
_JOIN_S = 300.0
_LOG = logging.getLogger("raytransfer")


@contextmanager
def cluster() -> Iterator[None]:
    """The Ray cluster this machine is part of (or ``RAY_ADDRESS`` names), else one of this machine alone.

    Raises:
        UserError: The address leads nowhere, or to a cluster of another version of Ray or Python.
    """
    named, found = os.environ.get("RAY_ADDRESS"), read_ray_address()
    nowhere = UserError(f"RAY_ADDRESS={named} leads to no Ray cluster: start one there, or unset it")
    if named and _HOST_AND_PORT.fullmatch(named) and not _answers(named):
        raise nowhere  # Ray itself would try for many minutes
    if not named and found and not _answers(found):
        # What was killed leaves its address in a file.
        _LOG.info("no Ray answers at %s, where there was one: starting one of this machine alone", found)
        named = "local"
    try:
        ray.init(address=named, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise nowhere from error
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        raise UserError(
            f"the Ray cluster at {named or found} cannot be used from here: {' '.join(str(error).split())} "
            "Install the same versions on all machines (constraints.txt pins them)"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            return True
    except (OSError, ValueError):
        return False


class Slots:
    """How many trials the cluster runs at once; it may grow and shrink while the sweep runs.

    Args:
        wanted: As many as this at most, or None for all there are.
        gpus_per_trial: Share of a GPU that a trial takes; where there is no GPU it takes a CPU core.

    Attributes:
        per_trial: What a trial takes.

    Raises:
        UserError: More are wanted than the cluster can have, or no machine joined it in time.
    """

    def __init__(self, wanted: int | None, gpus_per_trial: float) -> None:
        self._wanted = wanted
        self._kind = "GPU" if has_gpus() else "CPU"
        self.per_trial = {self._kind: gpus_per_trial if self._kind == "GPU" else 1.0}
        check_slots(wanted, int(self._most()), self.per_trial[self._kind], self._kind)

    def now(self) -> int:
        """How many run at once on the machines that are there."""
        return self._slots(_resources())

    def wanted_now(self) -> int:
        """How many to ask for: a cluster that can grow does so where trials wait for a slot."""
        return max(self.now(), self._slots(_could_become()))

    def _most(self) -> float:
        return max(_resources().get(self._kind, 0), _could_become().get(self._kind, 0))

    def _slots(self, resources: Mapping[str, float]) -> int:
        there = slot_count(int(resources.get(self._kind, 0)), self.per_trial[self._kind])
        return there if self._wanted is None else min(self._wanted, there)


def wait_for_machines() -> None:
    """Wait until the cluster has a machine that can run trials, or is one that starts them when they are wanted.

    Raises:
        UserError: None came within five minutes.
    """
    started, said = time.monotonic(), False
    while not any({**_resources(), **_could_become()}.get(kind) for kind in ("CPU", "GPU")):
        if time.monotonic() - started > _JOIN_S:
            raise UserError(f"no machine with a CPU or GPU for trials joined the Ray cluster within {_JOIN_S:.0f} s")
        if not said:
            _LOG.info("waiting for a machine to join the Ray cluster ...")
            said = True
        time.sleep(1)


def has_gpus() -> bool:
    """Whether a machine of the cluster has a GPU, or one that it can start."""
    return bool(_resources().get("GPU") or _could_become().get("GPU"))


def measure_packing(spec: PretrainSpec, source: DataSource, memory_bytes: int) -> Packing:
    """How many trials to run side by side on a GPU of the cluster, measured on one of them.

    Args:
        spec: A base of the sweep.
        source: Where its data are.
        memory_bytes: As for ``raytransfer.training.DeviceData``.
    """
    total = _resources()
    cores_per_gpu = max(1, int(total["CPU"] / total["GPU"])) if total.get("CPU") else 1

    @ray.remote(num_cpus=0, num_gpus=1)
    def on_a_gpu() -> Packing:
        return measure(spec, source, "cuda", memory_bytes, cores_per_gpu)

    packing: Packing = ray.get(on_a_gpu.remote())
    return packing


def _resources() -> dict[str, float]:
    """What the cluster's machines have, by kind."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return total


def _could_become() -> Mapping[str, float]:
    """What they have when the cluster's autoscaler has started all it may; nothing where there is none."""
    return state.get_max_resources_from_cluster_config() or {}


def run_on_ray(run: Run, slots: Slots) -> None:
    """Run the trials with Ray Tune, as many at once as there are slots.

    One resource shape and reused actors: a worker imports torch once and runs trial after trial. A trial whose process
    died is handed out again as a new trial of Tune's: Tune's own retries pass over a process that dies between trials.

    Raises:
        StorageError: The sweep was given up.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is told by the observer
    agenda = _Agenda(run, slots)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(_MOST_PENDING)  # the agenda hands out no more than it wants to
    with tempfile.TemporaryDirectory(prefix="raytransfer-tune-") as unread:  # Tune's own state
        tuner = tune.Tuner(
            tune.with_resources(_Worker, {kind.lower(): share for kind, share in slots.per_trial.items()}),
            tune_config=tune.TuneConfig(
                search_alg=agenda,
                num_samples=-1,  # until the searcher says that it is finished
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=unread,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[_Starts(agenda)],
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except Exception:
            if run.abandoned is None:
                raise
    if run.abandoned is not None:
        raise StorageError(run.abandoned)


class _Worker(tune.Trainable):
    """A process on a slot that runs one trial after the other; measurements come several at once."""

    def setup(self, config: dict[str, Any]) -> None:
        self._work = config
        self._leaving = _Leaving()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._work = new_config
        return True

    def step(self) -> dict[str, Any]:
        site: Site = self._work["site"]
        reasons = []
        try:
            for spec, steps in self._work["trials"]:
                if self._leaving():
                    raise Interrupted
                reasons.append(attempt(from_json(spec), site, steps, self._leaving))
        except StorageError as error:
            return {"abandon": f"{error} (on {platform.node()})", "done": True}
        except Interrupted:
            os._exit(0)  # else Tune would give this process the next trial
        finally:  # the process goes on with other trials
            gc.collect()
            gc.freeze()  # what is left, mostly of imports, stays: looking through it each time would take 0.1 s
        if site.device == "cuda":
            if any(
                reason is not None for reason in reasons
            ):  # an error of the GPU stays with the process, and would fail all its later trials
                os._exit(1)
            torch.cuda.empty_cache()
        return {"reasons": reasons, "done": True}


class _Leaving:
    """Whether this process's machine is about to leave the cluster, as a cloud says two minutes before it takes one."""

    def __init__(self) -> None:
        self._node = ray.get_runtime_context().get_node_id()
        self._next_look_s, self._answer = 0.0, False

    def __call__(self) -> bool:
        now = time.monotonic()
        if now >= self._next_look_s:
            self._answer = self._node in state.get_draining_nodes()
            self._next_look_s = now + _LOOK_S
        return self._answer


class _Agenda(Searcher):
    """Hands Tune the trials in the order of the run: a trial whose base is still training has to wait."""

    def __init__(self, run: Run, slots: Slots) -> None:
        super().__init__()
        self._run, self._slots = run, slots
        self._running: dict[str, list[str]] = {}  # Tune's name of a trial -> ours
        self._machines_gone: dict[str, int] = {}  # Tune's name of a trial -> how many had left when it was handed out
        self._deaths: Counter[str] = Counter()
        self._store = run.site.store()
        self._finished_before = finished(self._store)
        self._most, self._next_look_s = 0, 0.0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if self._run.abandoned is not None:
            raise StorageError(self._run.abandoned)  # ends Tune at once: results could not be stored
        if not self._run.unfinished:
            return Searcher.FINISHED
        self._look_at_cluster()
        if len(self._running) >= self._most:
            return None
        trials = self._run.next()
        if not trials:
            if not self._running:  # Tune would poll for ever
                raise RuntimeError(f"{self._run.unfinished} trials wait for bases that nothing trains")
            return None
        self._running[trial_id] = trials
        self._machines_gone[trial_id] = _machines_gone()
        work = [(to_json(self._run.specs[trial]), self._run.steps_to_keep(trial)) for trial in trials]
        return {"trials": work, "site": self._run.site}

    def _look_at_cluster(self) -> None:
        """See whether machines joined or left."""
        if time.monotonic() >= self._next_look_s:
            self._run.resize(self._slots.now())
            self._most = min(self._slots.wanted_now(), _MOST_PENDING)
            self._next_look_s = time.monotonic() + _LOOK_S

    def on_trial_start(self, trial_id: str) -> None:
        """Tune has found a slot for what was handed out."""
        if trial_id in self._running:
            self._run.started(self._running[trial_id])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trials = self._running.pop(trial_id, [])
        gone = self._machines_gone.pop(trial_id, 0)
        if error or result is None:
            machine_left = _machines_gone() > gone or bool(state.get_draining_nodes())
            for trial in trials:
                self._died(trial, machine_left)
        elif "abandon" in result:
            self._run.abandon(result["abandon"])
        else:
            for trial, reason in zip(trials, result["reasons"], strict=True):
                self._run.end(trial, reason)

    def _died(self, trial: str, machine_left: bool) -> None:
        """A trial's process died, perhaps only after it had written how the trial ended."""
        written = is_finished(self._store, trial) and trial not in self._finished_before
        reason = failure(self._store, trial)
        self._deaths[trial] += not machine_left  # which is no fault of the trial's
        if written or reason is not None:
            self._run.end(trial, reason)
        elif self._deaths[trial] <= _RETRIES:
            self._run.again(trial)
        else:
            reason = f"its process died {self._deaths[trial]} times; Ray's logs say why"
            publish_failure(self._store, trial, reason)
            self._run.end(trial, reason)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher, which it must never go on from

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: what is done stands in the store."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep goes on by running its command again")


class _Starts(tune.Callback):
    """Tells the agenda when a trial starts: on a cluster that grows it may wait for its slot for minutes."""

    def __init__(self, agenda: _Agenda) -> None:
        self._agenda = agenda

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """See the class."""
        self._agenda.on_trial_start(trial.trial_id)


def _machines_gone() -> int:
    return sum(not node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
