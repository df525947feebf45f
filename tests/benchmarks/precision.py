"""Whether bf16 autocast changes accuracy: the same trainings in bf16 and in fp32, paired.

    python tests/benchmarks/precision.py data=cifar10 seeds=5 recipe.steps=400

Bases and fine-tuned transfers (AnB+, n = 4) of random halves in both directions, so two units for each seed, in each
precision. Prints top-1 in both, their paired difference with its 95% t interval, and the time of a trial in both.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from spread import SWEEP, with_defaults

from raytransfer.analysis.intervals import student_t

GRID = ("halves=[random]", "splits=1", "treatments=[baseB,AnB+]", "n_layers=[4]", "seeds=5", "recipe.evaluations=4")
UNIT = ["treatment", "n_layers", "split", "direction", "seed"]


def results(overrides: list[str], precision: str) -> pd.DataFrame:
    """One row a trial of the sweep in that precision, by its place."""
    with tempfile.TemporaryDirectory() as out:
        options = with_defaults(GRID, [*overrides, f"recipe.precision={precision}", f"out={out}/store"])
        command = [sys.executable, str(SWEEP), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(out).glob("store/sweeps/*/results.parquet")
        return pd.read_parquet(path).set_index(UNIT).sort_index()


def main() -> None:
    """Run both and print the differences."""
    both = {precision: results(sys.argv[1:], precision) for precision in ("fp32", "bf16")}
    differences = 100 * (both["bf16"]["top1"] - both["fp32"]["top1"])
    for treatment, values in differences.groupby("treatment"):
        interval = student_t(values.to_numpy())
        of_it = {
            precision: rows[rows.index.get_level_values("treatment") == treatment] for precision, rows in both.items()
        }
        means = {precision: 100 * rows["top1"].mean() for precision, rows in of_it.items()}
        times = {precision: rows["wall_time_s"].median() for precision, rows in of_it.items()}
        print(
            f"{treatment}: fp32 {means['fp32']:.2f}%, bf16 {means['bf16']:.2f}%, "
            f"difference {values.mean():+.2f} [{interval.low:+.2f}, {interval.high:+.2f}] points over {len(values)} "
            f"units; a trial {times['fp32']:.1f} s and {times['bf16']:.1f} s"
        )


if __name__ == "__main__":
    main()
