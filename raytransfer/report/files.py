"""A report as files: a page, Parquet, PNG, PDF and text in a folder of the store."""

import hashlib
import io
from collections.abc import Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from raytransfer.report import Report
from raytransfer.report.console import how_to_read
from raytransfer.report.page import Asked, page
from raytransfer.report.rows import Placed, probe_readings, provenance
from raytransfer.report.svg import untitled
from raytransfer.specs.dependencies import in_order
from raytransfer.store import Store

_DPI = 150


def write_files(report: Report, store: Store, *, name: str, cells: Sequence[Placed], asked: Asked) -> dict[str, str]:
    """Write a report into a folder named after the sweep and its trials, which no other sweep has.

    ``report.html`` tells all of it, and needs none of the others.

    What probes read goes into ``probe_readings.parquet``, if there is any and the report has no such frame.

    Args:
        report: The report.
        store: Receives it.
        name: The sweep's name.
        cells: Its places.
        asked: What it was asked for.

    Returns:
        The place of each file by its name.
    """
    probed = {} if "probe_readings" in report.frames else {"probe_readings": probe_readings(cells, store)}
    frames = {**report.frames, **{file: rows for file, rows in probed.items() if not rows.empty}}
    contents = {"config.yaml": asked.config.encode()}
    contents |= {f"{file}.parquet": parquet(rows) for file, rows in frames.items()}
    contents |= {f"{file}.png": png(figure) for file, figure in report.figures.items()}
    contents |= {f"{file}.pdf": pdf(figure) for file, figure in report.figures.items()}
    contents |= {file: text.encode() for file, text in report.texts.items()}
    identity = hashlib.sha256("".join(sorted({cell.spec.id for cell in cells})).encode()).hexdigest()[:8]
    folder = f"sweeps/{name}-{identity}"
    main = report.main[0]
    contents["report.html"] = page(
        report,
        asked,
        trials=len(in_order(cell.spec for cell in cells)),
        provenance=provenance(cells, store),
        reading=how_to_read(store, main, store.place(f"{folder}/{main}.parquet")) if main else "",
    ).encode()
    files = {}
    for file, content in contents.items():
        path = f"{folder}/{file}"
        store.write(path, content)
        files[file] = store.place(path)
    return files


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


def pdf(figure: Figure) -> bytes:
    """A figure without its title as the content of a PDF file, for a paper, whose caption says what the title does."""
    buffer = io.BytesIO()
    with untitled(figure), rc_context({"pdf.fonttype": 42}):  # fonts as journals take them
        figure.savefig(buffer, format="pdf", dpi=_DPI, metadata={"CreationDate": None})
    return buffer.getvalue()
