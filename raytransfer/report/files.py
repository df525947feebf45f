"""What a sweep leaves for people: one joined table, the readings, two pictures, and the console's tables."""

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure

from raytransfer.analysis import boosts, readings, treatment_means
from raytransfer.experiments.yosinski.cells import Cell
from raytransfer.experiments.yosinski.figures import lines_figure, points_figure
from raytransfer.specs import ProbeSpec, TrialSpec
from raytransfer.store import Store, read_table
from raytransfer.store.schema import CELLS, arrow_schema

_DPI = 150


class Placed(Protocol):
    """A trial that has a place in a sweep."""

    @property
    def spec(self) -> TrialSpec:
        """The trial."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A sweep's results and where they lie.

    Attributes:
        results: One row a finished cell of the grid: ``schema.CELLS`` joined with ``schema.TRIALS``.
        means: ``analysis.treatment_means`` of them.
        readings: ``analysis.readings`` of them.
        boosts: ``analysis.boosts`` of them, over all n that were run, those >= 3 and those >= 5.
        files: Name to place of each file written.
    """

    results: pd.DataFrame
    means: pd.DataFrame
    readings: pd.DataFrame
    boosts: pd.DataFrame
    files: dict[str, str]


def results_of(cells: Sequence[Cell], store: Store) -> pd.DataFrame:
    """The finished cells of a grid, each with its trial's row; one trial may fill several cells."""
    rows = [
        {
            "id": cell.spec.id,
            "treatment": cell.treatment,
            "halves": cell.halves,
            "split": cell.split,
            "direction": cell.direction,
        }
        for cell in cells
    ]
    places: pd.DataFrame = pa.Table.from_pylist(rows, arrow_schema(CELLS)).to_pandas()
    return places.merge(read_table(store, "trials"), on="id", how="inner", validate="many_to_one")


def write_report(cells: Sequence[Cell], store: Store, *, name: str, title: str, config: str) -> Report | None:
    """Analyse the finished part of a grid and write tables and pictures below ``sweeps/`` in the store.

    The folder is named after the sweep and its trials, so that a sweep run again finds its own and no other.

    Args:
        cells: The grid.
        store: Holds the trials, and receives the report.
        name: The sweep's name.
        title: Title of the pictures.
        config: The resolved configuration, as YAML.

    Returns:
        The report, or None where no cell is finished.
    """
    results = results_of(cells, store)
    if results.empty:
        return None
    means, paired = treatment_means(results), readings(results)
    copied = sorted({int(n) for n in results["n_layers"] if n > 0})
    firsts = dict.fromkeys(min((n for n in copied if n >= least), default=0) for least in (1, 3, 5))
    averaged = boosts(results, [(first, copied[-1]) for first in firsts if first])
    subtitle = _sample(results)
    contents = {
        "config.yaml": config.encode(),
        "results.parquet": parquet(results),
        "means.parquet": parquet(means),
        "readings.parquet": parquet(paired),
        "boosts.parquet": parquet(averaged),
        "points.png": png(points_figure(results, title=title, subtitle=subtitle)),
        "lines.png": png(lines_figure(means, title=title, subtitle=subtitle)),
    }
    files = write_files(store, name, cells, contents)
    return Report(results=results, means=means, readings=paired, boosts=averaged, files=files)


def places_of(cells: Sequence[Placed], columns: Sequence[str]) -> pd.DataFrame:
    """One row a cell: these of its fields, with its trial's identity for the trial."""
    fields = {name: [getattr(cell, name) for cell in cells] for name in columns}
    return pd.DataFrame(fields | {"id": [cell.spec.id for cell in cells]})


def probe_readings(cells: Iterable[Placed], store: Store) -> pd.DataFrame:
    """One row a reading of every finished look of a sweep: what looked, at which network and step, and the reading."""
    looks = {cell.spec.id for cell in cells if isinstance(cell.spec, ProbeSpec)}
    columns = ["id", "probe", "trained_id", "step", "against"]
    probes = read_table(store, "probes")[columns] if looks else pd.DataFrame(columns=columns)
    if probes.empty:
        return probes.assign(**dict.fromkeys(("quantity", "stage", "index", "x", "y", "value")))
    readings = probes[probes["id"].isin(looks)].merge(read_table(store, "readings"), on="id")
    return readings.astype({"index": "Int64"})


def _sample(results: pd.DataFrame) -> str:
    """Sample sizes, for under the title."""
    parts = []
    for halves, rows in results.groupby("halves", sort=False):
        splits, directions, seeds = (rows[column].nunique() for column in ("split", "direction", "seed"))
        units = len(rows[["split", "direction", "seed"]].drop_duplicates())
        counted = f"{splits} splits x " if halves == "random" else ""
        parts.append(f"{halves}: {units} units = {counted}{directions} directions x {seeds} seeds")
    return "; ".join(parts)


def write_files(store: Store, name: str, cells: Sequence[Placed], contents: Mapping[str, bytes]) -> dict[str, str]:
    """Write a sweep's files into a folder named after the sweep and its trials; gives the place of each.

    What probes read goes into ``probe_readings.parquet``, if there is any and no such file is among the contents.
    """
    identity = hashlib.sha256("".join(sorted({cell.spec.id for cell in cells})).encode()).hexdigest()[:8]
    looks = {} if "probe_readings.parquet" in contents else {"probe_readings.parquet": probe_readings(cells, store)}
    readings = {file: parquet(rows) for file, rows in looks.items() if not rows.empty}
    files = {}
    for file, content in {**contents, **readings}.items():
        path = f"sweeps/{name}-{identity}/{file}"
        store.write(path, content)
        files[file] = store.place(path)
    return files


def how_to_read(store: Store, variable: str, place: str) -> str:
    """Lines of Python that read a table into pandas."""
    if store.is_local:
        return f"  import pandas as pd\n  {variable} = pd.read_parquet({place!r})"
    # pandas would ask for more packages, pyarrow understands the URI
    return f"  import pyarrow.parquet as pq\n  {variable} = pq.read_table({place!r}).to_pandas()"


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
