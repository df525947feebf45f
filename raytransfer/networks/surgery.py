"""Copy the first n layers, freeze the first n layers."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from raytransfer.networks.stages import Network


def copy_first(base: Mapping[str, torch.Tensor], network: Network, n: int) -> None:
    """Copy parameters and buffers of the first n stages from a base's state dict into the network, in place.

    Args:
        base: State dict of a network with the same stages.
        network: Receives the copies; its other stages stay as they are.
        n: Stages to copy, counted from the input.

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


def freeze_first(network: Network, n: int) -> None:
    """Take the first n stages out of training; ``train_mode`` keeps their statistics still."""
    network.frozen = n
    for module in network.first(n):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)


def train_mode(network: Network) -> None:
    """Set the network to training mode, all but the normalisation layers of its frozen stages.

    Without this, batch statistics of frozen layers would go on moving although their parameters do not train. Dropout
    of frozen stages stays on, as in the 2014 experiments.
    """
    network.module.train()
    for module in network.first(network.frozen):
        if isinstance(module, _NormBase):
            module.eval()


def trainable(network: Network) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that train: only these reach the optimiser, so weight decay cannot move the others."""
    return [(name, parameter) for name, parameter in network.module.named_parameters() if parameter.requires_grad]
