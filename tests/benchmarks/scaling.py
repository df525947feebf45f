"""How a sweep scales: digits on one slot and on every core, and 64 simulated slots whose trials sleep.

    python tests/benchmarks/scaling.py [--repeats 3]

On two cores, in ten minutes: 1.89 times the trials a second on two slots (1.17 to 1.93 of 3 runs; two plain loops at
once do 1.87 times the steps of one, 0.64 to 2.01); 64 slots, in workers without torch, were asleep 99.1% of the time
from when all workers were up, which took 63 s, until the last trial was handed out, in both of two runs; the driver
then used a fifth of a core. Before trials were made for Tune by hand, and imports frozen before the first trial, it
was 86 to 91% in three runs: 64 workers looked through all their imports for garbage at once, after their first trial.

That was an AMD EPYC; on an Intel Xeon, on another day: 2.16 (1.92 to 2.49; plain loops 1.82, 1.78 to 1.98), and 98.5%
in one run, after 90 s.
"""

import argparse
import os
import random
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from spread import Finishes, in_own_process, show, start_ray, sweep_of

CORES = os.cpu_count() or 1
LOOP_S = 5.0
NODES, SLOTS_PER_NODE, SLEEPS, SLEEP_S = 4, 16, 1280, 1.0
SLOTS = NODES * SLOTS_PER_NODE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of all but the 64 slots (default 3)")
    repeats = range(parser.parse_args().repeats)

    # One after the other, so that a machine that slows down for a while slows down all four.
    rounds = [in_own_process(transfers_per_second) + in_own_process(steps_per_second) for _ in repeats]
    one, all_cores, alone, together = (list(values) for values in zip(*rounds, strict=True))
    print(f"Transfers on digits, through Ray Tune on 1 slot and on {CORES}, without the start of the workers")
    show("1 slot", one, "trials/s", digits=2)
    show(f"{CORES} slots", all_cores, "trials/s", digits=2)
    show("ratio", _ratios(all_cores, one), "", digits=2)
    print(f"What the machine gives: the same network trained by a plain loop, in 1 process and in {CORES} at once")
    show("1 process", alone, "steps/s", digits=0)
    show(f"{CORES} processes together", together, "steps/s", digits=0)
    show("ratio", _ratios(together, alone), "", digits=2)

    print(
        f"{SLEEPS} trials that sleep {SLEEP_S:g} s, on {SLOTS} slots of {NODES} nodes simulated on {CORES} cores, once"
    )
    shares = in_own_process(sleeps_on_many_slots)
    show("until all workers are up", [shares["start_s"]], "s")
    show("asleep, from then until the last trial is handed out", [shares["full"]], "%", ">= 95 %")
    show("asleep, from then until the last trial has finished", [shares["to_end"]], "%")
    show("asleep, all in all", [shares["whole"]], "%")
    show("driver's CPU, share of a core, all workers up", [shares["driver"]], "%")


def _ratios(many: Sequence[float], one: Sequence[float]) -> list[float]:
    return [above / below for above, below in zip(many, one, strict=True)]


def transfers_per_second() -> tuple[float, float]:
    """Run frozen and fine-tuned transfers on digits, 24 a core, on one slot, then on as many as there are cores."""
    from raytransfer.config import load_config
    from raytransfer.experiments import EXPERIMENTS
    from raytransfer.experiments.yosinski.config import GridConfig
    from raytransfer.experiments.yosinski.plan import make_plan
    from raytransfer.specs import TransferSpec
    from raytransfer.store import Store
    from raytransfer.sweep.ray import Slots, run_on_ray
    from raytransfer.sweep.run import Run
    from raytransfer.trials import Site, run

    grid = ["halves=[random]", "splits=1", "n_layers=[1,2,3,4,5,6]", "treatments=[BnB,BnB+,AnB,AnB+]"]
    plan = make_plan(load_config(GridConfig, EXPERIMENTS["yosinski"].defaults, [*grid, f"seeds={max(1, CORES // 2)}"]))
    transfers = {trial: spec for trial, spec in plan.trials.items() if isinstance(spec, TransferSpec)}
    start_ray()

    def trials_per_second(slots: int) -> float:
        finishes = Finishes()
        run_on_ray(Run(transfers, site, finishes), Slots(slots, 1.0))
        # From when every slot has begun: the head start of some by then is about what they idle at the end.
        return (len(transfers) - slots) / (finishes.wall_s[-1] - finishes.wall_s[slots - 1])

    with TemporaryDirectory() as root:
        Store(root).create()
        site = Site(sources=plan.sources, root=root, device="cpu", memory_bytes=10**9)
        for trial, spec in plan.trials.items():
            if trial not in transfers:
                run(spec, site)
        return trials_per_second(1), trials_per_second(CORES)


