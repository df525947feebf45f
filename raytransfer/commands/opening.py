"""A store that a command reads, and the sweeps in it."""

from collections.abc import Callable
from typing import TypeVar

import pandas as pd

from raytransfer.errors import StorageError, UserError
from raytransfer.store import Store, read_places, sweep_names

_PATIENCE_S = 8.0  # somebody is waiting
Read = TypeVar("Read")


def opened(root: str) -> Store:
    """The store at a place, of this version, for reading.

    Raises:
        UserError: There is none, it is of another version, or it cannot be read.
    """
    return readable(lambda: _opened(root))


def _opened(root: str) -> Store:
    store = Store(root, retry_s=_PATIENCE_S)
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
    return {name: read_places(store, f"sweeps/{name}") for name in sweep_names(store)}


def readable(read: Callable[[], Read]) -> Read:
    """What a read gives; a storage that refuses it is the user's to mend, and nothing was lost.

    Raises:
        UserError: Instead of StorageError, whose exit code says that something ran before.
    """
    try:
        return read()
    except StorageError as error:
        raise UserError(str(error)) from error
