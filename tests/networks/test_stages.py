"""Stages of networks of any kind: what is found, whether it is exact, and what copying and freezing them does."""

import copy
import functools
import json
import operator
import random

import numpy as np
import pytest
import torch
from timm.models import mlp_mixer
from torch import nn
from torch.nn import functional
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from raytransfer.errors import UserError
from raytransfer.experiments.checks import checked_setup
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.networks import (
    Network,
    check_network,
    copy_first,
    describe,
    find_stages,
    freeze,
    train_mode,
)
from raytransfer.networks.partition import check_exact
from raytransfer.networks.sources import module_of
from raytransfer.networks.surgery import behaviour, trainable
from raytransfer.networks.tracing import all_tensors
from raytransfer.specs import NetworkSpec, Recipe
from raytransfer.tasks import Part, TaskData
from raytransfer.training import DeviceData, EvaluationInputs, evaluate, train
from tests.helpers import staged

CLASSES = 4
RECIPE = Recipe(steps=3, batch_size=4, learning_rate=0.01, evaluations=1)


def zoo(name, side=32, **args):
    """A network by name, with the weights that a sweep draws, and the side of its images."""
    spec = NetworkSpec(name=name, args=json.dumps(args))
    return side, lambda: module_of(spec, (3, side, side), CLASSES)


NARROW = {  # torchvision's own classes, with fewer channels and blocks than any network it has a name for
    "convnext": lambda: models.ConvNeXt(
        [CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 3)], stochastic_depth_prob=0.5, num_classes=CLASSES
    ),
    "densenet": lambda: models.DenseNet(8, (2, 3, 2), 16, drop_rate=0.1, num_classes=CLASSES),
    "maxvit": lambda: models.MaxVit((32, 32), 8, 2, [8, 16], [1, 2], 8, stochastic_depth_prob=0.5, num_classes=CLASSES),
    "swin_transformer": lambda: models.SwinTransformer(
        [4, 4], 8, [2, 2, 1], [1, 2, 4], [2, 2], stochastic_depth_prob=0.5, num_classes=CLASSES
    ),
    "vision_transformer": lambda: models.VisionTransformer(
        32, 8, num_layers=5, num_heads=2, hidden_dim=16, mlp_dim=32, dropout=0.1, num_classes=CLASSES
    ),
}
TORCHVISION = {  # one a family, by the module that holds it
    "efficientnet": zoo("torchvision/efficientnet_b0"),
    "mnasnet": zoo("torchvision/mnasnet0_5"),
    "mobilenetv2": zoo("torchvision/mobilenet_v2"),
    "mobilenetv3": zoo("torchvision/mobilenet_v3_small"),
    "resnet": zoo("torchvision/resnet18"),
    "squeezenet": zoo("torchvision/squeezenet1_1"),
    **{name: (32, make) for name, make in NARROW.items()},
}
SLOW = {  # those that take seconds, the rest of torchvision's families, and the networks themselves that were narrowed
    "googlenet": zoo("torchvision/googlenet", init_weights=False),
    "regnet": zoo("torchvision/regnet_y_400mf"),
    "shufflenetv2": zoo("torchvision/shufflenet_v2_x0_5"),
    "inception": zoo("torchvision/inception_v3", 75, init_weights=False),
    "alexnet": zoo("torchvision/alexnet", 64),
    "vgg": zoo("torchvision/vgg11_bn"),
    "convnext_tiny": zoo("torchvision/convnext_tiny"),
    "densenet121": zoo("torchvision/densenet121"),
    "swin_t": zoo("torchvision/swin_t"),
}
TIMM = {
    "vit": zoo("timm/vit_tiny_patch16_224", img_size=32, patch_size=4, depth=5),
    "swin": zoo("timm/swin_tiny_patch4_window7_224", img_size=32, window_size=2, depths=[1, 2, 1, 1], embed_dim=24),
    "convnext": zoo("timm/test_convnext"),
    "efficientnet": zoo("timm/test_efficientnet"),
    "mixer": (32, lambda: mlp_mixer.MlpMixer(CLASSES, 32, patch_size=8, num_blocks=4, embed_dim=16)),
    "nfnet": zoo("timm/test_nfnet"),
    "pvt": zoo("timm/pvt_v2_b0"),
    "mobilenetv3": zoo("timm/mobilenetv3_small_050"),
    "moving statistics of EvoNorm": zoo("timm/test_efficientnet_evos"),
    "shared RoPE": zoo("timm/eva02_tiny_patch14_224", img_size=32, patch_size=8, depth=5),
    "random stage depth": zoo("timm/test_vit", img_size=32, drop_path_rate=0.5),
}
SLOW_TIMM = {
    "regnetx": zoo("timm/regnetx_002"),
    "resnetv2": zoo("timm/resnetv2_18"),
    "test_maxvit": zoo("timm/test_maxvit", 160),
    "mixer_s32": zoo("timm/mixer_s32_224", 64),
}
FAMILIES = {"torchvision": TORCHVISION | SLOW, "timm": TIMM | SLOW_TIMM}
NETWORKS = {f"{source} {name}": made for source, family in FAMILIES.items() for name, made in family.items()}
EVERY = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.partition(" ")[2] in SLOW | SLOW_TIMM else ())
        for name in NETWORKS
    ],
)


