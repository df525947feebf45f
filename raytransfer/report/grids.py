"""The tables of a report as plain cells, which the page and Markdown are made of."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from raytransfer.report import Report

_WIDE = Console(width=100_000, file=io.StringIO())  # in which no table has a reason to be cut in two
_MEANING = re.compile(r"([\\`*_~|<>$])")  # what has a meaning of its own in Markdown


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table.

    Attributes:
        caption: What it shows.
        columns: Headings; an empty one says nothing.
        numeric: Which columns hold numbers.
        rows: Cells; the first of a row says what it is about.
    """

    caption: str
    columns: Sequence[str]
    numeric: Sequence[bool]
    rows: Sequence[Sequence[str]]


def parts_of(renderables: Iterable[RenderableType]) -> list[Grid | str]:
    """What a console would show, as tables and texts in order.

    In each renderable the text right before a table is its caption, and that of the tables that follow right after.

    Raises:
        TypeError: It holds something that is neither text nor table nor made of them.
    """
    found: list[Grid | str] = []
    for renderable in renderables:
        caption, waiting = "", ""
        for leaf in _leaves(renderable):
            if isinstance(leaf, Text):
                found += [waiting] if waiting else []
                waiting = " ".join(leaf.plain.split())
            else:
                caption, waiting = waiting or caption, ""
                found.append(_grid(leaf, caption))
        found += [waiting] if waiting else []
    return found


def grid_of_frame(frame: pd.DataFrame, caption: str) -> Grid:
    """A frame as a table, an empty cell for a missing value."""
    numeric = [bool(pd.api.types.is_numeric_dtype(frame[name])) for name in frame]
    rows = [["" if pd.isna(cell) else str(cell) for cell in row] for row in frame.itertuples(index=False, name=None)]
    return Grid(caption=caption, columns=[str(name) for name in frame], numeric=numeric, rows=rows)


def markdown(report: Report) -> str:
    """The answer, the tables and the notes of a report as Markdown."""
    parts = ["\n".join(f"- {_escaped(sentence)}" for sentence in report.answer)] if report.answer else []
    for part in [*parts_of(report.tables), *report.notes]:
        parts += [_escaped(part)] if isinstance(part, str) else [f"**{_escaped(part.caption)}**"] * bool(part.caption)
        if isinstance(part, Grid):
            parts.append(_table(part))
    return "\n\n".join(parts)


def _leaves(renderable: RenderableType) -> Iterator[Text | Table]:
    if isinstance(renderable, str):
        yield Text(renderable)
    elif isinstance(renderable, Text | Table):
        yield renderable
    elif hasattr(renderable, "__rich_console__"):
        for part in renderable.__rich_console__(_WIDE, _WIDE.options):
            yield from _leaves(part)  # type: ignore[arg-type]  # a Segment, which is refused
    else:
        raise TypeError(f"a {type(renderable).__name__} is neither text nor table")


def _grid(table: Table, caption: str) -> Grid:
    return Grid(
        caption=caption,
        columns=[_plain(column.header) for column in table.columns],
        numeric=[column.justify == "right" for column in table.columns],
        rows=list(zip(*([_plain(cell) for cell in column.cells] for column in table.columns), strict=True)),
    )


def _plain(cell: RenderableType) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _table(grid: Grid) -> str:
    ruler = ["---:" if numeric else "---" for numeric in grid.numeric]
    lines = [[_escaped(name) for name in grid.columns], ruler, *([_escaped(cell) for cell in row] for row in grid.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    return "<br>".join(_MEANING.sub(r"\\\1", text).splitlines())
