"""The folders of sweeps within a store: where a sweep's trials stand, what failed, and how a running one gets on."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from raytransfer.errors import UnreadableError, UserError, first_line
from raytransfer.store.results import parquet
from raytransfer.store.root import Store
from raytransfer.store.schema import FAILURES, SWEEP_TRIALS, arrow_schema

if TYPE_CHECKING:
    import pandas as pd

_PLACES = "places.parquet"
_PROGRESS = "progress.json"
_SCHEMA = arrow_schema(SWEEP_TRIALS)


def sweep_names(store: Store) -> list[str]:
    """Names of the folders of all sweeps, whether they have a report yet or not."""
    names = {name.partition("/")[0] for name in store.sizes_below("sweeps") if "/" in name}
    return sorted(name for name in names if not name.startswith("."))


def write_places(store: Store, folder: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write which trials a sweep has, and where each has its place.

    Args:
        store: Receives it.
        folder: The sweep's folder.
        rows: One row a place: columns of ``SWEEP_TRIALS``.
    """
    store.write(f"{folder}/{_PLACES}", parquet(pa.Table.from_pylist(list(rows), _SCHEMA)))


def write_failures(store: Store, folder: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write which trials of a sweep failed, and why, or remove what a time before wrote where none did.

    Args:
        store: Receives it.
        folder: The sweep's folder.
        rows: One row a place: columns of ``FAILURES``.

    Returns:
        The place of the file.
    """
    name = f"{folder}/failures.parquet"
    if rows:
        store.write(name, parquet(pa.Table.from_pylist(list(rows), arrow_schema(FAILURES))))
    else:
        store.delete(name)
    return store.place(name)


def read_places(store: Store, folder: str) -> "pd.DataFrame | None":
    """What ``write_places`` wrote; None for a sweep of a raytransfer that did not.

    Raises:
        UnreadableError: The file is damaged.
    """
    name = f"{folder}/{_PLACES}"
    try:
        content = store.read(name)
    except FileNotFoundError:
        return None
    try:
        rows = pq.read_table(pa.BufferReader(content))
        if set(_SCHEMA.names) < set(rows.column_names):  # of a newer raytransfer
            rows = rows.select(_SCHEMA.names)
        found: pd.DataFrame = rows.cast(_SCHEMA).to_pandas(types_mapper=_nullable)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableError(name, f"{store.place(name)} is damaged: {first_line(error)}") from error
    return found


def _nullable(kind: pa.DataType) -> Any:
    import pandas as pd  # which a plan does not need

    return pd.Int64Dtype() if kind == pa.int64() else None


def write_progress(store: Store, progress: Mapping[str, Any]) -> None:
    """Write how the sweep that holds the store stands: who runs it, what runs, and how long it still takes."""
    store.write(_PROGRESS, json.dumps(progress).encode())


def read_progress(store: Store) -> dict[str, Any] | None:
    """What the sweep that holds the store, or was killed while it did, wrote last; None where none did.

    Raises:
        UserError: The file is damaged.
    """
    try:
        content = store.read(_PROGRESS)
    except FileNotFoundError:
        return None
    try:
        found = dict(json.loads(content))
        if not (isinstance(found["sweep"], str) and isinstance(found["running"], dict)):
            raise TypeError("it names no sweep")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{store.place(_PROGRESS)} is damaged ({first_line(error)}): a sweep that runs writes it anew within "
            "seconds; if none runs, remove it"
        ) from error
    return found


def delete_progress(store: Store) -> None:
    """Remove it: no sweep holds the store."""
    store.delete(_PROGRESS)
