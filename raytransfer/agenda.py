"""What to run next: each base before what needs it, in the order given otherwise."""

import heapq
from collections.abc import Mapping

from raytransfer.lineage import needs
from raytransfer.specs import TrialSpec


class Agenda:
    """The trials of a sweep that are still to run, handed out one by one.

    Args:
        specs: Trials to run by identity, most urgent first. A base that is not among them is taken as there.
    """

    def __init__(self, specs: Mapping[str, TrialSpec]) -> None:
        self._rank = {trial: rank for rank, trial in enumerate(specs)}
        self._needing: dict[str, list[str]] = {}
        self._missing: dict[str, int] = {}  # how many bases a trial still waits for
        self._ready: list[tuple[int, str]] = []
        self.unfinished = set(specs)
        for trial, spec in specs.items():
            bases = {base.id for base, _ in needs(spec)}.intersection(specs)
            self._missing[trial] = len(bases)
            for base in bases:
                self._needing.setdefault(base, []).append(trial)
            if not bases:
                self._ready.append((self._rank[trial], trial))
        heapq.heapify(self._ready)

    def next(self) -> str | None:
        """The most urgent trial that can start now; None if there is none, for now or for good."""
        return heapq.heappop(self._ready)[1] if self._ready else None

    def peek(self) -> str | None:
        """What ``next`` would give."""
        return self._ready[0][1] if self._ready else None

    def again(self, trial: str) -> None:
        """Put back a trial that was handed out and came to nothing."""
        heapq.heappush(self._ready, (self._rank[trial], trial))

    def finish(self, trial: str) -> None:
        """Note that a trial finished: what waited for nothing else can start."""
        self.unfinished.discard(trial)
        for needing in self._needing.pop(trial, []):
            self._missing[needing] -= 1
            if not self._missing[needing] and needing in self.unfinished:
                heapq.heappush(self._ready, (self._rank[needing], needing))

    def fail(self, trial: str) -> list[str]:
        """Note that a trial failed; gives the trials that can never start for it."""
        self.unfinished.discard(trial)
        skipped = [needing for needing in self._needing.pop(trial, []) if needing in self.unfinished]
        self.unfinished.difference_update(skipped)
        return skipped