@torch.no_grad()
def add_noise(module, seed):
    """Move every weight and statistic, so that no layer multiplies by 0 or 1 and none is alike another."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in all_tensors(module).items():
        if tensor.is_floating_point() and (isinstance(tensor, nn.Parameter) or "running" in name):
            noise = 0.02 * torch.randn(tensor.shape, generator=generator)
            tensor.add_(noise.abs() if "var" in name else noise)


@functools.cache
def original(name):
    side, make = NETWORKS[name]
    torch.manual_seed(0)
    module = make()
    add_noise(module, 0)
    image = (3, side, side)
    return Network(module, find_stages(module, image), image)


def network(name):
    """A copy of its own for a test to change."""
    found = original(name)
    return Network(copy.deepcopy(found.module), found.stages, found.image)


def data(image, memory_bytes=10**9, recipe=RECIPE):
    images = np.random.default_rng(0).integers(0, 256, (12, *image), dtype=np.uint8)
    labels = np.arange(12) % CLASSES
    part = Part(images=images, rows=np.arange(12), labels=labels)
    mean, std = images.mean((0, 2, 3)).astype(np.float32), images.std((0, 2, 3)).astype(np.float32)
    return DeviceData(
        TaskData(train=part, test=part, channel_mean=mean, channel_std=std), recipe, torch.device("cpu"), memory_bytes
    )


def values(found):
    return {name: tensor.clone() for name, tensor in all_tensors(found.module).items()}


def owned(found, n):
    return {name for stage in found.stages[:n] for name in stage.tensors}


def test_every_family_of_torchvision_is_here():
    builders = [models.get_model_builder(name) for name in models.list_models(module=models)]
    assert {builder.__module__.rpartition(".")[2] for builder in builders} <= {*TORCHVISION, *SLOW}


@EVERY
def test_stages_share_out_the_tensors_and_compute_what_the_network_does(name):
    found = original(name)
    assert len(found.stages) >= 6
    tensors = all_tensors(found.module)
    assert sorted(tensor for stage in found.stages for tensor in stage.tensors) == sorted(tensors)
    head = {tensor: tensors[tensor].shape for tensor in found.stages[-1].tensors}
    assert all(shape[0] == CLASSES for shape in head.values()), "the head holds more than the classifier"
    before, mode = values(found), found.module.training
    check_exact(found)
    assert all(torch.equal(tensor, before[key]) for key, tensor in all_tensors(found.module).items())
    assert found.module.training == mode


@EVERY
def test_frozen_copies_stay_as_they_are_reused_or_recomputed_and_the_rest_trains(name):
    base, results = original(name), []
    n = 2 * len(base.stages) // 3
    for memory_bytes in (10**9, 0):  # the latter is too little to keep outputs in
        found = network(name)
        add_noise(found.module, 1)
        fresh = values(found)
        state = base.module.state_dict()
        copied = {key: state[key] for key in found.first_names(n)}
        copy_first(copied, found, n)
        before, first = values(found), owned(found, n)
        assert all(torch.equal(before[key], tensor) for key, tensor in copied.items())
        assert all(torch.equal(before[key], fresh[key]) for key in before if key not in first)
        freeze(found, range(n))
        outcome = train(found, data(found.image, memory_bytes), seed=3)
        results.append((outcome, values(found)))
    (reused, after), (recomputed, again) = results
    assert (reused.reused_layers, recomputed.reused_layers) == (found.repeatable, 0)
    assert reused.curve == recomputed.curve
    assert [key for key in after if not torch.equal(after[key], again[key])] == []
    trained = {key for key, _ in found.module.named_parameters()} - first
    trained |= {key for key in before if "running" in key} - first
    moved = {key for key in before if not torch.equal(after[key], before[key])}
    assert trained <= moved <= before.keys() - first
    assert {key for key, _ in trainable(found)} <= trained


@pytest.mark.parametrize(
    ("name", "repeatable"),
    [
        ("torchvision efficientnet", 3),  # two blocks have no shortcut to drop, or drop it with probability 0
        ("torchvision convnext", 2),
        ("torchvision swin_transformer", 2),
        ("torchvision resnet", 9),
        ("timm random stage depth", 2),
        pytest.param("torchvision convnext_tiny", 2, marks=pytest.mark.slow),
        pytest.param("torchvision swin_t", 2, marks=pytest.mark.slow),
    ],
)
def test_reuse_ends_at_the_first_stage_that_draws_random_numbers(name, repeatable):
    found = network(name)
    freeze(found, range(len(found.stages) - 1))
    assert found.repeatable == repeatable
    draws = [seen.draws for seen in behaviour(found, len(found.stages) - 1)]
    assert not any(draws[:repeatable])
    assert repeatable == len(draws) or draws[repeatable]


def conv(i, o):
    return nn.Conv2d(i, o, 3, padding=1)


class Pooled(nn.Sequential):
    """Layers and a head on the mean over all places."""

    def __init__(self, *layers, channels=6):
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


class BatchNormWithoutStatistics(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6), conv(6, 6), nn.BatchNorm2d(6, track_running_stats=False), nn.ReLU(), conv(6, 6))


class TiedWeights(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6), conv(6, 6), nn.ReLU(), conv(6, 6))
        self[3].weight = self[1].weight


class SharedLayer(nn.Module):
    """A layer that runs in two places."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = conv(3, 6), conv(6, 6), conv(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        x = self.shared(self.first(x)).relu()
        return self.head(self.shared(self.last(x)).relu().mean((2, 3)))


