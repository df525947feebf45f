"""Ctrl-C and SIGTERM, to a real process, and to it and all of Ray's."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from raytransfer.store import Store, finished, lock
from tests.helpers import ROOT, wait_for_trials

START = """
import ctypes, time
from rich.console import Console
from raytransfer.cli import _exit
from raytransfer.sweep import interrupts
interrupts._PATIENCE_S = 1.0
"""
SLEEPS = 'print("ready", flush=True); time.sleep(60)'
TIDIES_UP = f"""
    try:
        {SLEEPS}
    finally:
        print("tidying up", flush=True); time.sleep(0.5)"""
IS_STUCK = """
    lock = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).pthread_mutex_lock(lock)
    print("ready", flush=True)
    ctypes.CDLL(None).pthread_mutex_lock(lock)  # for ever, and no handler of Python's runs meanwhile"""
FORGETS = f"""
    try:
        {SLEEPS}
    except KeyboardInterrupt:
        time.sleep(60)"""


def started(body, *, ignore=()):
    """A process that does something as the command does, once it has begun; some signals are ignored from the start."""
    script = f"{START}\ndef do():\n    {body.strip()}\n    return 0\n_exit(Console(), do)"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in ignore],
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("body", [SLEEPS, TIDIES_UP, IS_STUCK, FORGETS], ids=["", "tidies up", "is stuck", "forgets"])
def test_a_second_signal_changes_nothing_and_the_end_comes_soon(body):
    process = started(body)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=10)
    assert (process.returncode, error) == (130, "")
    tidied = "tidying up\n" if body == TIDIES_UP else ""
    said = "Interrupted: what a sweep has finished is in its store, and the same command goes on from there.\n"
    assert re.sub(r"\s+", " ", output) == re.sub(r"\s+", " ", tidied + said)


def test_sigterm_ends_what_was_started_to_ignore_ctrl_c_and_ctrl_c_does_not():
    process = started(SLEEPS, ignore=[signal.SIGINT])
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired, match="timed out"):
        process.wait(timeout=0.3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Interrupted" in output


def test_sigterm_to_a_sweep_and_all_of_ray_s_processes_ends_it_soon_with_its_rows_and_its_lock_free(
    tmp_path, cache_dir
):
    options = ["halves=[random]", "splits=1", "seeds=20", "n_layers=[2]", "recipe.steps=4", "recipe.warmup_steps=0"]
    places = [f"cache_dir={cache_dir}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}", "slots=1"]
    start = "from raytransfer.sweep import interrupts; interrupts._PATIENCE_S = 3.0; from raytransfer.cli import main"
    command = [sys.executable, "-c", f"{start}; main()", "run", "yosinski", *options, *places]
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # its path has to be short
        environment = {**os.environ, "RAY_ADDRESS": "local", "RAY_TMPDIR": folder, "PYTHONPATH": str(ROOT)}
        sweep = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        store = Store(str(tmp_path / "out"))
        wait_for_trials(store, 1, sweep)
        told = time.monotonic()
        os.killpg(sweep.pid, signal.SIGTERM)
        output, _ = sweep.communicate(timeout=30)
        assert sweep.returncode == 130, output
        assert time.monotonic() - told < 10
        assert "the same command goes on from there" in output
        assert "Traceback" not in output
        while left := processes_with(f"RAY_TMPDIR={folder}"):
            assert time.monotonic() - told < 10, left
            time.sleep(0.1)
    assert finished(store)
    with lock(store):
        pass


def processes_with(mark):
    """Processes in whose environment something stands."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text())
        except OSError:  # it has just ended
            continue
    return found
