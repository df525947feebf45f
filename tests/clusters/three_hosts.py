"""A sweep on a real Ray cluster of three hosts, of which one loses its power and another takes its place.

    python tests/clusters/three_hosts.py           as root, on Linux; 10 minutes on two busy cores
    python tests/clusters/three_hosts.py --keep    leaves logs, homes and both stores in a temporary folder

The hosts are namespaces of this machine (hosts.py). The cluster is the one of sweeps/clusters/on_premise.yaml, brought
up by ``ray up`` and used by ``ray submit``, with these changes: addresses, user and key are those of the hosts; the
command that installs the package is left out, for the environment that runs this script is there already; and a worker
has one core. Then the same sweep runs undisturbed on one machine, and both stores are compared to the bit.

Exits with 0 only if all checks hold. On two cores that had other work to do as well it printed:

        0 s  three hosts are up: head, one and two
       11 s  ray up has started the head
       28 s  one and two have joined, with a core each; the head trains nothing
       28 s  without the token Ray answers nobody
       57 s  ray submit runs a sweep of 74 trials; the first is done
      142 s  two loses its power, with 20 trials done: one 10, two 10
      204 s  the sweep notices: again a5c006fb4010f23f
      216 s  three is up and has joined by ray start; 39 trials done
      237 s  three has finished its first trial; 43 done
      282 s  the sweep ends with exit code 0: one 48, three 16, two 10
      295 s  ray down
      406 s  no process of Ray is left on any host
      597 s  the same sweep has run on one machine, undisturbed
      597 s  yes  all 74 trials are done, with one row each
      597 s  yes  one, two and three have all finished trials
      597 s  yes  what was handed out again (1) was finished by others
      597 s  yes  rows equal those of the undisturbed sweep
      597 s  yes  learning curves equal
      597 s  yes  4 checkpoint files equal
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml
from hosts import CHECKOUT, SHARED, at_the_desk, furnish, start
from stores import differences, rows_twice

from raytransfer.store import Store, read_table

_HEAD, _ONE, _TWO, _THREE = (f"10.77.0.{last}" for last in (10, 11, 12, 13))
_SWEEP = ("halves=[random]", "splits=1", "seeds=1", "recipe.steps=1000")
_TRIALS = 74
_DONE_AT_CUT = 20  # trials, when host two loses its power
_LAB = Path("/run/lab")
_CLUSTER = _LAB / "cluster.yaml"
_STARTED = time.monotonic()


def main() -> None:
    """At the desk, live the story; outside, make the desk and clear up after it."""
    if sys.argv[1:2] == ["--at-the-desk"]:
        furnish(Path(sys.argv[2]))
        try:
            sys.exit(0 if _story() else 1)
        except KeyboardInterrupt:
            _say("interrupted")
            sys.exit(130)
    if os.geteuid() or sys.argv[1:] not in ([], ["--keep"]):
        sys.exit("usage, as root: python tests/clusters/three_hosts.py [--keep]")
    folder = Path(tempfile.mkdtemp(prefix="three-hosts-"))
    try:
        code = at_the_desk(folder, __file__)
    finally:
        if "--keep" in sys.argv:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    sys.exit(code)


def _story() -> bool:
    os.environ.update(RAY_UP_enable_autoscaler_v2="0")
    for name, address in (("head", _HEAD), ("one", _ONE)):
        start(name, address)
    two = start("two", _TWO)
    _say("three hosts are up: head, one and two")
    _write_cluster_file()
    _run("token", ["ray", "get-auth-token", "--generate"], 60)
    _run("up", ["ray", "up", "-y", str(_CLUSTER)], 180)
    _say("ray up has started the head")
    _wait("one and two to join", lambda: "/2.0 CPU" in _status(), 180, "status")
    _say("one and two have joined, with a core each; the head trains nothing")
    if not _refused():
        _fail("Ray answers without the token", "stranger")
    _say("without the token Ray answers nobody")

    disturbed, undisturbed = SHARED / "disturbed", SHARED / "undisturbed"
    sweep = _start("sweep", ["ray", "submit", str(_CLUSTER), "sweeps/yosinski_grid.py", *_SWEEP, f"out={disturbed}"])
    _wait("the first trial", lambda: _done(disturbed) > 0, 120, "sweep", sweep)
    _say(f"ray submit runs a sweep of {_TRIALS} trials; the first is done")
    _wait(f"{_DONE_AT_CUT} trials", lambda: _done(disturbed) >= _DONE_AT_CUT, 600, "sweep", sweep)
    two.cut_power()
    _say(f"two loses its power, with {_done(disturbed)} trials done: {_by_host(disturbed)}")
    _wait("a trial to be handed out again", lambda: bool(_again()), 180, "sweep", sweep)
    _say(f"the sweep notices: again {', '.join(_again())}")

    start("three", _THREE)
    _join(_THREE)
    _say(f"three is up and has joined by ray start; {_done(disturbed)} trials done")
    _wait("three to finish a trial", lambda: "three" in _hosts(disturbed).values(), 180, "sweep", sweep)
    _say(f"three has finished its first trial; {_done(disturbed)} done")
    _wait("the sweep to end", lambda: sweep.poll() is not None, 900, "sweep")
    _say(f"the sweep ends with exit code {sweep.returncode}: {_by_host(disturbed)}")

    _run("down", ["ray", "down", "-y", str(_CLUSTER)], 120)
    _say("ray down")
    _wait("Ray to end on all hosts", lambda: not _raylets(), 180, "down")
    _say("no process of Ray is left on any host")

    alone = {**os.environ, "RAY_ADDRESS": "local"}
    _run("alone", [sys.executable, "sweeps/yosinski_grid.py", *_SWEEP, f"out={undisturbed}"], 1800, alone)
    _say("the same sweep has run on one machine, undisturbed")
    return _check(sweep.returncode, disturbed, undisturbed)


def _check(code: int, disturbed: Path, undisturbed: Path) -> bool:
    hosts, again, store, reference = _hosts(disturbed), _again(), Store(str(disturbed)), Store(str(undisturbed))
    checkpoints = [name for trial in reference.names("checkpoints") for name in reference.names(f"checkpoints/{trial}")]
    found = differences(reference, store)

    def same(what: str) -> bool:
        return not any(line.startswith(what) for line in found)

    checks = {
        f"all {_TRIALS} trials are done, with one row each": code == 0
        and len(hosts) == _TRIALS
        and not rows_twice(store),
        "one, two and three have all finished trials": set(hosts.values()) == {"one", "two", "three"},
        f"what was handed out again ({len(again)}) was finished by others": bool(again)
        and all(hosts[trial] != "two" for trial in again),
        "rows equal those of the undisturbed sweep": same("row"),
        "learning curves equal": same("curve"),
        f"{len(checkpoints)} checkpoint files equal": bool(checkpoints) and same("checkpoints"),
    }
    for claim, holds in checks.items():
        _say(f"{'yes' if holds else 'NO '}  {claim}")
    return all(checks.values())


def _write_cluster_file() -> None:
    """The shipped cluster file, but for the changes that the module's docstring names."""
    config = yaml.safe_load((CHECKOUT / "sweeps/clusters/on_premise.yaml").read_text())
    start_head = config["head_start_ray_commands"]
    start_head[-1] = start_head[-1].replace(config["provider"]["head_ip"], _HEAD)
    config["provider"].update(head_ip=_HEAD, worker_ips=[_ONE, _TWO])
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(_LAB / "key")}
    assert "pip install" in config["setup_commands"].pop(0)
    config["worker_start_ray_commands"][-1] += " --num-cpus=1"
    _CLUSTER.write_text(yaml.safe_dump(config))


