"""What a sweep of fine-tuned against scratch networks can be asked for."""

from dataclasses import dataclass

from raytransfer.config.shared import PairsConfig, WeightsConfig


@dataclass
class MechanismsConfig(PairsConfig, WeightsConfig):
    """Fine-tuned networks against networks trained from scratch, looked at with probes.

    Where ``weights`` are given, every target is fine-tuned from them in place of the bases.

    Attributes:
        distance: Distance between tasks, of pixels or classes, that says how similar a base is to its target.
    """

    distance: str = "OTDD"
