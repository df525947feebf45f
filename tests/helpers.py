"""What several test files share."""

import itertools
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console, RenderableType

from raytransfer.store import finished
from raytransfer.store.schema import TRIALS

ROOT = Path(__file__).parents[1]
"""The checkout."""

REPEATABLE = [column.name for column in TRIALS if column.repeatable]
"""Columns of a trial's row that are the same at every run."""


def checkpoint(trial, step):
    """Weights that a store's tests know by their place alone."""
    return SimpleNamespace(place=f"checkpoints/{trial}/{step}.safetensors")


def with_defaults(defaults: Sequence[str], given: Sequence[str]) -> list[str]:
    """The given options and those defaults that none of them replaces: the command refuses an option given twice."""
    names = {option.partition("=")[0] for option in given}
    return [*(option for option in defaults if option.partition("=")[0] not in names), *given]


class Quiet:
    """An observer of a sweep in which nothing may fail; remembers what started and what finished."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def started(self, trials: Sequence[str]) -> None:
        self.begun.extend(trials)

    def resized(self, slots: int) -> None:
        pass

    def died(self, trial: str) -> None:
        raise AssertionError("no process to die")

    def finished(self, trial: str) -> None:
        self.ended.append(trial)

    def failed(self, trial: str, reason: str, skipped: list[str]) -> None:
        raise AssertionError(reason)


def rendered(renderable: RenderableType, width: int = 120) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title("left") for axes in figure.axes]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other, texts that leave the page, and the legend where it covers data."""
    figure.draw_without_rendering()
    axes_of_ticks = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    undrawn = {
        tick.label1
        for axis in axes_of_ticks
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in undrawn]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    pairs = [(a, b) for (a, x), (b, y) in itertools.combinations(boxes, 2) if x.overlaps(y)]
    page = figure.bbox.padded(1)
    legend_box = figure.legends[0].get_window_extent()
    pairs += [("legend", axes.get_title("left")) for axes in figure.axes if legend_box.overlaps(axes.bbox)]
    return pairs + [(t, "page") for t, x in boxes if not (page.contains(x.x0, x.y0) and page.contains(x.x1, x.y1))]


def run(command, environment, code=0):
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == code, result.stdout + result.stderr
    return result


def wait_for_trials(store, count, process):
    deadline = time.monotonic() + 120
    while len(finished(store)) < count:
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline, "the sweep does not get on"
        time.sleep(0.02)
