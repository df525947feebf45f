"""Tables of numbers for consoles of any width."""

import re
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod
from rich.table import Table
from rich.text import Text

_LONGEST_KEY = 20  # letters of a word in the first columns that are kept together where space is short
_INTERVAL = re.compile(r"\[([-+−]?(?:\d|inf)[^][ ,]*), ([-+−]?(?:\d|inf)[^][ ,]*)\]")
_BETWEEN = 2  # spaces and edges that a column takes beside its cells


class NumberTable:
    """A table in which no number is broken in two or cut short.

    Empty columns are left out. In a table that is wider than the console, cells wrap at spaces. Where that is not
    enough, the remaining columns follow in a table below, after the key columns again. Words are broken only in the key
    columns, such as long names, or where one is wider than the console. An interval [low, high] is written without its
    space, as one word.
    """

    def __init__(self, columns: Mapping[str, JustifyMethod], *, keys: int = 1, line: bool = True) -> None:
        """Start without rows.

        Args:
            columns: Headings, and which way each column is justified.
            keys: How many key columns there are: the first ones, which say what a row is about.
            line: Whether there is a line below the headings.
        """
        self._columns, self._keys, self._line = dict(columns), keys, line
        self._rows: list[list[Text]] = []

    def add_row(self, *cells: str | Text) -> None:
        """Add a row, with a cell for each column."""
        self._rows.append([cell if isinstance(cell, Text) else Text(_INTERVAL.sub(r"[\1,\2]", cell)) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        headings = [Text(name) for name in self._columns]
        cells = [list(column) for column in zip(headings, *self._rows, strict=True)]
        least = [max(cell_len(word) for cell in column for word in cell.plain.split() or [""]) for column in cells]
        least[: self._keys] = [min(width, _LONGEST_KEY) for width in least[: self._keys]]
        most = [max(cell.cell_len for cell in column) for column in cells]
        filled = [i for i in range(self._keys, len(cells)) if any(cell.plain.strip() for cell in cells[i][1:])]
        for shown in self._parts(least, filled or range(self._keys, len(cells)), options.max_width):
            yield self._table(shown, _widths([(least[i], most[i]) for i in shown], self._keys, options.max_width))

    def _parts(self, least: Sequence[int], columns: Sequence[int], width: int) -> list[list[int]]:
        """Which columns stand side by side: the key columns, and then as many others as fit."""
        keys = list(range(self._keys))
        parts: list[list[int]] = []
        for i in columns:
            if not parts or sum(least[j] + _BETWEEN for j in [*parts[-1], i]) > width:
                parts.append(list(keys))
            parts[-1].append(i)
        return parts

    def _table(self, shown: Sequence[int], widths: Sequence[int]) -> Table:
        spaces = (0, 1, 0, 0) if self._line else (0, 2, 0, 0)
        table = Table(box=box.SIMPLE_HEAD if self._line else None, padding=spaces, pad_edge=not self._line)
        names = list(self._columns)
        for i, width in zip(shown, widths, strict=True):
            table.add_column(Text(names[i]), justify=self._columns[names[i]], width=width, overflow="fold")
        for row in self._rows:
            table.add_row(*(row[i] for i in shown))
        return table


def _widths(ranges: Sequence[tuple[int, int]], keys: int, width: int) -> list[int]:
    """Widths of columns: as wide as their cells, or less where these do not fit; key columns shrink first.

    Args:
        ranges: The least and the most of each.
        keys: How many are key columns.
        width: The console's.
    """
    free = width - _BETWEEN * len(ranges)
    widths = [least for least, _ in ranges]
    while sum(widths) > free and max(widths[:keys]) > 1:  # one number beside long words
        widths[widths.index(max(widths[:keys]))] -= 1
    for i in [*range(keys, len(ranges)), *range(keys)]:
        widths[i] += max(0, min(ranges[i][1] - widths[i], free - sum(widths)))
    return widths


def counts_table(counts: Mapping[str, Mapping[str, int]], states: Sequence[str]) -> NumberTable:
    """How many trials of each treatment are in which state, without states that none is in."""
    shown = [state for state in states if any(count[state] for count in counts.values())]
    table = NumberTable({"treatment": "left", **dict.fromkeys(["trials", *shown], "right")}, line=False)
    for treatment, count in counts.items():
        table.add_row(treatment, str(sum(count.values())), *(str(count[state]) for state in shown))
    return table
