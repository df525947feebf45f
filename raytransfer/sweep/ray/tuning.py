"""Trials of a sweep as trials of Ray Tune, one a slot."""

import gc
import logging
import os
import platform
import tempfile
import time
from collections import deque
from logging.handlers import BufferingHandler
from typing import Any

import torch
from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import SearchAlgorithm

from raytransfer.errors import StorageError
from raytransfer.specs import PretrainSpec, TrialSpec, from_json, to_json
from raytransfer.store import failure, is_unmerged, unmerged
from raytransfer.sweep.ray.cluster import Leaving, Slots, machines_gone, machines_leave
from raytransfer.sweep.run import Run
from raytransfer.training import Interrupted, RankDied
from raytransfer.trials import Site, attempt

_LOG = logging.getLogger("raytransfer")
_TOLD = BufferingHandler(capacity=1000)  # what trials tell in a worker's process, on the way to the driver
_LOOK_S = 2.0  # between looks at the cluster's size


def run_on_ray(run: Run, slots: Slots) -> None:
    """Run the trials with Ray Tune, as many at once as there are slots.

    Reused actors, of one resource shape or of two where bases take more: a worker imports torch once and runs trial
    after trial. A trial whose process died is handed out again as a new trial of Tune's: Tune's own retries pass over a
    process that dies between trials.

    Raises:
        KeyboardInterrupt: It was told to stop.
        StorageError: The sweep was given up.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is told by the observer
    searcher = _Searcher(run, slots)
    while not _fitted(run, searcher):
        searcher.all_died()
    if run.abandoned is not None:
        raise StorageError(run.abandoned)
    if run.unfinished:  # at SIGUSR1 Tune ends as if all were done
        raise KeyboardInterrupt


def _fitted(run: Run, searcher: "_Searcher") -> bool:
    """Run Tune until nothing is left; gives whether it got there.

    It does not where Ray kills a worker because its machine runs out of memory: Tune knows no such end of a process and
    stops with an error, and all its workers end.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "10000"  # none that matters: the searcher hands out what it wants to run
    with tempfile.TemporaryDirectory(prefix="raytransfer-tune-") as unread:  # Tune's own state
        tuner = tune.Tuner(
            _Worker,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_FirstCome(),
                num_samples=-1,  # until the searcher says that it is finished
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=unread,
                callbacks=[_Starts(searcher)],
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except Exception as error:
            if isinstance(error.__cause__, OutOfMemoryError):
                _LOG.warning(
                    "a machine ran out of memory, and Ray stopped a worker: what ran is handed out again; slots=... "
                    "runs fewer trials at once"
                )
                return False
            if run.abandoned is None:
                raise
    return True


class _Worker(tune.Trainable):
    """A process on a slot that runs one trial after the other; measurements come several at once."""

    def setup(self, config: dict[str, Any]) -> None:
        logging.getLogger("raytransfer.trials").addHandler(_TOLD)
        self.reset_config(config)
        self._leaving = Leaving()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._work, self.config = new_config, {}  # Tune sends its config back with every result
        return True

    def step(self) -> dict[str, Any]:
        site: Site = self._work["site"]
        reasons: list[str | None] = []
        failed = False
        try:
            for text, steps in self._work["trials"]:
                if self._leaving():
                    raise Interrupted
                spec = from_json(text)
                reasons.append(attempt(spec, site, steps, self._leaving))
                # Weights that cannot be read are not written down as one: the driver learns of them from this alone.
                failed |= reasons[-1] is not None and failure(site.store(), spec.id) is not None
                if failed and site.device == "cuda" and not _gpu_works():
                    os._exit(1)  # what it has not begun is handed out again
        except StorageError as error:
            return {"abandon": f"{error} (on {platform.node()})", "told": _told(), "done": True}
        except RankDied as died:
            return {"died": str(died), "told": _told(), "done": True}
        except Interrupted:
            os._exit(0)  # else Tune would give this process the next trial
        finally:  # the process goes on with other trials, and what is left stays, as its imports do
            gc.collect()
            gc.freeze()
        if site.device == "cuda":
            torch.cuda.empty_cache()
            if failed:  # an error of the GPU stays with the process, and would fail all its later trials
                raise _Spent  # Tune gives such a process no other trial; what has failed stands in the store
        return {"reasons": reasons, "told": _told(), "done": True}


def _told() -> list[str]:
    """What trials have told here since this was asked last."""
    lines = [record.getMessage() for record in _TOLD.buffer]
    _TOLD.flush()
    return lines


class _Spent(Exception):  # noqa: N818 - its trials are done
    """A process is to run nothing more."""


def _gpu_works() -> bool:
    """Whether the GPU does what this process asks; after some errors, such as one of a kernel, it never does again."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


class _Searcher(SearchAlgorithm):
    """Hands Tune the trials in the order of the run: a trial whose base is still training has to wait.

    It creates Tune's trials itself: Tune parses each suggestion of a ``Searcher`` like a command line, which doubled
    the driver's work.
    """

    def __init__(self, run: Run, slots: Slots) -> None:
        self._run, self._slots = run, slots
        # Tune's name of a trial -> ours, and how many machines had left when they were handed out
        self._running: dict[str, tuple[list[str], int]] = {}
        self._store = run.site.store()
        self._written_before = unmerged(self._store)
        self._most, self._gone, self._next_look_s = 0, 0, 0.0
        self._storage: Any = None  # where Tune's trials keep what nobody reads
        self._slot = tune.PlacementGroupFactory([dict(slots.per_trial)])
        self._slots_of_base = tune.PlacementGroupFactory([dict(slots.per_base)])

    def add_configurations(self, experiments: Any) -> None:
        """Note where Tune wants its trials."""
        (experiment,) = experiments
        self._storage = experiment.storage

    def next_trial(self) -> Trial | None:
        """What a slot is to run next."""
        if self._run.abandoned is not None:
            raise StorageError(self._run.abandoned)  # ends Tune at once: results could not be stored
        if not self._run.unfinished:
            self.set_finished()  # type: ignore[no-untyped-call]
            return None
        self._look_at_cluster()
        taken = sum(self._taken_by(self._run.specs[trials[0]]) for trials, _ in self._running.values())
        if taken >= self._most:
            return None
        trials = self._run.next(lambda spec: not taken or taken + self._taken_by(spec) <= self._most)
        if not trials:
            if not self._running:  # Tune would poll for ever
                raise RuntimeError(f"{self._run.unfinished} trials wait for bases that nothing trains")
            return None
        work = [(to_json(self._run.specs[trial]), self._run.steps_to_keep(trial)) for trial in trials]
        is_base = isinstance(self._run.specs[trials[0]], PretrainSpec)
        slot = self._slots_of_base if is_base else self._slot
        handed = _Trial({"trials": work, "site": self._run.site}, slot, self._storage)
        self._running[handed.trial_id] = trials, self._gone
        return handed

    def _taken_by(self, spec: TrialSpec) -> int:
        """How many slots a trial takes."""
        return self._slots.of_base if isinstance(spec, PretrainSpec) else 1

    def _look_at_cluster(self) -> None:
        """See whether machines joined or left."""
        if time.monotonic() >= self._next_look_s:
            self._run.resize(self._slots.now())
            self._most = self._slots.wanted_now()
            self._gone = machines_gone()
            if self._slots.gone():  # Tune would wait for ever
                self._run.abandon("the Ray of this machine has died; Ray's logs say why")
            self._next_look_s = time.monotonic() + _LOOK_S

    def on_trial_start(self, trial_id: str) -> None:
        """Tune has found a slot for what was handed out."""
        if trial_id in self._running:
            self._run.started(self._running[trial_id][0])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trials, gone = self._running.pop(trial_id, ([], 0))
        for line in (result or {}).get("told", ()):
            _LOG.warning(line)
        if error or result is None:
            machine_left = machines_gone() > gone or machines_leave()
            for trial in trials:
                self._died(trial, machine_left)
        elif "died" in result:
            for trial in trials:
                self._died(trial, machine_left=False, why=result["died"])
        elif "abandon" in result:
            self._run.abandon(result["abandon"])
        else:
            for trial, reason in zip(trials, result["reasons"], strict=True):
                self._run.end(trial, reason)

    def all_died(self) -> None:
        """Tune has stopped for want of memory, and with it the processes of all that ran."""
        while self._running:
            _, (trials, _) = self._running.popitem()
            for trial in trials:
                self._died(trial, machine_left=False, why="a machine ran out of memory")

    def _died(self, trial: str, machine_left: bool, why: str = "Ray's logs say why") -> None:
        """A trial's process died, perhaps only after it had written how the trial ended."""
        written = is_unmerged(self._store, trial) and trial not in self._written_before
        reason = failure(self._store, trial)
        if written or reason is not None:
            self._run.end(trial, reason)
        else:
            self._run.died(trial, "a machine left the cluster" if machine_left else why, at_fault=not machine_left)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher, which it must never go on from


class _Trial(Trial):
    """A trial of Tune's without what nobody reads here: statistics of its results, and its state for a restart.

    With them, and with the class it runs looked up in Ray's own store three times, 10,000 trials took half a gigabyte
    of the driver.
    """

    def __init__(self, work: dict[str, Any], slot: tune.PlacementGroupFactory, storage: Any) -> None:
        # A stub does not look its class up.
        super().__init__(_Worker.__name__, config=work, placement_group_factory=slot, storage=storage, stub=True)

    def get_trainable_cls(self) -> type[_Worker]:
        """What it runs."""
        return _Worker

    def update_last_result(self, result: dict[str, Any]) -> None:
        """Keep the result, which ``on_trial_complete`` gets."""
        self.run_metadata.last_result = result

    def get_json_state(self) -> tuple[str, str]:
        """Nothing: a sweep goes on from the store."""
        return "{}", "{}"


class _FirstCome(FIFOScheduler):
    """Lets a trial keep the process that starts for it.

    Tune's own scheduler names the oldest trial that waits: a process that falls free is then given to that one, and the
    one that was starting for it is killed. Where trials end sooner than a process starts, a new slot would run none.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._unnamed: deque[Trial] = deque()

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Note a trial that waits."""
        self._unnamed.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The oldest trial that waits and has not been named before, for which no process is starting yet."""
        while self._unnamed:
            trial = self._unnamed.popleft()
            if trial.status == Trial.PENDING:
                return trial
        return None


class _Starts(tune.Callback):
    """Tells the searcher when a trial starts: on a cluster that grows it may wait for its slot for minutes."""

    def __init__(self, searcher: _Searcher) -> None:
        self._searcher = searcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """See the class."""
        self._searcher.on_trial_start(trial.trial_id)
