"""One optimiser step: run as written, or on a GPU recorded once and replayed as a CUDA graph."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional
from torch.optim.sgd import sgd

from raytransfer.networks import Network, trainable
from raytransfer.training.frozen import BatchSource
from raytransfer.training.images import DeviceData

_EAGER = 3  # steps before a graph is recorded, in which the optimiser makes its buffers and libraries their plans


class Step:
    """A step of SGD with momentum on the trainable parameters and one batch.

    Args:
        network: In the mode of training.
        data: The task, with the recipe.
        source: Where the batches come from.

    Attributes:
        loss_sum: Sum of the batches' losses since it was last set to zero, on the device.
    """

    def __init__(self, network: Network, data: DeviceData, source: BatchSource) -> None:
        self._network, self._data, self._source = network, data, source
        recipe, named = data.recipe, trainable(network)
        weights = [(name, parameter) for name, parameter in named if not name.endswith(".bias")]
        biases = [(name, parameter) for name, parameter in named if name.endswith(".bias")]
        self._groups = (
            _Group(weights, data, rate_multiplier=1.0, decay=recipe.weight_decay),
            _Group(
                biases,
                data,
                rate_multiplier=recipe.bias_lr_multiplier,
                decay=recipe.weight_decay * recipe.bias_decay_multiplier,
            ),
        )
        self.loss_sum = torch.zeros((), device=data.device)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the coming steps."""
        for group in self._groups:
            group.set_rate(rate)

    def momentum(self) -> dict[str, torch.Tensor]:
        """The momentum buffers by the name of their parameter: none before the first step."""
        return {
            name: buffer
            for group in self._groups
            for name, buffer in zip(group.names, group.momentum, strict=True)
            if buffer is not None
        }

    def set_momentum(self, buffers: Mapping[str, torch.Tensor]) -> None:
        """Copy momentum buffers, by the name of their parameter, in before the first step.

        Each gets the memory layout of its parameter: the fused kernel goes through both as they lie in memory.
        """
        for group in self._groups:
            group.momentum = [
                torch.empty_like(parameter).copy_(buffers[name]) if name in buffers else None
                for name, parameter in zip(group.names, group.parameters, strict=True)
            ]

    def __call__(self, sent: tuple[torch.Tensor, ...]) -> None:
        """Train on what the source's ``fetch`` sent."""
        inputs, labels = self._source.inputs(sent)
        for group in self._groups:
            group.forget_gradients()
        with self._data.autocast():
            logits = self._network.through(inputs, start=self._source.stages_done)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self._groups:
            group.step()
        self.loss_sum += loss.detach()


class _Group:
    """Parameters of one learning rate and one decay.

    PyTorch's ``SGD`` as a function: the class of that name imports PyTorch's compiler, a second and 80 MB of every
    process.
    """

    def __init__(
        self, named: list[tuple[str, nn.Parameter]], data: DeviceData, *, rate_multiplier: float, decay: float
    ) -> None:
        self.names = [name for name, _ in named]
        self.parameters: list[torch.Tensor] = [parameter for _, parameter in named]
        self.momentum: list[torch.Tensor | None] = [None] * len(named)
        self._rate_multiplier, self._decay, self._momentum_factor = rate_multiplier, decay, data.recipe.momentum
        # On a GPU the rate is a tensor there: a recorded step reads it each time.
        self._rate: float | torch.Tensor = torch.zeros((), device=data.device) if data.device.type == "cuda" else 0.0

    def set_rate(self, rate: float) -> None:
        if isinstance(self._rate, torch.Tensor):
            self._rate.fill_(rate * self._rate_multiplier)
        else:
            self._rate = rate * self._rate_multiplier

    def forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        sgd(
            self.parameters,
            [parameter.grad for parameter in self.parameters if parameter.grad is not None],  # every one has one
            self.momentum,
            fused=True,
            foreach=False,
            lr=self._rate,
            weight_decay=self._decay,
            momentum=self._momentum_factor,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )


def fastest(step: Step, data: DeviceData) -> Callable[[tuple[torch.Tensor, ...]], None]:
    """How to take a step: on a GPU as a recorded one, but for streamed images, whose thread would disturb recording."""
    return RecordedStep(step) if data.device.type == "cuda" and not data.streamed else step


class RecordedStep:
    """The same on a GPU, as one CUDA graph: small networks then no longer wait for kernels to be launched one by one.

    Batches must all have one shape. After the section "Whole-network capture" of PyTorch's notes on CUDA graphs.
    """

    def __init__(self, step: Step) -> None:
        self._step, self._calls = step, 0
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._sent: tuple[torch.Tensor, ...] = ()

    def __call__(self, sent: tuple[torch.Tensor, ...]) -> None:
        """Train on what the source's ``fetch`` sent."""
        self._calls += 1
        if self._calls <= _EAGER:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._step(sent)
            torch.cuda.current_stream().wait_stream(self._stream)
            return
        if self._graph is None:
            self._sent = tuple(tensor.clone() for tensor in sent)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):  # records, and computes nothing
                self._step(self._sent)
        for place, tensor in zip(self._sent, sent, strict=True):
            place.copy_(tensor)
        self._graph.replay()
