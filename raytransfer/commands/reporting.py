"""The sweeps of a store, by which their reports can be made again."""

from typing import Any

from raytransfer.commands.opening import opened, readable
from raytransfer.errors import UserError
from raytransfer.experiments import EXPERIMENTS, Experiment
from raytransfer.store import Store, sweep_names

SCRIPTS = {experiment.script: experiment for experiment in EXPERIMENTS.values()}
"""Every experiment by what the names of its sweeps' folders begin with."""


def experiment_of(name: str) -> Experiment[Any]:
    """The experiment of a sweep, by the name of its folder.

    Raises:
        UserError: The name begins with none.
    """
    script = name.partition("-")[0]  # sweep_folder names a folder so
    if script not in SCRIPTS:
        raise UserError(f"{name} is no sweep's folder: its name begins with none of {', '.join(SCRIPTS)}")
    return SCRIPTS[script]


def sweeps_of(root: str) -> list[tuple[Experiment[Any], str, bytes]]:
    """The experiment, the folder's name and the options, as YAML, of every sweep of a store.

    Raises:
        UserError: There is no store, or it holds no sweep.
    """
    store = opened(root)
    found = readable(lambda: _sweeps(store))
    if not found:
        raise UserError(f"{root} holds no sweep")
    return found


def _sweeps(store: Store) -> list[tuple[Experiment[Any], str, bytes]]:
    names = [name for name in sweep_names(store) if store.exists(f"sweeps/{name}/config.yaml")]
    return [(experiment_of(name), name, store.read(f"sweeps/{name}/config.yaml")) for name in names]
