"""Wording that several tables and figures share."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from raytransfer.analysis.intervals import MIN_UNITS, SURE
from raytransfer.analysis.units import SEED
from raytransfer.words import number_of

Row = Mapping[Hashable, Any]
"""A row of a table, as ``to_dict("records")`` gives it."""

NO_INTERVAL = f"Under {MIN_UNITS} units, or where all are equal: no interval."
"""What a number that stands alone means, for the note below a table."""


def said_units(rows: pd.DataFrame) -> str:
    """The number and kind of units, and what intervals over them speak of."""
    if rows.empty:
        return "units"
    unit = str(rows["unit"].iloc[0])
    return f"{counted(rows['units'], unit)} of {'these targets alone' if unit == SEED else 'targets'}"


BLOCK = "block: what is independent of the others; a data set or, of bases that dials make of a target, a dial."
"""What a block is, for the note below a table."""


def said_blocks(rows: pd.DataFrame) -> str:
    """The number of blocks of an analysis of distance, and the number of sources of its targets, if several.

    Args:
        rows: Rows with the columns blocks and target_blocks.
    """
    said = counted(rows["blocks"], "block")
    sources = rows["target_blocks"].dropna()
    return said if sources.empty or sources.max() < 2 else f"{said}, {counted(sources, 'source')} of targets"


def no_p_below(blocks: Iterable[int]) -> str:
    """The smallest p-values that permutations of so many blocks can give; empty where these are small.

    Args:
        blocks: Numbers of blocks; each is named once.
    """
    said = []
    for number in sorted({int(number) for number in blocks}):
        orders = math.factorial(number)
        if orders <= 1000:
            least = f"{number_of(number, 'block')}: no p below 1{f'/{orders}' if orders > 1 else ''}"
            said.append(least if 1 / orders < SURE else f"{least}, so none can be below 0.05")
    return "; ".join(said)


def counted(units: "pd.Series[int]", noun: str = "unit") -> str:
    """The number of units of a table's cells, from the fewest to the most."""
    least, most = int(units.min()), int(units.max())
    return f"{least} to {most} {noun}s" if least < most else number_of(most, noun)


def in_percent(estimate: float, low: float, high: float) -> str:
    """An accuracy, a fraction, in percent, with its interval where there is one, cut off at 0 and 100."""
    return with_interval(100 * estimate, 100 * max(low, 0), 100 * min(high, 1), "z.1f")


def in_points(estimate: float, low: float, high: float) -> str:
    """A difference of fractions in percentage points, with its interval where there is one."""
    return with_interval(100 * estimate, 100 * low, 100 * high, "+z.1f")


def with_interval(estimate: float, low: float, high: float, form: str | Callable[[float], str] = ".3g") -> str:
    """A number with its interval where there is one; a dash where there is no number.

    Args:
        estimate: The number.
        low: Lower end of the interval; NaN where there is none.
        high: Its upper end.
        form: A format, or a function that writes a number. Only the estimate keeps a plus sign.
    """
    if math.isnan(estimate):
        return "-"
    write = form if callable(form) else f"{{:{form}}}".format  # z in it: no minus sign on zero
    ends = [write(end).removeprefix("+") for end in (low, high)]
    return write(estimate) + ("" if math.isnan(low) else f" [{ends[0]}, {ends[1]}]")


def told_mean(row: Row) -> str:
    """A mean accuracy for a tooltip: a row with mean, low, high, units and, where these have a name, unit."""
    return f"{in_percent(row['mean'], row['low'], row['high'])}%, {number_of(row['units'], row.get('unit', 'unit'))}"
