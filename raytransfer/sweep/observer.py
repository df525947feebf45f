"""The events of a running sweep, for progress, logs and trackers."""

from collections.abc import Sequence


class Observer:
    """Is told of each event of a sweep; a subclass overrides the methods that it wants to react to."""

    def started(self, trials: Sequence[str]) -> None:
        """Trials were handed out together, to run one after the other."""

    def resized(self, slots: int) -> None:
        """From now on so many trials can run at once."""

    def died(self, trial: str, why: str) -> None:
        """A trial's process died, why as far as is known; the trial will start again."""

    def finished(self, trial: str) -> None:
        """A trial finished."""

    def failed(self, trial: str, reason: str, skipped: list[str]) -> None:
        """A trial failed, and with it those that needed it."""
