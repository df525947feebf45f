"""A report as files: a page, Parquet, PNG, PDF and text in a folder of the store."""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter

from raytransfer.report import Report
from raytransfer.report.console import how_to_read
from raytransfer.report.curves import pickable
from raytransfer.report.page import FAILURES_FRAME, Asked, page
from raytransfer.report.rows import Placed, probe_readings, provenance
from raytransfer.report.svg import at_150_dpi, untitled
from raytransfer.specs.dependencies import in_order
from raytransfer.store import Store, read_table

_TEXT_WIDTH_IN = 7.0  # of a page with two columns
_LEAST_PT, _LEAST_LINE = 6.0, 0.6  # letters, and the share of their size to which lines and markers are shrunk
_LONGEST_WORD, _LONGEST_LINE, _LONGEST_LABEL = 32, 120, 48  # letters in a figure, which is no wider
_MISSING = r"Glyph (\d+) .*missing from"  # as matplotlib warns of a letter, by its number
_LOG = logging.getLogger("raytransfer")


def write_files(
    report: Report,
    store: Store,
    *,
    folder: str,
    cells: Sequence[Placed],
    asked: Asked,
    places: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """Write a report into the folder of its sweep.

    ``report.html`` holds all of it, and needs no other file. Readings of probes go into ``probe_readings.parquet``, if
    there are any and the report has no such frame.

    Args:
        report: The report.
        store: Receives it.
        folder: The sweep's folder.
        cells: The sweep's places.
        asked: What it was asked for.
        places: Rows of the table ``places``, of which the page names learning curves.

    Returns:
        The place of each file by its name.

    Raises:
        StorageError: They cannot be written.
    """
    probed = {} if "probe_readings" in report.frames else {"probe_readings": probe_readings(cells, store)}
    frames = {**report.frames, **{file: rows for file, rows in probed.items() if not rows.empty}}
    report = replace(report, frames=frames)  # of which the page says that they lie beside it
    contents = {"config.yaml": asked.config.encode()}
    contents |= {
        f"{file}.parquet": rows.to_parquet(index=False) for file, rows in frames.items() if file != FAILURES_FRAME
    }
    contents |= {file: text.encode() for file, text in report.texts.items()}
    for file, content in contents.items():
        store.write(f"{folder}/{file}", content)
    drawn: list[str] = []
    with _missing_letters_told():
        for file, figure in report.figures.items():  # last: drawing is the most that can fail
            for ending, draw in (("png", png), ("pdf", pdf)):  # in this order: the first settles the texts for all
                drawn.append(f"{file}.{ending}")
                store.write(f"{folder}/{drawn[-1]}", draw(figure))
        main = report.main[0]
        html = page(
            report,
            asked,
            trials=len(in_order(cell.spec for cell in cells)),
            provenance=provenance(cells, store),
            reading=how_to_read(store, main, store.place(f"{folder}/{main}.parquet")) if main else "",
            curves=pickable(places, read_table(store, "curves")),
        )
    store.write(f"{folder}/report.html", html.encode())
    return {file: store.place(f"{folder}/{file}") for file in [*contents, *drawn, "report.html"]}


@contextmanager
def _missing_letters_told() -> Iterator[None]:
    """A block of drawing after which one line names the letters that no font has, of which each picture would warn."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message=_MISSING)
        yield
    letters: dict[str, None] = {}
    for warning in caught:
        if found := re.match(_MISSING, str(warning.message)):
            letters[chr(int(found[1]))] = None
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if letters:
        _LOG.warning(
            "Pictures have boxes for %s, which no font in matplotlib's font.family has; report.html shows them where "
            "its reader has one",
            " ".join(letters),
        )


def as_they_stand(figure: Figure) -> None:
    """Make a figure draw its texts literally, not as formulas, and shorten very long ones in the middle.

    Numbers have formulas, such as powers of ten, which matplotlib draws itself.
    """
    numbers = _numbers(figure)
    legends = [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()) is not None)]
    labels = {text for legend in legends for text in legend.get_texts()}
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if any(len(label.get_text()) > _LONGEST_WORD and label not in numbers for label in axis.get_ticklabels()):
            names = [_short_line(label.get_text(), _LONGEST_LABEL) for label in axis.get_ticklabels()]
            axis.set_ticks(axis.get_ticklocs(), labels=names)  # else they would be labelled anew when they are drawn
    for text in figure.findobj(Text):
        text.set_usetex(False)
        if text not in numbers:
            longest = _LONGEST_LABEL if text in labels else _LONGEST_LINE
            text.set_parse_math(False)
            text.set_text("\n".join(_short_line(line, longest) for line in text.get_text().split("\n")))


def png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file, its texts drawn literally."""
    as_they_stand(figure)
    buffer = io.BytesIO()
    with at_150_dpi(figure):
        FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """A figure as the content of a PDF file for a paper: as wide as its text, with letters of 6 points or more.

    It has no title: the paper's caption takes its place.
    """
    buffer = io.BytesIO()
    with (
        at_150_dpi(figure),
        _as_wide_as_text(figure),
        untitled(figure),
        rc_context({"pdf.fonttype": 42}),  # fonts as journals take them
    ):
        FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


@contextmanager
def _as_wide_as_text(figure: Figure) -> Iterator[None]:
    """A block in which a figure is no wider than a paper's text; its letters and lines shrink less than the whole."""
    width, height = figure.get_size_inches()
    by = min(1.0, _TEXT_WIDTH_IN / width)
    texts = [(text, text.get_fontsize()) for text in figure.findobj(Text)]
    lines = [(line, line.get_linewidth(), line.get_markersize()) for line in figure.findobj(Line2D)]
    figure.set_size_inches(by * width, by * height)
    for text, points in texts:
        text.set_fontsize(max(by * points, min(points, _LEAST_PT)))
    for line, across, marker in lines:
        line.set_linewidth(max(by, _LEAST_LINE) * across)
        line.set_markersize(max(by, _LEAST_LINE) * marker)
    try:
        yield
    finally:
        figure.set_size_inches(width, height)
        for text, points in texts:
            text.set_fontsize(points)
        for line, across, marker in lines:
            line.set_linewidth(across)
            line.set_markersize(marker)


def _numbers(figure: Figure) -> set[Text]:
    """The texts that matplotlib makes of numbers, powers of ten among them, which are formulas."""
    found: set[Text] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            found.add(axis.offsetText)
            for ticks, formatter in (
                (axis.get_major_ticks(), axis.get_major_formatter()),
                (axis.get_minor_ticks(), axis.get_minor_formatter()),
            ):
                if isinstance(formatter, ScalarFormatter | LogFormatter):
                    found.update(text for tick in ticks for text in tick.findobj(Text))
    return found


def _short_line(line: str, longest: int) -> str:
    words = " ".join(_shortened(word, _LONGEST_WORD) for word in line.split(" "))
    return _shortened(words, longest)


def _shortened(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[: half - 1]}…{text[-half:]}"
