"""The sweep along pretraining as a user runs it, on real Ray."""

import os
import subprocess
import sys

import pandas as pd

from tests.helpers import ROOT

SCRIPT = ROOT / "sweeps" / "training_stage.py"


LONG_BASE = [
    "schedules=[constant]",
    "targets=[A]",
    "bases=[B]",
    "seeds=1",
    "n_layers=[3]",
    "base_steps=1500",
    "base_checkpoints=[0,10,1500]",
    "recipe.steps=5",
    "recipe.warmup_steps=0",
]


def test_transfers_from_an_early_checkpoint_end_before_their_base_does(tmp_path, cache_dir):
    places = [f"cache_dir={cache_dir}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"COLUMNS": "200"}
    command = [sys.executable, str(SCRIPT), *LONG_BASE, *places]
    result = subprocess.run(command, env=alone, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Does transfer rise, then decline?" in result.stdout
    trials = pd.read_parquet(tmp_path / "out" / "trials")
    base = trials[trials["n_layers"] == 0]["finished_at"].item()
    finished = trials[trials["n_layers"] == 3].set_index(["pretrain_step", "frozen"])["finished_at"]
    early = [finished[step, frozen] < base for step in (0, 10) for frozen in (True, False)]
    assert any(early) or os.cpu_count() == 1  # not all: a busy machine may leave them no time
    assert (finished[1500] >= base).all()
    kept = [path.name for path in (tmp_path / "out" / "checkpoints").rglob("*.safetensors")]
    assert kept == ["1500.safetensors"]
