"""Copying the first n layers or all, and freezing any layers."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from raytransfer.errors import UserError
from raytransfer.networks.stages import Network, untouched


def cpu_copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies on the CPU, contiguous and without shared memory, as safetensors needs them."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def copy_first(base: Mapping[str, torch.Tensor], network: Network, n: int) -> None:
    """Copy parameters and buffers of the first n stages from a base's state dict into the network, in place.

    Args:
        base: State dict of a network with the same stages.
        network: Receives the copies.
        n: Number of stages to copy, from the input.

    Raises:
        KeyError: The base lacks a tensor of those stages.
        ValueError: A tensor has another shape in the base.
    """
    state = network.module.state_dict()
    with torch.no_grad():
        for name in network.first_names(n):
            if base[name].shape != state[name].shape:
                shapes = f"{tuple(base[name].shape)} in the base, {tuple(state[name].shape)} here"
                raise ValueError(f"{name} cannot be copied: its shape is {shapes}")
            state[name].copy_(base[name])


def load_tensors(module: nn.Module, state: Mapping[str, torch.Tensor], *, strict: bool = True) -> None:
    """Load a state dict that a module of the same class gave, as ``load_state_dict`` does.

    The layers' versions are taken from the module: safetensors keep none, and torchvision's MNASNet refuses a state
    without.
    """
    versioned = OrderedDict(state)
    versioned._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]  # PyTorch's own
    module.load_state_dict(versioned, strict=strict)


def freeze(network: Network, stages: Collection[int]) -> None:
    """Freeze exactly these stages; stages that were frozen and are not among them train again.

    Frozen parameters need no gradients, and ``train_mode`` keeps statistics of frozen stages constant. What the stages
    do in training mode is found by running them on noise, not by the types of their modules. The network's tensors and
    torch's random state do not change. Tensors that a stage got while it was frozen, such as the adapters of
    ``raytransfer.networks.adapters``, continue to train.

    Args:
        network: The network.
        stages: Any stages, counted from 0.

    Raises:
        UserError: A buffer of theirs changes even in eval mode, or belongs to no submodule.
    """
    for i in network.frozen.symmetric_difference(stages):
        for name, tensor in network.tensors(i):
            if isinstance(tensor, nn.Parameter) and name not in network.fixed:
                tensor.requires_grad_(i not in stages)
    network.frozen, network.still, network.repeatable = frozenset(stages), (), 0
    if not stages:
        return
    depth = max(stages) + 1
    moving = [name for i, seen in enumerate(behaviour(network, depth)) if i in stages for name in seen.moving]
    if outside := [name for name in moving if "." not in name]:  # the whole network would have to be in eval mode
        raise UserError(f"{outside[0]} moves outside of the layers, so that none can be frozen by itself")
    owners = sorted({name.rpartition(".")[0] for name in moving})
    network.still = tuple(network.module.get_submodule(path) for path in owners)
    seen = behaviour(network, depth)
    if still_moving := [name for i, stage in enumerate(seen) if i in stages for name in stage.moving]:
        raise UserError(f"{still_moving[0]} moves in eval mode, too: its layer cannot be frozen")
    prefix = frozen_prefix(network)
    network.repeatable = next((i for i, stage in enumerate(seen[:prefix]) if stage.draws or stage.mixes), prefix)


def frozen_prefix(network: Network) -> int:
    """Number of stages, from the input on, without anything that trains."""
    for i in range(len(network.stages)):
        if i not in network.frozen or any(tensor.requires_grad for _, tensor in network.tensors(i)):
            return i
    return len(network.stages)


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What a stage does in training mode.

    Attributes:
        draws: Whether it draws random numbers.
        mixes: Whether its output for an image depends on the other images of the batch.
        moving: Names of its buffers that change.
    """

    draws: bool
    mixes: bool
    moving: tuple[str, ...]


@torch.no_grad()
def behaviour(network: Network, n: int) -> list[Behaviour]:
    """What each of the first n stages does in training mode, found by running two batches that share one image.

    The network and torch's random state are restored.
    """
    like = next(network.module.parameters())
    batch = torch.randn((4, *network.image), generator=torch.Generator().manual_seed(0)).to(like)
    other = batch.flip(0) + 1.0
    found = []
    devices = [like.device] if like.device.type == "cuda" else []
    with untouched(network.module), torch.random.fork_rng(devices=devices):
        train_mode(network)
        for i in range(n):
            before = {name: t.clone() for name, t in network.tensors(i) if not isinstance(t, nn.Parameter)}
            other = torch.cat([batch[:1], other[1:]])  # an earlier stage may have mixed images
            seed_layers(0, like.device)
            start = _random_state(like.device)
            batch = network.through(batch.clone(), i, i + 1)
            drawn = _random_state(like.device)
            seed_layers(0, like.device)
            other = network.through(other.clone(), i, i + 1)
            moving = [name for name, tensor in network.tensors(i) if name in before and not tensor.equal(before[name])]
            found.append(
                Behaviour(
                    draws=not torch.equal(start, drawn),
                    mixes=not torch.equal(batch[0], other[0]),
                    moving=tuple(moving),
                )
            )
    return found


def seed_layers(seed: int, device: torch.device) -> None:
    """Seed the random generator of layers on this device.

    ``torch.manual_seed`` would also store a stack trace for each kind of device that is not there.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


def _random_state(device: torch.device) -> torch.Tensor:
    """The state of the random generator of layers on this device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def train_mode(network: Network) -> None:
    """Set the network to training mode, except modules of frozen stages whose statistics would change.

    Dropout of frozen stages stays on, as in the 2014 experiments.
    """
    network.module.train()
    for module in network.still:
        module.training = False


def trainable(network: Network) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that train; only these reach the optimiser, so that weight decay skips the others."""
    return [(name, parameter) for name, parameter in network.module.named_parameters() if parameter.requires_grad]
