"""One optimiser step, run eagerly or, on a GPU, recorded once and replayed as a CUDA graph."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import MappingProxyType

import torch
from torch import nn
from torch.nn import functional
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from raytransfer.networks import Network, trainable
from raytransfer.specs import Recipe
from raytransfer.training.frozen import BatchSource
from raytransfer.training.images import DeviceData
from raytransfer.training.seen_taps import SeenTaps

_EAGER = 3  # steps before a graph is recorded, in which libraries choose their algorithms
_WAITED = "called a synchronizing CUDA operation"  # from PyTorch's warning


class Step:
    """A step of the recipe's optimiser on the trainable parameters, for a batch or this rank's part of it.

    Args:
        network: In training mode.
        data: The task, with the recipe.
        source: Where the batches come from.
        layer_decay: Factor of the learning rate, once for each stage that a parameter lies below the head.
        anchors: Values towards which parameters decay, by name; others decay towards zero.

    Attributes:
        loss_sum: Sum of the batches' losses since it was last set to zero, on the device.
    """

    def __init__(
        self,
        network: Network,
        data: DeviceData,
        source: BatchSource,
        *,
        layer_decay: float = 1.0,
        anchors: Mapping[str, torch.Tensor] = MappingProxyType({}),
    ) -> None:
        self._network, self._data, self._source = network, data, source
        recipe, depth = data.recipe, len(network.stages)
        of_stage = {name: layer_decay ** (depth - 1 - i) for i in range(depth) for name in network.stages[i].tensors}
        members: dict[tuple[float, float, bool], list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in trainable(network):
            rate_multiplier, decay = of_stage[name], recipe.weight_decay
            if name.endswith(".bias") or (recipe.optimizer == "adamw" and parameter.ndim <= 1):
                rate_multiplier *= recipe.bias_lr_multiplier
                decay *= recipe.bias_decay_multiplier
            members.setdefault((rate_multiplier, decay, name in anchors), []).append((name, parameter))
        self._groups = [
            _Group(
                named,
                data,
                rate_multiplier=rate_multiplier,
                decay=decay,
                anchors=[anchors[name] for name, _ in named] if anchored else None,
            )
            for (rate_multiplier, decay, anchored), named in members.items()
        ]
        self._parameters = [parameter for group in self._groups for parameter in group.parameters]
        self._taps = SeenTaps() if data.device.type == "cpu" and recipe.precision == "bf16" else None
        self.loss_sum = torch.zeros((), device=data.device)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        for group in self._groups:
            group.set_rate(rate)

    def buffers(self) -> dict[str, torch.Tensor]:
        """The optimiser's buffers, such as ``momentum/conv1.0.weight``, by kind and name of their parameter."""
        return {
            f"{kind}/{name}": buffer
            for group in self._groups
            for kind, buffers in group.buffers.items()
            for name, buffer in zip(group.names, buffers, strict=True)
        }

    def set_buffers(self, buffers: Mapping[str, torch.Tensor]) -> None:
        """Set buffers, by kind and name of their parameter, before the first step; others stay at zero."""
        for name, buffer in self.buffers().items():
            if name in buffers:
                buffer.copy_(buffers[name])

    def __call__(self, sent: tuple[torch.Tensor, ...]) -> None:
        """Train on a batch that the source's ``fetch`` sent."""
        inputs, labels = self._source.inputs(sent)
        for parameter in self._parameters:
            parameter.grad = None
        with self._data.autocast(), self._taps or nullcontext():
            logits = self._network.through(inputs, start=self._source.stages_done)
        if self._taps is not None and not self._taps.needed:
            self._taps = None  # it costs a tenth of a tiny network's step
        recipe = self._data.recipe
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        self._data.ranks.average([*gradients, loss])
        if recipe.clip_norm is not None:  # without waiting for the device
            nn.utils.clip_grad_norm_(self._parameters, recipe.clip_norm)
        for group in self._groups:
            group.step()
        self.loss_sum += loss


KINDS: Mapping[str, tuple[str, ...]] = {"sgd": ("momentum",), "adamw": ("exp_avg", "exp_avg_sq", "step")}
"""PyTorch's names for what each optimiser keeps for a parameter."""


def buffer_kinds(recipe: Recipe) -> tuple[str, ...]:
    """What the recipe's optimiser keeps for a parameter: nothing for SGD without momentum."""
    return () if recipe.optimizer == "sgd" and recipe.momentum == 0 else KINDS[recipe.optimizer]


