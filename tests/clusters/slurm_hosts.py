"""A sweep on a real Slurm cluster of three hosts: its job runs out of time, is cancelled, and loses a host.

    python tests/clusters/slurm_hosts.py           as root, on Linux with Debian's slurm-wlm and munge
    python tests/clusters/slurm_hosts.py --keep    leaves logs, homes and both stores in a temporary folder

The hosts are namespaces of this machine (hosts.py). The job is that of sweeps/clusters/slurm.sh, on two of them,
without its line of GPUs, and without that of the environment: the one that runs this script is there already. Then the
same sweep runs undisturbed on one machine, and both stores are compared to the bit.

Exits with 0 only if all checks hold. With Slurm 22.05, on two cores that had other work to do as well, it printed:

        6 s  three hosts are up: one, two and three, with a core each; Slurm runs their jobs
       94 s  sbatch: a sweep of 74 trials runs on one,three; the first is done
      124 s  its time is nearly up, with 10 trials done: the job is queued again
      213 s  it has gone on; 20 done: one 12, three 8
      243 s  scancel: the job is CANCELLED, and no process of Ray is left
      307 s  sbatch goes on from there, on one,three; 30 done
      307 s  three loses its power, with 30 trials done
      608 s  Slurm has run it again on one,two: it is COMPLETED; one 43, three 12, two 19
     1043 s  the same sweep has run on one machine, undisturbed
     1043 s  yes  all 74 trials are done, with one row each
     1043 s  yes  all hosts have finished trials
     1043 s  yes  a job that was cancelled stays so, and one that ends has completed
     1043 s  yes  rows, learning curves and checkpoints equal those of the undisturbed sweep
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from hosts import CHECKOUT, DESK, LAB, SHARED, SSH, Host, fail, live, ray_processes, run, say, start, wait
from stores import by_host, differences, host_of_trials, rows_twice

from raytransfer.store import Store

_ADDRESSES = {"one": "10.77.0.11", "two": "10.77.0.12", "three": "10.77.0.13"}
_SWEEP = ("halves=[random]", "splits=1", "seeds=1", "recipe.steps=1000")
_TRIALS = 74
_DISTURBED, _UNDISTURBED = SHARED / "disturbed", SHARED / "undisturbed"
_CONFIG = f"""
ClusterName=hosts
SlurmctldHost=desk({DESK})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
StateSaveLocation={LAB}/slurm
SlurmctldPidFile={LAB}/slurmctld.pid
SlurmctldLogFile={LAB}/slurmctld.log
SlurmdSpoolDir=/tmp/slurmd
SlurmdPidFile=/tmp/slurmd.pid
SlurmdLogFile={LAB}/slurmd-%n.log
SlurmdTimeout=20
ReturnToService=2
{"".join(f"NodeName={name} NodeAddr={at} CPUs=1 RealMemory=4000{chr(10)}" for name, at in _ADDRESSES.items())}
PartitionName=all Nodes=ALL Default=YES
"""


def _story() -> bool:
    hosts = _start_slurm()
    say("three hosts are up: one, two and three, with a core each; Slurm runs their jobs")
    run("token", ["ray", "get-auth-token", "--generate"], 60)

    job = _submit()
    _wait_for_trials(1, job)
    say(f"sbatch: a sweep of {_TRIALS} trials runs on {_nodes(job)}; the first is done")
    _wait_for_trials(10, job)
    run("signal", ["scancel", "--batch", "--signal=USR1", job], 30)
    wait("the job to be queued again", lambda: _restarts(job) == 1, 60, "queue")
    say(f"its time is nearly up, with {_all_done()} trials done: the job is queued again")
    _go_on(job)
    _wait_for_trials(20, job)
    say(f"it has gone on; {_all_done()} done: {by_host(_DISTURBED)}")

    run("cancel", ["scancel", job], 30)
    wait("Ray to end on all hosts", lambda: not ray_processes(), 120, "cancel")
    cancelled = _state(job)
    say(f"scancel: the job is {cancelled}, and no process of Ray is left")
    job = _submit()
    _wait_for_trials(30, job)
    say(f"sbatch goes on from there, on {_nodes(job)}; {_all_done()} done")

    lost = _nodes(job).rpartition(",")[2]
    hosts[lost].cut_power()
    say(f"{lost} loses its power, with {_all_done()} trials done")
    wait("the job to be queued again", lambda: _restarts(job) == 1, 180, "queue")
    _go_on(job)
    wait("the job to end", lambda: _state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 900, "queue")
    ended = _state(job)
    say(f"Slurm has run it again on {_nodes(job)}: it is {ended}; {by_host(_DISTURBED)}")

    alone = {**os.environ, "RAY_ADDRESS": "local"}
    run("alone", [sys.executable, "sweeps/yosinski_grid.py", *_SWEEP, f"out={_UNDISTURBED}"], 1800, alone)
    say("the same sweep has run on one machine, undisturbed")
    store, reference = Store(str(_DISTURBED)), Store(str(_UNDISTURBED))
    found = differences(reference, store)
    checks = {
        f"all {_TRIALS} trials are done, with one row each": len(host_of_trials(_DISTURBED)) == _TRIALS
        and not rows_twice(store),
        "all hosts have finished trials": set(host_of_trials(_DISTURBED).values()) == set(_ADDRESSES),
        "a job that was cancelled stays so, and one that ends has completed": (cancelled, ended)
        == ("CANCELLED", "COMPLETED"),
        "rows, learning curves and checkpoints equal those of the undisturbed sweep": not found,
    }
    for claim, holds in checks.items():
        say(f"{'yes' if holds else 'NO '}  {claim}")
    return all(checks.values())


def _start_slurm() -> dict[str, Host]:
    """Start the hosts, and Slurm: its controller at the desk and a daemon on each host."""
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        sys.exit("Slurm is not installed: Debian's packages are slurm-wlm and munge")
    config, key = LAB / "slurm.conf", LAB / "munge.key"
    config.write_text(_CONFIG)
    config.with_name("cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=yes\n")
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    for folder in (Path("/run/munge"), SHARED / "home", LAB / "slurm"):
        folder.mkdir(mode=0o755)
    # Clusters with Slurm share homes, too. Imports are compiled once for all hosts.
    os.environ.update(SLURM_CONF=str(config), HOME=str(SHARED / "home"), PYTHONPYCACHEPREFIX=str(SHARED / "pycache"))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    files = [f"--{name}-file={LAB}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    run("munged", ["munged", "--force", "--socket=/run/munge/munge.socket.2", *files], 30)
    run("slurmctld", ["slurmctld"], 30)
    hosts = {name: start(name, address) for name, address in _ADDRESSES.items()}
    for name, address in _ADDRESSES.items():
        run(
            f"slurmd-{name}",
            [*SSH, f"root@{address}", f"mount -t tmpfs cgroup /sys/fs/cgroup && SLURM_CONF={config} slurmd"],
            30,
        )
    wait("Slurm to see its hosts", lambda: _told("sinfo", "--noheader", "--format=%D %t") == "3 idle", 60, "slurmctld")
    return hosts


def _submit() -> str:
    """Submit the shipped job, but for the changes that the module's docstring names; gives its number."""
    text = (CHECKOUT / "sweeps/clusters/slurm.sh").read_text()
    for line in ("#SBATCH --gpus-per-node=4", ". .venv/bin/activate"):
        assert text.count(f"\n{line}\n") == 1
        text = text.replace(f"\n{line}\n", "\n")
    (LAB / "job.sh").write_text(text)
    place = [f"--chdir={CHECKOUT}", f"--output={LAB}/queue.log"]
    return _told("sbatch", "--parsable", *place, str(LAB / "job.sh"), "yosinski", *_SWEEP, f"out={_DISTURBED}")


