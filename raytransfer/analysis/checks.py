"""What every analysis asks of the rows it is given."""

from collections.abc import Iterable

import pandas as pd


def require(frame: pd.DataFrame, columns: list[str], name: str) -> None:
    """Refuse a frame that lacks a column.

    Raises:
        ValueError: It does; the message names what it lacks and has.
    """
    if missing := [column for column in columns if column not in frame.columns]:
        raise ValueError(f"{name} lack the column {listed(missing)}; they have {listed(frame.columns)}")


def refuse_repeats(frame: pd.DataFrame, key: list[str], message: str) -> None:
    """Refuse a frame in which two rows have the same key.

    Raises:
        ValueError: They do: the message, and the first key that is there again.
    """
    repeated = frame.loc[frame.duplicated(key), key]
    if not repeated.empty:
        first = ", ".join(f"{column} {value}" for column, value in repeated.iloc[0].items())
        raise ValueError(f"{message} {first}")


def listed(names: Iterable[object]) -> str:
    """Join names with commas, each once."""
    return ", ".join(dict.fromkeys(map(str, names)))
