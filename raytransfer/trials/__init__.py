"""One trial, from its spec to its rows: a training, a distance, a score, a probe or a simulation."""

import platform
import traceback
from collections.abc import Callable

import torch

from raytransfer.errors import StorageError, UnreadableError
from raytransfer.specs import PretrainSpec, TrainingSpec, TrialSpec
from raytransfer.store import publish_failure
from raytransfer.training import Interrupted, RankDied, never, use_one_core
from raytransfer.trials.kinds import Look, looks_of, measure
from raytransfer.trials.site import Site, device_name
from raytransfer.trials.splitting import run_split
from raytransfer.trials.training import (
    prepare,
    run_training,
    training_seed,
    try_parts,
    try_single_image,
    try_step,
    untrained,
)

__all__ = [
    "Look",
    "Site",
    "attempt",
    "device_name",
    "looks_of",
    "prepare",
    "run",
    "training_seed",
    "try_parts",
    "try_single_image",
    "try_step",
    "untrained",
]


def run(
    spec: TrialSpec,
    site: Site,
    checkpoint_steps: frozenset[int] = frozenset(),
    stop: Callable[[], bool] = never,
) -> None:
    """Do what a spec says, on one core, and publish what came out.

    Args:
        spec: What to run.
        site: Where.
        checkpoint_steps: For a training, the steps whose weights other trials need.
        stop: Asked after each step of a training whether to stop.

    Raises:
        Interrupted: ``stop`` said so, and the training's state is saved.
    """
    use_one_core()
    # A GPU's convolutions round fp32 to the 10 bits of TF32 where they may: trainings let them, measurements do not.
    torch.backends.cudnn.allow_tf32 = isinstance(spec, TrainingSpec)
    if isinstance(spec, TrainingSpec):
        ranks = site.base_ranks if isinstance(spec, PretrainSpec) else site.ranks
        if ranks > 1:
            run_split(spec, site, checkpoint_steps, stop, ranks)
        else:
            run_training(spec, site, checkpoint_steps, stop)
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums over more threads round in another way, and a slot is one core
        measure(spec, site)


def attempt(
    spec: TrialSpec,
    site: Site,
    checkpoint_steps: frozenset[int] = frozenset(),
    stop: Callable[[], bool] = never,
) -> str | None:
    """Run a trial; if it raises, write the reason into the store and return it.

    It is not tried again in the same sweep: it would most likely raise again.

    A file of weights that cannot be read is set aside. That is not recorded as a failure: the sweep trains the weights
    again.

    Raises:
        Interrupted: ``stop`` said so, which is no failure: the trial goes on when it is run again.
        RankDied: One of its processes died, likewise.
        StorageError: The store is gone, full or another one on this machine: no trial can leave results in it.
    """
    try:
        run(spec, site, checkpoint_steps, stop)
    except (Interrupted, RankDied, StorageError):
        raise
    except UnreadableError as error:
        site.store().set_aside(error.name)
        return f"{error}: what it held has to be made anew"
    except Exception:  # whatever went wrong, the other trials of the sweep are worth their results
        reason = f"on {platform.node()}: {traceback.format_exc()}"
        publish_failure(site.store(), spec.id, reason)
        return reason
    return None
