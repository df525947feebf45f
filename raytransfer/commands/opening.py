"""A store that a command reads, and the sweeps in it."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pandas as pd
from yaml import YAMLError

from raytransfer.config import plain_yaml
from raytransfer.errors import StorageError, UnreadableError, UserError, one_line
from raytransfer.experiments import EXPERIMENTS, Experiment
from raytransfer.store import Store, read_places, sweep_names

Given = ParamSpec("Given")
Read = TypeVar("Read")

READING_PATIENCE_S = 8.0
"""With a storage that does not answer: somebody is waiting."""

SCRIPTS = {experiment.script: experiment for experiment in EXPERIMENTS.values()}
"""Every experiment by what the names of its sweeps' folders begin with."""


def reading(read: Callable[Given, Read]) -> Callable[Given, Read]:
    """Decorate a function that only reads a store: it raises UserError where the storage fails or a file is damaged.

    The exit code of StorageError would say that something ran before.
    """

    @functools.wraps(read)
    def told(*args: Given.args, **kwargs: Given.kwargs) -> Read:
        try:
            return read(*args, **kwargs)
        except UnreadableError as error:
            how = "run the sweep, and it is set aside and its trials run again"
            if error.name.startswith("sweeps/"):
                how = "raytransfer report STORE writes it anew"
            raise UserError(f"{error}; {how}") from error
        except StorageError as error:
            raise UserError(str(error)) from error

    return told


@reading
def opened(root: str) -> Store:
    """The store at a place, of this version, for reading.

    Raises:
        UserError: There is none, it is of another version, or it cannot be read.
    """
    store = Store(root, retry_s=READING_PATIENCE_S)
    if not store.is_made():
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
    return name.partition("-")[0] in SCRIPTS  # as it is named when it runs


def experiment_of(name: str) -> Experiment[Any]:
    """The experiment of a sweep, by the name of its folder.

    Raises:
        UserError: The name begins with none.
    """
    if not is_sweep(name):
        raise UserError(f"{name} is no sweep's folder: its name begins with none of {', '.join(SCRIPTS)}")
    return SCRIPTS[name.partition("-")[0]]


@reading
def sweeps_of(root: str) -> tuple[Store, list[str]]:
    """A store, and the names of its folders that hold a sweep's options.

    Raises:
        UserError: There is no store, or it holds no sweep.
    """
    store = opened(root)
    found = [name for name in sweep_names(store) if store.exists(f"sweeps/{name}/config.yaml")]
    if not found:
        raise UserError(f"{root} holds no sweep")
    return store, found


@reading
def options_of(store: Store, folder: str = "") -> tuple[bytes, dict[str, Any]]:
    """The options of a sweep: its config.yaml as it is, and what that says.

    Raises:
        UserError: It is damaged; a file that was cut off ends within a line.
    """
    file = f"{folder}/config.yaml".lstrip("/")
    content = store.read(file)
    try:
        if not content.endswith(b"\n"):
            raise ValueError("it ends within a line, so that some of it is missing")
        options = plain_yaml.load(content.decode())
        if not isinstance(options, dict):
            raise ValueError("it must be a mapping of options to values")
    except (YAMLError, ValueError) as error:
        raise UserError(f"{store.place(file)} cannot be read: {one_line(error)}") from error
    return content, options
