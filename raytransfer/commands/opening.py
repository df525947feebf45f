"""A store that a command reads, and the sweeps in it."""

from collections.abc import Callable
from typing import TypeVar

import pandas as pd

from raytransfer.errors import StorageError, UnreadableError, UserError
from raytransfer.experiments import EXPERIMENTS
from raytransfer.store import Store, read_places, sweep_names

Read = TypeVar("Read")

PATIENCE_S = 8.0
"""With a storage that does not answer: somebody is waiting."""

SCRIPTS = {experiment.script: experiment for experiment in EXPERIMENTS.values()}
"""Every experiment by what the names of its sweeps' folders begin with."""


def opened(root: str) -> Store:
    """The store at a place, of this version, for reading.

    Raises:
        UserError: There is none, it is of another version, or it cannot be read.
    """
    return readable(lambda: _opened(root))


def _opened(root: str) -> Store:
    store = Store(root, retry_s=PATIENCE_S)
    if not store.exists("store.json"):
        is_sweep = store.exists("config.yaml")
        hint = "; it is the folder of a sweep, whose store lies two folders above" if is_sweep else ""
        raise UserError(f"{root} is no store of raytransfer: it holds no store.json{hint}")
    store.check()
    return store


def places_of_sweeps(store: Store) -> dict[str, pd.DataFrame | None]:
    """The places of the trials of every sweep by its name; None for one of a raytransfer that did not write them.

    Raises:
        UnreadableError: A file is damaged.
    """
    return {name: read_places(store, f"sweeps/{name}") for name in sweep_names(store) if is_sweep(name)}


def is_sweep(name: str) -> bool:
    """Whether a folder is named as a sweep's is: what people put beside those is none."""
    return name.partition("-")[0] in SCRIPTS  # sweep_folder names a folder so


def readable(read: Callable[[], Read]) -> Read:
    """What a read gives; a storage that refuses it is the user's to mend, and nothing was lost.

    What is damaged is said with what mends it.

    Raises:
        UserError: Instead of StorageError, whose exit code says that something ran before.
    """
    try:
        return read()
    except UnreadableError as error:
        how = "run the sweep, and it is set aside and its trials run again"
        if error.name.startswith("sweeps/"):
            how = "raytransfer report STORE writes it anew"
        raise UserError(f"{error}; {how}") from error
    except StorageError as error:
        raise UserError(str(error)) from error
