"""The short form of ``tests/clusters/chaos.py``: each kind of process killed once, on a cluster of several machines."""

import re
import subprocess
import sys
from pathlib import Path

CHAOS = Path(__file__).with_name("chaos.py")


def test_a_sweep_whose_processes_are_killed_leaves_what_an_undisturbed_one_leaves():
    options = ["halves=[random]", "splits=1", "n_layers=[3]", "recipe.steps=600"]
    options.append("treatments=[baseB,AnB,AnB+]")
    result = subprocess.run(
        [sys.executable, str(CHAOS), "--kills", "5", "--every", "1", *options],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Killed: " in result.stdout
    for kind in ("worker", "driver", "raylet", "machine", "notice"):
        assert f"1 x {kind}" in result.stdout
    taken, needed = map(int, re.search(r"(\d+) steps taken for (\d+)", result.stdout).groups())
    assert needed <= taken < 1.4 * needed  # five times at most what two slots do in the second between two savings
    assert "The two stores are the same to the bit." in result.stdout
