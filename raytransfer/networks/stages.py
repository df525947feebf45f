"""Where a network can be cut: stages that run one after the other and share out its parameters and buffers."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


@dataclass(frozen=True)
class Stage:
    """One layer of a network in the sense of the papers: what is copied or frozen as a whole.

    Attributes:
        name: What papers and rows call it, such as ``conv1``.
        modules: Paths of the modules it consists of, in the order they run, those without parameters included.
    """

    name: str
    modules: tuple[str, ...]


@dataclass(eq=False)
class Network:
    """A module and its stages, from the input to the head, and which of them stay as they are while it trains.

    Attributes:
        module: Takes images (B, C, H, W), float, and gives logits (B, classes).
        stages: Its N stages; the last is the head, so n copied layers run from 1 to N-1. Run one after the other they
            compute what the module computes.
        frozen: How many stages, from the input on, do not train; ``raytransfer.networks.freeze_first`` sets it.
    """

    module: nn.Module
    stages: tuple[Stage, ...]
    frozen: int = 0

    def __post_init__(self) -> None:
        tensors = [*dict(self.module.named_parameters()), *dict(self.module.named_buffers())]
        for tensor in tensors:
            owners = [stage.name for stage in self.stages if _owns(stage, tensor)]
            if len(owners) != 1:
                raise ValueError(f"{tensor} must belong to one stage, and belongs to {owners or 'none'}")

    def through(self, inputs: torch.Tensor, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Outputs of the stages ``start`` to ``stop``, which is left out; by default all, from images to logits.

        Args:
            inputs: (B, ...) what stage ``start`` takes: images for 0, else the outputs of the stages before it.
            start: First stage to run, counted from 0: as many stages are skipped.
            stop: Stage to stop before; None for the end.
        """
        for stage in self._in_order[start:stop]:
            for module in stage:
                inputs = module(inputs)
        return inputs

    @functools.cached_property
    def _in_order(self) -> tuple[tuple[nn.Module, ...], ...]:
        """The modules of each stage."""
        return tuple(tuple(self.module.get_submodule(path) for path in stage.modules) for stage in self.stages)

    def first(self, n: int) -> Iterator[nn.Module]:
        """The modules of the first n stages, submodules included."""
        for stage in self._in_order[:n]:
            for module in stage:
                yield from module.modules()

    def first_names(self, n: int) -> list[str]:
        """State-dict names of the parameters and buffers of the first n stages."""
        return [name for name in self.module.state_dict() if any(_owns(stage, name) for stage in self.stages[:n])]


def _owns(stage: Stage, tensor: str) -> bool:
    return any(tensor.startswith(f"{path}.") for path in stage.modules)
