"""A head on all layers, against one made by hand; everything else that can be done with a network still can."""

import copy
import math

import pytest
import torch
from torch import nn

from raytransfer.networks import build, freeze, pooled, read_all_layers
from raytransfer.specs import NetworkSpec
from raytransfer.training import stream_seed

NETWORKS = {
    "convnet8": (NetworkSpec(name="convnet8"), (1, 16, 16)),
    "ResNet": (NetworkSpec(name="resnet18"), (3, 32, 32)),
    "of tokens": (
        NetworkSpec(
            name="timm/vit_tiny_patch16_224",
            args='{"depth":2,"embed_dim":48,"img_size":32,"num_heads":2,"patch_size":8}',
        ),
        (3, 32, 32),
    ),
    "of maps whose channels are last": (
        NetworkSpec(
            name="timm/swin_tiny_patch4_window7_224",
            args='{"depths":[2,2],"drop_path_rate":0,"embed_dim":24,"img_size":32,"num_heads":[2,4],"patch_size":2,"window_size":4}',
        ),
        (3, 32, 32),
    ),
    "of modules named stages": (NetworkSpec(name="timm/convnext_atto", args='{"depths":[1,1,1,1]}'), (3, 32, 32)),
}


@pytest.fixture(params=NETWORKS)
def pair(request):
    """A network, and the same with a head on all layers."""
    spec, image = NETWORKS[request.param]
    plain = build(spec, image=image, classes=5, seed=1)
    network = build(spec, image=image, classes=5, seed=1)
    read_all_layers(network, classes=7, seed=2)
    return plain, network


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((16, 8, 8), (8, 8)),
        ((16, 9, 20), (8, 8)),
        ((20, 6, 10), (6, 7)),
        ((32, 32, 20), (5, 5)),
        ((2000, 3, 3), (1, 1)),
    ],
)
def test_maps_are_averaged_to_the_largest_grid_of_at_most_1024_numbers(shape, side):
    maps = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    image = (3, 4 * shape[1], 4 * shape[2])
    averaged = nn.AdaptiveAvgPool2d(side)(maps).flatten(1)
    assert torch.equal(pooled(maps, image), averaged)
    assert torch.equal(pooled(maps.permute(0, 2, 3, 1), image), averaged)  # as Swin lays them out


@pytest.mark.parametrize(
    ("tokens", "channels", "runs"),
    [(197, 192, 5), (50, 768, 1), (49, 2000, 1), (17, 60, 17), (18, 57, 17), (3136, 96, 10)],
)
def test_tokens_are_averaged_over_the_most_runs_of_at_most_1024_numbers(tokens, channels, runs):
    outputs = torch.randn(3, tokens, channels, generator=torch.Generator().manual_seed(0))
    of_runs = [
        outputs[:, i * tokens // runs : math.ceil((i + 1) * tokens / runs)].mean(1) for i in range(runs)
    ]  # as adaptive pooling takes them
    torch.testing.assert_close(pooled(outputs, (3, 224, 224)), torch.cat(of_runs, 1))
    if runs == tokens:
        assert torch.equal(pooled(outputs, (3, 224, 224)), outputs.flatten(1))


def by_hand(plain, images, weight, bias):
    """The formula: a linear function of the pooled outputs of each layer below the head, each of mean square 1."""
    outputs, features = images, []
    for i in range(len(plain.stages) - 1):
        outputs = plain.through(outputs, i, i + 1)
        found = pooled(outputs, plain.image)
        square = found.square().mean(1, keepdim=True)
        features.append(torch.where(square > 0, found / square.sqrt(), found))
    return torch.cat(features, 1) @ weight.T + bias


@pytest.mark.parametrize("training", [False, True])
def test_the_logits_are_those_of_the_formula(pair, training):
    plain, network = pair
    images = torch.randn(4, *plain.image, generator=torch.Generator().manual_seed(0))
    head = network.module.all_layers_head
    outputs = []
    for module, run in (
        (plain.module, lambda: by_hand(plain, images, head.weight, head.bias)),
        (network.module, lambda: network.through(images)),
    ):
        module.train(training)
        torch.manual_seed(0)
        outputs.append(run())
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    torch.manual_seed(0)
    network.module.train(training)
    assert outputs[1].shape == (4, 7)


def test_the_module_gives_what_its_stages_give_and_can_be_copied(pair):
    _, network = pair
    network.module.eval()
    images = torch.randn(2, *network.image)
    assert torch.equal(network.module(images), network.through(images))
    assert torch.equal(copy.deepcopy(network.module)(images), network.through(images))


def test_all_but_the_head_keep_their_names_and_values(pair):
    plain, network = pair
    before, after = plain.module.state_dict(), network.module.state_dict()
    below = plain.first_names(len(plain.stages) - 1)
    assert [name for name in after if not name.startswith("all_layers_head.")] == below
    assert all(torch.equal(before[name], after[name]) for name in below)
    assert [stage.name for stage in network.stages] == [stage.name for stage in plain.stages]


def test_frozen_below_the_head_only_the_head_trains_and_everything_can_be_reused(pair):
    _, network = pair
    depth = len(network.stages)
    freeze(network, range(depth - 1))
    assert network.repeatable == depth - 1
    trained = [name for name, parameter in network.module.named_parameters() if parameter.requires_grad]
    assert trained == ["all_layers_head.weight", "all_layers_head.bias"]


def test_the_new_head_is_drawn_from_its_seed_alone():
    weights = []
    for seed in (1, 1, stream_seed(1, "other")):
        network = build(NetworkSpec(name="convnet8"), image=(1, 16, 16), classes=5, seed=seed)
        before = torch.get_rng_state()
        read_all_layers(network, classes=5, seed=seed)
        assert torch.equal(before, torch.get_rng_state())
        weights.append(network.module.all_layers_head.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    bound = 1 / math.sqrt(weights[0].shape[1])  # as PyTorch draws a linear layer's
    assert weights[0].abs().max() <= bound


def test_an_image_of_which_a_layer_makes_nothing_gives_zeros():
    network = build(NetworkSpec(name="convnet8"), image=(1, 16, 16), classes=5, seed=0)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.zero_()
    read_all_layers(network, classes=5, seed=0)
    nn.init.zeros_(network.module.all_layers_head.bias)
    assert torch.equal(network.through(torch.randn(2, 1, 16, 16)), torch.zeros(2, 5))
