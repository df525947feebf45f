"""A network's weight tensors, and random directions in which each filter moves in proportion to its size."""

from collections.abc import Mapping

import torch

from raytransfer.networks import Network, is_norm, trainable

Tensors = Mapping[str, torch.Tensor]
"""Tensors by their state-dict names."""


def weight_tensors(network: Network) -> dict[str, dict[str, torch.Tensor]]:
    """Of each stage, in order, the weights of its convolutions and fully connected layers by their state-dict names.

    These are its parameters of two dimensions or more whose name ends in ``weight``, such as the ``in_proj_weight`` of
    attention. Biases, normalisation layers and embeddings of positions have none, and so a stage may have none. A
    tensor with several names is there once.
    """
    first_names = {name for name, _ in network.module.named_parameters()}
    return {
        stage.name: {
            name: tensor
            for name, tensor in network.tensors(i)
            if name in first_names
            and tensor.ndim > 1
            and name.endswith("weight")
            and not is_norm(network.module.get_submodule(name.rpartition(".")[0]))
        }
        for i, stage in enumerate(network.stages)
    }


def trained_parameters(network: Network) -> dict[str, torch.Tensor]:
    """The parameters that have ``requires_grad``, by name, detached."""
    return {name: parameter.detach() for name, parameter in trainable(network)}


def trained_weights(network: Network) -> dict[str, torch.Tensor]:
    """The weight tensors of all stages that have ``requires_grad``, likewise."""
    return {
        name: weight.detach()
        for of_stage in weight_tensors(network).values()
        for name, weight in of_stage.items()
        if weight.requires_grad
    }


def filter_norms(weight: torch.Tensor) -> torch.Tensor:
    """Norms of a weight's filters, shaped to be multiplied with it: a filter is a row of the tensor as out × rest."""
    norms: torch.Tensor = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
    return norms


def filter_normalised(direction: Tensors, weights: Tensors) -> dict[str, torch.Tensor]:
    """Rescale each filter of a direction to the norm of the same filter of the weights.

    Li, Xu, Taylor, Studer, Goldstein 2018, "Visualizing the loss landscape of neural nets" (arXiv 1712.09913),
    section 4: d_f ← d_f ‖w_f‖/‖d_f‖. A filter that is 0 in either is 0.

    Args:
        direction: One tensor for each of the weights, of its shape.
        weights: Weight tensors by name.
    """
    scaled = {}
    for name, weight in weights.items():
        norms = filter_norms(direction[name])
        scaled[name] = direction[name] * (filter_norms(weight) / torch.where(norms > 0, norms, 1.0))
    return scaled


def random_signs(weights: Tensors, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Tensors of ±1 in the shapes of these; drawn on the CPU, so that they are the same for every device."""
    return {
        name: torch.empty_like(weight).copy_(torch.randint(0, 2, weight.shape, generator=generator) * 2 - 1)
        for name, weight in weights.items()
    }


def gaussian(weights: Tensors, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Tensors of standard normal numbers in the shapes and memory formats of these; drawn on the CPU likewise."""
    return {
        name: torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
        for name, weight in weights.items()
    }
