"""One optimiser step: run as written, or on a GPU recorded once and replayed as a CUDA graph."""

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

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
        self._on_gpu = data.device.type == "cuda"
        self._optimizer = self._sgd()
        self.loss_sum = torch.zeros((), device=data.device)

    def _sgd(self) -> torch.optim.Optimizer:
        recipe = self._data.recipe
        groups: dict[bool, list[torch.nn.Parameter]] = {False: [], True: []}
        for name, parameter in trainable(self._network):
            groups[name.endswith(".bias")].append(parameter)
        decays = {False: recipe.weight_decay, True: recipe.weight_decay * recipe.bias_decay_multiplier}
        return torch.optim.SGD(
            [
                # On a GPU the rate is a tensor there: a recorded step reads it each time.
                {
                    "params": groups[bias],
                    "weight_decay": decays[bias],
                    "lr": torch.zeros(()).cuda() if self._on_gpu else 0.0,
                }
                for bias in (False, True)
            ],
            momentum=recipe.momentum,
            fused=True,
        )

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the coming steps."""
        for group, multiplier in zip(
            self._optimizer.param_groups, (1.0, self._data.recipe.bias_lr_multiplier), strict=True
        ):
            if self._on_gpu:
                group["lr"].fill_(rate * multiplier)
            else:
                group["lr"] = rate * multiplier

    def momentum(self) -> dict[str, torch.Tensor]:
        """The momentum buffers by the name of their parameter: none before the first step."""
        buffers = {
            name: self._optimizer.state.get(parameter, {}).get("momentum_buffer")
            for name, parameter in trainable(self._network)
        }
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}

    def set_momentum(self, buffers: Mapping[str, torch.Tensor]) -> None:
        """Copy momentum buffers, by the name of their parameter, in before the first step.

        Each gets the memory layout of its parameter: the fused optimiser goes through both as they lie in memory.
        """
        parameters = dict(trainable(self._network))
        for name, buffer in buffers.items():
            parameter = parameters[name]
            self._optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)

    def __call__(self, sent: tuple[torch.Tensor, ...]) -> None:
        """Train on what the source's ``fetch`` sent."""
        inputs, labels = self._source.inputs(sent)
        self._optimizer.zero_grad(set_to_none=True)
        with self._data.autocast():
            logits = self._network.through(inputs, start=self._source.stages_done)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self.loss_sum += loss.detach()


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
