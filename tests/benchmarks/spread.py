"""What the benchmarks share: medians with ranges, processes of their own, and sweeps whose trials train nothing."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import MagicMock

from raytransfer.sweep.observer import Observer

TRANSFERS_PER_SEED = 168  # of the main sweep as its YAML has it; with the bases it has 178 trials
SWEEP = Path(__file__).parents[2] / "sweeps" / "yosinski_grid.py"

Result = TypeVar("Result")


def with_defaults(defaults: Sequence[str], given: Sequence[str]) -> list[str]:
    """The given options and those defaults that none of them replaces: the command refuses an option given twice."""
    names = {option.partition("=")[0] for option in given}
    return [*(option for option in defaults if option.partition("=")[0] not in names), *given]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median of some measurements and, where there are several, their range."""
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def show(what: str, values: Sequence[float], unit: str, target: str = "", digits: int = 1) -> None:
    """Print one figure: what it is, its median and range, its unit, and what it should be."""
    figure = f"{spread(values, digits)} {unit}"
    print(f"  {what:55} {figure:32} {target and f'target {target}'}".rstrip(), flush=True)


def in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of a benchmark in a new Python, so that it finds nothing imported, cached or allocated.

    The benchmark itself must stay small, and import what is large in the function: Linux counts the memory of the
    process that starts another in the other's peak.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


class Finishes(Observer):
    """Notes when each trial of a sweep finished.

    Attributes:
        trials: The trials, in the order in which they finished.
        wall_s: When each finished, on the clock of ``time.monotonic``.
        cpu_s: The CPU time this process had used by then, all its threads together.
    """

    def __init__(self) -> None:
        self.trials: list[str] = []
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []

    def died(self, trial: str, why: str) -> None:
        raise RuntimeError(f"{trial}: its process died; {why}")

    def finished(self, trial: str) -> None:
        self.trials.append(trial)
        self.wall_s.append(time.monotonic())
        self.cpu_s.append(time.process_time())

    def failed(self, trial: str, reason: str, skipped: list[str]) -> None:
        raise RuntimeError(f"{trial}: {reason}")


def start_ray(work: Callable[[str], None] | None = None, *, with_torch: bool = True, **where: Any) -> None:
    """Start a Ray of this machine alone, or join the one whose ``address`` is given.

    Args:
        work: What each trial does instead of training, given the store's root; None to train. It must be a function
            inside a function: only such a one is sent to the workers whole, others by a module's name.
        with_torch: Whether workers import torch, which takes 270 MB of each; without it they can do ``work`` only.
        where: Arguments of ``ray.init``.
    """
    import ray

    def is_torch(module: str) -> bool:
        return module.partition(".")[0] in ("torch", "safetensors")

    def set_up_worker() -> None:
        from ray import tune  # noqa: F401  (first, without a torch to look at)

        loader: Any = SimpleNamespace(create_module=lambda spec: MagicMock(), exec_module=lambda module: None)
        empty: Any = SimpleNamespace(
            find_spec=lambda name, path, target=None: (
                ModuleSpec(name, loader, is_package=True) if is_torch(name) else None
            )
        )
        if not with_torch:
            sys.meta_path.insert(0, empty)
        from raytransfer.sweep.ray import tuning

        if not with_torch:
            sys.meta_path.remove(empty)
            for name in filter(is_torch, list(sys.modules)):
                del sys.modules[name]
        assert work is not None
        vars(tuning)["attempt"] = lambda spec, site, checkpoint_steps, stop: work(site.root)

    ray.init(
        **{"address": "local", **where},
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"worker_process_setup_hook": set_up_worker} if work else None,
    )


@contextmanager
def sweep_of(trials: int) -> Iterator[tuple[Any, Finishes]]:
    """A ``Run`` of transfers of the main sweep, with as many seeds as it takes, in a new store; and its observer.

    There are no bases among them, and where there are none they count as there: no trial waits for another.
    """
    from raytransfer.config import load_config
    from raytransfer.experiments import EXPERIMENTS
    from raytransfer.experiments.yosinski.config import GridConfig
    from raytransfer.experiments.yosinski.plan import make_plan
    from raytransfer.specs import TransferSpec
    from raytransfer.store import Store
    from raytransfer.sweep.run import Run
    from raytransfer.trials import Site

    seeds = -(-trials // TRANSFERS_PER_SEED)
    plan = make_plan(load_config(GridConfig, EXPERIMENTS["yosinski"].defaults, [f"seeds={seeds}"]))
    transfers = [(trial, spec) for trial, spec in plan.trials.items() if isinstance(spec, TransferSpec)]
    if len(transfers) < trials:
        raise RuntimeError(f"{len(transfers)} transfers are fewer than {trials}: TRANSFERS_PER_SEED is out of date")
    finishes = Finishes()
    with TemporaryDirectory() as root:
        Store(root).create()
        site = Site(sources=plan.sources, root=root, device="cpu", memory_bytes=0)
        yield Run(dict(transfers[:trials]), site, finishes), finishes
