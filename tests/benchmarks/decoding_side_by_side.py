"""What one pool of decoding threads for all trials of a machine could gain over a pool for each trial.

    python tests/benchmarks/decoding_side_by_side.py              # 6,000 JPEGs of 256 pixels, 5 rounds
    python tests/benchmarks/decoding_side_by_side.py 2000 3       # as many images, and rounds

Trials side by side each decode with ``THREADS`` threads of their own, so that together they have more threads than the
machine has cores. Trials draw their images in orders of their own: a shared pool would decode no fewer, it would only
hold the threads to the cores. So processes stream the same folder side by side, once with ``THREADS`` threads each, and
once with their share of the cores each. Prints images a second of all of them together, and the median ratio.
"""

import sys
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from unittest.mock import patch

from streaming import BATCH, batches, make, streamed

from raytransfer.tasks import streamed as module
from raytransfer.tasks.threads import THREADS
from raytransfer.training import use_one_core

PROCESSES = (2, 4, 8)
_LIMIT_S = 600.0  # for a process that died, which would not come


def stream(folder: Path, cache: Path, threads: int, steps: int, seed: int, together: Barrier) -> None:
    """Stream so many batches with so many threads, between two meetings of all processes."""
    use_one_core()
    with patch.object(module, "THREADS", threads):
        data = streamed(folder, cache)
        together.wait()
        for _ in batches(data, steps, seed):
            pass
        together.wait()


def images_a_second(folder: Path, cache: Path, processes: int, threads: int, steps: int) -> float:
    """Images a second of processes with so many threads each, together."""
    context = get_context("spawn")
    together = context.Barrier(processes + 1)
    arguments = [(folder, cache, threads, steps, seed, together) for seed in range(processes)]
    running = [context.Process(target=stream, args=given, daemon=True) for given in arguments]
    for process in running:
        process.start()
    together.wait(_LIMIT_S)
    clock = time.perf_counter()
    together.wait(_LIMIT_S)
    seconds = time.perf_counter() - clock
    for process in running:
        process.join()
    return processes * steps * BATCH / seconds


def main() -> None:
    """Make the images and compare."""
    count, rounds = [*map(int, sys.argv[1:]), *(6_000, 5)[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory() as root:
        folder, cache = Path(root, "images"), Path(root, "cache")
        make(folder, count)
        streamed(folder, cache)  # lists them once
        for processes in PROCESSES:
            share, steps = max(1, THREADS // processes), max(2, count // BATCH // processes)
            ratios = []
            for _ in range(rounds):
                own, shared = (images_a_second(folder, cache, processes, n, steps) for n in (THREADS, share))
                ratios.append(own / shared)
                print(f"{processes} processes: {THREADS} threads each {own:.0f}, {share} each {shared:.0f}", flush=True)
            print(f"{processes} processes, threads of their own over their share: {median(ratios):.2f}")


if __name__ == "__main__":
    main()
