"""Learning curves for where people already look: TensorBoard, MLflow, Weights & Biases."""

import functools
import json
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console

from raytransfer.config import SweepConfig, TrainingConfig
from raytransfer.errors import UserError, first_line
from raytransfer.specs import to_json
from raytransfer.store import Store, curve_of, finished, read_table
from raytransfer.sweep.observer import Observer
from raytransfer.sweep.places import described, places
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.words import number_of

_SCALARS = ("top1", "loss_nats", "train_loss_nats", "learning_rate")
_PATIENCE_S = 60.0  # at the end of a sweep, for a tracker that gets on with nothing
_INTERRUPTED_S = 2.0  # for what an interrupted command still waits


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A training that finished, as trackers are told of it.

    Attributes:
        trial: Its identity.
        name: Its first place in the sweep, such as ``AnB (halves=random, split=random0, ..., seed=0)``.
        place: The same as columns of ``PLACES``, without those that it does not have.
        options: How it was trained, such as ``recipe.learning_rate``, without how its base was.
        curve: Of each evaluation the step, and top1, loss_nats, train_loss_nats and learning_rate as far as known.
    """

    trial: str
    name: str
    place: Mapping[str, Any]
    options: Mapping[str, Any]
    curve: Sequence[tuple[int, Mapping[str, float]]]


class Tracker(Protocol):
    """Where learning curves go. All but ``option`` may raise whatever a library does."""

    @property
    def option(self) -> str:
        """The option that asks for it, with its value, for people."""

    def turn_to(self, sweep: str) -> set[str]:
        """Turn to a sweep, by the name of its folder; gives the trainings of it that are here already, whole."""

    def log(self, training: Logged) -> None:
        """Write a training of that sweep."""


def trackers(config: SweepConfig) -> list[Tracker]:
    """The trackers that options ask for.

    Raises:
        UserError: One cannot be used: its package is missing, or its folder or server cannot be reached.
    """
    found: list[Tracker] = []
    if not isinstance(config, TrainingConfig):
        return found
    if config.tensorboard is not None:
        from raytransfer.sweep.tensorboard import TensorBoard

        found.append(TensorBoard(config.tensorboard))
    if config.mlflow is not None:
        from raytransfer.sweep.mlflow import MLflow

        found.append(MLflow(config.mlflow))
    if config.wandb is not None:
        from raytransfer.sweep.wandb import WandB

        found.append(WandB(config.wandb))
    return found


def missing(option: str, package: str, error: Exception) -> UserError:
    """What to say where a tracker's package cannot be imported."""
    return UserError(
        f"{option} needs the package {package} ({first_line(error)}): pip install 'raytransfer[{package}]'"
    )


class Curves(Observer):
    """Gives trackers the learning curve of every training of it, each once.

    Those that finished before, while nobody looked, come first, without those that the tracker has. A training that ran
    anew (``mode=force``) is the same trial with the same result, and is not given again. A thread writes them, so that
    a slow tracker keeps no trial waiting; the block ends when all are written. A tracker that fails is told in a line
    and left alone from then on: the same command gives it what it lacks.

    Args:
        found: The trackers.
        console: Where failures are told.
        store: Where finished trials leave their curves.
        sweep: Name of the sweep's folder.
        plan: The sweep.
    """

    def __init__(
        self,
        found: Sequence[Tracker],
        console: Console,
        store: Store,
        sweep: str,
        plan: Plan[Cell, Any],
    ) -> None:
        self._console, self._store, self._sweep = console, store, sweep
        self._cells = plan.cells
        self._specs = {training.id: training for training in plan.trainings}
        self._has: dict[Tracker, set[str]] = {tracker: set() for tracker in found}
        self._merged: dict[str, list[Mapping[Any, Any]]] = {}
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, daemon=True)

    def __enter__(self) -> "Curves":
        for tracker in list(self._has):
            try:
                self._has[tracker] = tracker.turn_to(self._sweep)
            except Exception as error:  # whatever its library raises
                self._leave(tracker, error)
        before = finished(self._store) if self._has else set()
        for trial in self._specs:
            if trial in before and not all(trial in has for has in self._has.values()):
                self._waiting.put(trial)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._waiting.put(None)
        while self._thread.is_alive():
            left = self._waiting.qsize()
            self._thread.join(_PATIENCE_S if kind is None else _INTERRUPTED_S)
            if self._thread.is_alive() and (kind is not None or self._waiting.qsize() == left):
                options = " and ".join(tracker.option for tracker in self._has)
                self._console.print(
                    f"{options}: {number_of(left, 'learning curve')} not written; the same command writes what is "
                    "missing",
                    soft_wrap=True,
                )
                return

    def finished(self, trial: str) -> None:
        """Write the learning curve of a training that finished."""
        if trial in self._specs:
            self._waiting.put(trial)

    def _write_all(self) -> None:
        while (trial := self._waiting.get()) is not None:
            self._write(trial)

    def _write(self, trial: str) -> None:
        logged: Logged | None = None
        for tracker, has in list(self._has.items()):
            if trial in has:
                continue
            try:
                logged = logged or self._logged(trial)
                if logged.curve:  # which a store lacks that was copied while a sweep ran
                    tracker.log(logged)
                has.add(trial)
            except Exception as error:  # whatever its library raises, or the store
                self._leave(tracker, error)

    def _leave(self, tracker: Tracker, error: Exception) -> None:
        del self._has[tracker]
        self._console.print(
            f"{tracker.option} failed, and gets no more learning curves of this run: {first_line(error)}; the same "
            "command writes what is missing",
            soft_wrap=True,
        )

    @functools.cached_property
    def _places(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Made once somebody is told of a training, for most sweeps have no tracker."""
        return places(self._specs, self._cells)

    def _logged(self, trial: str) -> Logged:
        place = self._places[trial][0]
        return Logged(
            trial=trial,
            name=described(place),
            place={name: value for name, value in place.items() if value is not None},
            options=dict(_flat(json.loads(to_json(self._specs[trial])))),
            curve=[(row["step"], _scalars(row)) for row in self._rows(trial)],
        )

    def _rows(self, trial: str) -> Sequence[Mapping[Any, Any]]:
        """Rows of the table ``curves``: from the trial's own file, or what such files were merged into."""
        rows = curve_of(self._store, trial)
        if not rows and trial not in self._merged:
            self._merged = {}
            for row in read_table(self._store, "curves").to_dict("records"):
                self._merged.setdefault(row["id"], []).append(row)
        return rows or self._merged.get(trial, [])


def _scalars(row: Mapping[Any, Any]) -> dict[str, float]:
    """What is known at an evaluation; a table that was merged has NaN for what is not."""
    return {name: row[name] for name in _SCALARS if row[name] is not None and row[name] == row[name]}


def _flat(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A specification's entries by dotted names; a training within it, whose weights it starts from, is left out."""
    for name, value in spec.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.") if name != "training" else ()
        else:
            yield f"{prefix}{name}", value
