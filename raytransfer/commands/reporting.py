"""The sweeps of a store, by which their reports can be made again."""

from typing import Any

from yaml import YAMLError

from raytransfer.commands.opening import SCRIPTS, opened, readable
from raytransfer.config import plain_yaml
from raytransfer.errors import UserError, one_line
from raytransfer.experiments import Experiment
from raytransfer.store import Store, sweep_names


def experiment_of(name: str) -> Experiment[Any]:
    """The experiment of a sweep, by the name of its folder.

    Raises:
        UserError: The name begins with none.
    """
    script = name.partition("-")[0]
    if script not in SCRIPTS:
        raise UserError(f"{name} is no sweep's folder: its name begins with none of {', '.join(SCRIPTS)}")
    return SCRIPTS[script]


def sweeps_of(root: str) -> tuple[Store, list[str]]:
    """A store, and the names of its folders that hold a sweep's options.

    Raises:
        UserError: There is no store, or it holds no sweep.
    """
    store = opened(root)
    found = readable(lambda: [name for name in sweep_names(store) if store.exists(f"sweeps/{name}/config.yaml")])
    if not found:
        raise UserError(f"{root} holds no sweep")
    return store, found


def options_of(store: Store, folder: str = "") -> tuple[bytes, dict[str, Any]]:
    """The options of a sweep: its config.yaml as it is, and what that says.

    Raises:
        UserError: It is damaged; a file that was cut off ends within a line.
    """
    file = f"{folder}/config.yaml".lstrip("/")
    content = readable(lambda: store.read(file))
    try:
        if not content.endswith(b"\n"):
            raise ValueError("it ends within a line, so that some of it is missing")
        options = plain_yaml.load(content.decode())
        if not isinstance(options, dict):
            raise ValueError("it must be a mapping of options to values")
    except (YAMLError, ValueError) as error:
        raise UserError(f"{store.place(file)} cannot be read: {one_line(error)}") from error
    return content, options
