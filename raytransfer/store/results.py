"""Rows of finished trials, one small Parquet file a trial while a sweep runs, few large ones once it ended.

The file of a trial in ``trials/`` or in the table of a measurement is written after everything else the trial leaves,
and so marks it as finished.
"""

import datetime
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from raytransfer.errors import UnreadableError, first_line
from raytransfer.store.root import Store
from raytransfer.store.schema import TABLES, arrow_schema

if TYPE_CHECKING:
    import pandas as pd  # which Arrow imports where it makes a table of pandas

_MARKS = ("trials", "distances", "scores", "probes", "simulations")  # one row a finished trial of its kind
_DETAILS = {"trials": "curves", "probes": "readings"}  # further rows of a trial
_SCHEMAS = {table: arrow_schema(TABLES[table]) for table in (*_DETAILS.values(), *_MARKS)}
_PART = "part-"  # a compacted file; the others are named after their trial
_AT_ONCE = 8  # requests: most of a request's time is waiting
_TOGETHER = 500  # files whose tables are merged at once: a table of one row takes a hundred times the row's memory
_READ_ATTEMPTS = 3

Read = TypeVar("Read")


def publish(store: Store, table: str, row: Mapping[str, Any], details: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write a finished trial's learning curve or readings, if it has any, then its row; a past failure is forgotten.

    Args:
        store: Where to.
        table: The table of its kind: ``trials``, ``distances``, ``scores``, ``probes`` or ``simulations``.
        row: The trial's row of it.
        details: For ``trials`` its rows of ``curves``, for ``probes`` its rows of ``readings``.
    """
    store.delete(f"failed/{row['id']}.json")
    if details:
        name = _DETAILS[table]
        store.write(f"{name}/{row['id']}.parquet", parquet(pa.Table.from_pylist(details, _SCHEMAS[name])))
    store.write(f"{table}/{row['id']}.parquet", parquet(pa.Table.from_pylist([row], _SCHEMAS[table])))


def is_unmerged(store: Store, trial: str) -> bool:
    """Whether a trial has left its row since the last merging of rows."""
    return any(store.exists(f"{table}/{trial}.parquet") for table in _MARKS)


def unmerged(store: Store) -> set[str]:
    """The trials that have left their rows since the last merging of rows."""
    names = [name for table in _MARKS for name in _files(store, table)]
    return {name.removesuffix(".parquet") for name in names if not name.startswith(_PART)}


def top1_of(store: Store, trial: str) -> float | None:
    """Accuracy of a training that has just finished, 0..1; None for a measurement, and where a look costs requests."""
    if not store.is_local:
        return None
    try:
        return float(_read(store, f"trials/{trial}.parquet", ["top1"])["top1"][0].as_py())
    except (FileNotFoundError, UnreadableError):
        return None


def curve_of(store: Store, trial: str) -> list[dict[str, Any]]:
    """Rows of the table ``curves`` of a trial that has just finished; none for a measurement."""
    try:
        rows: list[dict[str, Any]] = _read(store, f"curves/{trial}.parquet").to_pylist()
    except FileNotFoundError:
        return []
    return rows


def publish_failure(store: Store, trial: str, error: str) -> None:
    """Write down why a trial failed."""
    store.write(f"failed/{trial}.json", json.dumps({"id": trial, "error": error}).encode())


def failure(store: Store, trial: str) -> str | None:
    """Why a trial failed, or None if it did not or has finished since, or if the note is damaged."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        return str(json.loads(store.read(f"failed/{trial}.json"))["error"])
    return None


def failures(store: Store) -> dict[str, str]:
    """Trials that failed and have not finished since, and why."""
    trials = [name.removesuffix(".json") for name in store.files("failed")]
    return {trial: error for trial in trials if (error := failure(store, trial)) is not None}


def clear_failures(store: Store, trials: Iterable[str]) -> set[str]:
    """Forget that these trials failed, so that they are missing again; gives those that did."""
    failed = {name.removesuffix(".json") for name in store.names("failed")}.intersection(trials)
    for trial in failed:
        store.delete(f"failed/{trial}.json")
    return failed


def finished(store: Store) -> set[str]:
    """Identities of the finished trials.

    A training whose learning curve is not there, or a probe whose readings are not, as in a copy that was made while a
    sweep ran, has not finished.
    """
    return _retried(lambda: set().union(*(_whole(store, table, _trials_of(store, table)) for table in _MARKS)))


def _whole(store: Store, table: str, trials: set[str]) -> set[str]:
    """Of trials that have a row in a table, those whose curve or readings are there, too, if the table has such.

    Read the table first: a row is written after its curve or readings.
    """
    return trials & _trials_of(store, _DETAILS[table]) if trials and table in _DETAILS else trials


def _trials_of(store: Store, table: str) -> set[str]:
    """Identities of the trials that a table has rows of."""
    found: set[str] = set()
    for name in _files(store, table):
        if name.startswith(_PART):
            found.update(_read(store, f"{table}/{name}", ["id"])["id"].unique().to_pylist())
        else:
            found.add(name.removesuffix(".parquet"))
    return found


def finish_times(store: Store) -> dict[str, datetime.datetime]:
    """When each finished trial's row was written, in UTC."""
    return _retried(lambda: _finish_times(store))


def _finish_times(store: Store) -> dict[str, datetime.datetime]:
    whole: dict[str, datetime.datetime] = {}
    for table in _MARKS:
        found: dict[str, datetime.datetime] = {}
        for name, time in store.times(table).items():
            if name.startswith(_PART):
                rows = _read(store, f"{table}/{name}", ["id", "finished_at"]).to_pydict()
                times = rows.get("finished_at") or [time] * len(rows["id"])
                found |= {trial: at or time for trial, at in zip(rows["id"], times, strict=True)}
            elif name.endswith(".parquet"):
                found[name.removesuffix(".parquet")] = time
        whole |= {trial: found[trial] for trial in _whole(store, table, set(found))}
    return whole


def read_table(store: Store, table: str) -> "pd.DataFrame":
    """All rows of a table, sorted by trial; every trial counts once, and one without its curve or readings does not."""
    rows = _merged(store, table, _read_if_there)
    if table in _DETAILS:
        trials = rows["id"].to_pylist()
        whole = _retried(lambda: _whole(store, table, set(trials)))
        rows = rows.filter(pa.array([trial in whole for trial in trials], pa.bool_()))
    if table == "readings":  # but for those of probes that found nothing to read
        rows = rows.filter(rows["quantity"].is_valid())
    found: pd.DataFrame = rows.select(_SCHEMAS[table].names).to_pandas()
    return found


def is_compact(store: Store) -> bool:
    """Whether every table is one file, so that a plain reader of its files finds each row once."""
    return all(len(_files(store, table)) <= 1 for table in _SCHEMAS)


def compact(store: Store) -> None:
    """Merge the small files of every table into one each, after which the small ones go.

    Killed in between, it leaves rows twice; readers count them once, and the next call clears them away.
    """
    for table in _SCHEMAS:  # curves and readings first: a trial marked as finished has them
        names = _files(store, table)
        if len(names) <= 1:
            continue
        content = parquet(_merged(store, table, _read))  # what is not read is not to be deleted
        merged = f"{_PART}{hashlib.sha256(content).hexdigest()[:16]}.parquet"
        store.write(f"{table}/{merged}", content)
        gone = [name for name in names if name != merged]
        parts = [f"{table}/{name}" for name in gone if name.startswith(_PART)]
        others = [f"{table}/{name}" for name in gone if not name.startswith(_PART)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(store.delete, parts))  # older merged files first: their rows may have been replaced
            list(pool.map(store.delete, others))


def repair(store: Store) -> list[str]:
    """Set every damaged file of rows aside, so that the trials it held count as missing.

    Returns:
        The damaged files.
    """
    damaged = []
    for table in _SCHEMAS:
        for name in _files(store, table):
            try:
                _read(store, f"{table}/{name}")
            except UnreadableError as error:
                store.set_aside(error.name)
                damaged.append(error.name)
    return damaged


def _files(store: Store, table: str) -> list[str]:
    return [name for name in store.files(table) if name.endswith(".parquet")]


def _retried(read: Callable[[], Read]) -> Read:
    """Read again if files vanish in between, as they do when another process merges them."""
    for _ in range(_READ_ATTEMPTS - 1):
        with suppress(FileNotFoundError):
            return read()
    return read()


def _merged(store: Store, table: str, read: Callable[[Store, str], pa.Table | None]) -> pa.Table:
    """All rows of a table.

    If ``read`` gives None the file has been merged into another one meanwhile, and the folder is listed again.
    """
    merged = [_SCHEMAS[table].empty_table()]
    trials: set[str] = set()
    tried: set[str] = set()
    vanished = True
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while vanished:
            vanished = False
            names = [name for name in _files(store, table) if name not in tried]
            tried.update(names)
            for start in range(0, len(names), _TOGETHER):
                together = names[start : start + _TOGETHER]
                parts = pool.map(lambda name: read(store, f"{table}/{name}"), together)
                unseen = [_unseen(part, trials) for part in parts if part is not None]
                vanished |= len(unseen) < len(together)
                merged += [pa.concat_tables(unseen, promote_options="default").combine_chunks()] if unseen else []
    keys = [("id", "ascending"), ("step", "ascending")] if table == "curves" else [("id", "ascending")]
    # Rows that were written before a column was there have nulls in it.
    return pa.concat_tables(merged, promote_options="default").sort_by(keys)


def _read_if_there(store: Store, name: str) -> pa.Table | None:
    with suppress(FileNotFoundError):
        return _read(store, name)
    return None


def _unseen(part: pa.Table, seen: set[str]) -> pa.Table:
    """The rows of trials that no file before had; notes which trials this one has."""
    trials = part["id"].to_pylist()
    kept = part if seen.isdisjoint(trials) else part.filter(pa.array([trial not in seen for trial in trials]))
    seen.update(trials)
    return kept


def _read(store: Store, name: str, columns: list[str] | None = None) -> pa.Table:
    """A file of rows of a table; one that is no whole file of such rows is damaged.

    Its columns must be the table's, some of which an older raytransfer did not have. A newer one has all of them and
    more, which are kept where rows are merged.
    """
    content = pa.BufferReader(store.read(name))
    try:
        with pq.ParquetFile(content) as file:
            _check_columns(file.schema_arrow, _SCHEMAS[name.partition("/")[0]])
            rows = file.read(columns=columns, use_threads=False)  # of small files, many are read at once
            rows.validate(full=True)  # text that is no UTF-8 would be told only where it is used
            return rows
    except (pa.ArrowException, OSError, ValueError) as error:  # damaged pages give any of them
        raise UnreadableError(name, f"{store.place(name)} is damaged: {first_line(error)}") from error


def _check_columns(found: pa.Schema, schema: pa.Schema) -> None:
    """Check that columns are a table's, or those of a newer raytransfer.

    Raises:
        ValueError: One is not, or the trials' identities are missing.
    """
    newer = set(schema.names) < set(found.names)
    for field in found:
        if field.name not in schema.names:
            if newer:
                continue
            raise ValueError(f"this table has no column {field.name}")
        known = schema.field(field.name).type
        if field.type != known:
            raise ValueError(f"its column {field.name} is {field.type}, not {known}")
    if "id" not in found.names:
        raise ValueError("it has no column id")


def parquet(table: pa.Table) -> bytes:
    """A table as the content of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
