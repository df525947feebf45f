"""A network as stages that run one after the other and share out its parameters and buffers."""

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
    """A block that may run a module in any mode: its buffers and the flags of its modules are then as they were."""
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
    """Have layers drop what they keep of their weights, and leave the module in eval mode.

    Attention of timm's LeViT, TinyViT and EfficientFormer keeps its biases by place from its first images in eval mode
    on, with or without their gradient, and drops them in training mode: other weights in their place change nothing.
    """
    module.train()
    module.eval()


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One layer of a network in the sense of the papers: what is copied or frozen as a whole.

    Attributes:
        name: What papers and rows call it, such as ``conv1``.
        tensors: Names of the parameters and buffers that belong to it, those that no state dict holds included.
        evaluation: What it does in eval mode, in order.
        training: The same in training mode.
    """

    name: str
    tensors: tuple[str, ...]
    evaluation: tuple[Atom, ...]
    training: tuple[Atom, ...]


def run_stages(module: nn.Module, stages: Sequence[Stage], inputs: torch.Tensor) -> torch.Tensor:
    """Outputs of some stages of a module, one after the other, in its mode."""
    for stage in stages:
        for atom in stage.training if module.training else stage.evaluation:
            inputs = atom.run(module, inputs)
    return inputs


@dataclass(eq=False)
class Network:
    """A module and its stages, from the input to the head, and which of them stay as they are while it trains.

    Attributes:
        module: Takes images (B, C, H, W), float, and gives logits (B, classes).
        stages: Its N stages; the last is the head, so n copied layers run from 1 to N-1. Run one after the other they
            compute what the module computes.
        image: Channels, height and width of the images it takes.
        frozen: Stages, counted from 0, whose tensors stay as they are; ``raytransfer.networks.freeze`` sets it, and the
            next two.
        still: The modules of those stages that stay in eval mode, so that their statistics do not move.
        repeatable: How many stages, of the frozen ones from the input on, always give the same for the same image in
            training mode: they draw no random numbers, and what they make of an image does not depend on the others of
            its batch.
        below_head: Its stages below the head as they are by themselves, where the head reads all layers and ``stages``
            carry what it will read; none for other networks.
        fixed: Names of the parameters that the module came with out of training, such as position embeddings that are
            sines: they stay so, whatever is frozen or released.
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
        """Outputs of the stages ``start`` to ``stop``, which is left out; by default all, from images to logits.

        Args:
            inputs: (B, ...) what stage ``start`` takes: images for 0, else the outputs of the stages before it.
            start: First stage to run, counted from 0: as many stages are skipped.
            stop: Stage to stop before; None for the end.
        """
        return run_stages(self.module, self.stages[start:stop], inputs)

    def outputs(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """The outputs of each layer, one after the other: the next may overwrite them.

        Args:
            inputs: (B, C, H, W) images.
        """
        outputs = inputs.clone()  # as a stage may begin by overwriting what it takes
        for stage in self.below_head or self.stages:
            outputs = run_stages(self.module, (stage,), outputs)
            yield outputs
        if self.below_head:
            yield self.through(inputs)

    def tensors(self, stage: int) -> Iterator[tuple[str, torch.Tensor]]:
        """Names, and the parameters and buffers of a stage, counted from 0."""
        for name in self.stages[stage].tensors:
            yield name, operator.attrgetter(name)(self.module)

    def first_names(self, n: int) -> list[str]:
        """State-dict names of the parameters and buffers of the first n stages."""
        owned = {name for stage in self.stages[:n] for name in stage.tensors}
        return [name for name in self.module.state_dict() if name in owned]
