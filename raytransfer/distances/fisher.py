"""The diagonal Fisher information of a network's weights, averaged over each filter."""

import copy
import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from raytransfer.distances.sample import Features
from raytransfer.networks import Network, clear_kept, is_norm

_NUMBERS = 25_000_000  # held at once; more only if a single image needs more
_SAME = 1e-3  # difference that rounding may make, relative to the largest value of a layer

Sizes = int | tuple[int, ...]


class Body(nn.Module):
    """A copy of a network without its head, in eval mode, from images to flat outputs."""

    def __init__(self, probe: Network) -> None:
        super().__init__()
        self.module = copy.deepcopy(probe.module).eval().requires_grad_(False)
        self.network = dataclasses.replace(probe, module=self.module)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, d) outputs of the stage before the head."""
        clear_kept(self.module)
        return self.network.through(inputs.clone(), 0, -1).flatten(1)  # a stage may overwrite its inputs

    def weights(self) -> dict[str, nn.Parameter]:
        """Weights with filters: those of convolutions, full layers and others, except normalisation layers."""
        names = {f"module.{name}" for name in self.network.first_names(len(self.network.stages) - 1)}
        return {
            name: w
            for name, w in self.named_parameters()
            if name in names and w.ndim > 1 and not is_norm(self.get_submodule(name.rpartition(".")[0]))
        }


def fisher(body: Body, head: nn.Linear, inputs: torch.Tensor, directions: torch.Tensor) -> Features:
    """Fisher information of each filter, from the gradients of Σ_k d_k √p(k|x) log p(k|x) in some directions d.

    The p under the root is held constant. The squared gradient by each weight is summed over an image's directions, and
    averaged over images and over each filter's weights. It is computed ``by_layers`` if possible, else ``by_weights``,
    which takes several times as long. Both give the same up to rounding.

    Args:
        body: The probe without its head.
        head: The task's head.
        inputs: (n, C, H, W) images.
        directions: (n, m, K) directions d for each image: the K unit vectors give the exact sum over classes, a vector
            of random signs an estimate of it.

    Returns:
        (filters,) in the order of the body's weights.
    """
    held = held_by_layers(body, inputs, _rows(directions))
    way, batch = (by_weights, len(inputs)) if held is None else (by_layers, max(1, _NUMBERS // held))
    total: Features = np.zeros(sum(len(w) for w in body.weights().values()))
    for images, theirs in zip(torch.split(inputs, batch), torch.split(directions, batch), strict=True):
        total += way(body, head, images, theirs).numpy(force=True)
    return total / len(inputs)


def by_weights(body: Body, head: nn.Linear, images: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """(filters,) n times what ``fisher`` returns, from each image's gradient by each weight.

    Gradients are computed one after the other: ``torch.func.vmap`` of PyTorch 2.15 silently gives wrong ones if tokens
    are made from outputs of batch normalisation, and is much faster only on tiny networks.
    """
    weights = {name: w.detach().requires_grad_() for name, w in body.weights().items()}
    total = torch.zeros(sum(len(w) for w in weights.values()), dtype=torch.float64, device=images.device)
    with torch.enable_grad():
        for image, theirs in zip(torch.split(images, 1), directions, strict=True):
            log_p = head(functional_call(body, weights, (image,))).log_softmax(1)
            roots = (log_p.detach() / 2).exp()
            for direction in theirs:
                total += _squares(_along(direction * roots, log_p), weights)
    return total


def by_layers(body: Body, head: nn.Linear, images: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """(filters,) the same as ``by_weights``, from the inputs of layers and the gradients by their outputs.

    Let V hold the gradients by logits, √p ∘ d − (√p · d) p, as rows. The result depends on VᵀV only, which is RᵀR for
    V = QR, so R's rows can replace V's. As each row of V sums to 0, the last of K rows of R is 0.
    """
    layers = _Layers(body, len(images), _rows(directions))
    with torch.enable_grad(), layers:
        logits = head(body(images))
    p = logits.detach().softmax(1)[:, None]
    by_log_p = directions * p.sqrt()
    v = by_log_p - by_log_p.sum(2, keepdim=True) * p
    rows = torch.linalg.qr(v, mode="r").R[:, : _rows(directions)]
    return torch.stack([layers.squares(logits, row) for row in rows.unbind(1)]).sum(0)


def _rows(directions: torch.Tensor) -> int:
    """Number of gradients that ``by_layers`` computes for an image."""
    return min(directions.shape[1], directions.shape[2] - 1)


def held_by_layers(body: Body, like: torch.Tensor, m: int) -> int | None:
    """How many numbers ``by_layers`` holds for an image; None if it cannot be used.

    It can be used if each weight is used once, by one convolution or full layer, and images do not affect each other:
    not with position embeddings, class tokens, attention with weights of its own, transposed convolutions, or weights
    that are shared or computed in each pass. This is tested on two images of noise, whose squared gradients must be
    those of each image alone.

    Args:
        body: The probe without its head.
        like: (n, C, H, W) images of the shape to come.
        m: Number of gradients for an image.
    """
    noise = torch.Generator().manual_seed(0)
    weights = {name: w.detach().requires_grad_() for name, w in body.weights().items()}
    images = torch.rand(2, *like.shape[1:], generator=noise).to(like)
    layers = _Layers(body, len(images), m)
    with torch.enable_grad():
        with layers:
            outputs = body(images)
        if not layers.are_all() or not outputs.requires_grad:
            return None
        direction = torch.randn(outputs.shape, generator=noise).to(outputs)
        told = layers.squares(outputs, direction)
        alone = torch.zeros_like(told)
        for i in range(len(images)):
            output = functional_call(body, weights, (images[i : i + 1],))
            alone += _squares(_along(direction[i : i + 1], output), weights)
    sizes = [len(w) for w in weights.values()]
    pairs = zip(torch.split(told, sizes), torch.split(alone, sizes), strict=True)
    if any((a - b).abs().max() > _SAME * b.max() for a, b in pairs):
        return None
    return layers.numbers() // len(images)


class _Layers(TorchFunctionMode):
    """Records the calls of ``conv2d`` and ``linear`` during a forward pass of a body."""

    def __init__(self, body: Body, images: int, m: int) -> None:
        super().__init__()
        self._calls: dict[int, list[_Call]] = {id(w): [] for w in body.weights().values()}
        self._images, self._m = images, m

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, and record the call if it multiplies by one of the weights."""
        outputs = func(*args, **(kwargs or {}))
        if kwargs or func not in (functional.conv2d, functional.linear) or id(args[1]) not in self._calls:
            return outputs
        seen = (_patches if func is functional.conv2d else _entries)(self._images, *args)
        if seen is None:
            return outputs
        if not outputs.requires_grad:  # as for the first layer, since weights do not require gradients
            outputs.requires_grad_()
        self._calls[id(args[1])].append(_Call(seen, outputs, self._m, sequence=func is functional.linear))
        return outputs.clone()  # in-place operations then do not change the recorded outputs

    def are_all(self) -> bool:
        """Whether each weight was used in exactly one recorded call."""
        return all(len(calls) == 1 for calls in self._calls.values())

    def numbers(self) -> int:
        """How many numbers the recorded calls hold."""
        return sum(call.numbers for (call,) in self._calls.values())

    def squares(self, values: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """(filters,) the sum over images of (∂/∂w Σ direction · values)², averaged over each filter's weights."""
        calls = [call for (call,) in self._calls.values()]
        outputs = [call.outputs for call in calls]
        deltas = torch.autograd.grad(_along(direction, values), outputs, retain_graph=True, materialize_grads=True)
        return torch.cat([call.squares(delta) for call, delta in zip(calls, deltas, strict=True)])


def _squares(value: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """(filters,) squared gradients of a value by weights, averaged over each filter."""
    gradients = torch.autograd.grad(value, list(weights.values()), retain_graph=True, materialize_grads=True)
    return torch.cat([gradient.square().flatten(1).mean(1) for gradient in gradients])


def _along(direction: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Σ direction · values, to be differentiated: autograd imports SymPy if it is given ``grad_outputs`` instead."""
    with torch.enable_grad():
        return (direction * values).sum()


class _Call:
    """A recorded call of a convolution or full layer.

    At each position p (a pixel of a convolution's output, or an entry of a sequence) a filter multiplies its D weights
    with inputs a_p; for a convolution, a patch. With δ_p the gradient by its output there, the gradient by its weights
    is Σ_p a_p δ_p = A δ, where A = (a_1 ... a_P), and its squared norm is ‖A δ‖² = δᵀ (AᵀA) δ. For an image and O
    filters, A δ takes O D P operations in each of m directions. With AᵀA, which takes D P² operations once for each
    group of filters, it takes O P². The cheaper way is chosen.

    Attributes:
        outputs: The layer's outputs, by which gradients are wanted.
        numbers: How many numbers it holds.
    """

    def __init__(self, seen: torch.Tensor, outputs: torch.Tensor, m: int, *, sequence: bool) -> None:
        images, groups, d, p = seen.shape
        filters = outputs.numel() // (images * p)
        self.outputs = outputs
        self._images, self._groups, self._d, self._sequence = images, groups, d, sequence
        self._by_gram = (groups * d + m * filters) * p < m * filters * d
        self._factor = seen.mT @ seen if self._by_gram else seen.mT
        self.numbers: int = seen.numel() + 2 * outputs.numel() + (0 if self._by_gram else images * filters * d)

    def squares(self, delta: torch.Tensor) -> torch.Tensor:
        """(O,) the sum over images of ‖A δ‖² / D, with δ the gradient by the outputs."""
        by_filter = _by_channel(delta, self._images) if self._sequence else delta.flatten(2)
        delta = by_filter.reshape(self._images, self._groups, -1, by_filter.shape[2])
        product = delta @ self._factor
        of_images = (product * delta).sum(3).clamp_min(0) if self._by_gram else product.square().sum(3)
        return of_images.double().sum(0).flatten() / self._d


def _patches(
    images: int,
    maps: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> torch.Tensor | None:
    """(B, groups, D, P) the patches that a convolution's filters multiply; None if the call is not supported."""
    if isinstance(padding, str) or maps.ndim != 4 or len(maps) != images:
        return None
    patches = functional.unfold(maps, weight.shape[2:], dilation, padding, stride)
    return patches.reshape(images, groups, -1, patches.shape[-1])


def _entries(
    images: int, sequences: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor | None:
    """(B, 1, D, P) the inputs of a full layer; if an image has several rows, they are one sequence."""
    if len(sequences) % images:
        return None
    return _by_channel(sequences, images)[:, None]


def _by_channel(sequences: torch.Tensor, images: int) -> torch.Tensor:
    """(B, channels, P) sequences (B, ..., channels)."""
    return sequences.reshape(images, -1, sequences.shape[-1]).mT
