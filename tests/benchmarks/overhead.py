"""What a sweep costs besides training: Ray Tune's time per trial, planning, finding what is done, memory.

    python tests/benchmarks/overhead.py [--repeats 3]

On two cores: 3.0 to 4.0 ms a trial through Tune on two slots (2.9 to 5.2 of 7 runs on two days), 3.9 ms in the last
thousand of 10,000, at which the driver has 0.92 GB, and 0.81 GB after 1,000; 1.1 s to plan 10,146 trials, 1.1 s to find
that all have finished, 0.72 GB. So an AMD EPYC; an Intel Xeon, on another day, took 10.3 ms (10.1 to 14.2), 2.6 s and
2.6 s, in the same memory. Those 10,146 trials were of 57 seeds, when the sweep had fewer trials a seed.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

from spread import SWEEP, in_own_process, show, start_ray, sweep_of

FEW, MANY = 1_000, 10_000
SEEDS = 31  # at which the main sweep has 10,106 trials
EVALUATIONS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of all but the run of 10,000 trials (default 3)")
    repeats = range(parser.parse_args().repeats)

    print(f"{FEW:,} trials that train nothing, through Ray Tune on {os.cpu_count()} slots", flush=True)
    runs = [in_own_process(nothing_on_ray, FEW) for _ in repeats]
    show_per_trial(runs, 0, FEW)
    show("driver's peak memory", [run["peak_mb"] for run in runs], "MB", "<= 1000 MB", 0)

    print(f"{MANY:,} trials that train nothing, likewise, once", flush=True)
    long = in_own_process(nothing_on_ray, MANY)
    print(" their first thousand", flush=True)
    show_per_trial([long], 0, FEW)
    print(" their last thousand", flush=True)
    show_per_trial([long], MANY - FEW, MANY)
    show("driver's peak memory", [long["peak_mb"]], "MB", "<= 1000 MB", 0)

    with TemporaryDirectory() as root:
        planned = [in_own_process(plan_and_look, None) for _ in repeats]
        count = planned[0]["trials"]
        print(f"A sweep of {count:,} trials", flush=True)
        show("planning", [run["seconds"] for run in planned], "s", "<= 3 s", 2)
        show("peak memory", [run["peak_mb"] for run in planned], "MB", "<= 1000 MB", 0)
        in_own_process(fabricate, root)
        show_finished(f"{count:,} finished trials, each in its own file", root, repeats)
        show("merging the files, as at a sweep's end", [in_own_process(merge, root)], "s", "", 2)
        show_finished(f"{count:,} finished trials, merged", root, repeats)


def show_per_trial(runs: Sequence[dict[str, Any]], first: int, last: int) -> None:
    """Print what trials ``first`` to ``last``, in the order in which they finished, took of time each."""

    def per_trial_ms(seconds: Sequence[float]) -> float:
        return 1e3 * (seconds[last - 1] - seconds[first]) / (last - 1 - first)

    wall_ms = [per_trial_ms(run["wall_s"]) for run in runs]
    show("per trial", wall_ms, "ms", "<= 25 ms")
    show("what a slot loses per trial", [ms * run["slots"] for ms, run in zip(wall_ms, runs, strict=True)], "ms")
    show("driver's CPU time per trial", [per_trial_ms(run["cpu_s"]) for run in runs], "ms")


def show_finished(title: str, root: str, repeats: range) -> None:
    """Print what a driver takes to see that nothing is left to do, and the whole command to make its report."""
    print(title, flush=True)
    looks = [in_own_process(plan_and_look, root) for _ in repeats]
    show("planning and finding nothing to do", [run["seconds"] for run in looks], "s", "<= 5 s", 2)
    show("peak memory", [run["peak_mb"] for run in looks], "MB", "<= 1000 MB", 0)
    commands = [command(root) for _ in repeats]
    show("the whole command, imports and report included", [run["seconds"] for run in commands], "s", "", 2)
    show("peak memory", [run["peak_mb"] for run in commands], "MB", "<= 1000 MB", 0)


def nothing_on_ray(trials: int) -> dict[str, Any]:
    """Run trials that do nothing on every core of this machine.

    Returns:
        ``wall_s`` and ``cpu_s`` of the driver at the end of each trial, ``slots``, ``peak_mb`` of the driver.
    """

    def nothing(root: str) -> None:
        pass

    from raytransfer.sweep.ray import Slots, run_on_ray

    start_ray(nothing)
    slots = os.cpu_count() or 1
    with sweep_of(trials) as (run, finishes):
        run_on_ray(run, Slots(slots, 1.0))
    return {"wall_s": finishes.wall_s, "cpu_s": finishes.cpu_s, "slots": slots, "peak_mb": peak_mb()}


def plan_and_look(root: str | None) -> dict[str, Any]:
    """Plan the sweep and, where a store is given, see that nothing of it is left to run.

    Returns:
        ``trials`` planned, ``seconds`` without imports and ``peak_mb`` with them.
    """
    from raytransfer.experiments.yosinski.plan import make_plan
    from raytransfer.store import Store
    from raytransfer.sweep.backlog import backlog

    config = _config()
    started = time.perf_counter()
    plan = make_plan(config)
    left = backlog(plan, Store(root), config.mode).to_run if root else {}
    seconds = time.perf_counter() - started
    if left:
        raise RuntimeError(f"{len(left)} trials are left to run: the store was to hold them all")
    return {"trials": len(plan.trials), "seconds": seconds, "peak_mb": peak_mb()}


def fabricate(root: str) -> None:
    """Fill a store with rows and curves of the sweep's trials, written by the product, with made-up results."""
    import random
    from concurrent.futures import ThreadPoolExecutor
    from datetime import UTC, datetime

    from raytransfer.experiments.yosinski.plan import make_plan
    from raytransfer.networks import ZOO
    from raytransfer.specs import TrainingSpec, TransferSpec, to_json
    from raytransfer.specs.dependencies import needs
    from raytransfer.store import Store, publish

    config = _config()
    plan, store, draws = make_plan(config), Store(root), random.Random(0)
    names = list(ZOO[config.network].stages)

    def fill(spec: TrainingSpec) -> None:
        transfer = isinstance(spec, TransferSpec)
        n, weights = spec.surgery.n_layers if transfer else 0, next(iter(needs(spec)), None)
        curve = [
            {
                "id": spec.id,
                "step": spec.recipe.steps * (i + 1) // EVALUATIONS,
                "learning_rate": draws.random(),
                "train_loss_nats": draws.random(),
                "top1": draws.random(),
                "loss_nats": draws.random(),
            }
            for i in range(EVALUATIONS)
        ]
        row = {
            "id": spec.id,
            "dataset": spec.task.dataset,
            "base_task": weights.label if weights else None,
            "target_task": spec.task.label,
            "network": spec.network.name,
            "stages": names,
            "n_layers": n,
            "cut": names[n - 1] if transfer else None,
            "frozen": spec.surgery.frozen if transfer else None,
            "pretrain_id": weights.source_id if weights else None,
            "pretrain_step": weights.step if weights else None,
            "seed": spec.seed,
            "steps": spec.recipe.steps,
            "train_images": 50,
            "test_images": 450,
            "top1": curve[-1]["top1"],
            "loss_nats": curve[-1]["loss_nats"],
            "top1_best10": curve[-1]["top1"],
            "train_top1": draws.random(),
            "train_loss_nats": draws.random(),
            "config": to_json(spec),
            "wall_time_s": 1.0,
            "images_per_s": 1e4 * draws.random(),
            "reused_layers": spec.surgery.frozen_layers,
            "streamed": False,
            "device": "made up",
            "host": "made up",
            "finished_at": datetime.now(UTC),
            "versions": '{"python": "made up", "raytransfer": "made up", "torch": "made up", "ray": "made up"}',
            "commit": None,
        }
        publish(store, "trials", row, curve)

    store.create()
    with ThreadPoolExecutor(16) as pool:  # each write waits for the disk
        list(pool.map(fill, plan.trainings))


def merge(root: str) -> float:
    """Merge the store's files; gives the seconds it took."""
    from raytransfer.store import Store, compact

    started = time.perf_counter()
    compact(Store(root))
    return time.perf_counter() - started


def command(root: str) -> dict[str, float]:
    """Run the sweep's command on a store that holds all its trials; ``seconds`` to its end and ``peak_mb``."""
    started = time.perf_counter()
    arguments = [f"seeds={SEEDS}", f"out={root}"]
    process = subprocess.Popen([sys.executable, SWEEP, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the command ended with exit code {process.returncode}")
    return {"seconds": time.perf_counter() - started, "peak_mb": usage.ru_maxrss * 1024 / 1e6}


def peak_mb() -> float:
    """The most memory that this process has held, in 10^6 bytes; libraries count, shared or not."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _config() -> Any:
    from raytransfer.config import load_config
    from raytransfer.experiments import EXPERIMENTS
    from raytransfer.experiments.yosinski.config import GridConfig

    return load_config(GridConfig, EXPERIMENTS["yosinski"].defaults, [f"seeds={SEEDS}"])


if __name__ == "__main__":
    main()
