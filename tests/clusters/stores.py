"""Two stores of one sweep compared, to the bit, and one store looked through for rows that are there twice."""

from collections import Counter
from io import BytesIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raytransfer.store import Store, read_table
from raytransfer.store.schema import TRIALS

_REPEATABLE = [column.name for column in TRIALS if column.repeatable]


def differences(reference: Store, store: Store, *, partly: bool = False) -> list[str]:
    """What of a store differs from a reference.

    Args:
        reference: Of a sweep that ended.
        store: Of the same sweep.
        partly: Whether trials may be missing.
    """
    rows, expected = (read_table(each, "trials")[_REPEATABLE] for each in (store, reference))
    curves, expected_curves = (read_table(each, "curves") for each in (store, reference))
    trials = set(rows["id"]) if partly else set(expected["id"])
    return [
        *_differing("row", rows, expected[expected["id"].isin(trials)]),
        *_differing("curve", curves[curves["id"].isin(trials)], expected_curves[expected_curves["id"].isin(trials)]),
        *_differing_weights(reference, store, trials, partly),
    ]


def _differing(what: str, found: pd.DataFrame, expected: pd.DataFrame) -> list[str]:
    """Trials whose rows are not the same."""
    by_trial, expected_by_trial = _by_trial(found), _by_trial(expected)
    missing = sorted(expected_by_trial.keys() - by_trial.keys())
    differing = sorted(trial for trial in by_trial if by_trial[trial] != expected_by_trial.get(trial))
    return [f"{what} of {trial} is missing" for trial in missing] + [
        f"{what} of {trial} differs" for trial in differing
    ]


def _by_trial(rows: pd.DataFrame) -> dict[str, list[dict[str, object]]]:
    """Each trial's rows, such that == compares them: missing values are None."""
    found: dict[str, list[dict[str, object]]] = {}
    for row in pa.Table.from_pandas(rows, preserve_index=False).to_pylist():
        found.setdefault(row["id"], []).append(row)
    return found


def _differing_weights(reference: Store, store: Store, trials: set[str], partly: bool) -> list[str]:
    """Checkpoints that are not the same files; of a sweep that has not ended, more may be there."""
    found = []
    for trial in reference.names("checkpoints"):
        expected, names = (set(each.names(f"checkpoints/{trial}")) for each in (reference, store))
        missing = expected - names if trial in trials else set()
        found += [f"checkpoints/{trial}/{name} is missing" for name in sorted(missing)]
        for name in sorted(expected & names):
            file = f"checkpoints/{trial}/{name}"
            found += [f"{file} differs"] if store.read(file) != reference.read(file) else []
        found += [] if partly else [f"checkpoints/{trial}/{name} is left over" for name in sorted(names - expected)]
    return found


def rows_twice(store: Store) -> list[str]:
    """Rows that more than one file holds, or one file more than once."""
    found = []
    for table, key in (("trials", ["id"]), ("curves", ["id", "step"])):
        files = [name for name in store.names(table) if name.endswith(".parquet")]
        rows = pd.concat(
            [pq.read_table(BytesIO(store.read(f"{table}/{name}")), columns=key).to_pandas() for name in files]
        )
        found += [f"{table} holds {tuple(row)} twice" for row in rows[rows.duplicated()].itertuples(index=False)]
    return found


def done(store: Path) -> int:
    """How many trials have finished since their rows were merged last."""
    return len(list((store / "trials").glob("*.parquet")))


def host_of_trials(store: Path) -> dict[str, str]:
    """Which host ran each finished trial."""
    rows = read_table(Store(str(store)), "trials")
    return dict(zip(rows["id"], rows["host"], strict=True))


def by_host(store: Path) -> str:
    """How many trials each host ran, as text."""
    return ", ".join(f"{host} {count}" for host, count in sorted(Counter(host_of_trials(store).values()).items()))
