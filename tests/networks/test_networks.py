import traceback
from itertools import pairwise

import pytest
import torch
from torch import nn

from raytransfer.errors import UserError
from raytransfer.networks import (
    ZOO,
    Network,
    build,
    check_network,
    copy_first,
    freeze,
    frozen_prefix,
    train_mode,
)
from raytransfer.networks.partition import check_exact
from raytransfer.networks.surgery import trainable
from raytransfer.specs import NetworkSpec
from tests.helpers import staged

SHAPES = {"convnet8": (1, 8), "alexnet": (3, 64), "resnet18": (3, 32), "caffenet": (3, 227)}


def make(name, seed=0, classes=5, init="network"):
    channels, side = SHAPES[name]
    spec = NetworkSpec(name=name, init=init)
    return build(spec, image=(channels, side, side), classes=classes, seed=seed)


def images(name, count=2):
    channels, side = SHAPES[name]
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ZOO)
def test_stages_partition_the_tensors_in_order_of_execution(name):
    network = make(name)
    names = [network.first_names(n) for n in range(len(network.stages) + 1)]
    assert names[0] == []
    assert sorted(names[-1]) == sorted(network.module.state_dict())
    assert all(set(shorter) < set(longer) for shorter, longer in pairwise(names))


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_stages_one_after_the_other_are_the_network(name):
    network = make(name)
    network.module.eval()
    outputs = images(name)
    logits = network.module(outputs.clone())
    assert torch.equal(network.through(outputs), logits)
    for i in range(len(network.stages)):
        before = outputs.clone()
        after = network.through(outputs, i, i + 1)
        assert torch.equal(outputs, before), "a stage must leave what it is given as it is: others use it again"
        assert torch.equal(network.through(after, start=i + 1), logits)
        outputs = after
    assert torch.equal(outputs, logits)


@pytest.mark.parametrize("side", [8, 28, 32])
def test_convnet8_takes_the_images_it_is_laid_out_for(side):
    network = build(NetworkSpec(name="convnet8"), image=(3, side, side), classes=7, seed=0)
    assert network.module(torch.zeros(2, 3, side, side)).shape == (2, 7)
    assert [stage.name for stage in network.stages] == [*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "fc8"]


def test_caffenet_is_the_network_of_2014():
    module = make("caffenet", classes=500).module
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items() if name.endswith("weight")}
    assert list(shapes.values()) == [
        (96, 3, 11, 11),
        (256, 48, 5, 5),
        (384, 256, 3, 3),
        (384, 192, 3, 3),
        (256, 192, 3, 3),
        (4096, 9216),
        (4096, 4096),
        (500, 4096),
    ]
    biases = [tensor.unique().tolist() for name, tensor in module.state_dict().items() if name.endswith("bias")]
    assert biases == [[0], [1], [0], [1], [1], [1], [1], [0]]
    deviations = [p.std().item() for name, p in module.named_parameters() if name.endswith("weight")]
    assert deviations == pytest.approx([0.01] * 5 + [0.005] * 2 + [0.01], rel=0.03)
    layers = [type(layer).__name__ for stage in module for layer in stage]
    assert layers.count("Dropout") == 2
    assert layers[:8] == ["Conv2d", "ReLU", "MaxPool2d", "LocalResponseNorm"] * 2


def test_kaiming_and_gaussian_init():
    for init, expected in (("gaussian", 0.01), ("kaiming", (2 / (64 * 9)) ** 0.5)):
        network = build(NetworkSpec(name="convnet8", init=init), image=(3, 32, 32), classes=5, seed=0)
        weight = network.module.get_submodule("conv3.0").weight
        assert weight.std().item() == pytest.approx(expected, rel=0.03)
        assert not network.module.get_submodule("conv3.0").bias.any()


def test_building_is_seeded_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, same, other = (make("convnet8", seed=seed).module.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if name.endswith("weight"))


def test_freezing_and_checking_do_not_have_torch_write_down_the_stack_for_gpus_that_are_not_there(monkeypatch):
    written = []
    monkeypatch.setattr(traceback, "format_stack", lambda *_, **__: written.append(1) or [])
    network = make("convnet8")
    check_exact(network)
    freeze(network, range(3))
    assert written == []


@pytest.mark.parametrize("n", [1, 4, 9])
def test_copy_takes_parameters_and_buffers_of_the_first_n_and_no_more(n):
    base, network = make("resnet18", seed=1), make("resnet18", seed=2)
    with torch.no_grad():
        for buffer in base.module.buffers():
            buffer.add_(3)
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    state = base.module.state_dict()
    copy_first(state, network, n)
    after, first = network.module.state_dict(), network.first_names(n)
    assert any("running_mean" in name for name in first)
    assert all(torch.equal(after[name], state[name]) for name in first)
    assert all(torch.equal(after[name], before[name]) for name in after if name not in first)


