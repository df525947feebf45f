"""Run what is missing of a plan: what is to do next, who is told, and where it runs."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from raytransfer.agenda import Agenda
from raytransfer.lineage import batch_of
from raytransfer.specs import TrialSpec
from raytransfer.trial import Site, attempt

_BATCH = 32  # measurements at most that a slot gets at once, so that slots end together


class Observer(Protocol):
    """Who is told how a sweep gets on."""

    def started(self, trials: Sequence[str]) -> None:
        """Trials were handed out together, to run one after the other."""

    def died(self, trial: str) -> None:
        """A trial's process died; the trial will start again."""

    def finished(self, trial: str) -> None:
        """A trial finished."""

    def failed(self, trial: str, reason: str, skipped: list[str]) -> None:
        """A trial failed, and with it those that needed it."""


class Run:
    """A sweep under way, the same for every backend.

    Args:
        specs: Trials to run by identity, most urgent first.
        checkpoint_steps: For each base, the training steps whose weights are needed.
        site: Where trials run.
        observer: Who is told.
    """

    def __init__(
        self,
        specs: Mapping[str, TrialSpec],
        checkpoint_steps: Mapping[str, frozenset[int]],
        site: Site,
        observer: Observer,
    ) -> None:
        self.specs, self.checkpoint_steps, self.site = specs, checkpoint_steps, site
        self._agenda, self._observer = Agenda(specs), observer

    @property
    def unfinished(self) -> int:
        """Trials that have neither finished nor failed nor been skipped."""
        return len(self._agenda.unfinished)

    def next(self) -> list[str]:
        """What one slot is to do next: a training, or measurements of one batch; none, for now or for good."""
        first = self._agenda.next()
        if first is None:
            return []
        trials, batch = [first], batch_of(self.specs[first])
        while batch is not None and len(trials) < _BATCH:
            following = self._agenda.peek()
            if following is None or batch_of(self.specs[following]) != batch:
                break
            self._agenda.next()
            trials.append(following)
        self._observer.started(trials)
        return trials

    def again(self, trial: str) -> None:
        """Note that a trial's process died: the trial has to start again."""
        self._agenda.again(trial)
        self._observer.died(trial)

    def end(self, trial: str, reason: str | None) -> None:
        """Note how a trial ended: ``reason`` is why it failed, or None."""
        if reason is None:
            self._agenda.finish(trial)
            self._observer.finished(trial)
        else:
            self._observer.failed(trial, reason, self._agenda.fail(trial))


def run_in_process(run: Run) -> None:
    """Run the trials one after the other in this process, where a debugger reaches them."""
    while trials := run.next():
        for trial in trials:
            steps = run.checkpoint_steps.get(trial, frozenset())
            run.end(trial, attempt(run.specs[trial], run.site, steps))
