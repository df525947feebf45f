"""Networks as ordered stages, and the surgery of transfer: copy the first n, freeze the first n."""

from raytransfer.networks.description import describe
from raytransfer.networks.expansion import is_norm
from raytransfer.networks.partition import find_stages, staged
from raytransfer.networks.sources import build, check_network, default_image_size, resolved, sources_of
from raytransfer.networks.stages import Network, Shape, Stage
from raytransfer.networks.surgery import copy_first, freeze_first, train_mode, trainable
from raytransfer.networks.zoo import ZOO

__all__ = [
    "ZOO",
    "Network",
    "Shape",
    "Stage",
    "build",
    "check_network",
    "copy_first",
    "default_image_size",
    "describe",
    "find_stages",
    "freeze_first",
    "is_norm",
    "resolved",
    "sources_of",
    "staged",
    "train_mode",
    "trainable",
]
