"""Probes of one trained network: what its weights, its loss around them and its gradients look like.

A probe is a function of one `Subject` in a file of its own, and a line here. It leaves the network as it was: weights,
buffers, mode, ``requires_grad`` and ``.grad``, and torch's global generator too. L is the mean cross-entropy (nats) of
the subject's images, in eval mode and without weight decay.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from raytransfer.probes.cka import LEAST_IMAGES, cka
from raytransfer.probes.deviation import deviation
from raytransfer.probes.flatness import flatness
from raytransfer.probes.generalisation import generalisation
from raytransfer.probes.gradient_components import gradient_components
from raytransfer.probes.gradient_scale import gradient_scale
from raytransfer.probes.landscape import landscape
from raytransfer.probes.loss_variation import loss_variation
from raytransfer.probes.path import path
from raytransfer.probes.subject import Reading, Subject

__all__ = ["PROBES", "Probe", "Reading", "Subject"]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe and its properties.

    Attributes:
        function: The probe, a pure function.
        steps: At which training steps it makes sense: ``all``; ``trained``, any but 0, where the head has not
            trained; ``solution``, the last; ``initial``, step 0.
        against: It compares with another network, once for each of these: the ``base`` that layers were copied from,
            one trained from ``scratch`` on the same task, or its ``twin`` of another seed.
        reads_initial: Whether it looks at the network of step 0 too.
        reads: What it looks at: ``images`` the subject's inputs and labels; ``all images`` its batches of all training
            and test images instead; ``weights`` no images.
        least_images: Fewest images that it needs, where it looks at ``images``.
        meaning: One line for people.
        revision: Incremented when values for the same input change, so that old ones are not reused.
    """

    function: Callable[[Subject], list[Reading]]
    steps: Literal["all", "trained", "solution", "initial"]
    against: tuple[Literal["base", "scratch", "twin"], ...] = ()
    reads_initial: bool = False
    reads: Literal["images", "all images", "weights"] = "images"
    least_images: int = 1
    meaning: str
    revision: int = 1


PROBES: dict[str, Probe] = {
    "generalisation": Probe(
        function=generalisation, steps="all", reads="all images", meaning="accuracy and loss on training and test set"
    ),
    "deviation": Probe(
        function=deviation,
        steps="trained",
        reads_initial=True,
        reads="weights",
        meaning="how far weights moved in training",
    ),
    "flatness": Probe(function=flatness, steps="trained", meaning="eigenvalues and traces of the Hessian of the loss"),
    "landscape": Probe(function=landscape, steps="solution", meaning="loss on a plane through the trained weights"),
    "initial-landscape": Probe(
        function=landscape, steps="initial", meaning="loss on a plane through the weights before training", revision=2
    ),
    "loss-variation": Probe(
        function=loss_variation,
        steps="all",
        meaning="change of loss and gradient on a walk along the gradient",
        revision=2,
    ),
    "gradient-components": Probe(
        function=gradient_components,
        steps="all",
        meaning="weights in the main directions of their gradient",
        revision=2,
    ),
    "gradient-scale": Probe(
        function=gradient_scale, steps="all", meaning="size of the gradient at each layer", revision=2
    ),
    "path": Probe(
        function=path, steps="solution", against=("twin",), meaning="loss between two networks, and its barrier"
    ),
    "CKA": Probe(
        function=cka,
        steps="solution",
        against=("base", "scratch", "twin"),
        least_images=LEAST_IMAGES,
        meaning="CKA of two networks' outputs, layer by layer",
        revision=2,
    ),
}
