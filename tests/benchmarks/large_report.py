"""How long the report of a large sweep takes, and how large its page is.

A store is filled with made-up rows of a grid of so many trials, with a curve each; nothing trains::

    python tests/benchmarks/large_report.py --trials 10000 --into FOLDER
"""

import argparse
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raytransfer.config import load_config
from raytransfer.experiments.yosinski import EXPERIMENT
from raytransfer.experiments.yosinski.cells import GridCell
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.specs import TransferSpec
from raytransfer.specs.dependencies import in_order
from raytransfer.store import Store
from raytransfer.store.schema import CURVES, TRIALS, arrow_schema
from raytransfer.sweep.plan import Plan

_STEPS = range(20, 201, 20)


def main() -> None:
    """Fill the store, then run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--into", required=True, help="a folder that is not there yet")
    asked = parser.parse_args()
    out = Path(asked.into)
    options = [f"out={out}", "seeds=2", f"splits={max(1, round(asked.trials / 148))}"]
    plan = make_plan(load_config(EXPERIMENT.config, EXPERIMENT.defaults, options))
    store = Store(str(out))
    store.create()
    trials = fill(store, plan)
    print(f"{trials} trials of made-up rows")
    for mode in ("--markdown", ""):
        started, processor = time.perf_counter(), os.times().children_user
        command = [
            str(Path(sys.executable).with_name("raytransfer")),
            "report",
            "yosinski",
            *options,
            *filter(None, [mode]),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took, processor = time.perf_counter() - started, os.times().children_user - processor
        print(f"report {mode or 'with figures and files'}: {took:.1f} s, of which {processor:.1f} s of the processor's")
    (page,) = out.glob("sweeps/*/report.html")
    print(f"report.html: {page.stat().st_size / 1e6:.1f} MB")


def fill(store: Store, plan: Plan[GridCell, Any]) -> int:
    """Write rows of all of a plan's trials; gives how many."""
    rng = np.random.default_rng(0)
    treatments = {cell.spec.id: cell.treatment for cell in plan.cells}
    specs = list(in_order(cell.spec for cell in plan.cells).values())
    copied = [spec.surgery.n_layers if isinstance(spec, TransferSpec) else 0 for spec in specs]
    level = [_level(treatments.get(spec.id, "baseB"), n) for spec, n in zip(specs, copied, strict=True)]
    top1 = (np.array(level) + rng.normal(0, 0.03, len(specs))).clip(0, 1)
    now = pd.Timestamp.now("UTC")
    fixed = {
        "dataset": "digits",
        "wall_time_s": 0.5,
        "finished_at": now,
        "device": "cpu",
        "commit": "made up",
        "versions": "{}",
    }
    rows: list[dict[str, Any]] = [
        {"id": spec.id, "seed": spec.seed, "n_layers": n, "top1": float(value), "train_top1": 1.0, **fixed}
        for spec, n, value in zip(specs, copied, top1, strict=True)
    ]
    curves = [
        {"id": row["id"], "step": step, "top1": row["top1"] * step / _STEPS[-1], "train_loss": 1 / step}
        for row in rows
        for step in _STEPS
    ]
    for table, columns, content in (("trials", TRIALS, rows), ("curves", CURVES, curves)):
        schema = arrow_schema(columns)
        known = [{name: row[name] for name in schema.names if name in row} for row in content]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(known, schema), buffer)
        store.write(f"{table}/part-0.parquet", buffer.getvalue())
    return len(rows)


def _level(treatment: str, n: int) -> float:
    return 0.9 if "+" in treatment else 0.9 - (0.01 if treatment == "BnB" else 0.04) * n


if __name__ == "__main__":
    main()