class BareParameters(nn.Module):
    """A scale and a shift that belong to no layer, and a buffer that no state dict holds."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.head = conv(3, 6), conv(6, 6), nn.Linear(6, CLASSES)
        self.scale, self.shift = nn.Parameter(torch.ones(6, 1, 1)), nn.Parameter(torch.ones(6, 1, 1))
        self.register_buffer("unsaved", torch.full((6, 1, 1), 0.5), persistent=False)

    def forward(self, x):
        x = self.conv1(x) * self.scale + self.unsaved
        return self.head((self.conv2(x) + self.shift).relu().mean((2, 3)))


class FunctionalDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.head = conv(3, 6), conv(6, 6), conv(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x):
        x = functional.dropout(self.conv2(self.conv1(x)), 0.5, training=self.training)
        return self.head(self.conv3(x).mean((2, 3)))


class UnusedParameters(Pooled):
    """A layer that the loss does not depend on."""

    def __init__(self):
        super().__init__(conv(3, 6), conv(6, 6), nn.ReLU(), conv(6, 6))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        for layer in list(self)[:-1]:
            x = layer(x)
        return x


class InPlace(Pooled):
    """Blocks that begin by overwriting what they are given: with a module, a method or an operator."""

    class Block(nn.Module):
        def __init__(self, overwrite):
            super().__init__()
            self.overwrite, self.conv = overwrite, conv(6, 6)

        def forward(self, x):
            x = self.overwrite(x)
            return x + self.conv(x)

    def __init__(self):
        overwriting = nn.ReLU(inplace=True), lambda x: x.mul_(0.5), lambda x: operator.iadd(x, 1.0)
        super().__init__(conv(3, 6), *(self.Block(overwrite) for overwrite in overwriting))


SMALL = [
    BatchNormWithoutStatistics,
    TiedWeights,
    SharedLayer,
    BareParameters,
    FunctionalDropout,
    UnusedParameters,
    InPlace,
]


@functools.cache
def small_original(cls):
    torch.manual_seed(0)
    module, image = cls(), (3, 8, 8)
    add_noise(module, 0)
    return Network(module, find_stages(module, image), image)


def small(cls):
    """A copy of its own for a test to change."""
    found = small_original(cls)
    return Network(copy.deepcopy(found.module), found.stages, found.image)


@pytest.mark.parametrize("cls", SMALL)
def test_small_networks_of_every_kind_are_cut_exactly_and_their_frozen_stages_stay(cls):
    found = small(cls)
    check_exact(found)
    for n in range(1, len(found.stages)):
        results = []
        for memory_bytes in (10**9, 0):
            found = small(cls)
            freeze(found, range(n))
            before = values(found)
            outcome = train(found, data(found.image, memory_bytes), seed=0)
            results.append((outcome, values(found)))
        (reused, after), (recomputed, again) = results
        assert reused.reused_layers == found.repeatable
        assert reused.curve == recomputed.curve
        moved = {key for key in before if not torch.equal(after[key], before[key])}
        assert moved == before.keys() - owned(found, n) - {"unsaved", "unused.weight", "unused.bias"}
        assert [key for key in after if not torch.equal(after[key], again[key])] == []


@pytest.mark.parametrize(
    ("cls", "repeatable"), [(BatchNormWithoutStatistics, 1), (FunctionalDropout, 1), (TiedWeights, 3), (InPlace, 4)]
)
def test_what_frozen_stages_always_give_alike_is_seen_and_not_told_from_types(cls, repeatable):
    found = small(cls)
    freeze(found, range(len(found.stages) - 1))
    assert found.repeatable == repeatable
    seen = behaviour(found, len(found.stages) - 1)
    assert any(stage.mixes for stage in seen) == (cls is BatchNormWithoutStatistics)
    assert [stage.draws for stage in seen].count(True) == (cls is FunctionalDropout)


def test_a_tensor_belongs_to_the_first_stage_that_uses_it():
    tied, shared, bare = small(TiedWeights), small(SharedLayer), small(BareParameters)
    assert {"1.weight", "3.weight"} <= {*tied.stages[1].tensors}
    assert [stage.name for stage in shared.stages] == ["first", "shared", "last", "head"]
    assert "scale" in bare.stages[0].tensors
    assert "unsaved" in bare.stages[0].tensors
    assert "shift" in bare.stages[1].tensors
    assert "unsaved" not in bare.first_names(2)  # no base has it


class Statistics(nn.Module):
    """A layer that keeps a statistic and is no norm by its class; ``always`` moves it in eval mode, too."""

    def __init__(self, always=False):
        super().__init__()
        self.always, self.linear = always, conv(6, 6)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        if self.training or self.always:
            self.seen.add_(1.0)
        return self.linear(x)


class MovesInTraining(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6), Statistics(), conv(6, 6))


class MovesAlways(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6), Statistics(always=True), conv(6, 6))


def test_statistics_of_frozen_stages_stay_whatever_keeps_them():
    found = small(MovesInTraining)
    freeze(found, range(2))
    train_mode(found)
    assert [module.training for module in (found.module, found.module[1], found.module[2])] == [True, False, True]
    train(found, data(found.image), seed=0)
    assert found.module[1].seen == 0
    freeze(small(MovesAlways), range(1))
    with pytest.raises(UserError, match=r"^1\.seen moves in eval mode, too: its layer cannot be frozen$"):
        freeze(small(MovesAlways), range(2))


class Counts(Pooled):
    """Counts its calls outside of its layers, by another tensor or in place."""

    def __init__(self, how="always"):
        super().__init__(conv(3, 6), conv(6, 6))
        self.how = how
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.how == "in place":
            self.calls.add_(1.0)
        elif self.how == "always" or self.training:
            self.calls = self.calls + 1.0
        return super().forward(x)


@pytest.mark.parametrize(("how", "mode"), [("always", "eval"), ("in place", "eval"), ("in training", "training")])
def test_a_buffer_that_moves_outside_of_layers_is_named(how, mode):
    module = Counts(how)
    network = Network(module, find_stages(module, (3, 8, 8)), (3, 8, 8))
    assert torch.equal(module.calls, torch.zeros(()))
    with pytest.raises(
        UserError, match=f"^its buffer calls moves when .* and not stage by stage, in {mode} mode: move"
    ):
        check_exact(network)


def test_a_buffer_that_moves_in_eval_mode_is_named_before_anything_is_frozen():
    with pytest.raises(UserError, match=r"^its buffer 1\.seen moves in eval mode, too: its layer cannot be frozen$"):
        check_exact(small(MovesAlways))
    check_exact(small(MovesInTraining))


class FunctionalNorm(Pooled):
    """Normalises by a function, with statistics that the network itself keeps."""

    def __init__(self):
        super().__init__(conv(3, 6), conv(6, 6))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("var", torch.ones(6))

    def forward(self, x):
        x = functional.batch_norm(self[0](x), self.mean, self.var, training=self.training)
        for layer in list(self)[1:]:
            x = layer(x)
        return x


class NormOfALayer(Pooled):
    """The same with the statistics of a layer that is not called."""

    def __init__(self):
        super().__init__(conv(3, 6), nn.BatchNorm2d(6), conv(6, 6))

    def forward(self, x):
        x = functional.batch_norm(self[0](x), self[1].running_mean, self[1].running_var, training=self.training)
        for layer in list(self)[2:]:
            x = layer(x)
        return x


@pytest.mark.parametrize(("cls", "buffer"), [(FunctionalNorm, "mean"), (NormOfALayer, r"1\.running_mean")])
def test_statistics_that_move_outside_of_layers_are_refused_as_they_cannot_be_frozen(cls, buffer):
    with pytest.raises(UserError, match=f"^its buffer {buffer} moves in training by code outside of its layers, which"):
        check_exact(small(cls))
    with pytest.raises(UserError, match=rf"^{buffer} moves"):
        freeze(small(cls), range(1))


class Clamped(Pooled):
    """Bounds the weights of a layer in each pass, outside of the layer."""

    def __init__(self):
        super().__init__(conv(3, 6), conv(6, 6))

    def forward(self, x):
        with torch.no_grad():
            self[1].weight.clamp_(-0.1, 0.1)
        for layer in self:
            x = layer(x)
        return x


def test_weights_that_forward_changes_outside_of_their_layer_are_named():
    with pytest.raises(UserError, match=r"^its forward changes the weights 1\.weight when it runs as a whole, and not"):
        check_exact(small(Clamped))


class WithoutGradients(Pooled):
    """Keeps its first layer out of training in its own way."""

    def __init__(self):
        super().__init__(conv(3, 6), conv(6, 6))

    def forward(self, x):
        with torch.no_grad():
            x = self[0](x)
        for layer in list(self)[1:]:
            x = layer(x)
        return x


def test_what_forward_keeps_out_of_training_is_refused_as_it_would_train_stage_by_stage():
    with pytest.raises(
        UserError, match=r"^its forward keeps 0\.weight out of training, as torch.no_grad\(\) does, and"
    ):
        check_exact(small(WithoutGradients))


class LooksAtPixels(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6))

    def forward(self, x):
        return super().forward(x if x.mean() > 0 else -x)


class NumPyInForward(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6))

    def forward(self, x):
        return super().forward(torch.from_numpy(np.sqrt(np.abs(x.numpy()))))


class TwoOutputs(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6))

    def forward(self, x):
        logits = super().forward(x)
        return logits, logits


class Batches(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6))

    def forward(self, x):
        for _ in range(len(x)):
            x = x * 0.5
        return super().forward(x)


class PlainTensor(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6))
        self.scale = torch.randn(3, 1, 1)

    def forward(self, x):
        return super().forward(x * self.scale)


class TensorOfNumbers(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6))

    def forward(self, x):
        return super().forward(x * torch.tensor([1.0, 2.0, 3.0])[:, None, None])


class DrawsElsewhere(Pooled):
    """Skips a layer now and then, as Python's random numbers or NumPy's say."""

    def __init__(self, draw=random.random):
        super().__init__(conv(3, 6))
        self.draw = draw

    def forward(self, x):
        return super().forward(x * 0.5 if self.training and self.draw() < 1e-9 else x)


class DrawsWithNumPy(DrawsElsewhere):
    def __init__(self):
        super().__init__(np.random.rand)


class OneMemory(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6), conv(6, 6), conv(6, 6))
        self[2].weight = nn.Parameter(self[1].weight.data)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (PlainTensor, "its forward uses scale, which is neither a parameter nor a buffer, .* register_buffer"),
        (TensorOfNumbers, "its forward uses a tensor that it makes of numbers or keeps in a list, which is neither .*"),
        (DrawsElsewhere, "it draws random numbers of Python or NumPy, which no seed sets: draw them of torch"),
        (DrawsWithNumPy, "it draws random numbers of Python or NumPy, which no seed sets: draw them of torch"),
        (OneMemory, r"1\.weight and 2\.weight are two parameters in one memory: to share it, assign the same .*"),
        (LooksAtPixels, "what it does depends on the numbers in its input, not only on their shape"),
        (NumPyInForward, "it computes with NumPy, which cannot be followed"),
        (TwoOutputs, "its output is not one tensor of logits: wrap it in a module that returns these alone"),
        (Batches, "what it does depends on the size of the batch"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(cls, message):
    module = cls().eval()
    before = {name: tensor.clone() for name, tensor in all_tensors(module).items()}
    with pytest.raises(UserError, match=f"^{message}$"):
        find_stages(module, (3, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in all_tensors(module).items())
    assert not any(child.training for child in module.modules())
    assert type(module) is cls


def test_evaluation_batches_are_kept_as_they_were_where_a_stage_overwrites_its_input():
    found = small(InPlace)
    for n in range(1, len(found.stages)):
        freeze(found, range(n))
        batches = EvaluationInputs(found, data(found.image), data(found.image).test, n, keep=True)
        results = [evaluate(found, data(found.image), batches) for _ in range(3)]
        again = EvaluationInputs(found, data(found.image), data(found.image).test, n, keep=False)
        assert results == [evaluate(found, data(found.image), again)] * 3


class Blocks(Pooled):
    """Two blocks with a shortcut: inside one, two tensors cross."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = conv(6, 6), conv(6, 6)

        def forward(self, x):
            return x + self.conv2(self.conv1(x).relu())

    def __init__(self):
        super().__init__(conv(3, 6), self.Block(), self.Block())


