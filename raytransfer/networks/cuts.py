"""Cuts of a traced module: places that only one tensor passes, with a row for each image.

Values that depend on shapes but not on pixels may pass a cut, too. Between two cuts lies an *atom*, the smallest part
that can be copied, frozen or skipped by itself.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_flatten

from raytransfer.networks.tracing import Level, TraceError, all_tensors

_SHAPE_ATTRIBUTES = {"shape", "device", "dtype", "ndim", "is_cuda", "requires_grad"}
_SHAPE_METHODS = {"size", "dim", "numel", "stride", "is_contiguous", "get_device", "nelement"}
_NEW_METHODS = {"new_zeros", "new_ones", "new_empty", "new_full"}
_NEW_FUNCTIONS = {"_assert", "zeros_like", "ones_like", "empty_like"}


@dataclass(frozen=True, eq=False)
class Atom:
    """The computation between two cuts.

    Attributes:
        code: Python source of a function of the network's module and a tensor.
        run: That function.
        tensors: Names of the parameters and buffers that it uses.
        bare: Those among them that it uses directly, not through a submodule.
        modules: Paths of the submodules that it calls, in order.
        functions: Names of the functions and methods that it calls.
    """

    code: str
    run: Callable[[nn.Module, torch.Tensor], torch.Tensor]
    tensors: frozenset[str]
    bare: frozenset[str]
    modules: tuple[str, ...]
    functions: frozenset[str]


class _CrossedError(Exception):
    """Something other than the cut's tensor crosses it."""


def pixel_nodes(level: Level) -> set[fx.Node]:
    """The nodes whose values depend on the numbers in the input, not only on its shape."""
    found: set[fx.Node] = set()
    for node in level.graph.nodes:
        if node.op == "placeholder":
            depends = _has_tensor(level.values[node])
        elif (
            node.op == "call_function"
            and (
                (node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES)
                or getattr(node.target, "__name__", "") in _NEW_FUNCTIONS
            )
        ) or (node.op == "call_method" and node.target in _SHAPE_METHODS | _NEW_METHODS):
            depends = False
        else:  # a value that is no tensor can only come from shapes
            depends = any(source in found for source in node.all_input_nodes) and (
                node.op == "output" or _has_tensor(level.values.get(node))
            )
        if depends:
            found.add(node)
    return found


def _has_tensor(value: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in tree_flatten(value)[0])


def cut_nodes(level: Level, pixels: set[fx.Node]) -> tuple[list[fx.Node], bool]:
    """The nodes after which one can cut, in order, and whether the module's paths never divide."""
    position = level.position
    last_use = {
        node: max(
            (position[user] for user in node.users if user in pixels or user.op == "output"),
            default=position[node] if node.op == "placeholder" else -1,
        )
        for node in pixels
    }
    cuts: list[fx.Node] = []
    undivided = True
    live: set[fx.Node] = set()
    for i, node in enumerate(level.graph.nodes):
        if node.op == "output":
            break
        if node not in pixels:
            continue
        live = {value for value in live | {node} if last_use[value] > i}
        if len(live) > 1:
            undivided = False
        elif live:
            (only,) = live
            is_tensor = isinstance(level.values.get(only), torch.Tensor)
            if is_tensor and only.op != "placeholder" and only not in cuts[-1:]:
                cuts.append(only)
    return cuts, undivided


def slice_between(graph: fx.Graph, start: fx.Node, end: fx.Node) -> list[fx.Node]:
    """The nodes that compute ``end`` from ``start``, in order."""
    needed: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is not start and node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return [node for node in graph.nodes if node in needed]


def used_tensors(module: nn.Module, nodes: Iterable[fx.Node]) -> set[str]:
    """Names of the parameters and buffers that nodes use, directly or through submodules."""
    names: set[str] = set()
    for node in nodes:
        if node.op == "call_module":
            path = str(node.target)
            names |= {f"{path}.{name}" for name in all_tensors(module.get_submodule(path))}
        elif node.op == "get_attr":
            names.add(str(node.target))
    return names


