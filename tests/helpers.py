"""What several test files share."""

import itertools
import re
import subprocess
import time
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console, RenderableType

from raytransfer.networks import Network, find_stages
from raytransfer.report.page import Asked
from raytransfer.report.svg import inline_svg
from raytransfer.store import finished
from raytransfer.store.schema import TRIALS
from raytransfer.sweep.observer import Observer

ROOT = Path(__file__).parents[1]
"""The checkout."""

REPEATABLE = [column.name for column in TRIALS if column.repeatable]
"""Columns of a trial's row that are the same at every run."""


def staged(module, image, table):
    """A network of a module with the stages of a table."""
    return Network(module, find_stages(module, image, table=table), image)


def checkpoint(trial, step):
    """Weights that a store's tests know by their place alone."""
    return SimpleNamespace(place=f"checkpoints/{trial}/{step}.safetensors")


def with_defaults(defaults: Sequence[str], given: Sequence[str]) -> list[str]:
    """The given options and those defaults that none of them replaces: the command refuses an option given twice."""
    names = {option.partition("=")[0] for option in given}
    return [*(option for option in defaults if option.partition("=")[0] not in names), *given]


class Quiet(Observer):
    """An observer of a sweep in which nothing may fail; remembers what started and what finished."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def started(self, trials: Sequence[str]) -> None:
        self.begun.extend(trials)

    def died(self, trial: str, why: str) -> None:
        raise AssertionError("no process to die")

    def finished(self, trial: str) -> None:
        self.ended.append(trial)

    def failed(self, trial: str, reason: str, skipped: list[str]) -> None:
        raise AssertionError(reason)


def asked(**given: str | Sequence[str]) -> Asked:
    """What a sweep's page says that it was asked for, some of it given."""
    usual = {"title": "a sweep", "question": "What?", "command": "raytransfer run x", "config": "seeds: 1\n"}
    return Asked(**(usual | {"data": [], "changed": []} | given))


class Page(HTMLParser):
    """A page of HTML, taken apart.

    Attributes:
        text: All that it says, in order, without scripts and styles.
        titles: What its marks tell, and which series they belong to.
        faults: What is wrong with it: identifiers twice or referred to in vain, tables without headings, pictures
            without words, anything that would be fetched.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.titles, self.faults = "", [], []
        self._open, self._ids, self._referred = [], [], []
        self._headings = 0
        self.feed(html)
        self.close()
        self.faults += [f"{name} is there twice" for name in {n for n in self._ids if self._ids.count(n) > 1}]
        self.faults += [f"{name} leads nowhere" for name in self._referred if name not in self._ids]
        self.faults += [f"{tag} is left open" for tag in self._open]
        if re.search(r"@import|url\((?!#)|\bfetch\(|XMLHttp", html):
            self.faults.append("it fetches something")

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        of = dict(attributes)
        self._ids += [of["id"]] if "id" in of else []
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            place = of.get(name) or "#"
            if place.startswith("#"):
                self._referred += [place[1:]] * bool(place[1:])
            elif not place.startswith("data:"):
                self.faults.append(f"{tag} fetches {place}")
        self._referred += (of.get("aria-labelledby") or "").split()
        self._referred += re.findall(r"url\(#(.*?)\)", of.get("clip-path") or "")
        self._headings = 0 if tag == "table" else self._headings + (tag == "th")
        if tag == "svg" and not (of.get("role") == "img" and of.get("aria-label")):
            self.faults.append("a picture has no words")
        if tag in ("link", "iframe", "object", "embed") or any(name.startswith("on") for name in of):
            self.faults.append(f"a {tag} with {of}")
        if tag not in ("meta", "br", "input"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag == "table" and not self._headings:
            self.faults.append("a table has no headings")
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"{tag} is closed and was not open")

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["title"] and "svg" in self._open:
            self.titles.append(data)
        elif self._open[-1:] not in (["script"], ["style"]):
            self.text += data


def rendered(renderable: RenderableType, width: int = 120) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title("left") for axes in figure.axes if axes.get_title("left")]


def marks(figure: Figure) -> tuple[list[str], list[str]]:
    """What the marks of a figure tell who points at them on a page, and the series that can be switched off there."""
    svg, series = inline_svg(figure, key="figure", alternative="a picture")
    return Page(svg).titles, series


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other, texts that leave the page, and the legend where it covers data."""
    figure.draw_without_rendering()
    undrawn = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)  # a bar of colours has its labels on the right
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in undrawn]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    pairs = [(a, b) for (a, x), (b, y) in itertools.combinations(boxes, 2) if x.overlaps(y)]
    page = figure.bbox.padded(1)
    for box in (of.get_window_extent() for of in figure.legends):
        pairs += [("legend", axes.get_title("left")) for axes in figure.axes if box.overlaps(axes.bbox)]
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