def test_a_table_of_stages_is_followed():
    found = staged(Blocks(), (3, 8, 8), {"stem": ["0"], "body": ["1", "2.*"], "head": ["5"]})
    check_exact(found)
    assert [stage.name for stage in found.stages] == ["stem", "body", "head"]
    assert {name.split(".")[0] for name in found.stages[1].tensors} == {"1", "2"}
    assert {*found.stages[2].tensors} == {"5.weight", "5.bias"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": ["0"], "b": ["nothing"], "c": ["5"]}, "the stage b of the table matches nothing: nothing"),
        ({"a": ["0", "1.conv1"], "b": ["1.conv2", "2"], "c": ["5"]}, "the stages? .*1.conv1|the stages a and b of the"),
        ({"a": ["1"], "b": ["0"], "c": ["5"]}, "the stages a and b of the table cannot be cut apart"),
        ({"a": ["0", "5"], "b": ["1", "2"]}, "the stages a and b of the table cannot be cut apart"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table, message):
    with pytest.raises(UserError, match=message):
        staged(Blocks(), (3, 8, 8), table)


def test_a_granularity_beside_stages_by_name_is_refused():
    message = "^network=convnet8: granularity=fine would change nothing, as its stages are given by name: leave it out$"
    with pytest.raises(UserError, match=message):
        check_network(NetworkSpec(name="convnet8", granularity="fine"), image=(1, 8, 8), classes=CLASSES)


def test_granularity_is_what_timm_says_of_its_networks():
    image = (3, 32, 32)
    module = NETWORKS["timm mobilenetv3"][1]()
    counts = {}
    for granularity in ("block", "fine", "coarse"):
        found = Network(module, find_stages(module, image, granularity), image)
        check_exact(found)
        counts[granularity] = len(found.stages)
        assert {"classifier.weight", "classifier.bias"} <= {*found.stages[-1].tensors}
    assert counts["coarse"] < counts["fine"] <= counts["block"]
    with pytest.raises(UserError, match="granularity=fine and coarse are groups that only timm's networks have"):
        find_stages(Blocks(), (3, 8, 8), "fine")


def cuts(asked, network="torchvision/mobilenet_v3_small"):
    config = GridConfig(network=network, n_layers=asked, recipe=Recipe(steps=1, batch_size=1, learning_rate=0.1))
    return checked_setup(config, (3, 32, 32), [CLASSES]).n_layers


def test_cuts_are_numbers_names_fractions_of_the_depth_or_spread():
    assert cuts("all") == [*range(1, 15)]
    assert cuts("spread") == [1, 3, 5, 7, 8, 10, 12, 14]
    assert cuts([0.01, 0.5, 0.99]) == [1, 7, 14]
    assert cuts(["features.1", 5, 0.5]) == [2, 5, 7]
    for asked in ([15], [0], ["features.99"], [True]):
        with pytest.raises(UserError, match=r"^n_layers=.* must lie in 1\.\.14, be a fraction of the depth, or name"):
            cuts(asked)
    with pytest.raises(UserError, match=r"^n_layers=\[0\.5, 7\], which are \[7, 7\] must name at least one layer"):
        cuts([0.5, 7])


def test_a_network_without_a_cut_is_refused():
    spec = NetworkSpec(name="tests.networks.test_stages:one_layer")
    with pytest.raises(UserError, match=r"^network=tests\.networks\.test_stages:one_layer has no cut: nowhere between"):
        check_network(spec, image=(3, 8, 8), classes=CLASSES)


def one_layer(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))


