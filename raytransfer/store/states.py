"""States of trainings under way, to go on from: one file a trial, gone when the trial has finished."""

from raytransfer.store.root import Store


def save_state(store: Store, trial: str, content: bytes) -> None:
    """Store the state of a trial in place of the one before."""
    store.write(_name(trial), content)


def load_state(store: Store, trial: str) -> bytes | None:
    """The state that a trial left, or None if it left none."""
    try:
        return store.read(_name(trial))
    except FileNotFoundError:
        return None


def delete_state(store: Store, trial: str) -> None:
    """Delete the state of a trial, if there is one."""
    store.delete(_name(trial))


def _name(trial: str) -> str:
    return f"states/{trial}.safetensors"
