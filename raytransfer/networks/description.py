"""A description of a network's stages, to choose where to cut."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from raytransfer.networks.cuts import Atom
from raytransfer.networks.expansion import is_norm
from raytransfer.networks.stages import Network
from raytransfer.networks.surgery import behaviour


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """A description of one stage.

    Attributes:
        n: Its number, from 1; cut n lies after it.
        name: Its name.
        parameters: Number of its parameters.
        output: Shape of its output for one image.
        mflops: Millions of floating-point operations for one image, a multiply-add counted as two.
        random: Whether it draws random numbers in training.
        statistics: Whether it updates statistics in training.
        parts: Its parts, in order; those without weights or that only normalise in parentheses.
    """

    n: int
    name: str
    parameters: int
    output: tuple[int, ...]
    mflops: float
    random: bool
    statistics: bool
    parts: tuple[str, ...]


@torch.no_grad()
def describe(network: Network) -> list[StageRow]:
    """Describe a network's stages, by running it in both modes."""
    from torch.utils.flop_counter import FlopCounterMode  # imports PyTorch's compiler

    seen = behaviour(network, len(network.stages))
    network.module.eval()
    outputs = torch.zeros(1, *network.image)
    rows = []
    for i, stage in enumerate(network.stages):
        with FlopCounterMode(display=False) as counter, _attention_by_its_parts():
            outputs = network.through(outputs, i, i + 1)
        parameters = {id(t): t.numel() for _, t in network.tensors(i) if isinstance(t, nn.Parameter)}
        rows.append(
            StageRow(
                n=i + 1,
                name=stage.name,
                parameters=sum(parameters.values()),
                output=tuple(outputs.shape[1:]),
                mflops=counter.get_total_flops() / 1e6,
                random=seen[i].draws,
                statistics=bool(seen[i].moving),
                parts=tuple(_part(network.module, atom) for atom in stage.evaluation),
            )
        )
    return rows


@contextmanager
def _attention_by_its_parts() -> Iterator[None]:
    """PyTorch's attention without its fast path, one operation in which the counter sees nothing."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _part(module: nn.Module, atom: Atom) -> str:
    """Name of an atom, in parentheses if it has no weights or only normalises, and so makes no stage."""
    functions = sorted(atom.functions - {"getattr", "getitem"}) or ["select"]
    name = "+".join(atom.modules or functions)
    inside = {tensor.rpartition(".")[0] for tensor in atom.tensors - atom.bare}
    return f"({name})" if all(is_norm(module.get_submodule(path)) for path in inside) else name