def steps_per_second() -> tuple[float, float]:
    """Training steps a second of a plain loop in one process, and of as many processes as there are cores together."""

    def together(processes: int) -> float:
        context = get_context("spawn")
        barrier = context.Barrier(processes)
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_warm_up, initargs=(barrier,)) as pool:
            return sum(pool.map(_loop, [LOOP_S] * processes))

    return together(1), together(CORES)


def _warm_up(barrier: Any) -> None:
    _loop(1.0)
    barrier.wait()


def _loop(seconds: float) -> float:
    """Train the sweep's network on random images of the digits' size, in plain PyTorch; gives steps a second."""
    import torch
    from torch.nn.functional import cross_entropy

    from raytransfer.networks import build
    from raytransfer.specs import NetworkSpec

    torch.set_num_threads(1)
    network = build(NetworkSpec(name="convnet8"), image=(1, 8, 8), classes=5, seed=0).module
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images = torch.rand(16, 1, 8, 8).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(5, (16,))
    steps, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        steps += 1
    return steps / (time.perf_counter() - started)


def sleeps_on_many_slots() -> dict[str, float]:
    """Run trials that sleep on 64 slots, of which this machine need not have the cores.

    Each worker writes down when it slept. Its first trial lasts until all workers are up and, so that they do not
    all come back at once, up to one sleep longer.

    Returns:
        ``start_s`` until all were up; ``full``, ``to_end`` and ``whole``, the percentage of slots x time spent
        asleep; ``driver``, the driver's CPU time meanwhile in percent of one core.
    """
    # Where Ray leaves the address of a simulated cluster, which every Ray started on this machine would then join.
    os.environ["RAY_TMPDIR"] = ray_dir = mkdtemp()
    import ray
    from ray.cluster_utils import Cluster

    from raytransfer.sweep.ray import Slots, run_on_ray

    def sleep(root: str) -> None:
        folder = Path(root) / "sleeps"
        folder.mkdir(exist_ok=True)
        log = folder / str(os.getpid())
        if not log.exists():
            log.touch()
            while len(list(folder.iterdir())) < SLOTS:
                time.sleep(0.1)
            time.sleep(SLEEP_S * random.random())
        started = time.monotonic()
        time.sleep(SLEEP_S)
        with log.open("a") as lines:
            lines.write(f"{started} {time.monotonic()}\n")

    cluster = Cluster()
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=SLOTS_PER_NODE, object_store_memory=10**8, include_dashboard=False)
        start_ray(sleep, with_torch=False, address=cluster.address)
        with sweep_of(SLEEPS) as (run, finishes):
            called = time.monotonic()
            run_on_ray(run, Slots(SLOTS, 1.0))
            logs = [path.read_text().splitlines() for path in (Path(run.site.root) / "sleeps").iterdir()]
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]
        shutil.rmtree(ray_dir, ignore_errors=True)

    workers = [[tuple(map(float, line.split())) for line in log] for log in logs]
    sleeps = [sleep for worker in workers for sleep in worker]
    all_up = max(worker[0][0] for worker in workers)
    last_start, end = max(start for start, _ in sleeps), max(stop for _, stop in sleeps)

    def asleep(since: float, until: float) -> float:
        slept = sum(max(0.0, min(stop, until) - max(start, since)) for start, stop in sleeps)
        return 100 * slept / (SLOTS * (until - since))

    inside = [i for i, moment in enumerate(finishes.wall_s) if all_up <= moment <= last_start]
    first, last = inside[0], inside[-1]
    cpu_s, wall_s = (values[last] - values[first] for values in (finishes.cpu_s, finishes.wall_s))
    return {
        "start_s": all_up - called,
        "full": asleep(all_up, last_start),
        "to_end": asleep(all_up, end),
        "whole": asleep(called, end),
        "driver": 100 * cpu_s / wall_s,
    }


if __name__ == "__main__":
    main()