class _Group:
    """Parameters with the same learning rate and decay, towards zero or towards anchors.

    It calls the functions behind PyTorch's optimisers, as their classes import PyTorch's compiler, which takes every
    process a second and 80 MB.
    """

    def __init__(
        self,
        named: list[tuple[str, nn.Parameter]],
        data: DeviceData,
        *,
        rate_multiplier: float,
        decay: float,
        anchors: list[torch.Tensor] | None,
    ) -> None:
        self.names = [name for name, _ in named]
        self.parameters: list[torch.Tensor] = [parameter for _, parameter in named]
        # In the parameter's memory format, as fused kernels read both in the order of memory.
        self.buffers = {
            kind: [
                torch.zeros((), device=data.device) if kind == "step" else torch.zeros_like(parameter)
                for parameter in self.parameters
            ]
            for kind in buffer_kinds(data.recipe)
        }
        self._rate_multiplier, self._decay, self._anchors, self._recipe = rate_multiplier, decay, anchors, data.recipe
        # On a GPU the rate is a tensor, which a recorded step reads each time.
        self._rate: float | torch.Tensor = torch.zeros((), device=data.device) if data.device.type == "cuda" else 0.0

    def set_rate(self, rate: float) -> None:
        if isinstance(self._rate, torch.Tensor):
            self._rate.fill_(rate * self._rate_multiplier)
        else:
            self._rate = rate * self._rate_multiplier

    @torch.no_grad()
    def step(self) -> None:
        # Parameters on which the loss does not depend have no gradient, and do not change.
        used = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        parameters = [self.parameters[i] for i in used]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        buffers = {kind: [tensors[i] for i in used] for kind, tensors in self.buffers.items()}
        decay = self._decay
        if self._anchors is not None:  # the optimiser's decay, applied to the distance from the anchors
            decay = 0.0
            away = [self.parameters[i] - self._anchors[i] for i in used]
            if self._recipe.optimizer == "adamw":
                for parameter, distance in zip(parameters, away, strict=True):
                    parameter -= self._rate * self._decay * distance
            else:
                for gradient, distance in zip(gradients, away, strict=True):
                    gradient.add_(distance, alpha=self._decay)
        if self._recipe.optimizer == "adamw":
            adamw(
                parameters,
                gradients,
                buffers["exp_avg"],
                buffers["exp_avg_sq"],
                [],
                buffers["step"],
                fused=True,
                foreach=False,
                capturable=isinstance(self._rate, torch.Tensor),
                amsgrad=False,
                beta1=self._recipe.beta1,
                beta2=self._recipe.beta2,
                lr=self._rate,
                weight_decay=decay,
                eps=1e-8,
                maximize=False,
            )
        else:
            momentum: list[torch.Tensor | None] = [*buffers.get("momentum", [None] * len(used))]
            sgd(
                parameters,
                gradients,
                momentum,
                fused=True,
                foreach=False,
                lr=self._rate,
                weight_decay=decay,
                momentum=self._recipe.momentum,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )


def fastest(step: Step, data: DeviceData) -> Callable[[tuple[torch.Tensor, ...]], None]:
    """The fastest way to run a step: on a GPU, recorded as a CUDA graph.

    Steps are not recorded with streamed images, whose thread would disturb the recording, nor on several ranks, which
    communicate in every step.
    """
    return RecordedStep(step) if data.device.type == "cuda" and not data.streamed and data.ranks.count == 1 else step


class RecordedStep:
    """A step as one CUDA graph, which saves small networks the time to launch kernels one by one.

    A step that waits for the device, for example because the network's ``forward`` sends a tensor there, cannot be
    recorded and is run eagerly. All batches must have one shape. This follows the section "Whole-network capture" of
    PyTorch's notes on CUDA graphs.
    """

    def __init__(self, step: Step) -> None:
        self._step, self._calls, self._waits = step, 0, False
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._sent: tuple[torch.Tensor, ...] = ()

    def __call__(self, sent: tuple[torch.Tensor, ...]) -> None:
        """Train on a batch that the source's ``fetch`` sent."""
        self._calls += 1
        if self._calls <= _EAGER or self._waits:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                if self._calls == _EAGER:
                    self._waits = self._watched(sent)
                else:
                    self._step(sent)
            torch.cuda.current_stream().wait_stream(self._stream)
            return
        if self._graph is None:
            self._sent = tuple(tensor.clone() for tensor in sent)
            self._graph = torch.cuda.CUDAGraph()
            self._record(self._graph)
        for place, tensor in zip(self._sent, sent, strict=True):
            place.copy_(tensor)
        self._graph.replay()

    def _watched(self, sent: tuple[torch.Tensor, ...]) -> bool:
        """Run a step, and return whether it waited for the device."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                self._step(sent)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return any(_WAITED in str(warning.message) for warning in told)

    def _record(self, graph: torch.cuda.CUDAGraph) -> None:
        """Record a step without computing it.

        Raises:
            Exception: What the step raised; ending a failed recording raises another error, which hides the cause.
        """
        raised: list[Exception] = []
        try:
            with torch.cuda.graph(graph):
                try:
                    self._step(self._sent)
                except Exception as error:
                    raised.append(error)
                    raise
        except Exception as error:
            raise (raised or [error])[0] from None
