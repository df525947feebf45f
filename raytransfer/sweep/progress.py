"""What a running sweep shows: how each treatment stands, what runs, and the time left."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raytransfer.specs import TrainingSpec, TrialSpec
from raytransfer.specs.dependencies import alike, rough_length
from raytransfer.sweep.failures import why
from raytransfer.sweep.observer import Observer
from raytransfer.sweep.places import described, places
from raytransfer.sweep.plan import Cell
from raytransfer.words import duration, number_of

_LINE_EVERY_S = 15.0  # where no terminal can redraw anything
_REDRAWN_HZ = 2.0
_SHOWN = 8  # running trials
_BAR_WIDTH = 40


_Kind = tuple[str | int, ...]  # see alike


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """What was handed out together, to run one after the other."""

    began: float
    trials: Sequence[str]
    fresh: bool  # whether of some kind in it a slot may never have run any


class ProgressView(Observer):
    """Tells a person how a sweep gets on.

    A terminal shows a table of the treatments, the trials that run and the time left, redrawn twice a second; elsewhere
    there is a line every 15 seconds. Either way a line says which treatment is complete, and what failed, at once.

    Args:
        console: Where it writes.
        cells: The grid; a treatment is complete when all its cells are done.
        specs: Trials to run by identity.
        top1: Gives the accuracy of a finished trial, 0..1; None where it has none, or where looking takes too long.
    """

    def __init__(
        self,
        console: Console,
        cells: Sequence[Cell],
        specs: Mapping[str, TrialSpec],
        top1: Callable[[str], float | None] = lambda _: None,
    ) -> None:
        self._console, self._specs, self._top1 = console, specs, top1
        self._place = {trial: first for trial, (first, *_) in places(specs, cells).items()}
        self._slots = 0  # how many run at once
        self._left = set(specs)
        self._alike_left = Counter(map(alike, specs.values()))
        self._lengths = {alike(spec): _length(spec) for spec in specs.values()}
        self._missing: dict[str, set[str]] = {}
        for cell in cells:
            if cell.spec.id in specs:
                self._missing.setdefault(cell.treatment, set()).add(cell.spec.id)
        self._treatments = {treatment: _Treatment(total=len(trials)) for treatment, trials in self._missing.items()}
        self._widest = max([8, *map(len, self._treatments)])
        self._start = self._last_line = time.monotonic()
        self._running: dict[str, _Batch] = {}
        self._seconds: dict[_Kind, list[float]] = {}
        self._first_seconds: dict[_Kind, list[float]] = {}  # of as many batches as there are slots
        self._batches: Counter[_Kind] = Counter()  # that were handed out
        self._failures = 0
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=_REDRAWN_HZ, transient=True)

    def __enter__(self) -> "ProgressView":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, trials: Sequence[str]) -> None:
        """Trials were handed out together, to run one after the other; each is taken to last as long as the others."""
        kinds = {alike(self._specs[trial]) for trial in trials}
        fresh = any(self._batches[kind] < self._slots for kind in kinds)
        self._batches.update(kinds)
        self._running |= dict.fromkeys(trials, _Batch(began=time.monotonic(), trials=trials, fresh=fresh))

    def resized(self, slots: int) -> None:
        """From now on so many trials can run at once; that some can at all is told elsewhere."""
        if self._slots:
            self._console.print(f"slots    {self._slots} -> {slots}, as machines join or leave")
        self._slots = slots

    def died(self, trial: str, why: str) -> None:
        """A trial's process died; the trial will start again."""
        self._running.pop(trial, None)
        self._console.print(f"again    {trial}: its process died; {why}", soft_wrap=True)

    def finished(self, trial: str) -> None:
        """A trial finished."""
        if trial in self._running:  # else what a killed driver left running was quicker
            batch = self._running.pop(trial)
            seconds = (time.monotonic() - batch.began) / len(batch.trials)
            found = self._first_seconds if batch.fresh else self._seconds
            found.setdefault(alike(self._specs[trial]), []).append(seconds)
        self._drop(trial)
        top1 = self._top1(trial) if self._console.is_terminal else None
        for treatment, missing in list(self._missing.items()):
            if trial not in missing:
                continue
            missing.discard(trial)
            if top1 is not None:
                self._treatments[treatment].accuracies.append(top1)
            if not missing:
                elapsed = time.monotonic() - self._start
                total = number_of(self._treatments[treatment].total, "trial")
                self._console.print(f"{treatment:{self._widest}} {total:>11} done after {elapsed:.0f} s")
                del self._missing[treatment]

    def failed(self, trial: str, reason: str, skipped: list[str]) -> None:
        """A trial failed, and with it those that needed it."""
        self._failures += 1
        self._running.pop(trial, None)
        for gone in (trial, *skipped):
            self._drop(gone)
            for treatment, missing in self._missing.items():
                if gone in missing:
                    missing.discard(gone)
                    self._treatments[treatment].failed += 1
        last = ": ".join(part for part in why(reason) if part)
        needed = f"; skipped: {number_of(len(skipped), 'trial')} that would read its weights" if skipped else ""
        self._console.print(
            f"failed   {trial}, {described(self._place[trial])}: {last}{needed}", style="red", soft_wrap=True
        )

    def _drop(self, trial: str) -> None:
        if trial in self._left:
            self._left.remove(trial)
            self._alike_left[alike(self._specs[trial])] -= 1
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line > _LINE_EVERY_S:
            self._last_line = now
            self._console.print(self._in_a_line())

    def _in_a_line(self) -> str:
        done = len(self._specs) - len(self._left)
        failed = f", {self._failures} failed" if self._failures else ""
        left = self.seconds_left()
        return f"{done}/{len(self._specs)} trials{failed}" + ("" if left is None else f", {duration(left)} left")

    def _view(self) -> RenderableType:
        """What a terminal shows; asked for by a thread of its own while trials come and go."""
        running = list(self._running.items())
        of = Counter(self._place[trial]["treatment"] for trial, _ in running)
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("treatment")
        for heading in ("done", "running", "left", "failed", "top-1"):
            table.add_column(heading, justify="right")
        for name, treatment in self._treatments.items():
            left = len(self._missing.get(name, ()))
            accuracies = treatment.accuracies
            table.add_row(
                name,
                str(treatment.total - left - treatment.failed),
                str(of[name] or ""),
                str(left - of[name] or ""),
                Text(str(treatment.failed or ""), style="red"),
                f"{100 * fmean(accuracies):.1f}%" if accuracies else "",
            )
        now = time.monotonic()
        lines = [
            Text(f"  {now - batch.began:4.0f} s  {described(self._place[trial])}", no_wrap=True, overflow="ellipsis")
            for trial, batch in running[:_SHOWN]
        ]
        if len(running) > _SHOWN:
            lines.append(Text(f"          and {len(running) - _SHOWN} more"))
        done = len(self._specs) - len(self._left)
        all_trials = Table.grid(padding=(0, 1))
        all_trials.add_row(
            ProgressBar(total=len(self._specs), completed=done, width=_BAR_WIDTH), Text(self._in_a_line())
        )
        return Group(table, *lines, all_trials)

    def seconds_left(self) -> float | None:
        """How long it still takes; None where no trial has finished.

        All that is left, less what the running ones have had of it, shared among the slots; no less than what runs
        takes where some slots have nothing left to do. A trial takes the mean time of finished ones of its kind, of
        which the first on each slot count only until there are others: a process then imports what it computes with.
        """
        each = self._seconds_each()
        if each is None:
            return None
        left, longest = sum(count * each[kind] for kind, count in self._alike_left.items()), 0.0
        now = time.monotonic()
        for batch in {id(batch): batch for batch in list(self._running.values())}.values():
            whole = sum(each[alike(self._specs[trial])] for trial in batch.trials if trial in self._running)
            had = min(now - batch.began, whole)
            left, longest = left - had, max(longest, whole - had)
        return max(left / max(self._slots, 1), longest)

    def _seconds_each(self) -> dict[_Kind, float] | None:
        """What a trial of each kind takes; None where no trial has finished.

        A kind of which none has finished is taken in proportion to its rough length, in which a measurement counts as
        one step of a training.
        """
        every = [*list(self._first_seconds.items()), *list(self._seconds.items())]  # the latter count where both tell
        known = {kind: fmean(times) for kind, times in every if times}
        if not known:
            return None
        trained = [kind for kind in known if self._lengths[kind] > 1] or list(known)
        per_step = sum(known[kind] for kind in trained) / sum(self._lengths[kind] for kind in trained)
        return {kind: length * per_step for kind, length in self._lengths.items()} | known


class _Treatment:
    """How a treatment stands: how many trials it has to run, how many of them failed, and accuracies of the others."""

    def __init__(self, total: int) -> None:
        self.total, self.failed = total, 0
        self.accuracies: list[float] = []


def _length(spec: TrialSpec) -> float:
    """Rough length of a training in steps, 1 of a measurement."""
    return rough_length(spec) if isinstance(spec, TrainingSpec) else 1.0