def _join(address: str) -> None:
    """Let a host join the cluster under way: what the head does to a worker of its list, done from here."""
    config = yaml.safe_load(_CLUSTER.read_text())
    ssh = ["ssh", "-i", str(_LAB / "key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    _run("join-folders", [*ssh, f"root@{address}", "mkdir -p ~/.ray"], 60)
    for there, here in config["file_mounts"].items():
        source = Path(here).expanduser()
        excluded = [f"--exclude={pattern}" for pattern in config["rsync_exclude"]]
        folder = "/" if source.is_dir() else ""
        target = f"root@{address}:{there}{folder}"
        _run("join-rsync", ["rsync", "-a", "-e", " ".join(ssh), *excluded, f"{source}{folder}", target], 60)
    for number, command in enumerate(config["setup_commands"] + config["worker_start_ray_commands"]):
        _run(f"join-{number}", [*ssh, f"root@{address}", f"export RAY_HEAD_IP={_HEAD}; {command}"], 120)


def _refused() -> bool:
    """Whether Ray turns away whoever comes without the token."""
    stranger = _start(
        "stranger", ["ray", "status", f"--address={_HEAD}:6379"], {**os.environ, "RAY_AUTH_MODE": "disabled"}
    )
    return stranger.wait(60) != 0 and "AuthenticationError" in _log("stranger")


def _status() -> str:
    _run("status", ["ray", "exec", str(_CLUSTER), "ray status"], 60)
    return _log("status")


def _raylets() -> list[str]:
    """Ray's processes on all hosts, of which the desk sees each."""
    names = [path.read_text() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    return [name for name in names if name.startswith(("raylet", "gcs_server", "ray::"))]


def _again() -> list[str]:
    """Trials that the sweep says it handed out again."""
    return re.findall(r"again +(\w+): its process died", _log("sweep"))


def _done(store: Path) -> int:
    return len(list((store / "trials").glob("*.parquet")))


def _hosts(store: Path) -> dict[str, str]:
    """Which host ran each finished trial."""
    rows = read_table(Store(str(store)), "trials")
    return dict(zip(rows["id"], rows["host"], strict=True))


def _by_host(store: Path) -> str:
    return ", ".join(f"{host} {count}" for host, count in sorted(Counter(_hosts(store).values()).items()))


def _start(name: str, command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a command whose output goes to the log of this name."""
    with (_LAB / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def _run(name: str, command: list[str], limit_s: float, environment: dict[str, str] | None = None) -> None:
    """Run a command to its end; stops the story if it fails or takes too long."""
    process = _start(name, command, environment)
    _wait(" ".join(command), lambda: process.poll() is not None, limit_s, name)
    if process.returncode:
        _fail(f"{' '.join(command)} ended with exit code {process.returncode}", name)


def _wait(
    what: str,
    condition: Callable[[], bool],
    limit_s: float,
    log: str,
    meanwhile: subprocess.Popen[bytes] | None = None,
) -> None:
    """Wait until a condition holds; stops the story after the limit, or if the process ends before."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if meanwhile is not None and meanwhile.poll() is not None:
            _fail(f"the sweep ended before {what}", log)
        if time.monotonic() > deadline:
            _fail(f"waited {limit_s:.0f} s in vain for {what}", log)
        time.sleep(0.5)


def _fail(what: str, log: str) -> None:
    print("\n".join(_log(log).splitlines()[-30:]))
    _say(f"NO   {what}; above the end of {log}.log")
    sys.exit(1)


def _log(name: str) -> str:
    """A log without codes for colours and cursors, and without progress bars."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", (_LAB / f"{name}.log").read_text(errors="replace"))
    return "\n".join(line for line in text.replace("\r", "\n").splitlines() if line and "━" not in line)


def _say(what: str) -> None:
    print(f"{time.monotonic() - _STARTED:5.0f} s  {what}", flush=True)


if __name__ == "__main__":
    main()
