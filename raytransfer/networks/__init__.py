"""Networks as ordered stages, and the surgery of transfer: copy the first n, freeze the first n."""

from raytransfer.networks.stages import Network, Shape, Stage
from raytransfer.networks.surgery import copy_first, freeze_first, train_mode, trainable
from raytransfer.networks.zoo import ZOO, architecture, build, check_network

__all__ = [
    "ZOO",
    "Network",
    "Shape",
    "Stage",
    "architecture",
    "build",
    "check_network",
    "copy_first",
    "freeze_first",
    "train_mode",
    "trainable",
]
