"""How right the time left is that a running sweep tells: what it told over what it then took.

    python tests/benchmarks/time_left.py                             four experiments as they are by default, two slots
    python tests/benchmarks/time_left.py yosinski slots=4 splits=1   one of them, with options of its own

Where there is one GPU, or one core, one slot. On an idle machine: what slows a sweep on its way it cannot know.
"""

import sys
import time
from tempfile import TemporaryDirectory
from typing import ClassVar, Self

from spread import with_defaults

import raytransfer as rt
from raytransfer.experiments import EXPERIMENTS
from raytransfer.sweep import driver
from raytransfer.sweep.progress import ProgressView
from raytransfer.sweep.slots import of_this_machine

SHARES = (0.1, 0.2, 0.3, 0.5, 0.75)  # of the sweep's time


class Told(ProgressView):
    """The view of a sweep, which keeps what it told at each trial's end."""

    looks: ClassVar[list[tuple[float, float]]] = []

    def finished(self, trial: str) -> None:
        super().finished(trial)
        self.looks.append((time.monotonic(), self.seconds_left() or float("nan")))

    def __enter__(self) -> Self:
        self.looks.clear()
        self.looks.append((time.monotonic(), float("nan")))
        super().__enter__()
        return self


def measure(name: str, options: list[str]) -> str:
    """Run a sweep; gives its line of the table."""
    with TemporaryDirectory() as out:
        rt.run(name, *with_defaults([f"slots={min(2, of_this_machine()[0])}"], options), out=out)
    began, end = Told.looks[0][0], Told.looks[-1][0]
    ratios = []
    for share in SHARES:
        now, left = [look for look in Told.looks if look[0] <= began + share * (end - began)][-1]
        ratios.append(left / (end - now))
    return f"{name:12} {end - began:4.0f} s  " + "  ".join(f"{ratio:5.2f}" for ratio in ratios)


if __name__ == "__main__":
    vars(driver)["ProgressView"] = Told
    names = [name for name in sys.argv[1:] if name in EXPERIMENTS]
    options = [option for option in sys.argv[1:] if option not in EXPERIMENTS]
    lines = [measure(name, options) for name in names or ["yosinski", "distance", "mechanisms", "checkpoints"]]
    print(f"{'after':20}  " + "  ".join(f"{share:5.0%}" for share in SHARES), *lines, sep="\n")
