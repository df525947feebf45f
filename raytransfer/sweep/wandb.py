"""Learning curves for Weights & Biases, while a sweep runs."""

import logging
import re
from pathlib import Path

from raytransfer.errors import UserError, one_line
from raytransfer.sweep.curves import Logged, missing

_DONE = "raytransfer.done"  # beside the files of a run that was written whole
_ROOM = "raytransfer.room"  # the same, until it is
_RUN = re.compile(r"(?:offline-)?run-\d+_\d+-(.+)")


class WandB:
    """A project in which every training of a sweep is a run, named by its place, and the sweep is their group.

    Its place and options are its configuration, its treatment is its tag. It has an identity of its own, so that what
    is written once more, from another machine say, is the same run; what this folder of wandb's holds is known to be
    there. ``WANDB_MODE=offline`` and all else that wandb reads from the environment holds.

    Args:
        project: Name of the project.

    Raises:
        UserError: wandb is not installed, takes no such name, or nobody is logged in.
    """

    def __init__(self, project: str) -> None:
        self.option = f"wandb={project}"
        try:
            import wandb
        except Exception as error:  # what is installed by half, or beside another protobuf, raises anything
            raise missing(self.option, "wandb", error) from error
        self._wandb, self._sweep = wandb, ""
        try:
            # Nothing but curves is asked of it: no output of this process, no code, no watching of the machine.
            self._settings = wandb.Settings(
                project=project, silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True
            )
            known = wandb.setup(wandb.Settings(silent=True)).settings
            # Its own log tells of a full disk in a traceback a line.
            logging.getLogger("wandb").setLevel(logging.CRITICAL)
            if known.mode == "online" and not wandb.login(prompt=False):
                raise UserError("nobody is logged in, which wandb login does")
        except Exception as error:  # wandb has errors of many kinds
            raise UserError(
                f"{self.option} cannot be used: {one_line(error)} (WANDB_MODE=offline writes runs for wandb sync)"
            ) from error

    def turn_to(self, sweep: str) -> set[str]:
        """Trainings whose runs this folder of wandb's holds."""
        self._sweep = sweep
        runs = (_RUN.fullmatch(done.parent.name) for done in self._folder().glob(f"*/{_DONE}"))
        start = self._id("")
        return {run[1].removeprefix(start) for run in runs if run is not None and run[1].startswith(start)}

    def log(self, training: Logged) -> None:
        """Write a run."""
        run = self._wandb.init(
            id=self._id(training.trial),
            name=training.name,
            group=self._sweep,
            tags=[training.place["treatment"]],
            config={**training.place, **training.options},
            resume="allow",
            reinit="create_new",
            settings=self._settings,
        )
        folder = Path(run.dir).parent
        for step, scalars in training.curve:
            run.log(dict(scalars), step=step)
        run.finish()
        if folder.is_dir():
            # wandb says nothing of a disk that fills up while it writes. What takes room fails there, as no mark would.
            (folder / _ROOM).write_bytes(bytes(4096))
            (folder / _ROOM).replace(folder / _DONE)

    def _id(self, trial: str) -> str:
        return f"{self._sweep.rpartition('-')[2]}-{trial}"

    def _folder(self) -> Path:
        return Path(self._wandb.setup().settings.wandb_dir)
