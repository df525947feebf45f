"""Weights of trained networks, as safetensors: nothing is ever unpickled from a store."""

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from raytransfer.errors import UnreadableError, first_line
from raytransfer.specs import Weights
from raytransfer.store.root import Store

if TYPE_CHECKING:
    # Imported by what handles tensors alone: who only looks at a store need not wait for torch.
    import torch

_CHECKPOINT = re.compile(r"([^/]+/\d+)\.safetensors")


def save_checkpoint(store: Store, trial: str, step: int, state: Mapping[str, "torch.Tensor"]) -> None:
    """Store a state dict under the trial and its training step."""
    store.write(_name(trial, step), _content(state))


def load_weights(store: Store, weights: Weights) -> dict[str, "torch.Tensor"]:
    """A state dict, on the CPU, whoever made it.

    Raises:
        UnreadableError: It is gone or damaged, or holds anything but tensors.
    """
    from safetensors.torch import load

    name = weights.place
    try:
        tensors: dict[str, torch.Tensor] = load(store.read(name))
    except FileNotFoundError as error:
        raise UnreadableError(name, f"{store.place(name)} is gone") from error
    except SafetensorError as error:
        raise UnreadableError(name, f"{store.place(name)} is damaged: {first_line(error)}") from error
    return tensors


def import_weights(store: Store, state: Mapping[str, "torch.Tensor"]) -> str:
    """Store a state dict that was made elsewhere, once for the same content; gives its ``weights_digest``."""
    identity = weights_digest(state)
    name = f"imported/{identity}.safetensors"
    if not store.exists(name):
        store.write(name, _content(state))
    return identity


def weights_digest(state: Mapping[str, "torch.Tensor"]) -> str:
    """The hash of a state dict's names, types, shapes and numbers: ``Imported.digest``."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def imported(store: Store) -> set[str]:
    """The digests of all weights that were made elsewhere."""
    return {name.removesuffix(".safetensors") for name in store.names("imported")}


def stored_steps(store: Store, trial: str) -> set[int]:
    """The training steps at which a trial left checkpoints."""
    steps = (name.removesuffix(".safetensors") for name in store.names(f"checkpoints/{trial}"))
    return {int(step) for step in steps if step.isdigit()}


def all_checkpoints(store: Store) -> dict[str, int]:
    """The bytes of all trials', by IDENTITY/STEP, by one look at the store; what else lies there is people's own."""
    sizes = store.sizes_below("checkpoints").items()
    return {found[1]: size for name, size in sizes if (found := _CHECKPOINT.fullmatch(name))}


def delete_checkpoint(store: Store, trial: str, step: int) -> None:
    """Delete the weights of a trial at a training step, if they are there."""
    store.delete(_name(trial, step))


def _content(state: Mapping[str, "torch.Tensor"]) -> bytes:
    from safetensors.torch import save

    from raytransfer.networks import cpu_copies

    # Copies, as two names may be of one tensor, which safetensors refuses to write.
    content: bytes = save(cpu_copies(state))
    return content


def _name(trial: str, step: int) -> str:
    return f"checkpoints/{trial}/{step}.safetensors"
