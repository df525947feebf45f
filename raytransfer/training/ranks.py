"""A training split over several processes (ranks), which share every batch and average their gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed
from torch.nn import functional

from raytransfer.networks import Network, seed_layers
from raytransfer.networks.stages import untouched


class RankDied(Exception):  # noqa: N818 - named like Interrupted, as it is no fault of the training's
    """A process that a training is split over has died, which ended the training; it can be started again."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes that a training is split over, from the point of view of one of them.

    Each has the same weights and draws the same batches, of which it takes its own part. Only gradients, losses, counts
    and statistics of batch normalisation are exchanged. PyTorch's DistributedDataParallel is not used, as it imports
    PyTorch's compiler, which takes every process a second.

    Attributes:
        rank: Number of this process, 0..count-1; only rank 0 writes results.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    def part(self, batch: torch.Tensor) -> torch.Tensor:
        """The part of a batch (..., B) for this rank: B / count entries."""
        return batch.chunk(self.count, dim=-1)[self.rank]

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its mean over all ranks.

        Raises:
            RankDied: Another rank is gone.
        """
        self._sum(tensors, 1 / self.count)

    def total(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all ranks.

        Raises:
            RankDied: Another rank is gone.
        """
        self._sum(tensors, 1.0)

    def agree(self, number: int, device: torch.device) -> None:
        """Check that all ranks have the same whole number; waits for all of them.

        Raises:
            RuntimeError: They differ.
            RankDied: Another rank is gone.
        """
        total = torch.tensor(number, device=device)
        self.total([total])
        if total.item() != self.count * number:
            raise RuntimeError(f"rank {self.rank} of {self.count} begins after step {number}, and another does not")

    def _sum(self, tensors: Sequence[torch.Tensor], factor: float) -> None:
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message in place of many
        _add_up(flat)
        if factor != 1:
            flat *= factor
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


ALONE = Ranks()
"""A training that is not split."""


def _add_up(tensor: torch.Tensor) -> None:
    try:
        distributed.all_reduce(tensor)
    except RuntimeError as error:
        who = f"rank {distributed.get_rank()} of {distributed.get_world_size()}"
        raise RankDied(f"{who} has lost another one: {error}") from error


class _Total(torch.autograd.Function):
    """The sum of a tensor over all ranks. Its gradient is also summed, as every rank's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        _add_up(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _Total.forward(ctx, gradient)


def share_batch_norm() -> None:
    """Make batch normalisation in training use mean and variance over all ranks, for the rest of the process.

    This replaces ``functional.batch_norm``, which modules of PyTorch and timm call. ``torch.nn.SyncBatchNorm`` supports
    CUDA only.
    """
    functional.batch_norm = _shared_batch_norm


_batch_norm = functional.batch_norm


def _shared_batch_norm(
    input: torch.Tensor,  # named as PyTorch names it
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """``torch.nn.functional.batch_norm`` over the batch of all ranks, whose parts are of one size."""
    if not (training and torch.is_grad_enabled()):  # batches of evaluations are not split
        return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    dims = [0, *range(2, input.dim())]
    shape = [1, -1, *[1] * (input.dim() - 2)]
    values = input.float()
    count = distributed.get_world_size() * values.numel() // values.shape[1]
    mean: torch.Tensor = _Total.apply(values.sum(dims)) / count
    centred = values - mean.view(shape)
    variance: torch.Tensor = _Total.apply(centred.square().sum(dims)) / count
    with torch.no_grad():
        for running, now in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
            if running is not None:
                running.lerp_(now.to(running.dtype), momentum)
    normal = centred * torch.rsqrt(variance + eps).view(shape)
    if weight is not None:
        normal = normal * weight.view(shape)
    if bias is not None:
        normal = normal + bias.view(shape)
    return normal.to(input.dtype)


@torch.no_grad()
def check_parts(network: Network) -> None:
    """Check that only batch normalisation, which all ranks share, mixes the images of a batch.

    The network is run in its mode, on the CPU, on two batches that share one image, with batch normalisation replaced
    by a normalisation of each image. The network and torch's random state are restored.

    Raises:
        ValueError: Something else mixes images, or keeps statistics of them.
    """
    first = torch.randn((4, *network.image), generator=torch.Generator().manual_seed(0))
    seen = []
    for batch in (first, torch.cat([first[:1], first[1:].flip(0) + 1])):
        with untouched(network.module), torch.random.fork_rng(devices=[]):
            functional.batch_norm = _alone
            try:
                seed_layers(0, batch.device)
                output = network.through(batch.clone())[0]
            finally:
                functional.batch_norm = _batch_norm
            seen.append((output, {name: tensor.clone() for name, tensor in network.module.named_buffers()}))
    (one, buffers), (other, others) = seen
    if moved := [name for name, tensor in buffers.items() if not tensor.equal(others[name])]:
        raise ValueError(f"{moved[0]} keeps statistics of the images of a batch")
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ValueError("what it makes of an image in training depends on the others of a batch")


def _alone(
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Replacement for ``torch.nn.functional.batch_norm`` that normalises each image by itself, without statistics."""
    return functional.group_norm(input, 1, weight, bias, eps)
