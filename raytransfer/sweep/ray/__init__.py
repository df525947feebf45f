"""The sweep on Ray: the cluster and its slots, and trials as those of Ray Tune. The only place that imports Ray."""

import os
import sys
from pathlib import Path

from raytransfer.errors import UserError
from raytransfer.sweep.collector import lasting

# Where these are so Ray cannot even be imported.
if sys.flags.optimize > 1:
    raise UserError("Ray needs docstrings, which PYTHONOPTIMIZE=2 and python -OO leave out: set it to 1, or unset it")
try:
    Path.home()
except RuntimeError as error:
    raise UserError(
        "Ray does not start on this machine: HOME is not set, and this user has no entry in /etc/passwd; set HOME to a "
        "folder that can be written"
    ) from error

# Read by Ray when it is imported, or by its workers when they start.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the store keeps what these would write
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the newer reporter prints a banner whatever its verbosity
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # which would wait for Ray's processes, that are told to stop, too
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")  # its snapshots are never restored: the store is the truth

with lasting():  # also what workers import: to look through it after each trial would take 0.1 s
    from raytransfer.sweep.ray.cluster import Slots, cluster, has_gpus, measure_sharing, wait_for_machines
    from raytransfer.sweep.ray.tuning import run_on_ray

__all__ = ["Slots", "cluster", "has_gpus", "measure_sharing", "run_on_ray", "wait_for_machines"]
