"""The command of transfer against distance as a user runs it, on real Ray, with a worker killed on the way."""

import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from raytransfer.store import Store, read_table, schema
from tests.bad_input.commands import call
from tests.helpers import ROOT, run, wait_for_trials, with_defaults

SCRIPT = ROOT / "sweeps" / "transfer_vs_distance.py"

TABLES = {"trials": schema.TRIALS, "distances": schema.DISTANCES, "scores": schema.SCORES}
TINY = [
    "seeds=1",
    "n_layers=[2,7]",
    "images=40",
    "base_per_class=20",
    "dials={blur_px: [2], noise: [80], random_labels: [1]}",
    "dial_grid={input: {blur_px: [0, 2]}, label: {random_labels: [0, 1]}}",
    "drawn=[OTDD of pixels]",
    "label_distance=NTK residual",  # class overlap is the same for all of these
    "recipe.steps=10",
    "recipe.warmup_steps=2",
]


@pytest.fixture
def command(tmp_path, cache_dir):
    places = [f"cache_dir={cache_dir}", f"data_dir={tmp_path}"]
    return lambda *arguments: [sys.executable, str(SCRIPT), *with_defaults([*TINY, *places], arguments)]


@pytest.fixture
def environment():
    alone = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return alone | {"COLUMNS": "80"}


def worker_of(driver):
    """A process of Ray's below a driver that is in a trial."""
    deadline = time.monotonic() + 60
    while not (workers := _workers_below(driver)):
        assert time.monotonic() < deadline, "no worker runs"
        time.sleep(0.1)
    return workers[0]


def _workers_below(driver):
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    family, grown = {driver}, True
    while grown:
        children = {int(pid) for pid, parent, _ in rows if int(parent) in family}
        grown = not children <= family
        family |= children
    return [int(pid) for pid, _, args in rows if int(pid) in family and re.match(r"ray::\w+\.train", args)]


@pytest.mark.slow  # the suite kills in the chaos test
@pytest.mark.usefixtures("no_pictures")  # its process draws them all the same
def test_a_sweep_whose_worker_is_killed_gives_what_an_undisturbed_one_gives(command, environment, tmp_path, cache_dir):
    disturbed, undisturbed = (Store(str(tmp_path / name)) for name in ("disturbed", "undisturbed"))
    process = subprocess.Popen(
        command(f"out={disturbed.root}"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for_trials(disturbed, 50, process)  # among measurements: tests/clusters has it among trainings
    os.kill(worker_of(process.pid), signal.SIGKILL)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    in_process = {"folder": tmp_path, "cache": cache_dir}
    code, _, error = call("run", "distance", *TINY, f"out={undisturbed.root}", **in_process)
    assert (code, error) == (0, "")
    for table, columns in TABLES.items():
        repeatable = [column.name for column in columns if column.repeatable]
        one, other = (read_table(store, table)[repeatable] for store in (disturbed, undisturbed))
        assert len(one) > 10
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert "its process died" in printed
    _check_report(printed)
    assert ", 0 to run," in call("plan", "distance", *TINY, f"out={disturbed.root}", **in_process)[1]


def _check_report(printed):
    """The console's tables fit 80 columns, and every place that it names holds what it says."""
    for heading in (
        "Spearman's ρ with frozen accuracy (AnB) within target, 5 pairs",
        "Does a distance grow along a dial?",
        "Variance over the grid of dials",
        "R² of ranks in %: input",
    ):
        assert heading in printed
    assert not re.search("ray::|WARNING|Traceback", printed)
    pictures = next(line for line in printed.splitlines() if line.startswith("Pictures:"))
    names = re.findall(r"/([^/]+\.png)", pictures)
    assert {"correlations.png", "dial_means.png", "grid_means.png", "monotonicity.png"} < set(names)
    assert "transfer-against-OTDD-of-pixels.png" in names
    lines = [line.strip() for line in printed.splitlines() if "pandas" in line or "read_parquet" in line]
    scope = {}
    exec("\n".join(lines[-2:]), scope)
    assert {"target", "base", "n_layers", "seed", "AnB", "AnB+", "RnB", "baseB", "boost"} <= set(scope["outcomes"])
    assert len(scope["outcomes"]) == 5 * 2


def test_help_names_the_preset(command, environment):
    result = run([sys.executable, str(SCRIPT), "--help", "preset=real"], environment | {"COLUMNS": "200"})
    assert re.search(r"dials +{} +Dials", result.stdout)
    assert re.search(r"channels +3 +1 to decode", result.stdout)


def test_the_plan_tells_the_cost_of_measurements(tmp_path, cache_dir):
    _, printed, _ = call("plan", "distance", *TINY, folder=tmp_path, cache=cache_dir)
    assert re.search(r"About \d+ s on 1 slot", printed)
    assert re.search(r"score +80 ", printed)  # 5 bases, 7 scores of a layer at 2 cuts and 2 of the head
    assert not (tmp_path / "out").exists()
