"""The short form of ``tests/clusters/chaos.py``: kinds of process killed once each, on a cluster."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).with_name("chaos.py")


@pytest.mark.parametrize(
    ("kinds", "steps"),
    [
        (["worker", "driver", "raylet"], 400),
        pytest.param(["worker", "driver", "raylet", "machine", "notice"], 1200, marks=pytest.mark.slow),
    ],
)
def test_a_sweep_whose_processes_are_killed_leaves_what_an_undisturbed_one_leaves(kinds, steps):
    options = ["halves=[random]", "splits=1", "n_layers=[3]", f"recipe.steps={steps}", "recipe.evaluations=2"]
    options.append("treatments=[baseB,AnB,AnB+]")
    result = subprocess.run(
        [sys.executable, str(CHAOS), "--kills", str(len(kinds)), "--every", "1", *options],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Killed: " in result.stdout
    for kind in kinds:
        assert f"1 x {kind}" in result.stdout
    taken, needed = map(int, re.search(r"(\d+) steps taken for (\d+)", result.stdout).groups())
    assert needed <= taken < 1.4 * needed  # as often at most what two slots do in the second between two savings
    assert "The two stores are the same to the bit." in result.stdout
