"""The loss of a network, and its gradient, with other weights in place of its own."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch.func import functional_call
from torch.nn import functional

from raytransfer.errors import UserError
from raytransfer.networks import clear_kept
from raytransfer.probes.subject import Subject
from raytransfer.probes.weights import Tensors

CHUNK = 500  # images that pass the network at a time
_LARGEST = float(torch.finfo(torch.float32).max)


def loss(subject: Subject, tensors: Tensors) -> float:
    """L, the mean cross-entropy (nats) of the subject's images.

    Normalisation layers use their running statistics and dropout is off; weight decay is no part of it.

    Args:
        subject: Its network is left as it is.
        tensors: Parameters and buffers, by their state-dict names, that stand in for the network's own.
    """
    with torch.no_grad():
        return sum(share * part.item() for share, part in losses(subject, tensors))


def losses(subject: Subject, tensors: Tensors) -> Iterator[tuple[float, torch.Tensor]]:
    """L in parts: for each chunk of images, its share of all images and its mean cross-entropy, a scalar.

    Raises:
        UserError: There are no images.
    """
    count, module = len(subject.labels), subject.network.module
    if not count:
        raise UserError(f"{subject.name}: this probe looks at images, and there are none")
    for inputs, labels in zip(torch.split(subject.inputs, CHUNK), torch.split(subject.labels, CHUNK), strict=True):
        clear_kept(module)  # of its own weights
        # A clone, as a network may begin by overwriting its images.
        logits = functional_call(module, dict(tensors), (inputs.clone(),))
        clear_kept(module)
        yield len(labels) / count, functional.cross_entropy(logits, labels)


def loss_and_gradient(subject: Subject, tensors: Tensors) -> tuple[float, dict[str, torch.Tensor]]:
    """L and ∂L/∂tensors, of the same names and shapes.

    Args:
        subject: Its network is left as it is, ``.grad`` included.
        tensors: Stand in for the network's own; the gradient is taken where they are.
    """
    leaves = leaves_of(tensors)
    total, gradient = 0.0, {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    for share, part in losses(subject, leaves):
        total += share * part.item()
        parts = torch.autograd.grad(part, list(leaves.values()), materialize_grads=True)  # 0 where nothing uses them
        for sum_, of_chunk in zip(gradient.values(), parts, strict=True):
            sum_.add_(of_chunk, alpha=share)
    return total, gradient


def leaves_of(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The tensors as new leaves that share their memory: gradients touch neither their flags nor their ``.grad``."""
    return {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}


def norm(tensors: Iterable[torch.Tensor]) -> float:
    """Frobenius norm of tensors taken together; squares are summed in double precision."""
    return math.hypot(*(torch.linalg.vector_norm(tensor, dtype=torch.float64).item() for tensor in tensors))


def clipped(value: float) -> float:
    """The value, and the largest float32 (3.4e38) where it is larger, infinite or not a number: it overflowed."""
    return _LARGEST if math.isnan(value) else min(value, _LARGEST)