class Logarithm(Pooled):
    def __init__(self):
        super().__init__(conv(3, 6))

    def forward(self, x):
        return super().forward(x).log()


def test_outputs_that_are_no_numbers_are_called_so():
    found = Network(module := Logarithm(), find_stages(module, (3, 8, 8)), (3, 8, 8))
    with pytest.raises(UserError, match=r"^on images of noise its output has NaN in eval mode, such as from the log"):
        check_exact(found)


def test_operations_of_attention_are_counted_where_pytorch_has_one_kernel_for_all_of_them():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    module = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.Flatten(2), Transposed(), layer, MeanToken(), nn.Linear(16, 4))
    rows = describe(Network(module, find_stages(module, (3, 8, 8)), (3, 8, 8)))
    weights, scores = 3 * 16 * 16 + 16 * 16 + 2 * 16 * 32, 2 * 4 * 16  # 4 tokens of 16 numbers
    assert [row.mflops * 1e6 for row in rows] == [2 * 4 * 48 * 16, 2 * 4 * (weights + scores), 2 * 16 * 4]
    assert torch.backends.mha.get_fastpath_enabled()


class Transposed(nn.Module):
    def forward(self, x):
        return x.mT


class MeanToken(nn.Module):
    def forward(self, x):
        return x.mean(1)


