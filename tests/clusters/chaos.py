"""A sweep whose processes are killed at random moments, against the same sweep undisturbed: equal to the bit.

    python tests/clusters/chaos.py [--kills 60] [--seed 0] [sweep's options]

On a Ray cluster of a head that trains nothing and two machines of one core each, simulated on this one, the digits
sweep runs while a plan drawn from the seed kills with SIGKILL: a worker in its trial; the driver (which is started
again); a raylet; a machine; and a machine that was given notice before, as clouds do with spot machines. A machine that
went is replaced by a new one. At the end the store must hold what the undisturbed one holds, byte for byte.

On two cores, 15 minutes: 60 kills in 372 s (25 workers, 11 drivers, 6 raylets, 10 machines, and 8 after 4 s of notice)
over 252 trials, 41 of which a living driver handed out again; 104,209 steps were taken where 103,200 were needed,
1.0% twice; the two stores were the same to the bit.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import with_defaults

# Trials that save their state often, so that kills find them with some.
OPTIONS = ["seeds=1", "splits=3", "recipe.steps=400", "recipe.evaluations=4", "save_every_s=0.5"]
KINDS = ("worker", "driver", "raylet", "machine", "notice")
WEIGHTS = (5, 2, 1, 1, 1)
MACHINES = 2
SWEEP = Path(__file__).with_name("undrawn.py")
IN_A_TRIAL = re.compile(r"ray::\w+\.train")  # what Ray calls a process while it is in a method of Tune's
NOTICE_S = 8.0
LIMIT_S = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="kills at least (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the plan (default 0)")
    parser.add_argument("--every", type=float, default=6.0, help="mean seconds between kills (default 6)")
    arguments, options = parser.parse_known_args()
    plan = draw(arguments.seed, arguments.kills, arguments.every)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        sys.exit(run(Path(folder), with_defaults(OPTIONS, options), plan, say=lambda line: print(line, flush=True)))


def draw(seed: int, kills: int, every_s: float) -> list[tuple[str, float]]:
    """A plan: what is killed, each kind at least once if there are enough, and how long after the one before."""
    draws = random.Random(seed)
    kinds = [*KINDS, *draws.choices(KINDS, WEIGHTS, k=max(0, kills - len(KINDS)))][:kills]
    draws.shuffle(kinds)
    return [(kind, draws.expovariate(1 / every_s)) for kind in kinds]


def run(folder: Path, options: list[str], plan: list[tuple[str, float]], say: Callable[[str], None]) -> int:
    """Run both sweeps and compare; gives the exit code."""
    from stores import differences, rows_twice

    from raytransfer.store import Store, read_table

    calm, torn = (Store(str(folder / name)) for name in ("calm", "torn"))
    say(f"Undisturbed: {' '.join(options)}")
    started = time.monotonic()
    command = [sys.executable, str(SWEEP), *options, f"cache_dir={folder / 'cache'}"]
    in_process = [*command, "backend=in-process", f"out={calm.root}"]  # to the same bits as on Ray
    subprocess.run(in_process, env=_environment(folder), capture_output=True, text=True, check=True)
    needed = int(read_table(calm, "trials")["steps"].sum())
    say(f"{len(read_table(calm, 'trials'))} trials, {needed} steps, {time.monotonic() - started:.0f} s")
    chaos = Chaos(folder, [*command, f"out={torn.root}"], say)
    try:
        chaos.carry_out(plan)
    finally:
        chaos.end()
    taken = (folder / "steps").stat().st_size
    say(
        f"Killed: {', '.join(f'{count} x {kind}' for kind, count in chaos.kills.items())}; "
        f"{chaos.again} trials handed out again by a living driver"
    )
    say(f"{taken} steps taken for {needed}: {100 * (taken / needed - 1):.1f}% done twice, from the last saved state on")
    found = [*differences(calm, torn), *rows_twice(torn), *(f"states/{name} is left" for name in torn.names("states"))]
    for line in found:
        say(line)
    unkilled = len(plan) - chaos.kills.total()
    if unkilled:
        say(f"the sweep ended {unkilled} kills too soon: give it more trials")
    say("The two stores are the same to the bit." if not found else f"{len(found)} differences")
    return 1 if found or unkilled else 0


class Chaos:
    """A cluster, a driver, and what is done to them."""

    def __init__(self, folder: Path, command: list[str], say: Callable[[str], None]) -> None:
        self._command, self._say, self._folder = command, say, folder
        self._log = (folder / "output").open("w")
        os.environ |= _environment(folder)  # which the cluster's processes inherit
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(MACHINES):
            self._cluster.add_node(num_cpus=1)
        self._driver = self._start_driver()
        self.kills: Counter[str] = Counter()
        self._started = time.monotonic()

    @property
    def again(self) -> int:
        """How often a driver handed a trial out again."""
        return (self._folder / "output").read_text().count("again    ")

    def carry_out(self, plan: list[tuple[str, float]]) -> None:
        """Kill as planned, each time when a trial runs, and wait for the sweep's end."""
        for kind, wait_s in plan:
            time.sleep(wait_s)
            done = None
            while done is None and self._wait_for_trial():
                done = self._kill(kind)
            if done is None:
                break
            self._say(f"{time.monotonic() - self._started:6.0f} s  {kind:8} {done}")
            self.kills[kind] += 1
        code = self._driver.wait(LIMIT_S)
        if code:
            raise SystemExit(f"the sweep ended with exit code {code}:\n{(self._folder / 'output').read_text()[-3000:]}")
        self._say(f"{time.monotonic() - self._started:6.0f} s  the sweep has ended")

    def end(self) -> None:
        """Take everything down."""
        self._driver.kill()
        self._driver.wait()
        self._cluster.shutdown()
        self._log.close()

    def _start_driver(self) -> subprocess.Popen[bytes]:
        hook = {"runtime_env": {"worker_process_setup_hook": "step_count.install"}}
        return subprocess.Popen(
            self._command,
            env={**os.environ, "RAY_ADDRESS": self._cluster.address, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(hook)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def _wait_for_trial(self) -> bool:
        """Whether a trial runs; none does any more when the sweep has ended."""
        deadline = time.monotonic() + 300
        while not self._trials():
            if self._driver.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise SystemExit(f"no trial runs:\n{(self._folder / 'output').read_text()[-3000:]}")
            time.sleep(0.2)
        return True

    def _trials(self) -> list[int]:
        """The processes on the cluster's machines that are in a trial at this moment."""
        raylets = {_raylet(node).pid for node in self._cluster.worker_nodes}
        listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listing.splitlines()]
        return [int(pid) for pid, parent, args in rows if int(parent) in raylets and IN_A_TRIAL.match(args)]

    def _kill(self, kind: str) -> str | None:
        """Kill something of a kind; None if there is no longer any."""
        if kind == "worker":
            return self._kill_worker()
        return self._kill_driver() if kind == "driver" else self._kill_machine(kind)

    def _kill_worker(self) -> str | None:
        trials = self._trials()
        if not trials:
            return None
        os.kill(trials[0], signal.SIGKILL)
        return "in its trial"

    def _kill_driver(self) -> str:
        self._driver.kill()
        self._driver.wait()
        self._driver = self._start_driver()
        return "started again"

    def _kill_machine(self, kind: str) -> str:
        node = sorted(self._cluster.worker_nodes, key=lambda node: node.node_id)[0]
        if kind == "notice":
            self._give_notice(node)
            time.sleep(NOTICE_S)
        if kind == "raylet":
            _raylet(node).kill()
            time.sleep(1)  # what it leaves behind sees that it is gone
        self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.add_node(num_cpus=1)
        return "replaced by a new machine"

    def _give_notice(self, node: Any) -> None:
        from ray._raylet import GcsClient
        from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION as PREEMPTION

        deadline_ms = int(1000 * (time.time() + NOTICE_S))
        accepted, why = GcsClient(address=self._cluster.address).drain_node(
            node.node_id, PREEMPTION, "spot", deadline_ms
        )
        if not accepted:
            raise SystemExit(f"the notice was refused: {why}")


def _raylet(node: Any) -> subprocess.Popen[bytes]:
    return node.all_processes["raylet"][0].process


def _environment(folder: Path) -> dict[str, str]:
    """Ray's own place, so that it joins no other Ray, and the counting of steps."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    paths = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {
        **alone,
        "RAY_TMPDIR": str(folder),
        "STEP_COUNT": str(folder / "steps"),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


if __name__ == "__main__":
    main()
