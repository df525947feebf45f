"""How much faster a sweep is than the same sweep written plainly (``plain_sweep.py``): whole commands, in turn.

    python tests/benchmarks/versus_plain.py                                  a short grid on CIFAR-10
    python tests/benchmarks/versus_plain.py repeats=1 data=digits splits=1 seeds=1 halves=[random] directions=[A->B]

It takes the options of ``sweeps/yosinski_grid.py``, some for the plain sweep alone as ``plain.name=value``, such as
PyTorch's own defaults ``plain.recipe.precision=fp32 plain.recipe.channels_last=false``, and ``workers=N`` for the plain
sweep's ``DataLoader``. Each command is timed from its start to its end, with imports, Ray's start and the report, and
begins with an empty store. Accuracies differ by the random numbers that the batches are drawn with, and must agree but
for that.

``repeats=1 data=digits splits=1 seeds=1 halves=[random] directions=[A->B] n_layers=[4]``, twice on two cores without a
GPU, one minute each (7 cells: raytransfer trains 8 networks, plain 11):

    raytransfer 15.9 s, plain 42.8 s, 2.70 times; top-1 over all cells 0.925 and 0.920
    raytransfer 14.6 s, plain 45.5 s, 3.12 times

Of the plain sweep's time 37% went into starts of processes and their imports, 38% into Ray, the driver and waiting, 8%
into training, 7% into loading for it, 8% into evaluation. So few cells hide part of the difference: both commands
start Python, torch and Ray.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from spread import SWEEP

from raytransfer.config import load_config
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.specs.dependencies import needs
from raytransfer.specs.treatments import TREATMENTS
from raytransfer.store import Store
from raytransfer.sweep.arithmetic import settled
from raytransfer.trials import device_name

PLAIN = Path(__file__).with_name("plain_sweep.py")
DEFAULTS = "data=cifar10 halves=[random] splits=1 seeds=1 directions=[A->B] recipe.steps=100 recipe.evaluations=4"


def main() -> None:
    """Run both commands ``repeats`` times and print what they took and what came out."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith("repeats=")]
    repeats = next((int(a.partition("=")[2]) for a in reversed(sys.argv) if a.startswith("repeats=")), 3)
    overrides = given or DEFAULTS.split()
    of_config = [argument for argument in overrides if not argument.startswith(("workers=", "plain."))]
    of_plain = [argument.removeprefix("plain.") for argument in overrides]
    config = load_config(GridConfig, EXPERIMENTS["yosinski"].defaults, of_config)
    _, plan, _ = settled(config, Store(config.out), make_plan)  # decodes the data, which both then find
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    bases = sum(bool(needs(cell.spec)) for cell in plan.cells)
    print(" ".join(overrides))
    print(f"{len(plan.cells)} cells: raytransfer trains {len(plan.trials)} networks, plain {len(plan.cells) + bases}")
    print(f"{os.cpu_count()} CPU cores ({device_name(torch.device('cpu'))}), {gpu}", flush=True)
    ratios = []
    for repeat in range(1, repeats + 1):
        with TemporaryDirectory() as folder:
            ours_s, _ = timed([SWEEP, *of_config, f"out={folder}/ours"], Path(folder, "ours.log"))
            plain_s, began_at = timed([PLAIN, *of_plain, f"out={folder}/plain"], Path(folder, "plain.log"))
            (table,) = Path(folder, "ours", "sweeps").glob("*/results.parquet")
            ours, plain = pd.read_parquet(table), pd.read_csv(f"{folder}/plain/results.csv")
        ratios.append(plain_s / ours_s)
        print(f"repeat {repeat}: raytransfer {ours_s:.1f} s, plain {plain_s:.1f} s, {ratios[-1]:.2f} times", flush=True)
    print(f"ratio: median {median(ratios):.2f}, range {min(ratios):.2f} to {max(ratios):.2f}")
    print("\nfinal top-1, mean over n, of the last repeat")
    print(accuracies(ours, plain).to_string(float_format="{:.3f}".format))
    slots, threads, workers = (int(plain[column].max()) for column in ("slots", "threads", "workers"))
    print(f"\nwhere the plain sweep's time went, last repeat, {slots} slots with {threads} threads, {workers} workers")
    print(shares(plain, plain_s, began_at).to_string(float_format="{:.1f}%".format))


def timed(command: list[str | Path], log: Path) -> tuple[float, float]:
    """Run a Python command to its end; the seconds it took, and when it began."""
    with log.open("w") as output:  # not a pipe: Ray's daemons may hold that open for longer
        began_at = time.time()
        done = subprocess.run(
            [sys.executable, *command],
            cwd=SWEEP.parents[1],
            env={**os.environ, "RAY_ADDRESS": "local"},  # a Ray of its own, even on a machine of a cluster
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        seconds = time.time() - began_at
    if done.returncode:
        sys.exit(f"{command} failed:\n{log.read_text()[-5000:]}")
    return seconds, began_at


def accuracies(ours: pd.DataFrame, plain: pd.DataFrame) -> pd.DataFrame:
    """Mean final top-1 and number of trials by treatment and over all, of both sweeps."""
    columns = {}
    for name, trials in (("raytransfer", ours), ("plain", plain)):
        by_treatment = trials.groupby("treatment")["top1"].agg(["mean", "size"])
        by_treatment.loc["all cells"] = trials["top1"].agg(["mean", "size"])
        columns[name], columns[f"trials of {name}"] = by_treatment["mean"], by_treatment["size"].astype(int)
    table = pd.DataFrame(columns)[["raytransfer", "plain", "trials of raytransfer", "trials of plain"]]
    table.insert(2, "difference", table["plain"] - table["raytransfer"])
    return table.reindex([name for name in (*TREATMENTS, "all cells") if name in table.index])


def shares(plain: pd.DataFrame, seconds: float, began_at: float) -> Any:
    """Parts of the plain sweep in percent of its slots' time, from its start to its end."""
    slots = plain["slots"].iloc[0]
    parts = plain.filter(like="seconds/").sum()
    parts.index = parts.index.str.removeprefix("seconds/")
    parts["before the first trial: imports, Ray's start"] = slots * (plain["began_at"].min() - began_at)
    parts["after the last trial"] = slots * (began_at + seconds - plain["ended_at"].max())
    parts["between trials: Ray, waiting"] = slots * seconds - parts.sum()
    return (100 * parts / (seconds * slots)).sort_values(ascending=False)


if __name__ == "__main__":
    main()
