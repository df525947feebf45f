"""One trial, from its spec to its rows: a training, a distance, a score, a probe or a simulation."""

import platform
import traceback
from collections.abc import Callable

import torch

from raytransfer.errors import StorageError, UnreadableError
from raytransfer.specs import DistanceSpec, MeasureSpec, ProbeSpec, SimulationSpec, TrialSpec
from raytransfer.store import publish_failure
from raytransfer.training import Interrupted, never, use_one_core
from raytransfer.trials.site import Site, device_name
from raytransfer.trials.training import prepare, run_training, training_seed, untrained

__all__ = ["Site", "attempt", "device_name", "prepare", "run", "training_seed", "untrained"]


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
    torch.backends.cudnn.allow_tf32 = not isinstance(spec, MeasureSpec)
    if not isinstance(spec, MeasureSpec):
        run_training(spec, site, checkpoint_steps, stop)
        return
    # scikit-learn and SciPy take a second to import, and many workers only train
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums over more threads round in another way, and a slot is one core
        if isinstance(spec, ProbeSpec):
            from raytransfer.trials.probing import run_probe

            run_probe(spec, site)
        elif isinstance(spec, SimulationSpec):
            from raytransfer.trials.simulating import run_simulation

            run_simulation(spec, site)
        else:
            from raytransfer.trials.measuring import run_distance, run_score

            if isinstance(spec, DistanceSpec):
                run_distance(spec, site)
            else:
                run_score(spec, site)


def attempt(
    spec: TrialSpec,
    site: Site,
    checkpoint_steps: frozenset[int] = frozenset(),
    stop: Callable[[], bool] = never,
) -> str | None:
    """Run a trial; if it raises, write the reason into the store and give it back.

    It is not tried again in the same sweep: on the same machine it would most likely raise again.

    A file of weights that cannot be read is set aside. That is no failure of the trial's, and is not written down: the
    sweep trains those weights anew.

    Raises:
        Interrupted: ``stop`` said so, which is no failure: the trial goes on when it is run again.
        StorageError: The store is gone, full or another one on this machine: no trial can leave results in it.
    """
    try:
        run(spec, site, checkpoint_steps, stop)
    except (Interrupted, StorageError):
        raise
    except UnreadableError as error:
        site.store().set_aside(error.name)
        return f"{error}: what it held has to be made anew"
    except Exception:  # whatever went wrong, the other trials of the sweep are worth their results
        reason = f"on {platform.node()}: {traceback.format_exc()}"
        publish_failure(site.store(), spec.id, reason)
        return reason
    return None
