"""A sweep on a GPU that is not there: nothing lies on the wrong device, and steps can be recorded."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from raytransfer.library import load, run

ON_A_GPU = """
from tests.pretended_gpu import pretend
pretend()
from raytransfer.cli import main
main()
"""
OPTIONS = {
    "splits": 1,
    "halves": ["random"],
    "directions": ["A->B"],
    "n_layers": [3],
    "treatments": ["baseB", "AnB", "AnB+"],
    "probes": ["generalisation", "gradient-scale"],
    "backend": "in-process",
}
RECIPE = {
    "steps": 12,
    "warmup_steps": 2,
    "batch_size": 16,
    "evaluations": 2,
    "clip_norm": 1.0,
    "optimizer": "adamw",
    "learning_rate": 0.002,
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one, and the other sweep would be on it")
def test_a_sweep_on_a_pretended_gpu_gives_what_a_cpu_does(tmp_path):
    values = {**OPTIONS, **{f"recipe.{name}": value for name, value in RECIPE.items()}, "out": tmp_path / "gpu"}
    written = [f"{name}={value}".replace("'", "") for name, value in values.items()]
    subprocess.run([sys.executable, "-c", ON_A_GPU, "run", "yosinski", *written], check=True, capture_output=True)
    run("yosinski", **OPTIONS, recipe=RECIPE, out=str(tmp_path / "cpu"))
    tables = [load(str(tmp_path / name)) for name in ("gpu", "cpu")]
    trials = pd.merge(*(table.trials.drop_duplicates("id") for table in tables), on="id", suffixes=("", "_here"))
    assert len(trials) == len({*tables[1].trials["id"]}) >= 4
    assert set(trials["device"]) == {"pretended GPU"}
    np.testing.assert_allclose(trials["loss_nats"], trials["loss_nats_here"], rtol=1e-3)
    keys = ["id", "quantity", "stage", "index"]
    readings = pd.merge(*(table.probes.drop_duplicates(keys) for table in tables), on=keys, suffixes=("", "_here"))
    assert len(readings) > 20
    np.testing.assert_allclose(readings["value"], readings["value_here"], rtol=0.02, atol=1e-3)
