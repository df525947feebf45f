"""Outputs of frozen layers, computed once and reused at every step and every evaluation."""

import math
from collections.abc import Iterator
from typing import Protocol

import torch

from raytransfer.networks import Network, frozen_prefix
from raytransfer.tasks.threads import ahead
from raytransfer.training.images import DeviceData, DeviceImages, to_device

EVALUATION_BATCH = 500
"""Batch size of evaluations."""


class BatchSource(Protocol):
    """Where batches come from.

    Attributes:
        stages_done: Number of the network's stages that its inputs have already passed.
    """

    stages_done: int

    def fetch(self, views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Send what ``inputs`` needs for views (R, B) from the CPU to the device."""

    def inputs(self, sent: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (B, ...) of the stages to run, and labels (B,), computed on the device only."""


class FrozenOutputs:
    """A source of batches that stores the outputs of the first stages for every view of every training image.

    Args:
        network: In training mode; its first ``stages`` stages are frozen and draw no random numbers.
        data: The task.
        stages: Number of stages whose outputs are stored.

    Attributes:
        stages_done: The same number.
    """

    def __init__(self, network: Network, data: DeviceData, stages: int) -> None:
        self._data, self.stages_done = data, stages
        count, size = data.view_count, data.batch_size // data.ranks.count
        # The batch size of training, as other sizes may use other kernels, which round differently.
        batches = torch.split(torch.arange(math.ceil(count / size) * size).remainder(count), size)
        for batch, numbers in enumerate(batches):
            inputs, _ = data.inputs(data.fetch(data.numbered_views(numbers)))
            outputs = _outputs(network, data, inputs, stages)
            if batch == 0:
                # The memory format of outputs is kept, as kernels are chosen by it, too.
                inside = sorted(range(1, outputs.ndim), key=outputs.stride, reverse=True)
                self._order = (0, *inside)
                self._outputs = outputs.new_empty((count, *(outputs.shape[i] for i in inside)))
            self._outputs[numbers] = outputs.permute(self._order)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored outputs."""
        return self._outputs.nbytes

    def fetch(self, views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Send the views (4, B) to the device."""
        return (to_device(views, self._data.device),)

    def inputs(self, sent: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Stored outputs (B, ...) and labels (B,) for the views that were sent."""
        (views,) = sent
        outputs = self._outputs.index_select(0, self._data.view_numbers(views))
        back = sorted(range(outputs.ndim), key=self._order.__getitem__)
        return outputs.permute(back), self._data.train.labels[views[0]]


class EvaluationInputs:
    """Batches for evaluation: outputs of the first stages for central crops. Each rank gets its share of the batches.

    Args:
        network: The network.
        data: The task.
        images: Its training or test images.
        stages: Number of stages that the images pass; they must be frozen.
        keep: Whether to keep the batches after the first iteration.

    Attributes:
        stages_done: The same number.
    """

    def __init__(self, network: Network, data: DeviceData, images: DeviceImages, stages: int, *, keep: bool) -> None:
        self._network, self._data, self._images, self.stages_done = network, data, images, stages
        self._keep = keep
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self._kept:
            # Copies, as a stage may overwrite its inputs.
            yield from ((inputs.clone(), labels) for inputs, labels in self._kept)
            return
        ranks = self._data.ranks
        batches = torch.split(torch.arange(len(self._images)), EVALUATION_BATCH)[ranks.rank :: ranks.count]
        every = ahead(self._images.take, batches) if self._data.streamed else map(self._images.take, batches)
        for rows, taken in zip(batches, every, strict=True):
            inputs = self._data.centres(taken)
            outputs = _outputs(self._network, self._data, inputs, self.stages_done)
            batch = outputs, self._images.labels[rows[0] : rows[-1] + 1]
            if self._keep:
                self._kept.append((outputs.clone(), batch[1]))
            yield batch


def batch_source(network: Network, data: DeviceData, steps: int) -> BatchSource:
    """The source of batches for training: stored outputs of frozen stages if that is worth it, else images.

    Args:
        network: In training mode.
        data: The task; stored outputs reduce its ``memory_left``.
        steps: Number of steps.
    """
    stages = reusable_stages(network, data, steps)
    if not stages:
        return data
    reused = FrozenOutputs(network, data, stages)
    data.memory_left -= reused.nbytes
    return reused


def reusable_stages(network: Network, data: DeviceData, steps: int) -> int:
    """Number of frozen stages whose outputs are worth storing for so many steps.

    0 unless training draws more views than exist, and their outputs fit into memory. Stages from the first that draws
    random numbers on are not stored: frozen or not, dropout draws at every step.
    """
    stages = min(network.repeatable, frozen_prefix(network))
    if stages == 0 or data.view_count > steps * data.batch_size:
        return 0
    return stages if data.view_count * _bytes_per_image(network, data, stages) <= data.memory_left else 0


def evaluation_inputs(network: Network, data: DeviceData) -> EvaluationInputs:
    """Batches of test images after the frozen stages; kept if they fit ``data.memory_left``, which they reduce."""
    stages = frozen_prefix(network)
    needed = len(data.test) * _bytes_per_image(network, data, stages)
    keep = needed <= data.memory_left
    if keep:
        data.memory_left -= needed
    return EvaluationInputs(network, data, data.test, stages, keep=keep)


def _bytes_per_image(network: Network, data: DeviceData, stages: int) -> int:
    """Bytes of the first stages' outputs for one image."""
    blank = torch.zeros((2, *data.shape), device=data.device)
    output = _outputs(network, data, blank, stages)[0]
    return output.numel() * output.element_size()


@torch.no_grad()
def _outputs(network: Network, data: DeviceData, inputs: torch.Tensor, stages: int) -> torch.Tensor:
    with data.autocast():
        return network.through(inputs, stop=stages)
