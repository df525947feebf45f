"""A sweep under way: which trials start next, who is told, and which checkpoints are deleted."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from raytransfer.errors import StorageError
from raytransfer.specs import PretrainSpec, Trained, TrainingSpec, TrialSpec
from raytransfer.specs.dependencies import batch_of, checkpoint_steps, needs
from raytransfer.store import delete_checkpoint, publish_failure, stored_steps
from raytransfer.sweep.observer import Observer
from raytransfer.sweep.queue import Queue
from raytransfer.training import RankDied
from raytransfer.trials import Site, attempt

_BATCH = 32  # measurements at most that a slot gets at once, so that slots end together
_RETRIES = 3  # of a trial whose process died
_LOOK_EVERY_S = 1.0  # for early checkpoints of a training under way


class Run:
    """A sweep under way, the same for every backend.

    Weights that a trial reads are there when the training that leaves them has finished, or sooner: while trainings are
    under way the store is looked at for their early checkpoints. Once all trials have read a checkpoint it is deleted,
    but for the last one of a base, which later sweeps can copy from, and what another sweep still reads.

    Args:
        specs: Trials to run by identity, most urgent first.
        site: Where trials run.
        observers: Who is told, in order.
        keep_checkpoints: Whether every training keeps its last weights, and no checkpoint is deleted.
        also_read: Checkpoints, as training and step, that other trials are left to read.
        lost: Tells why the store is this sweep's no longer, and None as long as it is.

    Attributes:
        failures: How many trials have failed.
    """

    def __init__(
        self,
        specs: Mapping[str, TrialSpec],
        site: Site,
        *observers: Observer,
        keep_checkpoints: bool = False,
        also_read: Iterable[tuple[str, int]] = (),
        lost: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.specs, self.site = specs, site
        self.checkpoint_steps = checkpoint_steps(specs.values())
        if keep_checkpoints:
            for trial, spec in specs.items():
                if isinstance(spec, TrainingSpec):
                    steps = self.checkpoint_steps.get(trial, frozenset())
                    self.checkpoint_steps[trial] = steps | {spec.recipe.steps}
        self._queue, self._observers = Queue(specs), observers
        self._keep = keep_checkpoints
        self._readers = Counter(_key(weights) for spec in specs.values() for weights in needs(spec))
        for trial, step in also_read:
            self._readers[trial, step] += 1
            self.checkpoint_steps[trial] = self.checkpoint_steps.get(trial, frozenset()) | {step}
        self._under_way: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._looked, self._slots, self.failures = 0.0, 0, 0
        self._abandoned, self._lost = "", lost

    @property
    def unfinished(self) -> int:
        """Trials that have neither finished nor failed nor been skipped."""
        return len(self._queue.unfinished)

    def next(self, fits: Callable[[TrialSpec], bool] = lambda _: True) -> list[str]:
        """The trials to start next: one training, or measurements of one batch; empty if none can start.

        A trial whose process died is handed out alone from then on, so that no other is blamed if it dies again.

        Args:
            fits: Whether there is room for a trial. If there is none for the first, smaller ones behind it wait, too:
                they would take every room that becomes free.
        """
        if self._queue.peek() is None:
            self._look()
        first = self._queue.peek()
        if first is None or not fits(self.specs[first]):
            return []
        self._queue.next()
        trials, batch = [first], batch_of(self.specs[first])
        while batch is not None and len(trials) < _BATCH and not self._deaths[first]:
            following = self._queue.peek()
            if following is None or self._deaths[following] or batch_of(self.specs[following]) != batch:
                break
            self._queue.next()
            trials.append(following)
        self._under_way.update(trials)
        return trials

    def steps_to_keep(self, trial: str) -> frozenset[int]:
        """The steps of a training whose weights some trial is still to read."""
        every = self.checkpoint_steps.get(trial, frozenset())
        if self._keep:
            return every
        return frozenset(step for step in every if self._readers[trial, step] > 0)

    def started(self, trials: Sequence[str]) -> None:
        """Note that trials which were handed out together have begun."""
        for observer in self._observers:
            observer.started(trials)

    def resize(self, slots: int) -> None:
        """Note how many trials can run at once."""
        if slots != self._slots:
            self._slots = slots
            for observer in self._observers:
                observer.resized(slots)

    @property
    def abandoned(self) -> str | None:
        """Why the sweep was given up, or None."""
        return self._abandoned or self._lost()

    def abandon(self, reason: str) -> None:
        """Give up."""
        self._abandoned = self._abandoned or reason

    def _look(self) -> None:
        """Look for early checkpoints of running trainings that other trials wait for."""
        if time.monotonic() - self._looked < _LOOK_EVERY_S:
            return
        for trial in self._under_way:
            awaited = self._queue.awaited(trial)
            if awaited:
                for step in awaited & stored_steps(self.site.store(), trial):
                    self._queue.arrive(trial, step)
        self._looked = time.monotonic()

    def died(self, trial: str, why: str, *, at_fault: bool = True) -> None:
        """Note that a trial's process died: the trial starts again, unless it has died too often.

        Args:
            trial: The trial.
            why: Why it died, or who says so.
            at_fault: Whether that may be the trial's own fault.
        """
        self._deaths[trial] += at_fault
        if self._deaths[trial] > _RETRIES:
            reason = f"its process died {self._deaths[trial]} times; {why}"
            publish_failure(self.site.store(), trial, reason)
            self.end(trial, reason)
            return
        self._under_way.discard(trial)
        self._queue.again(trial)
        for observer in self._observers:
            observer.died(trial, why)

    def end(self, trial: str, reason: str | None) -> None:
        """Note how a trial ended: ``reason`` is why it failed, or None."""
        self._under_way.discard(trial)
        if reason is None:
            self._queue.finish(trial)
            for observer in self._observers:
                observer.finished(trial)
            self._drop_read(self.specs[trial])
            self._drop_read_already(trial)
        else:
            self.failures += 1
            skipped = self._queue.fail(trial)
            for observer in self._observers:
                observer.failed(trial, reason, skipped)

    def _drop_read(self, spec: TrialSpec) -> None:
        """Delete the checkpoints that a finished trial was the last to read."""
        for weights in needs(spec):
            self._readers[_key(weights)] -= 1
            self._drop_unless_needed(weights)

    def _drop_read_already(self, trial: str) -> None:
        """Delete checkpoints that a restarted training wrote again after their readers had finished."""
        spec = self.specs[trial]
        if trial in self._deaths and isinstance(spec, TrainingSpec):
            for step in self.checkpoint_steps.get(trial, frozenset()):
                self._drop_unless_needed(Trained(training=spec, step=step))

    def _drop_unless_needed(self, weights: Trained) -> None:
        is_result = isinstance(weights.training, PretrainSpec) and weights.step == weights.training.recipe.steps
        if self._readers[_key(weights)] <= 0 and not self._keep and not is_result:
            delete_checkpoint(self.site.store(), weights.training.id, weights.step)


def _key(weights: Trained) -> tuple[str, int]:
    """Identity and step: comparing the specs would also compare their names for people."""
    return weights.training.id, weights.step


def run_in_process(run: Run) -> None:
    """Run the trials one after the other in this process, where a debugger reaches them.

    Raises:
        StorageError: The storage failed, or another sweep has taken the store over.
    """
    run.resize(1)
    while trials := run.next():
        for trial in trials:
            if run.abandoned is not None:
                raise StorageError(run.abandoned)
            run.started([trial])
            try:
                reason = attempt(run.specs[trial], run.site, run.steps_to_keep(trial))
            except RankDied as died:
                run.died(trial, str(died))
            else:
                run.end(trial, reason)
