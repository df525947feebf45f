"""The loss on the straight line between two networks' weights."""

import torch

from raytransfer.errors import UserError
from raytransfer.networks import Network
from raytransfer.probes.loss import clipped, loss
from raytransfer.probes.subject import Reading, Subject, other_of

_STEPS = 10


def path(subject: Subject) -> list[Reading]:
    """L of θ_α = (1 − α)θ₁ + αθ₂ from the network (α = 0) to the other one (α = 1).

    θ are all parameters and the buffers of floating-point numbers, such as the running statistics of normalisation
    layers; other buffers are the network's.

    Readings:

    - ``path loss`` with x = α = 0, 0.1, …, 1, in nats; the largest float32, 3.4e38, where it overflows;
    - ``barrier``: max_α [L(θ_α) − (1 − α)L(θ₁) − αL(θ₂)], at least 0.

    Source: Neyshabur, Sedghi, Zhang 2020, "What is being transferred in transfer learning?" (arXiv 2008.11687), section
    3.4; Frankle, Dziugaite, Roy, Carbin 2020, "Linear mode connectivity and the lottery ticket hypothesis" (arXiv
    1912.05671).

    Raises:
        UserError: There is no other network, or its stages or shapes differ.
    """
    here, there = _tensors(subject.network), _tensors(other_of(subject))
    for name in here | there:
        shapes = [tuple(tensors[name].shape) if name in tensors else None for tensors in (here, there)]
        if shapes[0] != shapes[1]:
            raise UserError(f"{subject.name}: no line joins two networks whose {name} has shapes {shapes}")
    places = [i / _STEPS for i in range(_STEPS + 1)]
    losses = []
    for a in places:
        between = {
            # What is the same in both stays so: masks may hold infinity, which 0 times is no number.
            name: torch.where(tensor == there[name], tensor, tensor.clone().mul_(1 - a).add_(there[name], alpha=a))
            for name, tensor in here.items()
        }
        losses.append(clipped(loss(subject, between)))
    first, last = losses[0], losses[-1]
    barrier = max(value - (1 - a) * first - a * last for a, value in zip(places, losses, strict=True))
    return [
        *(Reading(quantity="path loss", value=value, x=a) for a, value in zip(places, losses, strict=True)),
        Reading(quantity="barrier", value=barrier),
    ]


def _tensors(network: Network) -> dict[str, torch.Tensor]:
    named = [*network.module.named_parameters(), *network.module.named_buffers()]
    return {name: tensor.detach() for name, tensor in named if tensor.is_floating_point()}
