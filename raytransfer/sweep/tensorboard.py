"""Learning curves for TensorBoard, while a sweep runs."""

import os
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from raytransfer.errors import UserError, first_line
from raytransfer.sweep.curves import Logged

_FILES = "events.out.tfevents.*"
_LONGEST_NAME = 200  # bytes of a run's folder, of which a file system takes 255


class TensorBoard:
    """A folder in which every training is a run of TensorBoard, named by its place, its scalars against the steps.

    Its event file ends in the trial's identity, by which the next command knows that it is there. Where another
    training has its name, as of a sweep with other options, the run's name ends in the identity, too; so does a long
    one, which loses its middle.

    Args:
        folder: Where event files go, a folder a run.

    Raises:
        UserError: The folder cannot be made or written to.
    """

    def __init__(self, folder: str) -> None:
        self.option = f"tensorboard={folder}"
        try:
            self._folder = Path(folder).expanduser()
            self._folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:  # as of a user without a home
            raise UserError(f"{self.option} is no folder that can be made: {first_line(error)}") from error
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise UserError(f"{self.option} is no folder that you may write to")

    def turn_to(self, sweep: str) -> set[str]:
        """Trainings whose event files are here; a folder holds those of any sweeps."""
        # Hidden folders hold what is being written, or was when a command was killed.
        return {file.name.rpartition(".")[2] for file in self._folder.glob(f"[!.]*/{_FILES}")}

    def log(self, training: Logged) -> None:
        """Write an event file, which appears whole."""
        name = training.name.replace("/", "-")  # of halves such as animals/vehicles
        if len(name.encode()) > _LONGEST_NAME:  # of halves that are two long lists of classes
            half = _LONGEST_NAME // 2
            first, last = (part.decode(errors="ignore") for part in (name.encode()[:half], name.encode()[-half:]))
            name = f"{first}...{last} {training.trial}"
        run = self._folder / name
        # TensorBoard makes one curve of all files in a folder.
        if {file.name.rpartition(".")[2] for file in run.glob(_FILES)} - {training.trial}:
            run = run.with_name(f"{run.name} {training.trial}")
        run.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=self._folder, prefix=".") as beside:
            now = time.time()
            events = [Event(wall_time=now, file_version="brain.Event:2")]
            for step, scalars in training.curve:
                for name, value in scalars.items():
                    events.append(Event(wall_time=now, step=step, summary=scalar(name, value)))
            file = f"{beside}/{_FILES[:-1]}{now:.0f}.{os.uname().nodename}.{training.trial}"
            # SummaryWriter would write in a thread, and wait for ever once that met a full disk.
            with closing(RecordWriter(file)) as writer:
                for event in events:
                    writer.write(event.SerializeToString())
                writer.flush()
            Path(file).replace(run / Path(file).name)
