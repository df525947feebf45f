import copy
import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from raytransfer.errors import UserError
from raytransfer.networks import add_lora, build, freeze, frozen_prefix, merged, used_elsewhere
from raytransfer.networks.surgery import trainable
from raytransfer.specs import NetworkSpec
from tests.helpers import staged


def grouped():
    """A network of a grouped and a strided convolution and a linear layer, with normalisation between."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(8, 6, 2, stride=2, bias=False), nn.Flatten(), nn.Linear(6 * 16, 10))
    module = nn.Sequential(first, second, nn.Linear(10, 3))
    return staged(module, (4, 8, 8), {f"s{i}": [str(i)] for i in range(3)})


def images(count=5):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def adapted(n=2):
    network = grouped()
    freeze(network, range(n))
    add_lora(network, n, rank=2, seed=7)
    return network


def trained(network):
    optimizer = torch.optim.SGD([parameter for _, parameter in trainable(network)], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network.module(images()).square().mean().backward()
        optimizer.step()
    return network


@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_adapters_are_exact_at_the_start(layout):
    plain, network = grouped(), grouped()
    plain.module.to(memory_format=layout)
    network.module.to(memory_format=layout)
    add_lora(network, 2, rank=2, seed=7)
    assert torch.equal(network.module(images()), plain.module(images()))


def test_the_frozen_weights_keep_their_names_and_values_and_the_adapters_train():
    network = adapted()
    names = {name for name, _ in trainable(network)}
    assert names == {
        *(f"{layer}.{part}" for layer in ("0.0", "1.0", "1.2") for part in ("lora_a", "lora_b")),
        "2.weight",
        "2.bias",
    }
    before = copy.deepcopy(network.module.state_dict())
    assert before.keys() - names == grouped().module.state_dict().keys() - {"2.weight", "2.bias"}
    network.module.eval()
    after = trained(network).module.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == names


def test_an_adapted_stage_is_no_frozen_prefix():
    assert frozen_prefix(adapted()) == 0
    network = grouped()
    freeze(network, range(2))
    assert frozen_prefix(network) == 2


@torch.no_grad()
def test_an_adapted_layer_is_the_sum_of_two_paths():
    network = adapted()
    torch.manual_seed(3)
    for name, parameter in network.module.named_parameters():
        if "lora_b" in name:
            parameter.normal_()
    linear, strided = network.module[1][2], network.module[1][0]
    inputs = torch.randn(4, 96)
    low_rank = (inputs @ linear.lora_a.T) @ linear.lora_b.T
    torch.testing.assert_close(linear(inputs), functional.linear(inputs, linear.weight, linear.bias) + low_rank)
    maps = torch.randn(4, 8, 8, 8)
    # a convolution to the rank, then one of single pixels
    down = functional.conv2d(maps, strided.lora_a.view(2, 8, 2, 2), stride=2)
    expected = functional.conv2d(maps, strided.weight, stride=2) + functional.conv2d(
        down, strided.lora_b[..., None, None]
    )
    torch.testing.assert_close(strided(maps), expected)


@torch.no_grad()
def test_merged_weights_are_a_plain_network_s_that_computes_the_same():
    with torch.enable_grad():
        network = trained(adapted())
    plain = grouped()
    plain.module.load_state_dict(merged(network.module.state_dict()))
    network.module.eval()
    plain.module.eval()
    assert torch.equal(plain.module(images()), network.module(images()))
    state = grouped().module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in merged(state).items())


def test_adapters_are_seeded_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    states = []
    for seed in (1, 1, 2):
        network = grouped()
        torch.manual_seed(5)
        add_lora(network, 2, rank=2, seed=seed)
        assert torch.equal(torch.rand(1), expected)
        states.append(network.module.state_dict()["0.0.lora_a"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_layers_that_take_no_adapter_are_told():
    module = nn.Sequential(nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 3))
    network = staged(module, (4, 8, 8), {"norm": ["0"], "head": ["1", "2"]})
    message = "LoRA adapts layers of type Linear or Conv2d, and layers 1..1 of the network have none of them"
    with pytest.raises(UserError, match=re.escape(message)):
        add_lora(network, 1, rank=2, seed=0)


def test_a_subclass_is_left_alone():
    network = build(NetworkSpec(name="convnet8"), image=(1, 8, 8), classes=3, seed=0)

    class Own(nn.Conv2d):
        pass

    network.module.conv1[0].__class__ = Own
    add_lora(network, 2, rank=2, seed=0)
    adapters = {name for name in network.module.state_dict() if "lora" in name}
    assert adapters == {"conv2.0.lora_a", "conv2.0.lora_b"}


class Tied(nn.Module):
    """Three layers, of which the second and the third may share a weight in one of three ways."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.first, self.second, self.third = (nn.Linear(width, 8) for width in (16, 8, 8))
        self.head = nn.Linear(8, 3)
        if how == "module":
            self.third = self.second
        elif how == "weight":
            self.third.weight = self.second.weight

    def forward(self, x):
        x = x.sub_(0.5) if self.how == "overwrites" else x
        x = self.second(self.first(x.flatten(1)).relu()).relu()
        x = functional.linear(x, self.second.weight) if self.how == "reach" else self.third(x)
        return self.head(x.relu())


@pytest.mark.parametrize(
    ("how", "layer"),
    [("none", None), ("overwrites", None), ("module", None), ("weight", "second"), ("reach", "second")],
)
def test_weights_that_other_layers_use_too_have_no_adapter(how, layer):
    table = {"first": ["first"], "second": ["second"], "head": ["head"]}
    adapted, plain, one_layer = (staged(Tied(how), (1, 4, 4), table) for _ in range(3))
    add_lora(adapted, 2, rank=2, seed=0)
    assert used_elsewhere(adapted, plain) == layer
    add_lora(one_layer, 1, rank=2, seed=0)
    assert used_elsewhere(one_layer, staged(Tied(how), (1, 4, 4), table)) is None


def test_layers_that_refuse_a_state_dict_without_a_version_are_looked_at_too():
    spec = NetworkSpec(name="torchvision/mnasnet0_5")
    network, plain = (build(spec, image=(3, 32, 32), classes=2, seed=0) for _ in range(2))
    add_lora(network, 2, rank=2, seed=0)
    assert used_elsewhere(network, plain) is None
