import copy
import dataclasses
import functools
import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models import tiny_vit
from torch import nn
from torch.nn import functional

from raytransfer.errors import UserError
from raytransfer.networks import Network, find_stages, freeze, read_all_layers
from raytransfer.probes import PROBES, Reading, Subject
from raytransfer.probes.weights import filter_normalised, filter_norms
from raytransfer.scores import Representation
from raytransfer.scores.cka import cka
from tests.helpers import staged

LARGEST = float(np.finfo(np.float32).max)
SIDE, CLASSES = 6, 3


def conv(*layers):
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *layers, nn.ReLU(inplace=True), nn.MaxPool2d(2))


def plain(classes):
    """Two convolutions, and a stage that begins by overwriting what it takes."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.Flatten()),
        nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, classes)),
    )


def norms(classes):
    """Normalisation of two kinds, and two weight tensors in one stage."""
    middle = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 2))
    return nn.Sequential(conv(nn.BatchNorm2d(3)), middle, nn.Sequential(nn.Flatten(), nn.Linear(8, classes)))


def dropout(classes):
    """Dropout and local response normalisation."""
    middle = nn.Sequential(nn.Flatten(), nn.Linear(27, 8), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(conv(nn.LocalResponseNorm(3, alpha=0.5)), middle, nn.Sequential(nn.Linear(8, classes)))


def tied(classes):
    """Two convolutions of one stage with one weight."""
    module = nn.Sequential(
        conv(nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1)),
        nn.Sequential(nn.Flatten(), nn.Linear(27, classes)),
    )
    module[1][2].weight = module[1][0].weight
    return module


KINDS = {build.__name__: build for build in (plain, norms, dropout, tied)}
all_kinds = pytest.mark.parametrize("kind", KINDS)
all_probes = pytest.mark.parametrize("probe", PROBES)


@functools.cache
def stages(kind):
    """The stages of a kind of network, whatever its weights: to find them takes longer than most probes."""
    return find_stages(KINDS[kind](CLASSES), (1, SIDE, SIDE), table={f"layer{i + 1}": [str(i)] for i in range(3)})


def make(kind, seed, *, dtype=torch.float64, classes=CLASSES, frozen=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = KINDS[kind](classes).to(dtype)
        module(3 * torch.randn(20, 1, SIDE, SIDE, dtype=dtype) + 1)  # running statistics of a training
    network = Network(module.eval(), stages(kind), (1, SIDE, SIDE))
    freeze(network, range(frozen))
    return network


def draw(n, dtype=torch.float64):
    rng = np.random.default_rng(5)
    return torch.tensor(rng.normal(size=(n, 1, SIDE, SIDE)), dtype=dtype), torch.tensor(rng.integers(0, CLASSES, n))


def subject(kind="norms", *, n=12, dtype=torch.float64, frozen=0, **parts):
    inputs, labels = draw(n, dtype)
    given = {
        "name": "a network",
        "network": make(kind, 0, dtype=dtype, frozen=frozen),
        "inputs": inputs,
        "labels": labels,
        "seed": 7,
        "learning_rate": 0.1,
        "initial": make(kind, 1, dtype=dtype),
        "other": make(kind, 2, dtype=dtype),
        "train": [(inputs[:5], labels[:5]), (inputs[5:], labels[5:])],
        "test": [(inputs[:7], labels[:7])],
        "eigenvalues": 4,
        "points": 3,
    }
    return Subject(**given | parts)


def see(probe, s):
    return PROBES[probe].function(s)


@functools.cache
def seen(probe, kind="norms"):
    """What a probe says of a network as it is usually made: the first time is remembered."""
    return see(probe, subject(kind))


def values(readings, quantity, stage=None):
    return [r.value for r in readings if r.quantity == quantity and r.stage == stage]


def rebuilt(network, **weights):
    """A copy of a network with other weights in it."""
    module = copy.deepcopy(network.module)
    for path, weight in weights.items():
        module.get_parameter(path).data.copy_(weight)
    return dataclasses.replace(network, module=module)


def mean_loss(network, s):
    with torch.no_grad():
        return functional.cross_entropy(network.module(s.inputs), s.labels).item()


def saturated(kind, **parts):
    """Each image is of one class, which the network is sure of: the loss is exactly 0, and all around too."""
    s = subject(kind, labels=torch.zeros(12, dtype=torch.int64), **parts)
    head = [layer for layer in s.network.module.modules() if isinstance(layer, nn.Linear)][-1]
    head.bias.data[0] += 1e5
    return s


# --- what holds for each


def everything(s):
    """All that a probe could leave changed."""
    found = {"torch": torch.get_rng_state(), "numpy": np.random.get_state()[1].tolist()}
    found |= {"inputs": s.inputs.clone(), "labels": s.labels.clone(), "inputs.grad": s.inputs.requires_grad}
    for role in ("network", "initial", "other"):
        module = getattr(s, role).module
        found |= {f"{role}.{name}": tensor.clone() for name, tensor in module.state_dict().items()}
        for name, parameter in module.named_parameters():
            grad = parameter.grad
            found |= {f"{role}.{name} grad": grad.clone(), f"{role}.{name} flag": parameter.requires_grad}
        for name, layer in module.named_modules():
            hooks = len(layer._forward_hooks) + len(layer._forward_pre_hooks) + len(layer._backward_hooks)
            found[f"{role}.{name} layer"] = layer.training, getattr(layer, "inplace", None), hooks
    return found


@all_probes
@all_kinds
def test_probes_change_nothing(kind, probe):
    s = subject(kind, frozen=1)
    for network in (s.network, s.initial, s.other):
        for i, parameter in enumerate(network.module.parameters()):
            parameter.grad = torch.full_like(parameter, i)
    before = everything(s)
    see(probe, s)
    after = everything(s)
    assert before.keys() == after.keys()
    changed = [
        name
        for name, old in before.items()
        if not (torch.equal(old, after[name]) if isinstance(old, torch.Tensor) else old == after[name])
    ]
    assert changed == []


@pytest.mark.parametrize("probe", [name for name, probe in PROBES.items() if probe.reads == "images"])
def test_a_network_may_overwrite_its_images(probe):
    module = nn.Sequential(nn.Sequential(nn.CELU(inplace=True), nn.Conv2d(1, 3, 3)), nn.Flatten(), nn.Linear(48, 3))
    stages = {"first": ["0"], "head": ["1", "2"]}
    network = staged(module.double().eval(), (1, SIDE, SIDE), stages)
    s = subject(network=network, initial=network, other=network)
    before = s.inputs.clone()
    readings = see(probe, s)
    assert s.inputs.equal(before)
    module[0][0].inplace = False
    kept = see(probe, dataclasses.replace(s, network=staged(module, (1, SIDE, SIDE), stages)))
    assert [r.value for r in readings] == pytest.approx([r.value for r in kept])


@all_probes
@all_kinds
def test_probes_say_the_same_again(kind, probe):
    assert see(probe, subject(kind)) == seen(probe, kind)


@all_probes
@all_kinds
def test_probes_say_what_of_which_layer(kind, probe):
    readings = seen(probe, kind)
    assert readings
    places = [(r.quantity, r.stage, r.index, r.x, r.y) for r in readings]
    assert len(set(places)) == len(places)
    assert {r.stage for r in readings} <= {"layer1", "layer2", "layer3", None}


@all_probes
def test_chunks_make_no_difference(probe, monkeypatch):
    whole = seen(probe)
    for file in ("loss", "flatness", "gradient_scale", "cka"):
        monkeypatch.setattr(importlib.import_module(f"raytransfer.probes.{file}"), "CHUNK", 5)
    chunked = see(probe, subject())
    assert [dataclasses.replace(r, value=0.0) for r in chunked] == [dataclasses.replace(r, value=0.0) for r in whole]
    expected = [r.value for r in whole]
    assert [r.value for r in chunked] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("probe", [name for name in PROBES if PROBES[name].reads == "images"])
def test_images_are_needed(probe):
    empty = {"inputs": torch.empty(0, 1, SIDE, SIDE), "labels": torch.empty(0, dtype=torch.int64)}
    with pytest.raises(UserError, match=r"a network: .*images, and there are (none|0)"):
        see(probe, subject(**empty))


@pytest.mark.parametrize("probe", [name for name in PROBES if PROBES[name].reads != "images"])
def test_probes_of_other_things_need_no_images(probe):
    empty = {"inputs": torch.empty(0, 1, SIDE, SIDE), "labels": torch.empty(0, dtype=torch.int64)}
    assert see(probe, subject(**empty)) == seen(probe)


def test_probes_that_compare_say_what_they_lack():
    assert {name for name in PROBES if PROBES[name].reads_initial} == {"deviation"}
    with pytest.raises(UserError, match="a network: this probe compares with the network at step 0, and none is given"):
        see("deviation", subject(initial=None))
    compare = {name for name in PROBES if PROBES[name].against}
    assert compare == {"path", "CKA"}
    fewer = make("norms", 2)
    fewer = staged(fewer.module, (1, SIDE, SIDE), {"all": ["0", "1", "2"]})
    for probe in compare:
        with pytest.raises(UserError, match="a network: this probe compares two networks, and one is given"):
            see(probe, subject(other=None))
        with pytest.raises(UserError, match=r"its stages are \['layer1', .*, and \['all'\] in the network to compare"):
            see(probe, subject(other=fewer))


def test_a_subject_is_checked():
    with pytest.raises(UserError, match="a network: 12 inputs for 3 labels"):
        subject(labels=torch.zeros(3, dtype=torch.int64))
    network = make("norms", 0)
    network.module[0].train()
    with pytest.raises(ValueError, match="a network: the network must be in eval mode"):
        subject(network=network)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_reading_is_a_number(value):
    with pytest.raises(FloatingPointError, match=f"trace is {value} at stage=conv1, index=None"):
        Reading(quantity="trace", value=value, stage="conv1")


# --- generalisation


@all_kinds
def test_generalisation_is_accuracy_and_loss_of_all_images(kind):
    s = subject(kind)
    readings = see("generalisation", s)
    for part, n in {"train": 12, "test": 7}.items():
        p = s.network.module(s.inputs[:n]).softmax(1).detach().numpy()
        labels = s.labels[:n].numpy()
        assert values(readings, f"{part} top1") == [pytest.approx(np.mean(p.argmax(axis=1) == labels))]
        assert values(readings, f"{part} loss") == [pytest.approx(-np.mean(np.log(p[np.arange(n), labels])))]


@pytest.mark.parametrize("part", ["train", "test"])
def test_generalisation_needs_images_of_both_parts(part):
    with pytest.raises(UserError, match=f"generalisation needs training and test images, and has no {part} images"):
        see("generalisation", subject(**{part: ()}))


# --- deviation

WEIGHTS = {
    "plain": {"layer1": ["0"], "layer2": ["1.2"], "layer3": ["2.1"]},
    "norms": {"layer1": ["0.0"], "layer2": ["1.0", "1.3"], "layer3": ["2.1"]},
    "dropout": {"layer1": ["0.0"], "layer2": ["1.1"], "layer3": ["2.0"]},
    "tied": {"layer1": ["0.0"], "layer2": ["1.0"], "layer3": ["2.1"]},  # by its first name
}


@all_kinds
def test_deviation_is_that_of_the_weights(kind):
    s = subject(kind)
    readings = see("deviation", s)
    now, before = ({k: v.numpy() for k, v in n.module.state_dict().items()} for n in (s.network, s.initial))
    everywhere = []
    for stage, paths in WEIGHTS[kind].items():
        pairs = [(now[f"{path}.weight"], before[f"{path}.weight"]) for path in paths]
        everywhere += pairs
        w, w0 = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in range(2))
        expected = {
            "deviation": sum(np.linalg.norm(a - b) for a, b in pairs),
            "deviation by width": sum(np.linalg.norm(a - b) / math.sqrt(a.shape[0]) for a, b in pairs),
            "relative deviation": np.linalg.norm(w - w0) / np.linalg.norm(w0),
            "cosine": w @ w0 / (np.linalg.norm(w) * np.linalg.norm(w0)),
        }
        assert {r.quantity: r.value for r in readings if r.stage == stage} == pytest.approx(expected)
    w, w0 = (np.concatenate([pair[i].ravel() for pair in everywhere]) for i in range(2))
    whole = {
        "deviation": sum(np.linalg.norm(a - b) for a, b in everywhere),
        "relative deviation": np.linalg.norm(w - w0) / np.linalg.norm(w0),
    }
    assert {r.quantity: r.value for r in readings if r.stage is None} == pytest.approx(whole)


def test_no_deviation_is_taken_relative_to_zero():
    s = subject("norms")
    s.initial.module[2][1].weight.data.zero_()
    readings = see("deviation", s)
    assert {r.quantity for r in readings if r.stage == "layer3"} == {"deviation", "deviation by width"}
    assert values(readings, "relative deviation") != []


def test_weights_that_did_not_move_deviate_by_nothing():
    network = make("norms", 0)
    readings = see("deviation", subject(network=network, initial=copy.deepcopy(network)))
    assert {r.value for r in readings if "deviation" in r.quantity} == {0.0}
    assert values(readings, "cosine", "layer2") == [pytest.approx(1.0)]


def test_deviation_names_a_weight_that_was_not_there():
    with pytest.raises(UserError, match=r"the network at step 0 has no 2.1.weight of shape \(3, 8\)"):
        see("deviation", subject(initial=make("norms", 1, classes=4)))


# --- landscape


@given(seed=st.integers(0, 2**32), shape=st.lists(st.integers(1, 4), min_size=2, max_size=4))
@settings(max_examples=25)
def test_filters_of_a_direction_get_the_norms_of_the_weights(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    weight, direction = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    weight[0] = 0
    scaled = filter_normalised({"w": direction}, {"w": weight})["w"]
    for filter_, old, w in zip(scaled, direction, weight, strict=True):
        length = w.norm().item()
        assert filter_.norm().item() == pytest.approx(length, rel=1e-9)
        assert (filter_ * old).sum().item() == pytest.approx(length * old.norm().item(), rel=1e-9)
    assert filter_normalised({"w": 0 * direction}, {"w": weight})["w"].count_nonzero() == 0
    assert filter_norms(weight).shape == (shape[0], *[1] * (len(shape) - 1))


def landscape_module():
    return importlib.import_module("raytransfer.probes.landscape")


def test_directions_are_orthogonal_in_each_filter():
    weights = {
        "wide": torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0)),
        "single": torch.full((3, 1, 1, 1), 2.0),
    }
    first, second = landscape_module().directions(weights, torch.Generator().manual_seed(1))
    for one, other, weight in zip(first["wide"], second["wide"], weights["wide"], strict=True):
        assert abs((one * other).sum().item()) < 1e-6 * weight.square().sum().item()
        assert one.norm().item() == pytest.approx(weight.norm().item(), rel=1e-5)
        assert other.norm().item() == pytest.approx(weight.norm().item(), rel=1e-5)
    assert first["single"].abs().eq(2).all()
    assert second["single"].eq(0).all()


@all_kinds
@pytest.mark.parametrize("frozen", [0, 1])
def test_the_landscape_is_the_loss_of_networks_moved_along_two_directions(kind, frozen, monkeypatch):
    s, used = subject(kind, frozen=frozen), []
    directions = landscape_module().directions
    monkeypatch.setattr(landscape_module(), "directions", lambda *parts: used.append(directions(*parts)) or used[-1])
    readings = see("landscape", s)
    ((first, second),) = used
    paths = [path for stage in list(WEIGHTS[kind].values())[frozen:] for path in stage]
    assert list(first) == list(second) == [f"{path}.weight" for path in paths]
    assert [(r.x, r.y) for r in readings] == [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    for r in readings:
        weights = {k: s.network.module.get_parameter(k) + r.x * first[k] + r.y * second[k] for k in first}
        assert r.value == pytest.approx(mean_loss(rebuilt(s.network, **weights), s), rel=1e-12)
    assert len({r.value for r in readings}) == 9


@all_kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("probe", ["landscape", "initial-landscape"])
def test_the_landscape_s_centre_is_the_loss_of_the_network_to_the_bit(kind, dtype, probe):
    for layout in (torch.contiguous_format, torch.channels_last):
        s = subject(kind, dtype=dtype, points=5)
        s.network.module.to(memory_format=layout)
        centre = [r.value for r in see(probe, s) if r.x == 0 and r.y == 0]
        assert centre == [mean_loss(s.network, s)]


def test_a_landscape_overflows_to_the_largest_float32():
    s = subject("plain", dtype=torch.float32)
    s.network.module[2][1].weight.data *= 1e38
    s.network.module[1][2].weight.data *= 1e3
    assert max(r.value for r in see("landscape", s)) == LARGEST


@pytest.mark.parametrize("points", [4, 1, 0, -3, None])
def test_a_landscape_has_a_centre(points):
    with pytest.raises(UserError, match=f"landscape_points={points} must be odd and at least 3"):
        see("landscape", subject(points=points))


# --- path


@all_kinds
def test_a_path_is_the_loss_of_networks_between_two(kind):
    s = subject(kind)
    here, there = s.network.module.state_dict(), s.other.module.state_dict()
    expected = []
    for i in range(11):
        between = copy.deepcopy(s.network)
        state = {k: (1 - i / 10) * here[k] + i / 10 * there[k] for k in here if here[k].is_floating_point()}
        between.module.load_state_dict(here | state)
        expected.append(mean_loss(between, s))
    readings = see("path", s)
    assert [r.x for r in readings[:-1]] == [i / 10 for i in range(11)]
    assert values(readings, "path loss") == pytest.approx(expected, rel=1e-12)
    assert expected[0] == mean_loss(s.network, s)
    assert expected[-1] == mean_loss(s.other, s)
    above = [value - (1 - i / 10) * expected[0] - i / 10 * expected[-1] for i, value in enumerate(expected)]
    assert values(readings, "barrier") == [pytest.approx(max(above), abs=1e-12)]


def test_a_network_has_no_barrier_to_itself():
    network = make("norms", 0)
    readings = see("path", subject(network=network, other=copy.deepcopy(network)))
    assert values(readings, "barrier") == [pytest.approx(0.0, abs=1e-12)]


def test_units_in_another_order_make_a_barrier_and_another_head_bias_makes_none():
    s = subject("plain")
    head = s.network.module[2][1]
    head.weight.data *= 20
    s = dataclasses.replace(s, labels=s.network.module(s.inputs).argmax(1))  # right about each image
    filters, order = s.network.module[1][2], [1, 0, 3, 2]
    permuted = {
        "1.2.weight": filters.weight[order],
        "1.2.bias": filters.bias[order],
        "2.1.weight": head.weight[:, order],
    }
    same = rebuilt(s.network, **permuted)
    assert mean_loss(same, s) == pytest.approx(mean_loss(s.network, s), rel=1e-9)
    assert values(see("path", dataclasses.replace(s, other=same)), "barrier")[0] > 0.01
    shifted = rebuilt(s.network, **{"2.1.bias": head.bias + torch.tensor([0.0, 3.0, -1.0])})
    # The loss is convex in the head's bias.
    assert values(see("path", dataclasses.replace(s, other=shifted)), "barrier") == [pytest.approx(0.0, abs=1e-9)]


class KeepsNothing(tiny_vit.Attention):
    """TinyViT's attention, which else keeps a table of its biases from its first images in eval mode on."""

    def get_attention_biases(self, device):
        return self.attention_biases[:, self.attention_bias_idxs]


