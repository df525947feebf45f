"""What 20 checkpoints cost a base: the same training with and without them, in turns, in this process.

    python tests/benchmarks/checkpoints.py                   digits
    python tests/benchmarks/checkpoints.py preset=cifar10    or any other option of sweeps/training_stage.py

Prints the time of the training with checkpoints over that without, and of writing them alone over it.
"""

import sys
import time
from dataclasses import replace
from tempfile import TemporaryDirectory

from spread import spread

from raytransfer.config import load_config
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.checkpoints.cells import spaced_steps
from raytransfer.experiments.checkpoints.config import CheckpointsConfig
from raytransfer.experiments.checkpoints.plan import make_plan
from raytransfer.specs import PretrainSpec
from raytransfer.store import Store, load_weights, save_checkpoint
from raytransfer.trials import Site, run

_REPEATS = 5
_CHECKPOINTS = 20


def main() -> None:
    """Train, write and print the ratios."""
    config = load_config(CheckpointsConfig, EXPERIMENTS["checkpoints"].defaults, sys.argv[1:])
    plan = make_plan(config)
    base = next(spec for spec in plan.trials.values() if isinstance(spec, PretrainSpec))
    steps: list[int] = []
    count = _CHECKPOINTS
    while len(steps) < _CHECKPOINTS:  # the first of a logarithmic axis fall together
        steps, count = spaced_steps(base.recipe.steps, count), count + 1
    ratios, writing = [], []
    with TemporaryDirectory() as root:
        site = Site(sources=plan.sources, root=root, device="cpu", memory_bytes=config.memory_bytes)
        run(base, site)  # the first is slower
        weights = load_weights(Store(root), base.weights)
        for repeat in range(_REPEATS):
            times = []
            for chosen in (frozenset(), frozenset(steps)):
                started = time.perf_counter()
                run(replace(base, seed=repeat), site, chosen)
                times.append(time.perf_counter() - started)
            started = time.perf_counter()
            for step in steps:
                save_checkpoint(Store(root), "written", step, weights)
            ratios.append(times[1] / times[0])
            writing.append((time.perf_counter() - started) / times[0])
    size = sum(tensor.nbytes for tensor in weights.values()) / 1e6
    print(
        f"{len(steps)} checkpoints of {size:.1f} MB in {base.recipe.steps} steps: with over without "
        f"{spread(ratios, 2)}; writing them over a training {spread(writing, 3)}"
    )


if __name__ == "__main__":
    main()