def find_atoms(level: Level, larger: Level) -> list[Atom]:
    """The atoms of a network, in order.

    Args:
        level: Its trace on a batch of 2.
        larger: Its trace on a batch of 3, which shows which numbers depend on the size of the batch.

    Raises:
        TraceError: The graph depends on the size of the batch.
    """
    if len(level.graph.nodes) != len(larger.graph.nodes):
        raise TraceError("what it does depends on the size of the batch")
    traces = _Traces(level, larger)
    cuts, _ = cut_nodes(level, traces.pixels)
    (start,) = (node for node in level.graph.nodes if node.op == "placeholder")
    output = next(node for node in level.graph.nodes if node.op == "output")
    # Outputs at a cut are stored and compared by image, but rows may be patches, or the first axis may be tokens.
    cuts = [cut for cut in cuts if traces.has_row_for_each_image(cut)]
    if not isinstance(level.values.get(output.args[0]), torch.Tensor):
        raise TraceError("its output is not one tensor of logits: wrap it in a module that returns these alone")
    atoms: list[Atom] = []
    starts: list[fx.Node] = []
    for end in [*(cut for cut in cuts if cut not in (output.args[0], start)), output]:
        while True:
            try:
                atom = traces.atom(start, end)
                break
            except _CrossedError as error:  # ``start`` is no cut after all: go back to the one before
                if not atoms:
                    raise TraceError(f"it cannot be cut: {error}") from error
                start = starts.pop()
                atoms.pop()
        atoms.append(atom)
        starts.append(start)
        start = end
    return atoms


class _Traces:
    """A network's two traces, from which atoms are cut."""

    def __init__(self, level: Level, larger: Level) -> None:
        self.level, self.pixels = level, pixel_nodes(level)
        self.position = level.position
        self.larger_nodes = dict(zip(level.graph.nodes, larger.graph.nodes, strict=True))
        self.larger: dict[fx.Node, Any] = {node: larger.values.get(other) for node, other in self.larger_nodes.items()}

    def has_row_for_each_image(self, node: fx.Node) -> bool:
        """Whether the first axis of a node's value is the batch."""
        return (self.level.values[node].shape[:1], self.larger[node].shape[:1]) == ((2,), (3,))

    def atom(self, start: fx.Node, end: fx.Node) -> Atom:
        """The atom from the value of one node to that of another.

        Raises:
            _CrossedError: It needs a value from before ``start`` that is no shape.
        """
        builder = _Builder(self, start)
        nodes = builder.copy(end)
        code = builder.graph.python_code("self")
        scope = dict(code.globals)
        exec(code.src, scope)
        called = [node for node in nodes if node.op in ("call_function", "call_method")]
        return Atom(
            code=code.src,
            run=scope["forward"],
            tensors=frozenset(used_tensors(self.level.module, nodes)),
            bare=frozenset(str(node.target) for node in nodes if node.op == "get_attr"),
            modules=tuple(str(node.target) for node in nodes if node.op == "call_module"),
            functions=frozenset(str(getattr(node.target, "__name__", node.target)) for node in called),
        )


