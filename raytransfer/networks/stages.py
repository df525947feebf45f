"""A network as a sequence of stages, among which its parameters and buffers are divided."""

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from raytransfer.networks.cuts import Atom
from raytransfer.networks.tracing import all_tensors

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Restore a module's buffers and modes at the end of a block that runs it."""
    flags = [(child, child.training) for child in module.modules()]
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(before[name])
        for child, training in flags:
            child.training = training


def clear_kept(module: nn.Module) -> None:
    """Have layers drop what they cache of their weights, and leave the module in eval mode.

    In eval mode, attention of timm's LeViT, TinyViT and EfficientFormer caches its position biases, with or without
    gradients, until the module enters training mode; changes of the weights would have no effect.
    """
    module.train()
    module.eval()


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One layer of a network in the sense of the papers, which is copied or frozen as a whole.

    Attributes:
        name: Its name in tables, such as ``conv1``.
        tensors: Names of its parameters and buffers, non-persistent ones included.
        evaluation: Its atoms in eval mode, in order.
        training: Its atoms in training mode.
    """

    name: str
    tensors: tuple[str, ...]
    evaluation: tuple[Atom, ...]
    training: tuple[Atom, ...]


def run_stages(module: nn.Module, stages: Sequence[Stage], inputs: torch.Tensor) -> torch.Tensor:
    """Run some stages of a module in sequence, in its current mode."""
    for stage in stages:
        for atom in stage.training if module.training else stage.evaluation:
            inputs = atom.run(module, inputs)
    return inputs


@dataclass(eq=False)
class Network:
    """A module, its stages from the input to the head, and which of them are frozen.

    Attributes:
        module: Takes images (B, C, H, W), float, and returns logits (B, classes).
        stages: Its N stages, which in sequence compute what the module computes. The last is the head, so that 1 to N-1
            layers can be copied.
        image: Channels, height and width of its images.
        frozen: Frozen stages, counted from 0; ``raytransfer.networks.freeze`` sets this and the next two.
        still: Modules of these stages that stay in eval mode, so that their statistics do not change.
        repeatable: Number of frozen stages from the input on whose outputs in training mode depend on the image alone:
            they draw no random numbers, and do not mix the images of a batch.
        below_head: If the head reads all layers, the stages below it without the features that ``stages`` pass on to
            the head; empty for other networks.
        fixed: Names of parameters that the module itself keeps from training, such as sine position embeddings; they
            never train.
    """

    module: nn.Module
    stages: tuple[Stage, ...]
    image: tuple[int, ...]
    frozen: frozenset[int] = frozenset()
    still: tuple[nn.Module, ...] = ()
    repeatable: int = 0
    below_head: tuple[Stage, ...] = ()
    fixed: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        parameters = self.module.named_parameters(remove_duplicate=False)
        self.fixed = frozenset(name for name, parameter in parameters if not parameter.requires_grad)
        owners: dict[str, list[str]] = {}
        for stage in self.stages:
            for tensor in stage.tensors:
                owners.setdefault(tensor, []).append(stage.name)
        for tensor in all_tensors(self.module):
            if len(owners.get(tensor, ())) != 1:
                raise ValueError(f"{tensor} must belong to one stage, and belongs to {owners.get(tensor, 'none')}")

    def through(self, inputs: torch.Tensor, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Run the stages from ``start`` up to but not including ``stop``; by default all, from images to logits.

        Args:
            inputs: (B, ...) inputs of stage ``start``: images for 0, else the outputs of the stage before it.
            start: First stage to run, counted from 0.
            stop: Stage to stop before; None for the end.
        """
        return run_stages(self.module, self.stages[start:stop], inputs)

    def outputs(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the outputs of each layer in turn; computing the next may overwrite them.

        Args:
            inputs: (B, C, H, W) images.
        """
        outputs = inputs.clone()  # a stage may overwrite its inputs
        for stage in self.below_head or self.stages:
            outputs = run_stages(self.module, (stage,), outputs)
            yield outputs
        if self.below_head:
            yield self.through(inputs)

    def tensors(self, stage: int) -> Iterator[tuple[str, torch.Tensor]]:
        """Names and tensors of the parameters and buffers of a stage, counted from 0."""
        for name in self.stages[stage].tensors:
            yield name, operator.attrgetter(name)(self.module)

    def first_names(self, n: int) -> list[str]:
        """State-dict names of the parameters and buffers of the first n stages."""
        owned = {name for stage in self.stages[:n] for name in stage.tensors}
        return [name for name in self.module.state_dict() if name in owned]