class RowsOfPatches(nn.Module):
    """What passes between its first two layers has a row for each patch; between the next two, tokens come first."""

    def __init__(self):
        super().__init__()
        self.patch, self.mix, self.token, self.head = (
            nn.Linear(12, 6),
            nn.Linear(24, 8),
            nn.Linear(8, 5),
            nn.Linear(5, 4),
        )

    def forward(self, images):
        patches = nn.functional.unfold(images, 4, stride=4).mT  # (B, 4, 48)
        rows = self.patch(patches.reshape(-1, 4, 12))  # (4 B, 4, 6)
        tokens = self.mix(rows.flatten(1)).reshape(len(images), 4, 8)
        return self.head(self.token(tokens.transpose(0, 1).relu()).transpose(0, 1).mean(1))


def test_no_cut_lies_where_the_rows_are_not_the_images():
    found = Network(module := RowsOfPatches(), find_stages(module, (3, 8, 8)), (3, 8, 8))
    check_exact(found)
    assert [stage.name for stage in found.stages] == ["patch", "token", "head"]
    passing = torch.zeros(5, 3, 8, 8)
    for i in range(3):
        passing = found.through(passing, i, i + 1)
        assert len(passing) == 5


class CountsImages(nn.Module):
    """It takes the size of the batch as a plain number, which ``len`` gives, and multiples of it."""

    def __init__(self):
        super().__init__()
        self.low, self.middle, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 6), nn.Linear(6, 4)

    def forward(self, images):
        maps = self.low(images).relu().reshape(len(images), -1)
        pairs = self.middle(maps).reshape(2 * len(maps), 3)
        scale = pairs.new_ones(int(images.shape[0]), 1)
        return self.head(pairs.reshape(len(images), 6) * scale)


def test_the_size_of_the_batch_may_be_taken_as_a_number():
    found = Network(module := CountsImages(), find_stages(module, (3, 8, 8)), (3, 8, 8))
    check_exact(found)
    assert [stage.name for stage in found.stages] == ["low", "middle", "head"]
    images = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.through(images), module(images))


class DropsAnImage(nn.Module):
    def __init__(self):
        super().__init__()
        self.low, self.head = nn.Linear(192, 6), nn.Linear(6, 4)

    def forward(self, images):
        return self.head(self.low(images.reshape(len(images), -1)).narrow(0, 0, len(images) - 1))


def test_other_numbers_that_depend_on_the_size_of_the_batch_are_refused():
    with pytest.raises(UserError, match="it cannot be cut: a number that is 1 in a batch of 2 and 2 in one of 3"):
        find_stages(DropsAnImage(), (3, 8, 8))