class _Builder:
    """Builds the graph of one atom."""

    def __init__(self, traces: _Traces, start: fx.Node) -> None:
        self._traces, self._start = traces, start
        self.graph = fx.Graph()
        self._input = self.graph.placeholder("x")
        self._made: dict[fx.Node, Any] = {start: self._input}
        self._sizes: dict[int, fx.Node] = {}

    def copy(self, end: fx.Node) -> list[fx.Node]:
        """Copy the nodes that ``end`` needs, in their order, as that is the order of random draws; returns them."""
        needed = self._needed(end)
        copied = []
        for node in self._traces.level.graph.nodes:
            if node not in needed or node.op == "output" or node in self._made:
                continue
            if node.op == "placeholder" or self._is_before(node):
                raise _CrossedError(f"{node} is used on both sides of {self._start}")
            if self._comes_from_before(node):
                self._made[node] = self._shape_of_before(node)
            else:
                self._made[node] = self.graph.create_node(
                    node.op, node.target, *self._arguments(node), node.name, node.type
                )
                copied.append(node)
        result = end.args[0] if end.op == "output" else end
        self.graph.output(fx.node.map_arg(result, lambda source: self._made[source]))
        return copied

    def _arguments(self, node: fx.Node, first: int = 0) -> tuple[Any, Any]:
        """Arguments for a copy of a node, the positional ones from number ``first`` on, and those by name.

        Numbers that grow with the batch, as from ``len(x)``, are computed from the atom's own input.
        """
        larger: list[Any] = []
        other = self._traces.larger_nodes[node]
        fx.node.map_aggregate((other.args[first:], other.kwargs), larger.append)
        others = iter(larger)

        def made(source: Any) -> Any:
            grown = next(others)
            if isinstance(source, fx.Node):
                return self._made[source]
            return self._constant(source, grown) if type(source) is int else source

        args, kwargs = fx.node.map_aggregate((node.args[first:], node.kwargs), made)
        return args, kwargs

    def _needed(self, end: fx.Node) -> set[fx.Node]:
        needed: set[fx.Node] = set()
        waiting = [end]
        while waiting:
            node = waiting.pop()
            if node is self._start or node in needed:
                continue
            needed.add(node)
            if not self._comes_from_before(node):
                waiting += node.all_input_nodes
            elif node.op == "call_method" and node.target in _NEW_METHODS:
                waiting += [source for source in node.all_input_nodes if not self._is_before(source)]
        return needed

    def _is_before(self, node: fx.Node) -> bool:
        """Whether a node depends on pixels and comes before the atom."""
        position = self._traces.position
        return node in self._traces.pixels and position[node] < position[self._start]

    def _comes_from_before(self, node: fx.Node) -> bool:
        """Whether a node's value is computed from the shape of a node before the atom."""
        return node not in self._traces.pixels and any(map(self._is_before, node.all_input_nodes))

    def _shape_of_before(self, node: fx.Node) -> Any:
        """Such a value, computed from the atom's own input instead."""
        if node.op == "call_function" and node.target is getattr and node.args[1] in ("device", "dtype"):
            return self.graph.call_function(getattr, (self._input, node.args[1]))
        if node.op == "call_method" and node.target in _NEW_METHODS:
            args, kwargs = self._arguments(node, first=1)
            return self.graph.call_method(node.target, (self._input, *args), kwargs)
        return self._constant(self._traces.level.values[node], self._traces.larger[node])

    def _constant(self, value: Any, larger: Any) -> Any:
        """A value that is constant, or else a node if it grows with the batch."""
        if isinstance(value, tuple | list):
            return tuple(self._constant(*pair) for pair in zip(value, larger, strict=True))
        if value is not None and not isinstance(value, int | float | bool | str):
            raise _CrossedError(f"a {type(value).__name__} is used on both sides of {self._start}")
        if value == larger or isinstance(value, bool) or not isinstance(value, int):
            return value
        if 3 * value != 2 * larger:
            raise _CrossedError(f"a number that is {value} in a batch of 2 and {larger} in one of 3")
        level = self._traces.level
        shapes = zip(level.values[self._start].shape, self._traces.larger[self._start].shape, strict=True)
        for axis, (size, grown) in enumerate(shapes):
            if size != grown and 3 * size == 2 * grown:
                return self._scaled(axis, value, size)
        raise _CrossedError(f"{self._start} has no axis that grows with the batch")

    def _scaled(self, axis: int, value: int, size: int) -> fx.Node:
        """A number proportional to an axis of the atom's input: ``value`` where the axis has this size."""
        if axis not in self._sizes:
            shape = self.graph.call_function(getattr, (self._input, "shape"))
            self._sizes[axis] = self.graph.call_function(operator.getitem, (shape, axis))
        if value == size:
            return self._sizes[axis]
        grown = self.graph.call_function(operator.mul, (self._sizes[axis], value))
        return self.graph.call_function(operator.floordiv, (grown, size))


def owners(atoms: Sequence[Atom], tensors: dict[str, torch.Tensor]) -> list[list[str]]:
    """The tensors that each atom owns: a tensor belongs to the first atom that uses it under any name.

    If a later atom owned it, training that atom would change the outputs of frozen layers before it. Tensors that no
    atom uses go with the atom that owns the most similar names.
    """
    first: dict[str, int] = {}
    for i, atom in enumerate(atoms):
        for name in atom.tensors:
            first.setdefault(name, i)
    by_tensor: dict[int, int] = {}
    for name, i in first.items():  # one tensor under two names has one owner
        key = id(tensors[name])
        by_tensor[key] = min(i, by_tensor.get(key, i))
    owned: list[list[str]] = [[] for _ in atoms]
    for name, tensor in tensors.items():
        owner = by_tensor.get(id(tensor))
        owned[_nearest(name, first) if owner is None else owner].append(name)
    return owned


def _nearest(name: str, first: dict[str, int]) -> int:
    """The last atom that uses a tensor from the innermost possible module around this one."""
    parts = name.split(".")[:-1]
    while parts:
        inside = [i for other, i in first.items() if other.startswith(".".join(parts) + ".")]
        if inside:
            return max(inside)
        parts.pop()
    return max(first.values(), default=0)
