"""Whether a change of structure left every result as it was: small sweeps of two checkouts, compared to the bit.

    git worktree add /tmp/before COMMIT
    python tests/benchmarks/same_results.py run /tmp/before /tmp/results/before
    python tests/benchmarks/same_results.py run . /tmp/results/after
    python tests/benchmarks/same_results.py compare /tmp/results/before /tmp/results/after

``run`` runs the digits grid as it is by default and four other sweeps in small, each with the scripts of the
checkout. ``compare`` looks at every row that the trials left, with its learning curve or readings, and at every table
of the reports. Identities, configurations as JSON, and what differs at every run (times, machines, versions) are left
out; so are columns that only one side has, which are named. ``--renamed OLD=NEW`` says that a column has another name
now.

Exit code 0 where all is equal, 1 where something differs.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

SWEEPS = {
    "yosinski_grid": [],
    "transfer_vs_distance": [
        "seeds=2",
        "n_layers=[2,6]",
        "recipe.steps=60",
        "dials={shared: [0.6, 0.2], blur_px: [1], noise: [40], random_labels: [0.5], merged: [3], split: [2]}",
        "dial_grid={input: {shuffle_px: [8, 2]}, label: {random_labels: [0, 0.5]}}",
    ],
    "why_transfer": ["seeds=3", "recipe.steps=60", "probe_steps=[0,20,last]", "landscape_points=5", "eigenvalues=5"],
    "training_stage": ["seeds=3", "base_steps=80", "base_checkpoints=5", "recipe.steps=40", "n_layers=[3]"],
    "two_layer_theory": ["widths=[100,300]"],
}
DETAILS = {"trials": "curves", "probes": "readings"}  # tables whose trials left further rows
# Other bits at every run, or another text for the same thing.
_LEFT_OUT = ("id", "config", "wall_time_s", "images_per_s", "device", "host", "finished_at", "versions", "commit")


def run(checkout: Path, out: Path) -> None:
    """Run all sweeps of a checkout, and print what each took."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    for name, options in SWEEPS.items():
        started = time.perf_counter()
        script = checkout / "sweeps" / f"{name}.py"
        command = [sys.executable, str(script), f"out={out.resolve() / name}", *options]
        with (out / f"{name}.txt").open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)
        print(f"{name:25} {time.perf_counter() - started:6.1f} s", flush=True)


def compare(before: Path, after: Path, renamed: Mapping[str, str]) -> int:
    """Print what differs; how many tables do."""
    differing = 0
    for name in SWEEPS:
        for table in _tables(before / name) | _tables(after / name):
            old, new = (_read(side / name, table) for side in (before, after))
            old = old.rename(columns=renamed)
            if table in DETAILS:
                old, new = (
                    _with_details(rows, _read(side / name, DETAILS[table]))
                    for rows, side in ((old, before), (new, after))
                )
            differing += not _same(f"{name}: {table}", old, new)
        reports = {path.name for side in (before, after) for path in (side / name / "sweeps").glob("*/*.parquet")}
        for file in sorted(reports):
            old, new = (_report(side / name, file) for side in (before, after))
            differing += not _same(f"{name}: report, {file}", old.rename(columns=renamed), new)
    return differing


def _tables(store: Path) -> set[str]:
    """Tables of finished trials; their details are compared with them."""
    there = {path.parent.name for path in store.glob("*/part-*.parquet")}
    there |= {path.parent.name for path in store.glob("*/*.parquet") if path.parent.name != "sweeps"}
    return there - set(DETAILS.values())


def _read(store: Path, table: str) -> pd.DataFrame:
    files = sorted((store / table).glob("*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True) if files else pd.DataFrame()


def _report(store: Path, file: str) -> pd.DataFrame:
    found = sorted((store / "sweeps").glob(f"*/{file}"))
    return pd.read_parquet(found[0]) if found else pd.DataFrame()


def _with_details(rows: pd.DataFrame, details: pd.DataFrame) -> pd.DataFrame:
    """Each trial's row with a digest of its curve, or readings, in their order."""
    digests = {
        trial: hashlib.sha256(_text(group.drop(columns="id")).encode()).hexdigest()
        for trial, group in details.groupby("id", sort=False)
    }
    return rows.assign(details=rows["id"].map(digests))


def _text(rows: pd.DataFrame) -> str:
    return "\n".join(map(repr, rows.astype(object).where(rows.notna(), None).itertuples(index=False, name=None)))


def _same(what: str, old: pd.DataFrame, new: pd.DataFrame) -> bool:
    """Whether both hold the same rows, in any order; says so."""
    left_out = [name for name in {*old, *new} if name in _LEFT_OUT or name.endswith("_id")]
    old, new = (rows.drop(columns=left_out, errors="ignore") for rows in (old, new))
    alone = sorted({*old} ^ {*new})
    shared = [name for name in old if name in new]
    counts = [_rows(side[shared]) for side in (old, new)]
    gone, come = (counts[0] - counts[1]).total(), (counts[1] - counts[0]).total()
    note = f"; on one side alone: {', '.join(alone)}" if alone else ""
    if gone or come:
        print(f"DIFFERS  {what}: {gone} rows of {len(old)} are gone, {come} of {len(new)} are new{note}")
        return False
    print(f"same     {what}: {len(old)} rows, {len(shared)} columns{note}")
    return True


def _rows(table: pd.DataFrame) -> Counter[str]:
    return Counter(_text(table).split("\n")) if len(table) else Counter()


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("checkout", type=Path)
    runs.add_argument("out", type=Path)
    compares = commands.add_parser("compare")
    compares.add_argument("before", type=Path)
    compares.add_argument("after", type=Path)
    compares.add_argument("--renamed", action="append", default=[], metavar="OLD=NEW")
    given = parser.parse_args()
    if given.command == "run":
        given.out.mkdir(parents=True)
        run(given.checkout, given.out)
        return 0
    return 1 if compare(given.before, given.after, dict(pair.split("=") for pair in given.renamed)) else 0


if __name__ == "__main__":
    sys.exit(main())