def attending(attention, seed):
    torch.manual_seed(seed)
    layer = attention(8, 4, num_heads=2, resolution=(3, 3))
    nn.init.normal_(layer.attention_biases)
    tokens = nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (9, 4)), nn.Flatten(1, 2), nn.Linear(4, 8), layer)
    module = nn.Sequential(tokens, nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES))).double().eval()
    return staged(module, (1, SIDE, SIDE), {"below": ["0"], "head": ["1"]})


@pytest.mark.parametrize("probe", ["path", "loss-variation", "flatness"])
def test_what_layers_keep_of_their_weights_is_not_taken_for_others(probe):
    said = []
    for attention in (tiny_vit.Attention, KeepsNothing):
        s = subject(network=attending(attention, 0), other=attending(attention, 1), eigenvalues=2)
        before = mean_loss(s.network, s)
        said.append([r.value for r in see(probe, s)])
        assert mean_loss(s.network, s) == before
    assert said[0] == pytest.approx(said[1], rel=1e-9)


class Masked(nn.Module):
    """Attends to rows of an image, each to those above it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.full((SIDE, SIDE), -torch.inf).triu(1))
        self.project = nn.Linear(SIDE, SIDE)

    def forward(self, x):
        rows = self.project(x[:, 0])
        return (rows @ rows.mT + self.mask).softmax(-1) @ rows


def test_a_path_leaves_masks_of_infinity_as_they_are():
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        module = nn.Sequential(Masked(), nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, CLASSES))).double().eval()
        networks.append(staged(module, (1, SIDE, SIDE), {"below": ["0"], "head": ["1"]}))
    s = subject(network=networks[0], other=networks[1])
    losses = values(see("path", s), "path loss")
    assert losses[0] == mean_loss(networks[0], s)
    assert losses[-1] == pytest.approx(mean_loss(networks[1], s))
    assert max(losses) < 10


def test_no_path_joins_networks_of_other_shapes():
    with pytest.raises(UserError, match=r"no line joins two networks whose 2.1.weight has shapes \[\(3, 8\), \(4, 8\)"):
        see("path", subject(other=make("norms", 2, classes=4)))


# --- CKA


@all_kinds
def test_cka_is_that_of_each_stage_s_outputs(kind):
    s = subject(kind, n=20, other=make(kind, 2, classes=5))
    readings = see("CKA", s)
    assert [(r.quantity, r.stage) for r in readings] == [("CKA", f"layer{i}") for i in (1, 2, 3)]
    for i, reading in enumerate(readings, start=1):
        with torch.no_grad():
            x, y = (network.through(s.inputs, stop=i).flatten(1).numpy() for network in (s.network, s.other))
        both = Representation(name="literal", features=x, labels=np.arange(20) // 10, reference=y)
        assert reading.value == pytest.approx(cka(both), rel=1e-9)


def test_a_network_is_like_itself_whatever_the_labels():
    network = make("plain", 0)
    s = subject(network=network, other=copy.deepcopy(network), labels=torch.arange(12))
    assert [r.value for r in see("CKA", s)] == pytest.approx([1.0] * 3)


def test_copied_layers_are_like_their_own_where_the_head_reads_all_layers():
    network = make("norms", 0, dtype=torch.float32)
    other = copy.deepcopy(network)
    read_all_layers(network, classes=CLASSES, seed=1)
    network.module.eval()
    s = subject(n=20, dtype=torch.float32, network=network, other=other)
    *below, head = (r.value for r in see("CKA", s))
    assert below == pytest.approx([1.0] * 2)
    assert head < 0.99


def test_cka_takes_four_images():
    inputs, labels = draw(3)
    with pytest.raises(UserError, match="debiased CKA takes at least 4 images, and there are 3"):
        see("CKA", subject(inputs=inputs, labels=labels))
