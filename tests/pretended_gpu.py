"""A GPU that is not there, so that what runs on one alone is run where there is none.

Tensors on it are kept on the CPU, in a wrapper that says it lies on ``cuda:0``. Computing with one on the CPU and one
there is refused, as by a GPU, and so is waiting for the device, or sending something to it, while a step is recorded.
Recording computes nothing, and a replay does again what was recorded. So devices that do not fit are found, and steps
that cannot be recorded. What is not: how fast anything is, how much memory it takes, and how kernels of a GPU round.

It pretends in the process that calls ``pretend``. ``pytest -p tests.pretended_gpu -k gpu`` runs the tests that need a
GPU. Known not to work: functions that change the shape of a wrapper in place, as a vector times a matrix does.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
GB = 2**30
_WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "equal", "bincount")
_recording: "Graph | None" = None
_warns = False  # where something waits for the GPU
_in_engine = threading.local()


class There(torch.Tensor):
    """A tensor on the pretended GPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda _: CUDA)
    is_cuda = property(lambda _: True)

    @staticmethod
    def __new__(cls, kept: torch.Tensor) -> "There":
        out = torch.Tensor._make_wrapper_subclass(
            cls,
            kept.size(),
            strides=kept.stride(),
            storage_offset=kept.storage_offset(),
            dtype=kept.dtype,
            layout=kept.layout,
            device=kept.device,
        )
        out.kept = kept
        return out

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        _refuse(func, [tensor for tensor in given if not isinstance(tensor, There)])
        if kwargs.get("device") is not None:
            kwargs["device"] = CPU
        kept_args, kept_kwargs = tree_map(_kept, args), tree_map(_kept, kwargs)
        if _recording is not None:
            _recording.keep(_changed(func, kept_args, kept_kwargs))
        out = func(*kept_args, **kept_kwargs)
        if _recording is not None:
            _recording.steps.append((func, kept_args, kept_kwargs, out))
        own = {id(_kept(tensor)): tensor for tensor in given}  # what is changed in place is given back itself
        return tree_map(lambda found: own.get(id(found), _there(found)), out)


def _kept(value: Any) -> Any:
    return value.kept if isinstance(value, There) else value


def _there(value: Any) -> Any:
    return There(value) if isinstance(value, torch.Tensor) and not isinstance(value, There) else value


def _refuse(func: Any, on_cpu: list[torch.Tensor]) -> None:
    """Raise where a GPU would."""
    name = func._schema.name.removeprefix("aten::")
    if name.startswith(_WAITS) or on_cpu:
        _wait(name)
    numbers = [tensor for tensor in on_cpu if tensor.ndim]  # single numbers may be on the CPU
    if name in ("copy_", "_to_copy") or getattr(_in_engine, "depth", 0):  # the engine makes zeros where wrappers lie
        return
    if name.startswith("index"):  # indices are sent
        numbers = [tensor for tensor in numbers if tensor.dtype not in (torch.int64, torch.bool)]
    if numbers:
        shapes = [tuple(tensor.shape) for tensor in numbers]
        raise RuntimeError(f"{name}: expected all tensors to be on cuda:0, and these are on cpu: {shapes}")


def _wait(what: str) -> None:
    if _recording is not None:
        raise RuntimeError(f"{what}: not permitted while a step is recorded")
    if _warns:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)


def _warn(mode: str) -> None:
    global _warns
    _warns = mode == "warn"


