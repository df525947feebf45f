"""A head on all layers below it: Head2Toe (Evci et al. 2022, arXiv 2201.03529), without its choice of features."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from raytransfer.networks.cuts import Atom
from raytransfer.networks.stages import Network, Stage, run_stages, untouched

_HEAD = "all_layers_head"
_LONGEST = 1024  # features of a layer, unless it has more channels


class _ReadsAllLayers(nn.Module):
    """Mixin for the module's class, whose own forward would call the old head."""

    all_layers_stages: tuple[Stage, ...]  # timm's own networks have modules named stages

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return run_stages(self, self.all_layers_stages, images)


def pooled(outputs: torch.Tensor, image: Sequence[int]) -> torch.Tensor:
    """Average outputs (B, ...) over positions to feature vectors (B, D) with D <= 1024, or D = C if C is larger.

    Maps (B, C, H, W) are pooled to the largest grid that fits, and tokens (B, N, C) to the largest number of runs of
    tokens. Maps (B, H, W, C), as Swin's, are recognised by their shape: their first two sides have the images' aspect
    ratio, and their last two do not.

    Args:
        outputs: Outputs of a stage.
        image: Channels, height and width of the network's images.
    """
    if outputs.ndim == 4:
        (_, down, across), (first, second, third) = image, outputs.shape[1:]
        if first * across == second * down and second * across != third * down:
            outputs = outputs.movedim(3, 1)
    if outputs[0].numel() > _LONGEST:
        if outputs.ndim == 4:
            side = max(1, math.isqrt(_LONGEST // outputs.shape[1]))
            height, width = outputs.shape[2:]
            outputs = functional.adaptive_avg_pool2d(outputs, (min(side, height), min(side, width)))
        elif outputs.ndim == 3:
            runs = max(1, _LONGEST // outputs.shape[2])
            outputs = functional.adaptive_avg_pool1d(outputs.mT, runs).mT
    return outputs.flatten(1)


def read_all_layers(network: Network, *, classes: int, seed: int) -> None:
    """Replace the network's head, in place, by a linear one that reads the outputs of all layers below it.

    Each layer's outputs are ``pooled`` and scaled to a mean square of 1 for each image, so that no layer outweighs
    another; outputs of zero stay zero. The paper also normalises each layer (to length 1; with a mean square of 1 the
    learning rate need not change), but then keeps only features that a group lasso chooses. Here all are kept.

    Stages still pass on one tensor: the head's features of the layers so far, joined with the last layer's outputs. So
    the network can still be cut, frozen and reused between any two stages.

    Args:
        network: The network, on its device.
        classes: Outputs of the new head.
        seed: Seed of its weights; torch's global generator is left as it was.
    """
    module, old_head = network.module, network.stages[-1]
    inputs, features = _sizes(network)
    like = next(module.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = nn.Linear(features, classes).to(like)
    for name in old_head.tensors:
        owner, _, last = name.rpartition(".")
        delattr(module.get_submodule(owner), last)
    module.add_module(_HEAD, head)
    below = [
        replace(
            stage,
            evaluation=_beside(stage.evaluation, shape, network.image, is_first=i == 0, is_last=i == len(inputs) - 1),
            training=_beside(stage.training, shape, network.image, is_first=i == 0, is_last=i == len(inputs) - 1),
        )
        for i, (stage, shape) in enumerate(zip(network.stages, inputs, strict=False))
    ]
    network.below_head = network.stages[:-1]
    tensors = (f"{_HEAD}.weight", f"{_HEAD}.bias")
    reads = (_atom(lambda module, outputs: module.get_submodule(_HEAD)(outputs), tensors),)
    network.stages = (*below, Stage(name=old_head.name, tensors=tensors, evaluation=reads, training=reads))
    own = {"all_layers_stages": network.stages}
    module.__class__ = type(type(module).__name__, (_ReadsAllLayers, type(module)), own)


@torch.no_grad()
def _sizes(network: Network) -> tuple[list[tuple[int, ...]], int]:
    """Shape of each stage's input for one image, for stages below the head, and the new head's number of inputs."""
    like, shapes, features = next(network.module.parameters()), [], 0
    with untouched(network.module):
        network.module.eval()
        outputs = torch.zeros((2, *network.image), device=like.device, dtype=like.dtype)
        for i in range(len(network.stages) - 1):
            shapes.append(tuple(outputs.shape[1:]))
            outputs = network.through(outputs, i, i + 1)
            features += pooled(outputs, network.image).shape[1]
    return shapes, features


def _beside(
    atoms: Sequence[Atom], shape: tuple[int, ...], image: Sequence[int], *, is_first: bool, is_last: bool
) -> tuple[Atom]:
    """A stage whose inputs are the head's features so far, joined with its own inputs, which have this shape."""
    size = math.prod(shape)

    def run(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        parts = [] if is_first else [inputs[:, :-size]]
        outputs = inputs if is_first else inputs[:, -size:].reshape(-1, *shape)
        for atom in atoms:
            outputs = atom.run(module, outputs)
        found = pooled(outputs, image).float()
        parts.append(functional.normalize(found, dim=1) * math.sqrt(found.shape[1]))
        return torch.cat(parts if is_last else [*parts, outputs.flatten(1)], dim=1)

    return (_atom(run, [name for atom in atoms for name in atom.tensors]),)


def _atom(run: Callable[[nn.Module, torch.Tensor], torch.Tensor], tensors: Iterable[str]) -> Atom:
    return Atom(code="", run=run, tensors=frozenset(tensors), bare=frozenset(), modules=(), functions=frozenset())
