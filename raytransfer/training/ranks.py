"""A training split over several processes, its ranks: each takes a part of every batch; gradients are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import distributed


class RankDied(Exception):  # noqa: N818 - as Interrupted it says what happened, which is no fault of the training's
    """A process that a training is split over has died, and the training has ended with it: it can start again."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes that a training is split over, as one of them sees them.

    Each has the same weights and draws the same batches, of which it takes its own part. Nothing but gradients, losses
    and counts is sent. PyTorch's DistributedDataParallel would import its compiler, a second of every process.

    Attributes:
        rank: Which of them this one is, 0..count-1; the first alone writes.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    def part(self, batch: torch.Tensor) -> torch.Tensor:
        """What this rank takes of a batch (..., B): B / count entries."""
        return batch.chunk(self.count, dim=-1)[self.rank]

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its mean over all ranks.

        Raises:
            RankDied: Another one is gone.
        """
        self._sum(tensors, 1 / self.count)

    def total(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all ranks.

        Raises:
            RankDied: Another one is gone.
        """
        self._sum(tensors, 1.0)

    def agree(self, number: int, device: torch.device) -> None:
        """Check that all ranks have the same whole number; none goes on before all have come here.

        Raises:
            RuntimeError: They have not.
            RankDied: Another one is gone.
        """
        total = torch.tensor(number, device=device)
        self.total([total])
        if total.item() != self.count * number:
            raise RuntimeError(f"rank {self.rank} of {self.count} begins after step {number}, and another does not")

    def _sum(self, tensors: Sequence[torch.Tensor], factor: float) -> None:
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message in place of many
        try:
            distributed.all_reduce(flat)
        except RuntimeError as error:
            raise RankDied(f"rank {self.rank} has lost another one: {error}") from error
        if factor != 1:
            flat *= factor
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


ALONE = Ranks()
"""A training that is not split."""
