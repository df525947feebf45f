"""Weights of trained networks, as safetensors: nothing is ever unpickled from a store."""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from raytransfer.errors import UnreadableError
from raytransfer.store.retries import first_line
from raytransfer.store.root import Store


def save_checkpoint(store: Store, trial: str, step: int, state: Mapping[str, torch.Tensor]) -> None:
    """Store a state dict under the trial and its training step."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    store.write(_name(trial, step), save(tensors))


def load_checkpoint(store: Store, trial: str, step: int) -> dict[str, torch.Tensor]:
    """The state dict of a trial at a training step, on the CPU.

    Raises:
        UnreadableError: It is gone or damaged, or holds anything but tensors.
    """
    name = _name(trial, step)
    try:
        tensors: dict[str, torch.Tensor] = load(store.read(name))
    except FileNotFoundError as error:
        raise UnreadableError(name, f"{store.place(name)} is gone") from error
    except SafetensorError as error:
        raise UnreadableError(name, f"{store.place(name)} is damaged: {first_line(error)}") from error
    return tensors


def checkpoint_steps(store: Store, trial: str) -> set[int]:
    """The training steps at which a trial left checkpoints."""
    return {int(name.removesuffix(".safetensors")) for name in store.names(f"checkpoints/{trial}")}


def delete_checkpoint(store: Store, trial: str, step: int) -> None:
    """Delete the weights of a trial at a training step, if they are there."""
    store.delete(_name(trial, step))


def _name(trial: str, step: int) -> str:
    return f"checkpoints/{trial}/{step}.safetensors"