def test_copy_refuses_another_shape():
    base = build(NetworkSpec(name="convnet8"), image=(3, 8, 8), classes=5, seed=0)
    with pytest.raises(
        ValueError, match=r"conv1\.0\.weight cannot be copied: its shape is \(16, 3, 3, 3\) in the base"
    ):
        copy_first(base.module.state_dict(), make("convnet8"), 1)


def test_frozen_layers_keep_parameters_and_statistics():
    network = make("resnet18")
    freeze(network, range(4))
    frozen = set(network.first_names(4))
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    optimizer = torch.optim.SGD([p for _, p in trainable(network)], lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        train_mode(network)
        optimizer.zero_grad()
        network.module(images("resnet18", 8)).square().sum().backward()
        optimizer.step()
    after = network.module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert set(moved) == set(after) - frozen


@pytest.mark.parametrize("name", ["convnet8", "resnet18"])
def test_any_stages_can_be_frozen_and_released(name):
    network = make(name)
    last = len(network.stages) - 1
    for stages in ({0, 2, last - 1}, {2}, {0, 1, 2}, set()):
        freeze(network, stages)
        frozen = {tensor for i in stages for tensor in network.stages[i].tensors}
        named = dict(network.module.named_parameters())
        assert {tensor for tensor in named if tensor not in dict(trainable(network))} == frozen & named.keys()
        assert frozen_prefix(network) == {3: 1, 1: 0, 0: 0}[len(stages)] if stages != {0, 1, 2} else 3
        before = {tensor: value.clone() for tensor, value in network.module.state_dict().items()}
        train_mode(network)
        network.module(images(name, 8))
        after = network.module.state_dict()
        moved = {tensor for tensor in after if not torch.equal(after[tensor], before[tensor])}
        assert moved == dict(network.module.named_buffers()).keys() - frozen


class Centred(nn.Module):
    """Subtracts a running mean that is no normalisation layer's, after dropout inside it."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, inputs):
        inputs = self.drop(inputs)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.mean().detach()
        return inputs - self.mean


def test_statistics_of_a_frozen_stage_stay_whatever_the_layer_and_dropout_inside_it_stays_on():
    module = nn.Sequential(Centred(), nn.Linear(2, 2))
    network = staged(module, (2,), {"a": ["0"], "b": ["1"]})
    freeze(network, {0})
    train_mode(network)
    torch.manual_seed(0)
    assert (module[0](torch.ones(50)) == 0).any()
    assert module[0].mean == 0
    freeze(network, set())
    train_mode(network)
    module[0](torch.ones(50))
    assert module[0].mean != 0


def test_weights_that_stages_share_are_frozen_with_the_stage_that_has_them_under_any_name():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    network = staged(module, (2,), {"a": ["0"], "b": ["1"]})
    freeze(network, {0})
    assert [name for name, _ in trainable(network)] == ["1.bias"]


def test_parameters_that_a_network_fixes_itself_stay_fixed_when_their_stage_is_released():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].weight.requires_grad_(False)
    network = staged(module, (2,), {"a": ["0"], "b": ["1"]})
    freeze(network, {0})
    freeze(network, set())
    assert [name for name, _ in trainable(network)] == ["0.bias", "1.weight", "1.bias"]


def test_dropout_of_frozen_layers_stays_on():
    network = make("alexnet")
    freeze(network, range(7))
    train_mode(network)
    dropouts = [layer for layer in network.module.modules() if isinstance(layer, nn.Dropout)]
    assert len(dropouts) == 2
    assert all(layer.training for layer in dropouts)


def test_no_graph_below_the_cut():
    network = make("convnet8")
    freeze(network, range(3))
    outputs = {}
    for path in ("conv3", "conv4"):
        module = network.module.get_submodule(path)
        module.register_forward_hook(lambda _, __, output, path=path: outputs.update({path: output}))
    network.module(images("convnet8"))
    assert not outputs["conv3"].requires_grad
    assert outputs["conv4"].requires_grad


def test_stages_must_partition():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    both = staged(module, (2,), {"a": ["0"], "b": ["1"]}).stages
    with pytest.raises(ValueError, match=r"1\.weight must belong to one stage, and belongs to none"):
        Network(module, both[:1], (2,))
    with pytest.raises(ValueError, match=r"0\.weight must belong to one stage, and belongs to \['a', 'a'\]"):
        Network(module, (both[0], *both), (2,))


@pytest.mark.parametrize(
    ("name", "channels", "side", "message"),
    [
        ("convnet9", 3, 32, "network=convnet9 is not known; choose one of convnet8, caffenet"),
        (
            "caffenet",
            3,
            32,
            "does not take images of 3x32x32: it takes images of 227 x 227 pixels, not 32 x 32: set recipe.crop_px",
        ),
        ("alexnet", 3, 32, "does not take images of 3x32x32: .*too small"),
        ("resnet18", 1, 32, "does not take images of 1x32x32: it takes colour images of 3 channels"),
    ],
)
def test_unfit_networks_are_named(name, channels, side, message):
    with pytest.raises(UserError, match=message):
        check_network(NetworkSpec(name=name), image=(channels, side, side), classes=5)