def _changed(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors that a function changes in place."""
    written = [
        kwargs.get(argument.name) if argument.kwarg_only or i >= len(args) else args[i]
        for i, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    if func._schema.name == "aten::native_batch_norm":  # its running statistics, of which the schema does not tell
        written += args[3:5]
    return [leaf for leaf in tree_leaves(written) if isinstance(leaf, torch.Tensor)]


class Graph:
    """In place of ``torch.cuda.CUDAGraph``."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def keep(self, changed: list[torch.Tensor]) -> None:
        for tensor in changed:
            self._before.setdefault(tensor.data_ptr(), (tensor, tensor.clone()))

    @torch.no_grad()
    def put_back(self) -> None:
        for tensor, before in self._before.values():
            tensor.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out in self.steps:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():  # else it lies there already
                    old.copy_(new)


@contextlib.contextmanager
def _recorded(graph: Graph) -> Iterator[None]:
    global _recording
    random, _recording = torch.get_rng_state(), graph
    try:
        yield
    finally:
        _recording = None
    graph.put_back()
    torch.set_rng_state(random)


class _ToGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return There(tensor.detach().clone())

    @staticmethod
    def backward(ctx, gradient):
        return _kept(gradient)


class _ToCpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return tensor.kept.detach().clone()

    @staticmethod
    def backward(ctx, gradient):
        return There(gradient)


def _moved(tensor: torch.Tensor, device: Any) -> torch.Tensor:
    there = isinstance(tensor, There)
    if device is None or (torch.device(device).type == "cuda") == there:
        return tensor
    _wait(f"sent to {device}")
    return _ToCpu.apply(tensor) if there else _ToGpu.apply(tensor)


_T = torch.Tensor
_TELLS = {
    _T.device.__get__: lambda tensor: CUDA if isinstance(tensor, There) else CPU,
    _T.is_cuda.__get__: lambda tensor: isinstance(tensor, There),
    _T.pin_memory: lambda tensor, *_: tensor,
    _T.cpu: lambda tensor, *_, **__: _moved(tensor, CPU),
    _T.cuda: lambda tensor, *_, **__: _moved(tensor, CUDA),
}


class _Mode(TorchFunctionMode):
    """What PyTorch's functions are told of devices."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _TELLS:
            return _TELLS[func](*args, **kwargs)
        if func in (torch.autograd.grad, torch.autograd.backward, _T.backward):
            _in_engine.depth = getattr(_in_engine, "depth", 0) + 1
            try:
                return func(*args, **kwargs)
            finally:
                _in_engine.depth -= 1
        if func is _T.to:
            return self._to(*args, **kwargs)
        if func is _T.numpy and isinstance(args[0], There):
            if not kwargs.get("force"):
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            return args[0].detach().kept.numpy()
        if kwargs.get("device") is None or func is torch.Generator:
            return func(*args, **kwargs)
        device = kwargs.pop("device")
        made = func(*args, **kwargs)
        if _recording is None or func in (torch.tensor, torch.as_tensor) or isinstance(made, There):
            return _moved(made, device)
        made = There(made)  # made there; a replay makes it anew
        _recording.steps.append((torch.ops.aten.clone.default, (made.kept.clone(),), {}, made.kept))
        return made

    def _to(self, tensor, *args, device=None, non_blocking=False, **kwargs):
        args = [arg for arg in args if arg is not None and not isinstance(arg, bool)]
        if args and isinstance(args[0], torch.Tensor):
            args = [args[0].device, args[0].dtype]
        if args and not isinstance(args[0], torch.dtype):
            device, *args = args
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        moved = _moved(tensor, device)
        return moved.to(*args, **kwargs) if args or kwargs else moved


class _Stream:
    def __init__(self, *_: Any) -> None:
        pass

    def wait_stream(self, stream: "_Stream") -> None:
        pass


def pretend(gpus: int = 1) -> None:
    """Pretend, in this process from now on, that there are so many GPUs."""
    fakes = {
        "CUDAGraph": Graph,
        "graph": _recorded,
        "Stream": _Stream,
        "current_stream": lambda *_: _Stream(),
        "stream": lambda _: contextlib.nullcontext(),
        "is_available": lambda: True,
        "device_count": lambda: gpus,
        "mem_get_info": lambda *_: (7 * GB, 8 * GB),
        "get_device_properties": lambda *_: SimpleNamespace(total_memory=8 * GB),
        "get_device_name": lambda *_: "pretended GPU",
        "get_device_capability": lambda *_: (9, 0),
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_sync_debug_mode": _warn,
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
    }
    for name, fake in fakes.items():
        setattr(torch.cuda, name, fake)
    used = threading.local()  # which GPU: CUDA begins every thread on the first
    torch.cuda.set_device = lambda device: setattr(used, "device", device)
    torch.cuda.current_device = lambda: getattr(used, "device", 0)
    for name in ("synchronize", "empty_cache", "manual_seed_all", "_lazy_init"):
        setattr(torch.cuda, name, lambda *_, **__: None)  # each its own: PyTorch's compiler takes no function twice
    autocast, fork_rng, module_to, thread_run = (
        torch.autocast,
        torch.random.fork_rng,
        nn.Module.to,
        threading.Thread.run,
    )
    group = torch._C._group_tensors_by_device_and_dtype

    class Autocast(autocast):
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(device_type.replace("cuda", "cpu"), *args, **kwargs)

    def to(module, *args, **kwargs):
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype)
        return module_to(module, *args, **kwargs)

    def grouped(lists, indices=False):
        return {
            (CUDA if any(isinstance(leaf, There) for leaf in tree_leaves(tensors)) else device, dtype): (
                tensors,
                places,
            )
            for (device, dtype), (tensors, places) in group(lists, indices).items()
        }

    def run(thread):
        with _Mode():  # a mode is of one thread
            thread_run(thread)

    torch.autocast = Autocast
    torch.random.fork_rng = lambda devices=(), **kwargs: fork_rng(devices=[], **kwargs)
    nn.Module.to = to
    torch._C._group_tensors_by_device_and_dtype = grouped
    threading.Thread.run = run
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    _Mode().__enter__()


def pytest_configure() -> None:
    """As a plugin of pytest: before tests are collected, which ask whether there is a GPU."""
    pretend()
