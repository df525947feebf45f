"""The rows that reports are made of, from a sweep's places and a store's tables."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import pandas as pd

from raytransfer.specs import ProbeSpec, TrialSpec
from raytransfer.specs.dependencies import in_order
from raytransfer.store import Store, read_table
from raytransfer.store.schema import TABLES

_PROVENANCE = ["id", "wall_time_s", "device", "finished_at", "versions", "commit"]


class Placed(Protocol):
    """A trial that has a place in a sweep."""

    @property
    def spec(self) -> TrialSpec:
        """The trial."""


def places_of(cells: Sequence[Placed], columns: Sequence[str]) -> pd.DataFrame:
    """One row per cell: these fields of it, and its trial's identity as ``id``."""
    fields = {name: [getattr(cell, name) for cell in cells] for name in columns}
    trials = pd.Series([cell.spec.id for cell in cells], dtype="str")  # also of no cells
    return pd.DataFrame(fields | {"id": trials})


def probe_readings(cells: Iterable[Placed], store: Store) -> pd.DataFrame:
    """One row per reading of every finished probe of a sweep: the probe, its network and step, and the reading."""
    probed = {cell.spec.id for cell in cells if isinstance(cell.spec, ProbeSpec)}
    columns = ["id", "probe", "trained_id", "step", "against"]
    probes = read_table(store, "probes")[columns] if probed else pd.DataFrame(columns=columns)
    if probes.empty:
        return probes.assign(**dict.fromkeys(("quantity", "stage", "index", "x", "y", "value")))
    readings = probes[probes["id"].isin(probed)].merge(read_table(store, "readings"), on="id")
    return readings.astype({"index": "Int64"})


def provenance(cells: Iterable[Placed], store: Store) -> pd.DataFrame:
    """One row per finished trial of a sweep, including trials that others read: duration, device, date and versions.

    Its columns are those that every table of finished trials has.
    """
    asked = set(in_order(cell.spec for cell in cells))
    finished = [name for name, columns in TABLES.items() if {*_PROVENANCE} <= {column.name for column in columns}]
    rows = pd.concat([read_table(store, name)[_PROVENANCE] for name in finished], ignore_index=True)
    return rows[rows["id"].isin(asked)].reset_index(drop=True)
