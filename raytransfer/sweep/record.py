"""The progress of the running sweep, kept in its store for ``raytransfer status``."""

import datetime
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from raytransfer.errors import StorageError
from raytransfer.store import Store, delete_progress, write_progress
from raytransfer.sweep.observer import Observer

_EVERY_S = 2.0
_PATIENCE_S = 2.0  # what is late is written anew soon, and an interrupted command ends soon


class Record(Observer):
    """Keeps the progress of a sweep in the store for others to read (``raytransfer status``).

    A thread writes what has changed, every 2 s at most, so that a slow storage keeps no trial waiting. When the sweep
    ends, in whatever way but being killed, the file goes: which trials finished and failed their rows tell.

    Args:
        store: Where to.
        folder: The sweep's folder within it.
        seconds_left: Tells how long the sweep still takes, None where that is not known yet; asked at each writing, so
            that who reads it sees what the sweep itself shows.
        lost: Tells why the store is this sweep's no longer, and None as long as it is: then the file is another's.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        seconds_left: Callable[[], float | None],
        lost: Callable[[], str | None],
    ) -> None:
        self._store = Store(store.root, retry_s=min(store.retry_s, _PATIENCE_S))
        self._seconds_left, self._lost = seconds_left, lost
        self._lock, self._changed, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write_changes, daemon=True)
        self._progress: dict[str, Any] = {
            "sweep": folder.rpartition("/")[2],
            "host": os.uname().nodename,
            "process": os.getpid(),
            "started": _now(),
            "running": {},
        }

    def __enter__(self) -> "Record":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._lost() is None:
            with suppress(StorageError):
                delete_progress(self._store)

    def started(self, trials: Sequence[str]) -> None:
        """Trials were handed out together, to run one after the other; the first has begun."""
        self._note(self._progress["running"] | dict.fromkeys(trials, _now()))

    def died(self, trial: str, why: str) -> None:
        """A trial's process died; the trial will start again."""
        self._end(trial)

    def finished(self, trial: str) -> None:
        """A trial finished."""
        self._end(trial)

    def failed(self, trial: str, reason: str, skipped: list[str]) -> None:
        """A trial failed, and with it those that needed it."""
        self._end(trial)

    def _end(self, trial: str) -> None:
        self._note({other: since for other, since in self._progress["running"].items() if other != trial})

    def _note(self, running: Mapping[str, str]) -> None:
        with self._lock:
            self._progress["running"] = running
        self._changed.set()

    def _write_changes(self) -> None:
        while not self._ended.wait(_EVERY_S):
            if self._changed.is_set():
                self._changed.clear()
                self._write()

    def _write(self) -> None:
        with self._lock:
            progress = self._progress | {"written": _now(), "left_s": self._seconds_left()}
        if self._lost() is None:
            with suppress(StorageError):
                write_progress(self._store, progress)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
