"""Tracing a module on a batch into a graph in which its children are single nodes, except expanded ones.

So blocks stay whole, which a full trace would cut through. Every value is known during the trace, so that a network may
branch on shapes; it may not branch on pixels.
"""

import collections
import operator
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from raytransfer.errors import one_line


class TraceError(Exception):
    """A module cannot be traced; the message says why, for the user."""


_PIXELS = "what it does depends on the numbers in its input, not only on their shape"
_READS_NUMBERS = ("item", "tolist")

Calls = Mapping[str, list[tuple[tuple[Any, ...], dict[str, Any], Any]]]
"""The calls of each submodule by its path: positional arguments, keyword arguments and output."""


@dataclass(frozen=True, eq=False)
class Level:
    """One module's graph.

    Attributes:
        module: The module.
        graph: Its ``forward``; children are leaves, except expanded ones.
        values: Value of each node for the inputs of the trace.
    """

    module: nn.Module
    graph: fx.Graph
    values: dict[fx.Node, Any]

    def __post_init__(self) -> None:
        self.graph.lint()

    @property
    def position(self) -> dict[fx.Node, int]:
        """Position of each node in the order of execution."""
        return {node: i for i, node in enumerate(self.graph.nodes)}


def all_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers of a module by name, under each of their names, non-persistent ones included."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def record(module: nn.Module, inputs: torch.Tensor) -> Calls:
    """Run a module and record inputs and outputs of each submodule; the module's exceptions are not caught."""
    calls: dict[str, list[Any]] = collections.defaultdict(list)
    names = {child: name for name, child in module.named_modules()}

    def note(child: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        calls[names[child]].append((_detached(args), _detached(kwargs), _detached(output)))

    handles = [child.register_forward_hook(note, with_kwargs=True) for child in module.modules()]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def trace(root: nn.Module, path: str, expand: Collection[str], calls: Calls) -> Level:
    """Trace a module on the arguments of its last recorded call; their tensors become the graph's inputs.

    Args:
        root: The module.
        path: Its path in the network whose calls were recorded.
        expand: Paths, relative to the module, of the submodules to trace through.
        calls: The recorded calls.

    Raises:
        TraceError: It branches on the numbers in its input, or cannot be traced for another reason.
    """
    args, kwargs, _ = calls[path][-1]
    leaves, spec = tree_flatten((args, kwargs))
    tensors = {f"input_{i}": leaf for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)}
    cls = type(root)

    def forward(self: nn.Module, *given: Any) -> Any:
        places = iter(given)
        filled = [next(places) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        positional, keyword = tree_unflatten(filled, spec)
        return cls.forward(self, *positional, **keyword)

    tracer = _Tracer(root, path, expand, calls, {name: _detached(tensor) for name, tensor in tensors.items()})
    # fx reads names of inputs from the signature, so the module gets a forward that takes just the tensors.
    names = ", ".join(tensors)
    scope: dict[str, Any] = {"forward": forward}
    exec(f"def stand_in(self, {names}):\n    return forward(self, {names})", scope)
    root.__class__ = type(cls.__name__, (cls,), {"forward": scope["stand_in"]})
    buffers = [(module, dict(module._buffers)) for module in root.modules()]
    try:
        graph = tracer.trace(root)
    except TraceError:
        raise
    except Exception as error:  # whatever a network of the user's raises
        raise TraceError(_reason(error)) from error
    finally:
        root.__class__ = cls
        for module, own in buffers:  # forward may have assigned a proxy to one
            module._buffers.update(own)
    return Level(root, graph, tracer.values)


def _detached(values: Any) -> Any:
    return tree_map(lambda v: v.detach() if isinstance(v, torch.Tensor) else v, values)


def _number(value: Any) -> Any:
    """Return a value that does not depend on pixels.

    Raises:
        TraceError: It is a tensor, so it may.
    """
    if isinstance(value, torch.Tensor):
        raise TraceError(_PIXELS)
    return value


def _reason(error: Exception) -> str:
    """Why a module cannot be traced, in one line."""
    text = one_line(error)
    if "numpy" in text.lower() or "__array" in text:
        return "it computes with NumPy, which cannot be followed"
    return text[:300]


class _Value(fx.Proxy):
    """A proxy that also knows its value, so that a network can branch on shapes."""

    value: Any = None

    def __getattr__(self, name: str) -> Any:
        return _Attribute(self, name)

    @property
    def ndim(self) -> int:
        ndim: int = self.value.ndim
        return ndim

    def __len__(self) -> int:
        return len(self.value)

    def __index__(self) -> int:
        return operator.index(_number(self.value))

    def __int__(self) -> int:
        return int(_number(self.value))

    def __float__(self) -> float:
        return float(_number(self.value))

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.value, torch.Tensor):
            parts: Any = self.unbind(0)
            return (parts[i] for i in range(len(self.value)))
        if isinstance(self.value, dict):
            return iter(self.value)
        whole: Any = self
        return iter([whole[i] for i in range(len(self.value))])

    def __contains__(self, item: Any) -> bool:
        return item in self.value

    def __hash__(self) -> int:
        return id(self)

    def keys(self) -> Any:
        return self.value.keys()


class _Attribute(_Value):
    """An attribute of a value, or one of its methods before it is called."""

    def __init__(self, owner: _Value, name: str) -> None:
        self.root, self.attr, self.tracer = owner, name, owner.tracer
        self.value = getattr(owner.value, name)
        self._node: fx.Node | None = None

    @property
    def node(self) -> fx.Node:  # type: ignore[override]  # fx's own Attribute does the same
        if self._node is None:  # only made if needed, as a method call needs none
            self._node = self.tracer.create_proxy("call_function", getattr, (self.root, self.attr), {}).node
        return self._node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


class _Tracer(fx.Tracer):
    def __init__(
        self, root: nn.Module, path: str, expand: Collection[str], calls: Calls, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        super().__init__(param_shapes_constant=False)
        self.proxy_buffer_attributes = True
        self.values: dict[fx.Node, Any] = {}
        self._top, self._path, self._expand, self._calls, self._inputs = root, path, expand, calls, inputs
        self._called: collections.Counter[str] = collections.Counter()
        self._tensors = all_tensors(root)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self._expand and m is not self._top

    def proxy(self, node: fx.Node) -> _Value:
        return _Value(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(_number(cast(_Value, obj).value))

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> _Value:
        proxy = cast(_Value, super().create_proxy(kind, target, args, kwargs, *rest, **more))
        proxy.value = self.values[proxy.node] = self._value(kind, target, args, kwargs)
        return proxy

    def _value(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self._inputs[target]
        if kind == "get_attr":
            found = self._tensors.get(target)
            return _detached(operator.attrgetter(target)(self._top) if found is None else found)
        if kind == "call_module":
            call = self._called[target]
            self._called[target] += 1
            return self._calls[f"{self._path}.{target}" if self._path else target][call][2]
        args, kwargs = tree_map(lambda v: v.value if isinstance(v, fx.Proxy) else v, (args, kwargs))
        args, kwargs = _detached(args), _detached(kwargs)
        if kind == "call_method" and target in _READS_NUMBERS:
            _number(args[0])
        with torch.no_grad():
            return target(*args, **kwargs) if kind == "call_function" else getattr(args[0], target)(*args[1:], **kwargs)
