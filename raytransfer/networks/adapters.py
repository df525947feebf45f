"""Low-rank adapters beside frozen weights: LoRA (Hu et al. 2021, arXiv 2106.09685)."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from raytransfer.errors import UserError
from raytransfer.networks.stages import Network


class LoRALinear(nn.Linear):
    """A linear layer that computes with ``weight + lora_b @ lora_a``; made of one by ``add_lora``."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The layer's outputs (..., out) of inputs (..., in)."""
        return functional.linear(input, _adapted(self.weight, self.lora_a, self.lora_b), self.bias)


class LoRAConv2d(nn.Conv2d):
    """A convolution that computes with ``weight + lora_b @ lora_a``; made of one by ``add_lora``."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The layer's outputs (B, out, H, W) of inputs (B, in, H, W)."""
        weight = _adapted(self.weight, self.lora_a, self.lora_b)
        outputs: torch.Tensor = self._conv_forward(input, weight, self.bias)
        return outputs


ADAPTED: Mapping[type[nn.Module], type[LoRALinear | LoRAConv2d]] = {nn.Linear: LoRALinear, nn.Conv2d: LoRAConv2d}
"""What can be adapted, and what it becomes. A subclass may compute otherwise, so it is not."""


def add_lora(network: Network, n: int, *, rank: int, seed: int) -> None:
    """Put an adapter beside the weight of every plain ``Linear`` and ``Conv2d`` of the first n stages, in place.

    Such a layer computes with W + BA (section 4.1; alpha = rank), where W (out, in, ...) keeps its name, ``lora_b`` is
    B (out, rank) and starts at zero, so that the network is exactly what it was, and ``lora_a`` is A (rank, in * ...),
    drawn as PyTorch draws the weights of such a layer. A convolution's W is taken as a matrix, whatever its groups.
    The adapters require gradients; what W does is left to ``freeze``.

    Args:
        network: The network, on its device.
        n: Stages, counted from the input.
        rank: Rank of BA, >= 1.
        seed: Seed of A; torch's global generator is left as it was.

    Raises:
        UserError: None of these stages has such a layer.
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
    """The state dict of the plain network that computes the same: adapters are added to their weights."""
    plain = {name: tensor for name, tensor in state.items() if not name.endswith((".lora_a", ".lora_b"))}
    for name in state:
        if name.endswith(".lora_a"):
            path = name.removesuffix(".lora_a")
            plain[f"{path}.weight"] = _adapted(state[f"{path}.weight"], state[name], state[f"{path}.lora_b"])
    return plain


@torch.no_grad()
def used_elsewhere(adapted: Network, plain: Network) -> str | None:
    """The first adapted layer whose weight other parts of the network use, too: no plain network computes the same.

    It is seen by running both on noise, as a layer may reach for the weight of another anywhere in its code.

    Args:
        adapted: A network with adapters, which are overwritten.
        plain: The same without, whose weights are overwritten.
    """
    paths = [name.removesuffix(".lora_b") for name in adapted.module.state_dict() if name.endswith(".lora_b")]
    images = torch.randn((2, *adapted.image), generator=torch.Generator().manual_seed(0))
    networks = [network.module.eval() for network in (adapted, plain)]

    def same(chosen: list[str]) -> bool:
        for path in paths:
            layer = adapted.module.get_submodule(path)
            layer.lora_b.fill_(0.01 if path in chosen else 0.0)  # type: ignore[operator]  # a parameter
        plain.module.load_state_dict(merged(adapted.module.state_dict()))
        return torch.equal(*(network(images.clone()) for network in networks))  # it may begin by overwriting them

    return None if same(paths) else next((path for path in paths if not same([path])), paths[0])


def _adapted(weight: torch.Tensor, lora_a: torch.Tensor, lora_b: torch.Tensor) -> torch.Tensor:
    return weight + (lora_b @ lora_a).view(weight.shape)
