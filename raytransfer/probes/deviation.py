"""How far the weights moved from where training began."""

import math

import torch

from raytransfer.errors import UserError
from raytransfer.probes.subject import Reading, Subject, initial_of
from raytransfer.probes.weights import weight_tensors


def deviation(subject: Subject) -> list[Reading]:
    """Distance of the weights W(t) from W(0), over weight tensors: neither biases nor normalisation layers count.

    Readings, of each stage that has weights:

    - ``deviation``: Σ ‖W(t) − W(0)‖_F over the stage's tensors;
    - ``deviation by width``: Σ ‖W(t) − W(0)‖_F / √(out channels or features);
    - ``relative deviation``: ‖W(t) − W(0)‖ / ‖W(0)‖ of the stage's tensors stacked;
    - ``cosine``: of W(t) and W(0), stacked (−1..1).

    And of the whole network, with no stage: ``deviation`` D = Σ_ℓ ‖W_ℓ(t) − W_ℓ(0)‖_F over all tensors, and ``relative
    deviation`` of all of them stacked. Where W(0) = 0 there is no relative deviation, and where either is 0 no cosine:
    those readings are left out.

    Source: Liu et al. 2019, *Towards understanding the transferability of deep representations* (arXiv 1909.12031),
    section 3; the sum over layers is that of the authors' code, and the other quantities are our own definitions.

    Raises:
        UserError: There is no network of step 0, or its weights have other names or shapes.
    """
    before = {name: w for of_stage in weight_tensors(initial_of(subject)).values() for name, w in of_stage.items()}
    readings: list[Reading] = []
    everywhere = []
    for stage, weights in weight_tensors(subject.network).items():
        parts = []
        for name, weight in weights.items():
            if name not in before or before[name].shape != weight.shape:
                raise UserError(f"{subject.name}: the network at step 0 has no {name} of shape {tuple(weight.shape)}")
            parts.append(_Moved(weight, before[name]))
        if parts:
            by_width = sum(part.distance / math.sqrt(part.width) for part in parts)
            readings += _of(parts, stage)
            readings.append(Reading(quantity="deviation by width", value=by_width, stage=stage))
            readings += _cosine(parts, stage)
            everywhere += parts
    return readings + _of(everywhere, None)


class _Moved:
    """Norms of a weight W, of W(0) and of their difference, and their inner product."""

    def __init__(self, weight: torch.Tensor, before: torch.Tensor) -> None:
        w, w0 = weight.detach().double().flatten(), before.detach().double().flatten()
        self.distance = (w - w0).norm().item()
        self.norm, self.norm_before = w.norm().item(), w0.norm().item()
        self.product = (w @ w0).item()
        self.width = len(weight)


def _of(parts: list[_Moved], stage: str | None) -> list[Reading]:
    readings = [Reading(quantity="deviation", value=sum(part.distance for part in parts), stage=stage)]
    before = math.hypot(*(part.norm_before for part in parts))
    if before > 0:
        relative = math.hypot(*(part.distance for part in parts)) / before
        readings.append(Reading(quantity="relative deviation", value=relative, stage=stage))
    return readings


def _cosine(parts: list[_Moved], stage: str) -> list[Reading]:
    norms = math.hypot(*(part.norm for part in parts)) * math.hypot(*(part.norm_before for part in parts))
    if norms == 0:
        return []
    cosine = sum(part.product for part in parts) / norms
    return [Reading(quantity="cosine", value=max(-1.0, min(1.0, cosine)), stage=stage)]
