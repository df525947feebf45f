"""How large gradients are at each layer, from the last to the first."""

import copy
import math
from dataclasses import replace

import torch
from torch.nn import functional

from raytransfer.errors import UserError
from raytransfer.networks import Network
from raytransfer.probes.loss import CHUNK, norm
from raytransfer.probes.subject import Reading, Subject
from raytransfer.probes.weights import weight_tensors


def gradient_scale(subject: Subject) -> list[Reading]:
    """Norms of the gradient of L with respect to the input of each stage, and to its weights.

    Readings, of each stage ℓ:

    - ``input gradient``: ‖∂L/∂x_ℓ‖_F, with x_ℓ the stage's input for all images, for the first stage the images
      themselves; where the head reads all layers, the outputs below the stage that it will read are part of x_ℓ;
    - ``weight gradient``: ‖∂L/∂W_ℓ‖_F over the stage's weight tensors, those that did not train included; left out
      where the stage has none. Biases and normalisation layers do not count.

    Source: Liu et al. 2019, *Towards understanding the transferability of deep representations* (arXiv 1909.12031),
    section 4: gradients keep their size through back-propagation where layers were pretrained.

    Raises:
        UserError: There are no images.
    """
    count = len(subject.labels)
    if not count:
        raise UserError(f"{subject.name}: gradient-scale looks at images, and there are none")
    # A copy, so that frozen weights can have gradients and the network's own keep their flags.
    network = replace(subject.network, module=copy.deepcopy(subject.network.module).requires_grad_(False))
    weights = {
        stage: [weight.requires_grad_() for weight in of_stage.values()]
        for stage, of_stage in weight_tensors(network).items()
    }
    leaves = [weight for of_stage in weights.values() for weight in of_stage]
    totals = [torch.zeros_like(weight) for weight in leaves]
    by_input = [0.0] * len(network.stages)
    for inputs, labels in zip(torch.split(subject.inputs, CHUNK), torch.split(subject.labels, CHUNK), strict=True):
        taken, logits = through_stages(network, inputs)
        part = functional.cross_entropy(logits, labels, reduction="sum") / count
        gradients = torch.autograd.grad(part, [*taken, *leaves], materialize_grads=True)
        by_input = [math.hypot(so_far, norm([g])) for so_far, g in zip(by_input, gradients, strict=False)]
        for total, gradient in zip(totals, gradients[len(taken) :], strict=True):
            total += gradient
    summed = iter(totals)
    readings = []
    for stage, size in zip(network.stages, by_input, strict=True):
        readings.append(Reading(quantity="input gradient", value=size, stage=stage.name))
        if weights[stage.name]:
            value = norm([next(summed) for _ in weights[stage.name]])
            readings.append(Reading(quantity="weight gradient", value=value, stage=stage.name))
    return readings


def through_stages(network: Network, inputs: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The input of each stage, which takes a gradient, and the logits."""
    taken = [inputs.detach().requires_grad_()]
    for i in range(len(network.stages)):
        # A clone, as a stage may begin with a module that overwrites what it takes.
        taken.append(network.through(taken[-1].clone(), i, i + 1))
    logits = taken.pop()
    return taken, logits
