"""What to run next: each base before what copies it, in the order given otherwise."""

import heapq
from collections.abc import Mapping

from raytransfer.grid import base_of
from raytransfer.specs import TrialSpec


class Agenda:
    """The trials of a sweep that are still to run, handed out one by one.

    Args:
        specs: Trials to run by identity, most urgent first. A base that is not among them is taken as there.
    """

    def __init__(self, specs: Mapping[str, TrialSpec]) -> None:
        self._rank = {trial: rank for rank, trial in enumerate(specs)}
        self._copies: dict[str, list[str]] = {}
        self._ready: list[tuple[int, str]] = []
        self.unfinished = set(specs)
        for trial, spec in specs.items():
            base = base_of(spec)
            if base is not None and base.id in specs:
                self._copies.setdefault(base.id, []).append(trial)
            else:
                self._ready.append((self._rank[trial], trial))
        heapq.heapify(self._ready)

    def next(self) -> str | None:
        """The most urgent trial that can start now; None if there is none, for now or for good."""
        return heapq.heappop(self._ready)[1] if self._ready else None

    def again(self, trial: str) -> None:
        """Put back a trial that was handed out and came to nothing."""
        heapq.heappush(self._ready, (self._rank[trial], trial))

    def finish(self, trial: str) -> None:
        """Note that a trial finished: what copies it can start."""
        self.unfinished.discard(trial)
        for copy in self._copies.pop(trial, []):
            heapq.heappush(self._ready, (self._rank[copy], copy))

    def fail(self, trial: str) -> list[str]:
        """Note that a trial failed; gives the trials that can never start for it."""
        self.unfinished.discard(trial)
        skipped = self._copies.pop(trial, [])
        self.unfinished.difference_update(skipped)
        return skipped
