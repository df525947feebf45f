"""Trials of a sweep as trials of Ray Tune, one a slot."""

import gc
import logging
import os
import platform
import tempfile
import time
from collections import Counter
from typing import Any

import torch
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from raytransfer.errors import StorageError
from raytransfer.on_ray.cluster import Leaving, Slots, machines_gone, machines_leave
from raytransfer.specs import from_json, to_json
from raytransfer.store import failure, finished, is_finished, publish_failure
from raytransfer.sweep import Run
from raytransfer.training import Interrupted
from raytransfer.trial import Site, attempt

_RETRIES = 3  # of a trial whose process died
_LOOK_S = 2.0  # between looks at the cluster's size


def run_on_ray(run: Run, slots: Slots) -> None:
    """Run the trials with Ray Tune, as many at once as there are slots.

    One resource shape and reused actors: a worker imports torch once and runs trial after trial. A trial whose process
    died is handed out again as a new trial of Tune's: Tune's own retries pass over a process that dies between trials.

    Raises:
        StorageError: The sweep was given up.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is told by the observer
    agenda = _Agenda(run, slots)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "10000"  # none that matters: the agenda hands out what it wants to run
    with tempfile.TemporaryDirectory(prefix="raytransfer-tune-") as unread:  # Tune's own state
        tuner = tune.Tuner(
            tune.with_resources(_Worker, {kind.lower(): share for kind, share in slots.per_trial.items()}),
            tune_config=tune.TuneConfig(
                search_alg=agenda,
                scheduler=_FirstCome(),
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
        self._leaving = Leaving()

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
        self._most, self._gone, self._next_look_s = 0, 0, 0.0

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
        self._machines_gone[trial_id] = self._gone
        work = [(to_json(self._run.specs[trial]), self._run.steps_to_keep(trial)) for trial in trials]
        return {"trials": work, "site": self._run.site}

    def _look_at_cluster(self) -> None:
        """See whether machines joined or left."""
        if time.monotonic() >= self._next_look_s:
            self._run.resize(self._slots.now())
            self._most = self._slots.wanted_now()
            self._gone = machines_gone()
            self._next_look_s = time.monotonic() + _LOOK_S

    def on_trial_start(self, trial_id: str) -> None:
        """Tune has found a slot for what was handed out."""
        if trial_id in self._running:
            self._run.started(self._running[trial_id])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trials = self._running.pop(trial_id, [])
        gone = self._machines_gone.pop(trial_id, 0)
        if error or result is None:
            machine_left = machines_gone() > gone or machines_leave()
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


class _FirstCome(FIFOScheduler):
    """Lets a trial keep the process that starts for it.

    Tune's own scheduler names the oldest trial that waits: a process that falls free is then given to that one, and the
    one that was starting for it is killed. Where trials end sooner than a process starts, a new slot would run none.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._named: set[str] = set()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The oldest trial that waits and has not been named before, for which no process is starting yet."""
        for trial in tune_controller.get_trials():
            if trial.status == Trial.PENDING and trial.trial_id not in self._named:
                self._named.add(trial.trial_id)
                return trial
        return None


class _Starts(tune.Callback):
    """Tells the agenda when a trial starts: on a cluster that grows it may wait for its slot for minutes."""

    def __init__(self, agenda: _Agenda) -> None:
        self._agenda = agenda

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """See the class."""
        self._agenda.on_trial_start(trial.trial_id)
