"""How much of the slots' time a sweep spends on training: against the same trainings in one bare loop.

    python tests/benchmarks/versus_floor.py data=cifar10 halves=[random] seeds=1 directions=[A->B] recipe.steps=200
    python tests/benchmarks/versus_floor.py                          the default digits sweep
    ... repeats=3                                                    the default

The *floor* trains and evaluates the same networks on the same batches, and nothing else: no Ray, no store, no rows, no
process to start; bases wait in memory for what copies them. *Slot use* is the floor's time in one process over the
sweep's time times its slots; the sweep's time runs from the start of its first trial to the end of its last. Since two
processes on two cores share memory and caches, the floor also runs in as many processes at once as there are slots:
against that, what is missing is orchestration alone.
"""

import multiprocessing
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from spread import Finishes, spread

from raytransfer.config import load_config
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.yosinski.cells import GridCell
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.networks import copy_first, freeze
from raytransfer.specs import PretrainSpec, TrainingSpec, TransferSpec
from raytransfer.specs.dependencies import needs
from raytransfer.store import Store, read_table
from raytransfer.sweep.arithmetic import settled
from raytransfer.sweep.plan import Plan
from raytransfer.sweep.ray import Slots, cluster, run_on_ray
from raytransfer.sweep.run import Run
from raytransfer.tasks import DataSource, load_task, open_fingerprint
from raytransfer.training import DeviceData, train, use_one_core
from raytransfer.trials import Site, training_seed, untrained

MEMORY_BYTES = 10**9

Weights = dict[str, np.ndarray]


def sweep_seconds(plan: Plan[GridCell, None], device: str, slots: Slots) -> tuple[float, float]:
    """Run the sweep into a new store; seconds from its first trial's start to its last's end, and the trials' sum."""
    with tempfile.TemporaryDirectory() as out:
        store = Store(f"{out}/store")
        store.create()
        site = Site(sources=plan.sources, root=store.root, device=device, memory_bytes=MEMORY_BYTES)
        finishes = Finishes()
        run_on_ray(Run(plan.trials, site, finishes), slots)
        rows = read_table(store, "trials").set_index("id")["wall_time_s"]
    started = [end - rows[trial] for end, trial in zip(finishes.wall_s, finishes.trials, strict=True)]
    return finishes.wall_s[-1] - min(started[: slots.now()]), rows.sum()


def floor_seconds(plan: Plan[GridCell, None], device: str, processes: int) -> float:
    """Train the same trials in a loop of this process, or in that many processes at once, already started."""
    bases = [spec for spec in plan.trials.values() if isinstance(spec, PretrainSpec)]
    transfers = [spec for spec in plan.trials.values() if isinstance(spec, TransferSpec)]
    if processes == 1:
        return _floor(map, bases, transfers, plan.sources[0][1], device)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(_bare, [(spec, plan.sources[0][1], device, None) for spec in bases[:processes]], chunksize=1)  # warm
        return _floor(pool.imap, bases, transfers, plan.sources[0][1], device)


def _floor(
    run: Any, bases: list[PretrainSpec], transfers: list[TransferSpec], source: DataSource, device: str
) -> float:
    started = time.perf_counter()
    weights = list(run(_bare, [(spec, source, device, None) for spec in bases]))
    trained = {spec.id: found for spec, found in zip(bases, weights, strict=True)}
    jobs = [(spec, source, device, trained[needs(spec)[0].training.id] if needs(spec) else None) for spec in transfers]
    for _ in run(_bare, jobs):
        pass
    return time.perf_counter() - started


def _bare(job: tuple[TrainingSpec, DataSource, str, Weights | None]) -> Weights:
    """Train one network; gives a base's weights."""
    spec, source, device, base = job
    use_one_core()
    task = load_task(open_fingerprint(source, spec.task.fingerprint), spec.task)
    data = DeviceData(task, spec.recipe, torch.device(device), MEMORY_BYTES)
    network = untrained(spec, data)
    if base is not None:
        copy_first({name: torch.tensor(array) for name, array in base.items()}, network, spec.surgery.n_layers)
    freeze(network, range(spec.surgery.frozen_layers))
    train(network, data, seed=training_seed(spec), surgery=spec.surgery)
    if isinstance(spec, TransferSpec):
        return {}
    return {name: tensor.cpu().numpy() for name, tensor in network.module.state_dict().items()}


def main() -> None:
    """Measure and print."""
    repeats = next((int(word.partition("=")[2]) for word in sys.argv[1:] if word.startswith("repeats=")), 3)
    config = load_config(
        GridConfig, EXPERIMENTS["yosinski"].defaults, [word for word in sys.argv[1:] if not word.startswith("repeats=")]
    )
    config, plan, _ = settled(config, Store(config.out), make_plan)
    uses: dict[str, list[float]] = {"one process": [], "as many processes": [], "the trials themselves": []}
    with cluster():
        slots = Slots(config.slots, config.gpus_per_trial)
        concurrent = slots.now()
        device = "cuda" if "GPU" in slots.per_trial else "cpu"
        print(f"{len(plan.trials)} trials, {concurrent} slots on {device}")
        for _ in range(repeats):
            sweep, trials = sweep_seconds(plan, device, slots)
            alone, together = (floor_seconds(plan, device, processes) for processes in (1, concurrent))
            uses["one process"].append(alone / (sweep * concurrent))
            uses["as many processes"].append(together / sweep)
            uses["the trials themselves"].append(trials / (sweep * concurrent))
            print(f"sweep {sweep:.1f} s, floor {alone:.1f} s, in {concurrent} processes {together:.1f} s", flush=True)
    print(f"slot use, floor in one process over sweep x slots: {spread(uses['one process'], 2)}")
    print(f"floor in {concurrent} processes over sweep: {spread(uses['as many processes'], 2)}")
    print(f"the trials' own time over sweep x slots: {spread(uses['the trials themselves'], 2)}")


if __name__ == "__main__":
    main()
