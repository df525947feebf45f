"""Low-rank adapters beside frozen weights: LoRA (Hu et al. 2021, arXiv 2106.09685)."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from raytransfer.errors import UserError
from raytransfer.networks.stages import Network
from raytransfer.networks.surgery import load_tensors


class LoRALinear(nn.Linear):
    """A linear layer with the weight ``weight + lora_b @ lora_a``; ``add_lora`` converts plain ones to it."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The layer's outputs (..., out) of inputs (..., in)."""
        return functional.linear(input, _adapted(self.weight, self.lora_a, self.lora_b), self.bias)


class LoRAConv2d(nn.Conv2d):
    """A convolution with the weight ``weight + lora_b @ lora_a``; ``add_lora`` converts plain ones to it."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The layer's outputs (B, out, H, W) of inputs (B, in, H, W)."""
        weight = _adapted(self.weight, self.lora_a, self.lora_b)
        outputs: torch.Tensor = self._conv_forward(input, weight, self.bias)
        return outputs


ADAPTED: Mapping[type[nn.Module], type[LoRALinear | LoRAConv2d]] = {nn.Linear: LoRALinear, nn.Conv2d: LoRAConv2d}
"""Classes of layers that can be adapted, and their adapted classes; not their subclasses, which may differ."""


def add_lora(network: Network, n: int, *, rank: int, seed: int) -> None:
    """Add an adapter to every plain ``Linear`` and ``Conv2d`` of the first n stages, in place.

    Such a layer computes with W + BA (section 4.1; alpha = rank). W (out, in, ...) keeps its name. ``lora_b`` is B
    (out, rank) and starts at zero, so that the outputs do not change at first. ``lora_a`` is A (rank, in * ...) and is
    drawn as PyTorch draws the weights of such a layer. A convolution's W is viewed as a matrix, whatever its groups.
    Adapters require gradients; ``freeze`` decides about W.

    Args:
        network: The network, on its device.
        n: Number of stages, from the input.
        rank: Rank of BA, >= 1.
        seed: Seed of A; torch's global generator is left as it was.

    Raises:
        UserError: These stages have no such layer.
    """
    generator = torch.Generator().manual_seed(seed)
    stages = list(network.stages)
    adapted = []
    for i in range(n):
        paths = [name.removesuffix(".weight") for name in sorted(stages[i].tensors) if name.endswith(".weight")]
        paths = [path for path in paths if type(network.module.get_submodule(path)) in ADAPTED]
        added = tuple(f"{path}.{part}" for path in paths for part in ("lora_a", "lora_b"))
        stages[i] = replace(stages[i], tensors=stages[i].tensors + added)
        adapted += paths
    network.stages = tuple(stages)
    if not adapted:
        kinds = " or ".join(kind.__name__ for kind in ADAPTED)
        raise UserError(f"LoRA adapts layers of type {kinds}, and layers 1..{n} of the network have none of them")
    for layer in dict.fromkeys(map(network.module.get_submodule, adapted)):  # one may have several paths
        weight: torch.Tensor = layer.weight  # type: ignore[assignment]  # a parameter, as both kinds have it
        lora_a = torch.empty(rank, weight[0].numel())
        nn.init.kaiming_uniform_(lora_a, a=math.sqrt(5), generator=generator)
        layer.__class__ = ADAPTED[type(layer)]
        layer.lora_a = nn.Parameter(lora_a.to(weight.device))
        layer.lora_b = nn.Parameter(torch.zeros(len(weight), rank, device=weight.device))


def merged(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of the equivalent plain network, with BA added to each W."""
    plain = {name: tensor for name, tensor in state.items() if not name.endswith((".lora_a", ".lora_b"))}
    for name in state:
        if name.endswith(".lora_a"):
            path = name.removesuffix(".lora_a")
            plain[f"{path}.weight"] = _adapted(state[f"{path}.weight"], state[name], state[f"{path}.lora_b"])
    return plain


@torch.no_grad()
def used_elsewhere(adapted: Network, plain: Network) -> str | None:
    """The first adapted layer whose weight is also used elsewhere in the network, so that ``merged`` would differ.

    Both networks are run on noise to find out, as any code may use the weight of another layer.

    Args:
        adapted: A network with adapters, which are overwritten.
        plain: The same network without adapters, whose weights are overwritten.

    Returns:
        Path of the layer, or None.
    """
    paths = [name.removesuffix(".lora_b") for name in adapted.module.state_dict() if name.endswith(".lora_b")]
    images = torch.randn((2, *adapted.image), generator=torch.Generator().manual_seed(0))
    networks = [network.module.eval() for network in (adapted, plain)]

    def same(chosen: list[str]) -> bool:
        for path in paths:
            layer = adapted.module.get_submodule(path)
            layer.lora_b.fill_(0.01 if path in chosen else 0.0)  # type: ignore[operator]  # a parameter
        load_tensors(plain.module, merged(adapted.module.state_dict()))
        return torch.equal(*(network(images.clone()) for network in networks))  # a network may overwrite its input

    return None if same(paths) else next((path for path in paths if not same([path])), paths[0])


def _adapted(weight: torch.Tensor, lora_a: torch.Tensor, lora_b: torch.Tensor) -> torch.Tensor:
    return weight + (lora_b @ lora_a).view(weight.shape)