def _go_on(job: str) -> None:
    """Let a job that is queued again start at once: Slurm makes it wait for two minutes."""
    wait("the job to be pending", lambda: _state(job) == "PENDING", 60, "queue")
    run("go-on", ["scontrol", "update", f"JobId={job}", "StartTime=now"], 30)


def _wait_for_trials(count: int, job: str) -> None:
    def enough() -> bool:
        if _state(job) not in ("PENDING", "RUNNING", "COMPLETING"):
            fail(f"the job is {_state(job)}", "queue")
        return _all_done() >= count

    wait(f"{count} trials", enough, 600, "queue")


def _all_done() -> int:
    """Finished trials, whether their rows have been merged or not."""
    return len(host_of_trials(_DISTURBED)) if (_DISTURBED / "store.json").exists() else 0


def _state(job: str) -> str:
    return _about(job, "JobState")


def _restarts(job: str) -> int:
    return int(_about(job, "Restarts"))


def _nodes(job: str) -> str:
    return ",".join(_told("scontrol", "show", "hostnames", _about(job, "NodeList")).split())


def _about(job: str, what: str) -> str:
    found = re.search(rf"\b{what}=(\S*)", _told("scontrol", "show", "job", job))
    return found.group(1) if found else ""


def _told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


if __name__ == "__main__":
    live(__file__, _story)
