"""A simulation of the two-layer theory, from its spec to its row."""

import time
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import torch

from raytransfer.simulation.two_layer import simulate
from raytransfer.specs import SimulationSpec, TaskSpec
from raytransfer.store import publish
from raytransfer.tasks import sample_task
from raytransfer.training import stream_seed
from raytransfer.trials.site import Site, common_columns

Array = npt.NDArray[np.float64]


def run_simulation(spec: SimulationSpec, site: Site) -> None:
    """Train a two-layer network on two tasks of two labels, and publish what theory says of it and what it did."""
    started = time.perf_counter()
    (x_p, y_p), (x_q, y_q) = (_images(spec, task, site) for task in (spec.source, spec.target))
    start = stream_seed(spec.seed, spec.target.stream)
    simulation = simulate(x_p, y_p, x_q, y_q, width=spec.width, seed=start)
    row = {
        "source_task": spec.source.label,
        "target_task": spec.target.label,
        "width": spec.width,
        "source_images": len(y_p),
        "target_images": len(y_q),
        **asdict(simulation),
        **common_columns(spec, torch.device("cpu"), time.perf_counter() - started),
    }
    publish(site.store(), "simulations", row)


def _images(spec: SimulationSpec, task: TaskSpec, site: Site) -> tuple[Array, Array]:
    """Pixels (n, D) on 0..1 and labels (n,) of -1 and 1."""
    drawn = sample_task(site.dataset(task.fingerprint), task, spec.images, spec.seed).train
    pixels = drawn.images[drawn.rows].reshape(len(drawn.rows), -1) / 255.0
    return pixels.astype(np.float64), (2 * drawn.labels - 1).astype(np.float64)
