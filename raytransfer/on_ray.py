"""Run a sweep as Ray Tune trials, one a slot. The only module that imports Ray."""

import gc
import logging
import os
from collections import Counter
from collections.abc import Iterator
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
from ray.tune.search import Searcher

from raytransfer.errors import UserError
from raytransfer.packing import Packing, measure
from raytransfer.plan import check_slots
from raytransfer.specs import PretrainSpec, from_json, to_json
from raytransfer.store import Store, failure, finished, is_finished, publish_failure
from raytransfer.sweep import Run
from raytransfer.tasks import DataSource
from raytransfer.trial import Site, attempt

_RETRIES = 3  # of a trial whose process died
_TUNE = ".tune"  # where Tune keeps its own state, which nobody reads


@contextmanager
def cluster() -> Iterator[None]:
    """The Ray cluster this machine is part of (or ``RAY_ADDRESS`` names), else one of this machine alone.

    Raises:
        UserError: ``RAY_ADDRESS`` leads nowhere.
    """
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        address = os.environ.get("RAY_ADDRESS", "the address Ray found")
        raise UserError(f"RAY_ADDRESS={address} leads to no Ray cluster: start one there, or unset it") from error
    try:
        yield
    finally:
        ray.shutdown()


def slots(wanted: int | None, gpus_per_trial: float) -> tuple[int, dict[str, float]]:
    """How many trials run at once, and what each takes: a share of a GPU, or a CPU core where there is no GPU.

    Args:
        wanted: As many as this, or None for all there are.
        gpus_per_trial: Share of a GPU.

    Raises:
        UserError: More are wanted than the cluster holds, or it holds none.
    """
    total = _resources()
    per_trial = {"GPU": gpus_per_trial} if total.get("GPU") else {"CPU": 1.0}
    ((kind, share),) = per_trial.items()
    return check_slots(wanted, int(total.get(kind, 0)), share, kind), per_trial


def has_gpus() -> bool:
    """Whether a machine of the cluster has a GPU."""
    return bool(_resources().get("GPU"))


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


def run_on_ray(run: Run, concurrent: int, per_trial: dict[str, float]) -> None:
    """Run the trials with Ray Tune, ``concurrent`` at once.

    One resource shape and reused actors: a worker imports torch once and runs trial after trial. A trial whose process
    died is handed out again as a new trial of Tune's: Tune's own retries pass over a process that dies between trials.
    """
    store = Store(run.site.root)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is told by the observer
    tuner = tune.Tuner(
        tune.with_resources(_Worker, {kind.lower(): share for kind, share in per_trial.items()}),
        tune_config=tune.TuneConfig(
            search_alg=_Agenda(run),
            num_samples=-1,  # until the searcher says that it is finished
            max_concurrent_trials=concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=store.place(_TUNE),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    tuner.fit()
    store.delete_folder(_TUNE)


class _Worker(tune.Trainable):
    """A process on a slot that runs one trial after the other; measurements come several at once."""

    def setup(self, config: dict[str, Any]) -> None:
        self._work = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._work = new_config
        return True

    def step(self) -> dict[str, Any]:
        site: Site = self._work["site"]
        try:
            reasons = [attempt(from_json(spec), site, steps) for spec, steps in self._work["trials"]]
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


class _Agenda(Searcher):
    """Hands Tune the trials in the order of the run: a trial whose base is still training has to wait."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._running: dict[str, list[str]] = {}  # Tune's name of a trial -> ours
        self._deaths: Counter[str] = Counter()
        self._store = Store(run.site.root)
        self._finished_before = finished(self._store)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if not self._run.unfinished:
            return Searcher.FINISHED
        trials = self._run.next()
        if not trials:
            if not self._running:  # Tune would poll for ever
                raise RuntimeError(f"{self._run.unfinished} trials wait for bases that nothing trains")
            return None
        self._running[trial_id] = trials
        steps = self._run.checkpoint_steps
        work = [(to_json(self._run.specs[trial]), steps.get(trial, frozenset())) for trial in trials]
        return {"trials": work, "site": self._run.site}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trials = self._running.pop(trial_id, [])
        if not error and result is not None:
            for trial, reason in zip(trials, result["reasons"], strict=True):
                self._run.end(trial, reason)
            return
        for trial in trials:
            self._died(trial)

    def _died(self, trial: str) -> None:
        """A trial's process died, perhaps only after it had written how the trial ended."""
        written = is_finished(self._store, trial) and trial not in self._finished_before
        reason = failure(self._store, trial)
        self._deaths[trial] += 1
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
