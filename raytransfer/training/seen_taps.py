"""Gradients of filter weights that meet only padding, in bf16 on a CPU."""

import functools
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class SeenTaps(TorchFunctionMode):
    """While it is active, filter weights of ``conv2d`` that meet only padding get the gradient 0, as they should.

    For these PyTorch 2.15 returns uninitialised memory in bf16 on a CPU, for example for a 3 x 3 filter with stride 2
    over a 1 x 1 map. No output depends on such weights, but norms of gradients and of weights do.

    Attributes:
        needed: Whether there were any.
    """

    needed = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        return (self._conv2d if func is functional.conv2d else func)(*args, **(kwargs or {}))

    def _conv2d(
        self,
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> torch.Tensor:
        if weight.requires_grad:
            given = (tuple(each) if isinstance(each, list) else each for each in (stride, padding, dilation))
            unseen = _unseen(tuple(input.shape[-2:]), tuple(weight.shape[-2:]), *given)
            if unseen is not None:
                self.needed = True
                weight = _Without.apply(weight, unseen)
        return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)


class _Without(torch.autograd.Function):
    """The same tensor, with a gradient of 0 at some places."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(places)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (places,) = ctx.saved_tensors
        return torch.where(places, 0.0, gradient), None


@functools.cache
def _unseen(map_size: Any, filter_size: Any, stride: Any, padding: Any, dilation: Any) -> torch.Tensor | None:
    """Which places (height, width) of a filter meet only padding; None if none does."""
    with torch.enable_grad():  # float64, which autocast leaves alone
        weight = torch.ones(1, 1, *filter_size, dtype=torch.float64, requires_grad=True)
        image = torch.ones(1, 1, *map_size, dtype=torch.float64)
        outputs = functional.conv2d(image, weight, None, stride, padding, dilation)
        (times,) = torch.autograd.grad(outputs.sum(), weight)
    return None if times.all() else times[0, 0] == 0
