"""The job for Slurm on a real Ray, with stand-ins for Slurm's own commands; slurm_hosts.py has a real Slurm."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from raytransfer.store import Store, finished
from tests.helpers import ROOT, run, wait_for_trials

SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
SLURM_PROCID=0 SLURM_LAUNCH_NODE_IPADDR=127.0.0.1 SLURM_CPUS_ON_NODE=1 exec "$@"
"""
SWEEP = ["halves=[random]", "splits=1", "n_layers=[2]", "treatments=[baseB,AnB]", "recipe.evaluations=1"]


@pytest.fixture
def job(tmp_path):
    """The job in a folder of its own, and the environment it runs in."""
    short = tempfile.TemporaryDirectory(prefix="rt-")  # Ray's sockets want a short path
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = (ROOT / "sweeps" / "clusters" / "slurm.sh").read_text()
    (tmp_path / "job.sh").write_text(text.replace("6379", str(port)).replace("/tmp/ray-$UID", short.name))
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    path = f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    (bin_folder / "activate").write_text(f"PATH={path}\n")
    (bin_folder / "srun").write_text(SRUN)
    (bin_folder / "scontrol").write_text('#!/bin/bash\necho "$@" > scontrol-was-told\n')
    for name in ("srun", "scontrol"):
        (bin_folder / name).chmod(0o755)
    alone = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = alone | {"PATH": path, "HOME": str(tmp_path), "SLURM_JOB_ID": "7", "PYTHONPATH": str(ROOT)}
    run(["ray", "get-auth-token", "--generate"], environment)
    with short:
        yield tmp_path, environment


def test_a_job_whose_time_is_nearly_up_ends_its_sweep_and_is_queued_again(job, cache_dir):
    folder, environment = job
    places = [f"cache_dir={cache_dir}", f"data_dir={folder}", f"out={folder / 'out'}"]
    command = ["bash", "job.sh", "yosinski", *SWEEP, "recipe.steps=2000", *places]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        store = Store(str(folder / "out"))
        wait_for_trials(store, 1, process)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == 130
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    text = (folder / "log").read_text()
    assert "Running 4 trials, 1 at once, on cpu" in text
    assert "Interrupted: what a sweep has finished is in its store" in text
    assert (folder / "scontrol-was-told").read_text() == "requeue 7\n"
    assert 1 <= len(finished(store)) < 4
