import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import ray

from raytransfer.sweep import mps
from raytransfer.sweep.ray import cluster

# Stands in for NVIDIA's: -d makes the control and notes what it was given; "quit" takes it away; else it answers while
# the control is there.
CONTROL = """#!/bin/sh
pipes=${CUDA_MPS_PIPE_DIRECTORY:-/nowhere}
log=$(dirname "$0")/log
if [ "$1" = "-d" ]; then
    START
    echo "start $pipes $CUDA_MPS_LOG_DIRECTORY ${CUDA_VISIBLE_DEVICES-all}" >> "$log"
    touch "$pipes/control"
    exit 0
fi
read -r asked
echo "$asked $pipes" >> "$log"
[ -e "$pipes/control" ] || exit 1
case "$asked" in quit*) rm "$pipes/control" ;; esac
"""
WORKS = ("true",)


@pytest.fixture
def control(tmp_path, monkeypatch, caplog):
    """Put a stand-in on the path, with a line of its own at the start; gives a function that reads what it was told."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    caplog.set_level(logging.INFO, "raytransfer")

    def install(start=""):
        (tmp_path / "nvidia-cuda-mps-control").write_text(CONTROL.replace("START", start))
        (tmp_path / "nvidia-cuda-mps-control").chmod(0o755)
        return lambda: (tmp_path / "log").read_text().splitlines()

    return install


def test_it_runs_for_as_long_as_the_block_in_a_folder_of_its_own(control, caplog):
    asked = control()
    seen = 'test "$CUDA_VISIBLE_DEVICES" = 2,3 && test -e "$CUDA_MPS_PIPE_DIRECTORY/control"'
    with mps.service(("sh", "-c", seen)):
        folder = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
        assert len(folder) < 20
        assert os.environ["CUDA_MPS_LOG_DIRECTORY"] == folder
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        assert mps.is_served()
    assert asked()[0] == f"start {folder} {folder} all"
    assert asked()[-1] == f"quit -t 5 {folder}"
    assert not Path(folder).exists()
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert "CUDA_MPS_LOG_DIRECTORY" not in os.environ
    assert [record.message for record in caplog.records] == [
        "Trials share a GPU under NVIDIA's Multi-Process Service, started for this sweep"
    ]


@pytest.mark.parametrize(
    ("start", "check", "reason"),
    [
        ("echo what; echo no GPU >&2; exit 3", WORKS, "no GPU"),
        ("exit 3", WORKS, "nvidia-cuda-mps-control ended with exit code 3"),
        ("exit 0", WORKS, "nvidia-cuda-mps-control -d started none that answers"),
        ("", ("sh", "-c", "echo error 805; exit 1"), "error 805"),
        ("", ("no-such-command",), "[Errno 2] No such file or directory: 'no-such-command'"),
        ("", ("sleep", "60"), "sleep took more than 0.2 s"),
    ],
)
def test_where_it_does_not_work_the_block_goes_on_without_and_a_line_says_why(
    control, caplog, monkeypatch, start, check, reason
):
    monkeypatch.setattr(mps, "_CHECK_S", 0.2)
    asked = control(start)
    with mps.service(check):
        assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
        last, folder = asked()[-1].rsplit(" ", 1)
        assert last == "quit -t 5"
        assert not Path(folder).exists()
    (record,) = caplog.records
    assert record.message.endswith(f"without NVIDIA's Multi-Process Service: {reason}")


def test_without_the_command_nothing_is_tried(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    caplog.set_level(logging.INFO, "raytransfer")
    with mps.service():
        assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert "nvidia-cuda-mps-control is not installed here" in caplog.text


def test_one_that_runs_is_used_and_left_alone(control, monkeypatch, tmp_path, caplog):
    asked = control()
    (tmp_path / "control").touch()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    with mps.service(("false",)):
        assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] == str(tmp_path)
    assert set(asked()) == {f"get_server_list {tmp_path}"}
    assert "that runs already" in caplog.text


def test_a_folder_of_the_users_in_which_none_answers_is_named(control, monkeypatch, tmp_path, caplog):
    control()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    with mps.service(WORKS):
        assert not mps.is_served()
    assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] == str(tmp_path)
    assert f"CUDA_MPS_PIPE_DIRECTORY={tmp_path} is set, and none answers there" in caplog.text


def test_a_control_that_was_left_behind_does_not_serve(control, monkeypatch, tmp_path):
    control()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    (tmp_path / "control").touch()
    assert mps.is_served()
    (tmp_path / "nvidia-cuda-mps-control").write_text("#!/bin/sh\nexit 1\n")
    assert not mps.is_served()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_a_process_that_is_stopped(control, tmp_path, number):
    asked = control()
    code = """
import time
from raytransfer.sweep import mps
from raytransfer.sweep.interrupts import interruptible
with interruptible(), mps.service(("true",)):
    print("runs", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout.readline() == b"runs\n"
    os.killpg(process.pid, number)
    process.communicate()
    deadline = time.monotonic() + 20
    folder = Path(asked()[0].split()[1])
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    assert asked()[-1] == f"quit -t 5 {folder}"


@pytest.fixture
def gpu(monkeypatch):
    """A machine that has a GPU, as far as anyone asks, on which the service works."""
    module = sys.modules["raytransfer.sweep.ray.cluster"]  # the package has a function of that name
    monkeypatch.setattr(module, "usable_gpus", lambda: 1)
    monkeypatch.setattr(mps, "service", partial(mps.service, WORKS))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    return module


def test_workers_of_a_ray_that_is_started_run_under_it(control, gpu):
    asked = control()
    with cluster(share_gpus=True):
        environment = ray.get(ray.remote(lambda: dict(os.environ)).remote())
    assert environment["CUDA_MPS_PIPE_DIRECTORY"] == environment["CUDA_MPS_LOG_DIRECTORY"] == asked()[0].split()[1]
    assert asked()[-1].startswith("quit")


@pytest.mark.parametrize("why_not", ["alone", "no GPU", "AMD", "joined"])
def test_elsewhere_nothing_is_started(control, gpu, monkeypatch, tmp_path, why_not):
    control()
    monkeypatch.setattr(gpu.ray, "init", lambda **_: None)
    monkeypatch.setattr(gpu.ray, "shutdown", lambda: None)
    if why_not == "no GPU":
        monkeypatch.setattr(gpu, "usable_gpus", lambda: 0)
    if why_not == "AMD":
        monkeypatch.setattr("torch.version.hip", "7.0")
    if why_not == "joined":
        monkeypatch.setattr(gpu, "_address", lambda: ("auto", "10.0.0.1:6379"))
    with cluster(share_gpus=why_not != "alone"):
        assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert not (tmp_path / "log").exists()
