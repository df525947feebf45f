"""What a running sweep shows: a bar with the time left, and a line for each treatment that is complete."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from raytransfer.specs import TrialSpec
from raytransfer.specs.dependencies import alike, as_training
from raytransfer.sweep.failures import described, places, why
from raytransfer.sweep.plan import Cell
from raytransfer.words import number_of

_LINE_EVERY_S = 15.0  # where no terminal can redraw a bar


class ProgressBar:
    """An observer of a sweep that tells a person.

    Args:
        console: Where it writes.
        cells: The grid; a treatment is complete when all its cells are done.
        specs: Trials to run by identity.
    """

    def __init__(self, console: Console, cells: Sequence[Cell], specs: Mapping[str, TrialSpec]) -> None:
        self._console, self._specs = console, specs
        self._places = places(specs, cells)
        self._slots = 0  # how many run at once
        self._left = set(specs)
        self._alike_left = Counter(map(alike, specs.values()))
        self._steps = {alike(spec): _steps(spec) for spec in specs.values()}
        self._missing: dict[str, set[str]] = {}
        for cell in cells:
            if cell.spec.id in specs:
                self._missing.setdefault(cell.treatment, set()).add(cell.spec.id)
        self._total = {treatment: len(trials) for treatment, trials in self._missing.items()}
        self._start = self._last_line = time.monotonic()
        self._started: dict[str, tuple[float, int]] = {}
        self._seconds: dict[tuple[str | int, ...], list[float]] = {}
        self._failures = 0
        self._bar = Progress(
            TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), console=console
        )
        self._task = self._bar.add_task("", total=len(specs))

    def __enter__(self) -> "ProgressBar":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, trials: Sequence[str]) -> None:
        """Trials were handed out together, to run one after the other; each is taken to last as long as the others."""
        for trial in trials:
            self._started[trial] = time.monotonic(), len(trials)

    def resized(self, slots: int) -> None:
        """From now on so many trials can run at once; that some can at all is told elsewhere."""
        if self._slots or not slots:
            self._console.print(f"slots    {self._slots} -> {slots}, as machines join or leave")
        self._slots = slots

    def died(self, trial: str) -> None:
        """A trial's process died; the trial will start again."""
        self._console.print(f"again    {trial}: its process died")

    def finished(self, trial: str) -> None:
        """A trial finished."""
        if trial in self._started:  # else what a killed driver left running was quicker
            started, together = self._started.pop(trial)
            self._seconds.setdefault(alike(self._specs[trial]), []).append((time.monotonic() - started) / together)
        self._drop(trial)
        for treatment, missing in list(self._missing.items()):
            missing.discard(trial)
            if not missing:
                elapsed = time.monotonic() - self._start
                total = number_of(self._total[treatment], "trial")
                self._console.print(f"{treatment:8} {total:>11} done after {elapsed:.0f} s")
                del self._missing[treatment]

    def failed(self, trial: str, reason: str, skipped: list[str]) -> None:
        """A trial failed, and with it those that needed it."""
        self._failures += 1
        for gone in (trial, *skipped):
            self._drop(gone)
            for missing in self._missing.values():
                missing.discard(gone)
        last = ": ".join(part for part in why(reason) if part)
        needed = f"; skipped: {number_of(len(skipped), 'trial')} that would read its weights" if skipped else ""
        self._console.print(
            f"failed   {trial}, {described(self._places[trial][0])}: {last}{needed}", style="red", soft_wrap=True
        )

    def _drop(self, trial: str) -> None:
        if trial in self._left:
            self._left.remove(trial)
            self._alike_left[alike(self._specs[trial])] -= 1
        text = f"{self._failures} failed, " if self._failures else ""
        left = self.seconds_left()
        text += "" if left is None else f"{duration(left)} left"
        done = len(self._specs) - len(self._left)
        self._bar.update(self._task, completed=done, description=text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line > _LINE_EVERY_S:
            self._last_line = now
            self._console.print(f"{done}/{len(self._specs)} trials, {text}")

    def seconds_left(self) -> float | None:
        """How long it still takes; None where no trial has finished.

        From the mean time of finished trials of the same kind; for a new kind of all, in proportion to steps.
        """
        if not self._seconds:
            return None
        every = sum(sum(times) for times in self._seconds.values())
        steps = sum(self._steps[kind] * len(times) for kind, times in self._seconds.items())
        left = 0.0
        for kind, count in self._alike_left.items():
            times = self._seconds.get(kind)
            left += count * (sum(times) / len(times) if times else self._steps[kind] * every / steps)
        return left / max(self._slots, 1)


def _steps(spec: TrialSpec) -> int:
    """Steps of a training; a measurement counts as one where its time is not known yet."""
    training = as_training(spec)
    return training.recipe.steps if training else 1


def duration(seconds: float) -> str:
    """Seconds in the unit that suits their number."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"
