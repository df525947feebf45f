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
import sys
from pathlib import Path

import yaml
from hosts import CHECKOUT, LAB, SHARED, SSH, begin, fail, live, printed, ray_processes, run, say, start, wait
from stores import by_host, differences, done, host_of_trials, rows_twice

from raytransfer.store import Store

_HEAD, _ONE, _TWO, _THREE = (f"10.77.0.{last}" for last in (10, 11, 12, 13))
_SWEEP = ("halves=[random]", "splits=1", "seeds=1", "recipe.steps=1000")
_TRIALS = 74
_DONE_AT_CUT = 20  # trials, when host two loses its power
_CLUSTER = LAB / "cluster.yaml"


def _story() -> bool:
    os.environ.update(RAY_UP_enable_autoscaler_v2="0")
    for name, address in (("head", _HEAD), ("one", _ONE)):
        start(name, address)
    two = start("two", _TWO)
    say("three hosts are up: head, one and two")
    _write_cluster_file()
    run("token", ["ray", "get-auth-token", "--generate"], 60)
    run("up", ["ray", "up", "-y", str(_CLUSTER)], 180)
    say("ray up has started the head")
    wait("one and two to join", lambda: "/2.0 CPU" in _status(), 180, "status")
    say("one and two have joined, with a core each; the head trains nothing")
    if not _refused():
        fail("Ray answers without the token", "stranger")
    say("without the token Ray answers nobody")

    disturbed, undisturbed = SHARED / "disturbed", SHARED / "undisturbed"
    sweep = begin("sweep", ["ray", "submit", str(_CLUSTER), "sweeps/yosinski_grid.py", *_SWEEP, f"out={disturbed}"])
    wait("the first trial", lambda: done(disturbed) > 0, 120, "sweep", sweep)
    say(f"ray submit runs a sweep of {_TRIALS} trials; the first is done")
    wait(f"{_DONE_AT_CUT} trials", lambda: done(disturbed) >= _DONE_AT_CUT, 600, "sweep", sweep)
    two.cut_power()
    say(f"two loses its power, with {done(disturbed)} trials done: {by_host(disturbed)}")
    wait("a trial to be handed out again", lambda: bool(_again()), 180, "sweep", sweep)
    say(f"the sweep notices: again {', '.join(_again())}")

    start("three", _THREE)
    _join(_THREE)
    say(f"three is up and has joined by ray start; {done(disturbed)} trials done")
    wait("three to finish a trial", lambda: "three" in host_of_trials(disturbed).values(), 180, "sweep", sweep)
    say(f"three has finished its first trial; {done(disturbed)} done")
    wait("the sweep to end", lambda: sweep.poll() is not None, 900, "sweep")
    say(f"the sweep ends with exit code {sweep.returncode}: {by_host(disturbed)}")

    run("down", ["ray", "down", "-y", str(_CLUSTER)], 120)
    say("ray down")
    wait("Ray to end on all hosts", lambda: not ray_processes(), 180, "down")
    say("no process of Ray is left on any host")

    alone = {**os.environ, "RAY_ADDRESS": "local"}
    run("alone", [sys.executable, "sweeps/yosinski_grid.py", *_SWEEP, f"out={undisturbed}"], 1800, alone)
    say("the same sweep has run on one machine, undisturbed")
    return _check(sweep.returncode, disturbed, undisturbed)


def _check(code: int, disturbed: Path, undisturbed: Path) -> bool:
    hosts, again, store, reference = host_of_trials(disturbed), _again(), Store(str(disturbed)), Store(str(undisturbed))
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
        say(f"{'yes' if holds else 'NO '}  {claim}")
    return all(checks.values())


def _write_cluster_file() -> None:
    """The shipped cluster file, but for the changes that the module's docstring names."""
    config = yaml.safe_load((CHECKOUT / "sweeps/clusters/on_premise.yaml").read_text())
    start_head = config["head_start_ray_commands"]
    start_head[-1] = start_head[-1].replace(config["provider"]["head_ip"], _HEAD)
    config["provider"].update(head_ip=_HEAD, worker_ips=[_ONE, _TWO])
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(LAB / "key")}
    assert "pip install" in config["setup_commands"].pop(0)
    config["worker_start_ray_commands"][-1] += " --num-cpus=1"
    _CLUSTER.write_text(yaml.safe_dump(config))


def _join(address: str) -> None:
    """Let a host join the cluster under way: what the head does to a worker of its list, done from here."""
    config = yaml.safe_load(_CLUSTER.read_text())
    run("join-folders", [*SSH, f"root@{address}", "mkdir -p ~/.ray"], 60)
    for there, here in config["file_mounts"].items():
        source = Path(here).expanduser()
        excluded = [f"--exclude={pattern}" for pattern in config["rsync_exclude"]]
        folder = "/" if source.is_dir() else ""
        target = f"root@{address}:{there}{folder}"
        run("join-rsync", ["rsync", "-a", "-e", " ".join(SSH), *excluded, f"{source}{folder}", target], 60)
    for number, command in enumerate(config["setup_commands"] + config["worker_start_ray_commands"]):
        run(f"join-{number}", [*SSH, f"root@{address}", f"export RAY_HEAD_IP={_HEAD}; {command}"], 120)


def _refused() -> bool:
    """Whether Ray turns away whoever comes without the token."""
    stranger = begin(
        "stranger", ["ray", "status", f"--address={_HEAD}:6379"], {**os.environ, "RAY_AUTH_MODE": "disabled"}
    )
    return stranger.wait(60) != 0 and "AuthenticationError" in printed("stranger")


def _status() -> str:
    run("status", ["ray", "exec", str(_CLUSTER), "ray status"], 60)
    return printed("status")


def _again() -> list[str]:
    """Trials that the sweep says it handed out again."""
    return re.findall(r"again +(\w+): its process died", printed("sweep"))


if __name__ == "__main__":
    live(__file__, _story)
