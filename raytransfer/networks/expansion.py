"""Deciding which modules of a network to trace through for cuts, and which are blocks that stay whole."""

import collections
import re
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from raytransfer.networks.cuts import cut_nodes, pixel_nodes, slice_between, used_tensors
from raytransfer.networks.tracing import Calls, TraceError, trace

_NORM_NAME = re.compile(r"Norm(2d|Act|Act2d)?$|^LayerNorm|BatchNorm|GroupNorm|RmsNorm|RMSNorm")


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation: in the papers' sense that is no layer, but part of the one before."""
    return isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm) or bool(_NORM_NAME.search(type(module).__name__))


def expandable(module: nn.Module, calls: Calls) -> set[str]:
    """Paths of the modules to trace through; the others are blocks.

    Containers are traced through. Other modules are decided class by class, from the outside in. A class is traced
    through if in each instance the paths never divide, or it holds a series of blocks of one class, and if at least one
    instance can be cut between two parts with weights.

    Args:
        module: The network.
        calls: Recorded inputs and outputs of its submodules.
    """
    return _Expansion(module, calls).expand


class _Look(NamedTuple):
    """What the trace of a module shows.

    Attributes:
        can_be_cut: Whether there is a cut between two parts with weights.
        undivided: Whether its paths never divide.
    """

    can_be_cut: bool
    undivided: bool


_OPAQUE = _Look(can_be_cut=False, undivided=False)
"""The verdict on a module that cannot be traced or is called more than once."""


class _Expansion:
    def __init__(self, module: nn.Module, calls: Calls) -> None:
        self._module, self._calls = module, calls
        leaves = [path for path in calls if _has_weights_itself(module.get_submodule(path))]
        self._head = leaves[-1] if leaves else ""
        self.expand = {""}
        self._blocks: set[type[nn.Module]] = set()
        paths = [""]
        while paths:
            undecided = self._through_containers(paths)
            paths = []
            for cls, found in undecided.items():
                if cls in self._blocks:
                    continue
                if self._is_divisible(found):
                    self.expand |= {*found}
                    paths += found
                else:
                    self._blocks.add(cls)
        for path in list(self.expand):  # a class may have been found to be a block only after instances were added
            if path and type(module.get_submodule(path)) in self._blocks:
                self.expand -= {other for other in self.expand if other == path or other.startswith(f"{path}.")}

    def _through_containers(self, paths: list[str]) -> dict[type[nn.Module], dict[str, nn.Module]]:
        """Expand the containers below these modules; returns the other modules found there, by class and path."""
        undecided: dict[type[nn.Module], dict[str, nn.Module]] = collections.defaultdict(dict)
        for path, child, is_container in (found for parent in paths for found in self._below(parent)):
            if path not in self._calls or not _has_parts(child):
                continue
            if is_container:
                self.expand.add(path)
            elif type(child) is not nn.Sequential:
                undecided[type(child)][path] = child
        return undecided

    def _below(self, parent: str) -> Iterator[tuple[str, nn.Module, bool]]:
        """Path and module of each child, and whether it is a container, whose children then follow."""
        for name, child in self._module.get_submodule(parent).named_children():
            path = f"{parent}.{name}" if parent else name
            if isinstance(child, nn.ModuleList | nn.ModuleDict) or (
                isinstance(child, nn.Sequential) and path not in self._calls
            ):
                yield from self._below(path)  # its children are called one by one
                continue
            is_called_whole = type(child) is nn.Sequential and self._is_called_once(path)
            is_container = is_called_whole and not self._is_one_layer(path, child)
            yield path, child, is_container
            if is_container:
                yield from self._below(path)

    def _is_divisible(self, found: dict[str, nn.Module]) -> bool:
        """Whether to trace through a class with these instances."""
        looks = [(module, self._look(path, module)) for path, module in found.items()]
        none_is_a_block = all(look.undivided or (look.can_be_cut and _holds_series(module)) for module, look in looks)
        return none_is_a_block and any(look.can_be_cut for _, look in looks)

    def _look(self, path: str, module: nn.Module) -> "_Look":
        """Trace a module and try all its cuts."""
        if not self._is_called_once(path):
            return _OPAQUE
        containers = {inner.removeprefix(f"{path}.") for inner, _, is_container in self._below(path) if is_container}
        try:
            level = trace(module, path, containers, self._calls)
        except TraceError:
            return _OPAQUE
        cuts, undivided = cut_nodes(level, pixel_nodes(level))
        start = next((node for node in level.graph.nodes if node.op == "placeholder"), None)
        if start is None:
            return _OPAQUE
        every = used_tensors(module, level.graph.nodes)
        layers = _without_norms(module, every)
        holds_head = self._head.startswith(f"{path}.")
        for cut in cuts:
            before = used_tensors(module, slice_between(level.graph, start, cut))
            layers_before = _without_norms(module, before)
            if layers_before and layers - layers_before:
                return _Look(can_be_cut=True, undivided=undivided)
            if holds_head and undivided and before and every - before:  # even a norm can be cut off from the head
                return _Look(can_be_cut=True, undivided=True)
        return _Look(can_be_cut=False, undivided=undivided)

    def _is_called_once(self, path: str) -> bool:
        return len(self._calls.get(path, ())) == 1

    def _is_one_layer(self, path: str, container: nn.Module) -> bool:
        """Whether a container holds a single layer and, say, its norm; False for the one that holds the head."""
        if self._head.startswith(f"{path}."):
            return False
        weighty = [child for child in container.children() if any(map(_has_weights_itself, child.modules()))]
        return len(weighty) == 1 and not _has_parts(weighty[0])


def _has_weights_itself(module: nn.Module) -> bool:
    return not is_norm(module) and any(True for _ in module.parameters(recurse=False))


def _without_norms(module: nn.Module, names: set[str]) -> set[str]:
    """The tensors that belong to submodules other than normalisations."""
    owners = ((name, name.rpartition(".")[0]) for name in names)
    return {name for name, owner in owners if owner and not is_norm(module.get_submodule(owner))}


def _holds_series(module: nn.Module) -> bool:
    """Whether a container in a module holds at least two modules of one class that have children."""
    return any(
        max(collections.Counter(map(type, filter(_has_parts, child.children()))).values(), default=0) >= 2
        or _holds_series(child)
        for child in module.children()
        if isinstance(child, nn.Sequential | nn.ModuleList)
    )


def _has_parts(module: nn.Module) -> bool:
    return any(True for _ in module.children())
