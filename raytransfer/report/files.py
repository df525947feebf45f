"""A report as files: Parquet, PNG and text in a folder of the store."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from raytransfer.report import Report
from raytransfer.report.rows import Placed, probe_readings
from raytransfer.store import Store
from raytransfer.store.schema import FAILURES, arrow_schema

_DPI = 150


def write_files(report: Report, store: Store, *, name: str, cells: Sequence[Placed], config: str) -> dict[str, str]:
    """Write a report into a folder named after the sweep and its trials, which no other sweep has.

    What probes read goes into ``probe_readings.parquet``, if there is any and the report has no such frame.

    Args:
        report: The report.
        store: Receives it.
        name: The sweep's name.
        cells: Its places.
        config: The resolved configuration, as YAML.

    Returns:
        The place of each file by its name.
    """
    probed = {} if "probe_readings" in report.frames else {"probe_readings": probe_readings(cells, store)}
    frames = {**report.frames, **{file: rows for file, rows in probed.items() if not rows.empty}}
    contents = {"config.yaml": config.encode()}
    contents |= {f"{file}.parquet": parquet(rows) for file, rows in frames.items()}
    contents |= {f"{file}.png": png(figure) for file, figure in report.figures.items()}
    contents |= {file: text.encode() for file, text in report.texts.items()}
    folder = sweep_folder(name, cells)
    files = {}
    for file, content in contents.items():
        path = f"{folder}/{file}"
        store.write(path, content)
        files[file] = store.place(path)
    return files


def write_failures(rows: Sequence[Mapping[str, Any]], store: Store, folder: str) -> str:
    """Write the table ``failures`` into a sweep's folder, or remove the one of a time before where nothing failed.

    Args:
        rows: Its rows.
        store: Receives it.
        folder: The sweep's folder.

    Returns:
        The place of the file.
    """
    path = f"{folder}/failures.parquet"
    if rows:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(rows), arrow_schema(FAILURES)), buffer)
        store.write(path, buffer.getvalue())
    else:
        store.delete(path)
    return store.place(path)


def sweep_folder(name: str, cells: Sequence[Placed]) -> str:
    """The folder of a sweep within its store, by its name and its trials."""
    identity = hashlib.sha256("".join(sorted({cell.spec.id for cell in cells})).encode()).hexdigest()[:8]
    return f"sweeps/{name}-{identity}"


def parquet(table: pd.DataFrame) -> bytes:
    """A table as the content of a Parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
