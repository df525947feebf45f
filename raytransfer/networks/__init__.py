"""Networks as ordered stages, and the surgery of transfer: copy the first n, freeze some, adapt others."""

from raytransfer.networks.adapters import add_lora, merged, used_elsewhere
from raytransfer.networks.all_layers import pooled, read_all_layers
from raytransfer.networks.description import describe
from raytransfer.networks.expansion import is_norm
from raytransfer.networks.own_sources import sources_of
from raytransfer.networks.partition import find_stages
from raytransfer.networks.sources import build, check_network, default_image_size, image_size_of_args, resolved
from raytransfer.networks.stages import Network, Shape, clear_kept
from raytransfer.networks.surgery import (
    copy_first,
    cpu_copies,
    freeze,
    frozen_prefix,
    load_tensors,
    seed_layers,
    train_mode,
    trainable,
)
from raytransfer.networks.zoo import ZOO

__all__ = [
    "ZOO",
    "Network",
    "Shape",
    "add_lora",
    "build",
    "check_network",
    "clear_kept",
    "copy_first",
    "cpu_copies",
    "default_image_size",
    "describe",
    "find_stages",
    "freeze",
    "frozen_prefix",
    "image_size_of_args",
    "is_norm",
    "load_tensors",
    "merged",
    "pooled",
    "read_all_layers",
    "resolved",
    "seed_layers",
    "sources_of",
    "train_mode",
    "trainable",
    "used_elsewhere",
]
