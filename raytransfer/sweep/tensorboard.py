"""Learning curves for TensorBoard, while a sweep runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from raytransfer.errors import UserError, first_line
from raytransfer.store import Store, curve_of
from raytransfer.sweep.failures import described

_SCALARS = ("top1", "loss_nats", "train_loss_nats", "learning_rate")


class TensorBoard:
    """An observer of a sweep that writes each training that finishes as a run for TensorBoard.

    A run has the name of the trial's first place in the sweep, such as ``AnB (halves=random, ..., seed=0)``, and of
    each evaluation top1, loss_nats, train_loss_nats and learning_rate (see the table ``curves``) against the steps.

    Args:
        folder: Where its event files go, a folder a run.
        store: Where finished trials leave their curves.
        places: Where each trial stands in the sweep (``places``).

    Raises:
        UserError: The folder cannot be made.
    """

    def __init__(self, folder: str, store: Store, places: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self._folder, self._store, self._places = Path(folder).expanduser(), store, places
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"tensorboard={folder} is no folder that can be made: {first_line(error)}") from error

    def started(self, trials: Sequence[str]) -> None:
        """Nothing is written of what has only begun."""

    def resized(self, slots: int) -> None:
        """Nor of slots."""

    def died(self, trial: str) -> None:
        """Nor of what starts again."""

    def failed(self, trial: str, reason: str, skipped: list[str]) -> None:
        """Nor of what failed: it has no curve."""

    def finished(self, trial: str) -> None:
        """A trial finished: write its curve, if it is a training."""
        curve = curve_of(self._store, trial)
        if curve:
            self._write(_name(self._places[trial][0]), curve)

    def _write(self, name: str, curve: Sequence[Mapping[str, Any]]) -> None:
        with SummaryWriter(str(self._folder / name)) as writer:
            for row in curve:
                for scalar in _SCALARS:
                    if row[scalar] is not None:
                        writer.add_scalar(scalar, row[scalar], row["step"])


def _name(place: Mapping[str, Any]) -> str:
    return described(place).replace("/", "-")  # of halves such as animals/vehicles
