"""What to run next: each trial after the checkpoints it reads, in the order given otherwise."""

import heapq
from collections.abc import Mapping

from raytransfer.specs import TrialSpec
from raytransfer.specs.dependencies import needs


class Queue:
    """The trials of a sweep that are still to run, handed out one by one.

    Args:
        specs: Trials to run by identity, most urgent first. Weights of a training that is not among them are taken as
            there.
    """

    def __init__(self, specs: Mapping[str, TrialSpec]) -> None:
        self._rank = {trial: rank for rank, trial in enumerate(specs)}
        self._waiting: dict[str, dict[int, list[str]]] = {}  # training -> step -> trials that read those weights
        self._missing: dict[str, set[tuple[str, int]]] = {}  # trial -> weights it still waits for
        self._ready: list[tuple[int, str]] = []
        self.unfinished = set(specs)
        for trial, spec in specs.items():
            self._missing[trial] = {
                (weights.training.id, weights.step) for weights in needs(spec) if weights.training.id in specs
            }
            for training, step in self._missing[trial]:
                self._waiting.setdefault(training, {}).setdefault(step, []).append(trial)
            if not self._missing[trial]:
                self._ready.append((self._rank[trial], trial))  # in order, and so a heap

    def next(self) -> str | None:
        """The most urgent trial that can start now; None if there is none, for now or for good."""
        return heapq.heappop(self._ready)[1] if self._ready else None

    def peek(self) -> str | None:
        """What ``next`` would give."""
        return self._ready[0][1] if self._ready else None

    def again(self, trial: str) -> None:
        """Put back a trial that was handed out and came to nothing."""
        heapq.heappush(self._ready, (self._rank[trial], trial))

    def awaited(self, trial: str) -> set[int]:
        """The steps of a training whose weights others wait for."""
        return set(self._waiting.get(trial, {}))

    def arrive(self, trial: str, step: int) -> None:
        """Note that a training's weights at a step are in the store: what waited for nothing else can start."""
        for waiting in self._waiting.get(trial, {}).pop(step, []):
            self._missing[waiting].discard((trial, step))
            if not self._missing[waiting]:
                heapq.heappush(self._ready, (self._rank[waiting], waiting))

    def finish(self, trial: str) -> None:
        """Note that a trial finished: all its weights are there."""
        self.unfinished.discard(trial)
        for step in self.awaited(trial):
            self.arrive(trial, step)

    def fail(self, trial: str) -> list[str]:
        """Note that a trial failed; gives the trials that can never start for it."""
        self.unfinished.discard(trial)
        skipped: list[str] = []
        for waiting in (waiting for trials in self._waiting.pop(trial, {}).values() for waiting in trials):
            if waiting in self.unfinished:
                skipped += [waiting, *self.fail(waiting)]
        return skipped
