"""The loss on a plane through the weights."""

import torch

from raytransfer.errors import UserError
from raytransfer.probes.loss import clipped, loss
from raytransfer.probes.subject import Reading, Subject
from raytransfer.probes.weights import Tensors, filter_normalised, gaussian, trained_weights
from raytransfer.training import stream_seed


def landscape(subject: Subject) -> list[Reading]:
    """L(W + a·d₁ + b·d₂) on a grid of points × points over a, b in −1..1.

    d₁ and d₂ are Gaussian and filter-normalised: each filter has the norm of the network's own. Biases, normalisation
    layers and weights that did not train stay where they are. d₂ is made orthogonal to d₁ within each filter, before
    it is normalised; that changes lengths only, so d₂ ⟂ d₁ holds afterwards, in every filter and so for the whole. A
    filter of a single weight has no second direction, and d₂ is 0 there.

    Readings: ``loss`` (nats) with x = a and y = b. At the centre it is L of the network itself, exactly. Where it
    overflows it is the largest float32, 3.4e38. The row y = 0 is the loss along d₁ alone.

    Source: Li, Xu, Taylor, Studer, Goldstein 2018, "Visualizing the loss landscape of neural nets" (arXiv 1712.09913),
    section 4. They leave normalisation layers on batch statistics in places; here they are in eval mode.

    Raises:
        UserError: The number of points on a side is even or below 3.
    """
    points = subject.points
    if points is None or points < 3 or points % 2 == 0:
        raise UserError(f"{subject.name}: landscape_points={points} must be odd and at least 3")
    weights = trained_weights(subject.network)
    generator = torch.Generator().manual_seed(stream_seed(subject.seed, "probe", "landscape"))
    first, second = directions(weights, generator)
    places = [(2 * i - (points - 1)) / (points - 1) for i in range(points)]  # symmetric, and exactly 0 in the middle
    readings = []
    for y in places:
        for x in places:
            # A clone has the weight's own strides, on which the last bit of a convolution can depend.
            moved = {
                name: weight.clone().add_(first[name], alpha=x).add_(second[name], alpha=y)
                for name, weight in weights.items()
            }
            readings.append(Reading(quantity="loss", value=clipped(loss(subject, moved)), x=x, y=y))
    return readings


def directions(weights: Tensors, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Two random directions, orthogonal in each filter, whose filters have the norms of the weights'."""
    first, second = gaussian(weights, generator), gaussian(weights, generator)
    for name, along in first.items():
        if along[0].numel() == 1:
            second[name].zero_()
            continue
        rest = tuple(range(1, along.ndim))
        share = (second[name] * along).sum(rest, keepdim=True) / along.square().sum(rest, keepdim=True)
        second[name] -= share * along
    return filter_normalised(first, weights), filter_normalised(second, weights)
