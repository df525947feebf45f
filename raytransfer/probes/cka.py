"""CKA: how alike two networks arrange the same images, stage by stage."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from raytransfer.errors import UserError
from raytransfer.networks import Network, pooled
from raytransfer.probes.loss import CHUNK
from raytransfer.probes.subject import Reading, Subject, other_of

Features = npt.NDArray[np.float64]

LEAST_IMAGES = 4
"""Fewer leave nothing once the bias is taken out."""


def cka(subject: Subject) -> list[Reading]:
    """Debiased linear CKA of each stage's outputs in the network and in the other one, on the subject's images.

    Outputs are pooled as for scores, and may differ in size, as those of heads of different tasks do. A stage's outputs
    are its own, also where the head reads all layers. The formula is in ``scores.cka``.

    Readings: ``CKA`` of each stage (−1..1).

    Source: Neyshabur, Sedghi, Zhang 2020, "What is being transferred in transfer learning?" (arXiv 2008.11687).

    Raises:
        UserError: There are fewer than 4 images, no other network, or one whose stages have other names.
    """
    # The scores' package takes a second to import for scikit-learn, which no other probe needs.
    from raytransfer.scores.cka import cka
    from raytransfer.scores.representation import Representation

    count = len(subject.labels)
    if count < LEAST_IMAGES:
        raise UserError(f"{subject.name}: debiased CKA takes at least {LEAST_IMAGES} images, and there are {count}")
    pairs = zip(_outputs(subject.network, subject), _outputs(other_of(subject), subject), strict=True)
    readings = []
    for stage, (features, reference) in zip(subject.network.stages, pairs, strict=True):
        representation = Representation(
            name=f"{subject.name}, {stage.name}",
            features=features,
            # CKA looks at no labels, and a draw may hold a class once, which a representation refuses.
            labels=np.arange(count, dtype=np.int64) % 2,
            reference=reference,
        )
        readings.append(Reading(quantity="CKA", value=cka(representation), stage=stage.name))
    return readings


@torch.no_grad()
def _outputs(network: Network, subject: Subject) -> Iterator[Features]:
    """(n, D) outputs of one stage after the other."""
    every = (network.outputs(chunk) for chunk in torch.split(subject.inputs, CHUNK))
    for chunks in zip(*every, strict=True):
        yield torch.cat([pooled(chunk, network.image) for chunk in chunks]).double().numpy(force=True)
