import copy
import dataclasses
import importlib
import math

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from raytransfer.errors import UserError
from raytransfer.networks import build
from raytransfer.probes.flatness import flat, hessian_product, largest_eigenvalues, quadratic_forms
from raytransfer.probes.gradient_components import leading_components
from raytransfer.probes.weights import filter_normalised, trained_parameters, trained_weights
from raytransfer.specs import NetworkSpec
from tests.helpers import staged
from tests.probes.test_probes import (
    LARGEST,
    SIDE,
    WEIGHTS,
    all_kinds,
    make,
    mean_loss,
    rebuilt,
    saturated,
    see,
    subject,
    values,
)


def literal_gradient(network, s, *, every=False):
    """Gradients by name, of a copy of the network, by backward()."""
    module = copy.deepcopy(network.module)
    module.zero_grad()
    if every:
        module.requires_grad_(True)
    functional.cross_entropy(module(s.inputs), s.labels).backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.requires_grad}


def literal_hessian(s):
    """Central differences of gradients, of a copy of the network with one weight moved at a time."""
    module = copy.deepcopy(s.network.module)
    parameters = [p for p in module.parameters() if p.requires_grad]

    def gradient():
        parts = torch.autograd.grad(functional.cross_entropy(module(s.inputs), s.labels), parameters)
        return np.concatenate([part.numpy().ravel() for part in parts])

    rows = []
    for parameter in parameters:
        numbers = parameter.data.view(-1)
        for i in range(len(numbers)):
            numbers[i] += 1e-6
            above = gradient()
            numbers[i] -= 2e-6
            rows.append((above - gradient()) / 2e-6)
            numbers[i] += 1e-6
    return np.array(rows)


# --- flatness


@pytest.mark.parametrize(("kind", "frozen"), [("plain", 0), ("norms", 0), ("norms", 1), ("dropout", 0)])
def test_flatness_is_that_of_the_exact_hessian(kind, frozen):
    s = subject(kind, frozen=frozen, eigenvalues=5)
    exact = literal_hessian(s)
    assert len(exact) <= 500
    product = hessian_product(s)
    ours = torch.stack([product(unit) for unit in torch.eye(len(exact), dtype=torch.float64)])
    np.testing.assert_allclose(ours.numpy(), exact, atol=1e-6 * np.abs(exact).max())
    readings = see("flatness", s)
    assert [r.index for r in readings if r.quantity == "eigenvalue"] == [1, 2, 3, 4, 5]
    largest = np.linalg.eigvalsh((exact + exact.T) / 2)[::-1][:5]
    assert values(readings, "eigenvalue") == pytest.approx(largest.tolist(), rel=1e-4)
    # Rows of a Hadamard matrix are orthogonal signs: their quadratic forms have the trace as their mean, exactly.
    signs = torch.tensor(hadamard(512)[:, : len(exact)], dtype=torch.float64)
    assert np.mean(quadratic_forms(ours.mv, signs)) == pytest.approx(np.trace(exact), rel=1e-4)
    parameters, weights = trained_parameters(s.network), trained_weights(s.network)
    assert sum(p.numel() for p in parameters.values()) == len(exact)
    normalised = []
    for row in signs:
        parts = dict(zip(parameters, row.split([p.numel() for p in parameters.values()]), strict=True))
        direction = {name: parts[name].reshape(weight.shape) for name, weight in weights.items()}
        normalised.append(flat(filter_normalised(direction, weights), parameters))
    expected = literal_filter_normalised_trace(exact, parameters, weights)
    assert np.mean(quadratic_forms(ours.mv, normalised)) == pytest.approx(expected, rel=1e-4)
    for quantity, truth in {"trace": np.trace(exact), "filter-normalised trace": expected}.items():
        (estimate,), (error,) = values(readings, quantity), values(readings, f"{quantity} standard error")
        assert 0 < abs(estimate - truth) < 4 * error


def literal_filter_normalised_trace(hessian, parameters, weights):
    """Σ_f ‖w_f‖² tr(H_ff) / (weights of f)."""
    diagonal, total, place = np.diag(hessian), 0.0, 0
    for name, parameter in parameters.items():
        if name in weights:
            each = parameter[0].numel()
            for i, w in enumerate(parameter):
                total += w.square().sum().item() * diagonal[place + i * each : place + (i + 1) * each].mean()
        place += parameter.numel()
    return total


def test_standard_errors_shrink_with_the_root_of_the_vectors(monkeypatch):
    few = see("flatness", subject("plain"))
    file = importlib.import_module("raytransfer.probes.flatness")
    monkeypatch.setattr(file, "_VECTORS", 9 * file._VECTORS)
    many = see("flatness", subject("plain"))
    for quantity in ("trace standard error", "filter-normalised trace standard error"):
        assert values(few, quantity)[0] / values(many, quantity)[0] == pytest.approx(3, rel=0.4)


def test_the_standard_error_is_that_of_a_mean():
    mean, error = importlib.import_module("raytransfer.probes.flatness")._estimate("trace", [1.0, 2.0, 6.0])
    assert (mean.value, error.value) == pytest.approx((3.0, math.sqrt(7 / 3)))


def test_all_eigenvalues_can_be_had():
    s = subject("dropout", frozen=2)
    exact, parameters = literal_hessian(s), trained_parameters(s.network)
    every = largest_eigenvalues(hessian_product(s), len(exact), len(exact), 0, parameters)
    np.testing.assert_allclose(every, np.linalg.eigvalsh((exact + exact.T) / 2)[::-1], atol=1e-7)


def residual():
    """A block of ResNet-18, but narrow, and layer normalisation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            make("norms", 0).module[0], BasicBlock(3, 3), nn.Flatten(), nn.LayerNorm(27), nn.Linear(27, 3)
        )
    return staged(module.double(), (1, SIDE, SIDE), {"body": ["0", "1", "2", "3"], "head": ["4"]})


def convnet8():
    return build(NetworkSpec(name="convnet8"), image=(1, 8, 8), classes=3, seed=0)


def transformer():
    args = '{"depth":2,"embed_dim":12,"img_size":8,"in_chans":1,"num_heads":2,"patch_size":4}'
    return build(NetworkSpec(name="timm/vit_tiny_patch16_224", args=args), image=(1, 8, 8), classes=3, seed=0)


@pytest.mark.parametrize(("make_network", "side"), [(convnet8, 8), (residual, 6), (transformer, 8)])
def test_the_hessian_of_larger_networks_is_the_gradient_s_slope(make_network, side):
    network = make_network()
    network.module.double().eval()
    inputs = torch.tensor(np.random.default_rng(0).normal(size=(4, 1, side, side)))
    s = subject(network=network, inputs=inputs, labels=torch.tensor([0, 1, 2, 0]))
    weights = trained_parameters(s.network)
    signs = {name: (-1.0) ** torch.arange(w.numel()).reshape(w.shape) * w.abs().mean() for name, w in weights.items()}
    ours = hessian_product(s)(flat(signs, weights))
    ends = [
        literal_gradient(rebuilt(network, **{k: w + sign * 1e-6 * signs[k] for k, w in weights.items()}), s)
        for sign in (1, -1)
    ]
    slope = (flat(ends[0], weights) - flat(ends[1], weights)) / 2e-6
    assert (ours - slope).norm().item() < 1e-4 * slope.norm().item()


def test_the_filter_normalised_trace_ignores_a_shift_of_scale_between_layers():
    s = subject("plain")
    first, second = s.network.module[0], s.network.module[1][2]
    scaled = rebuilt(
        s.network, **{"0.weight": 8 * first.weight, "0.bias": 8 * first.bias, "1.2.weight": second.weight / 8}
    )
    assert torch.allclose(scaled.module(s.inputs), s.network.module(s.inputs))
    one, other = see("flatness", s), see("flatness", subject("plain", network=scaled))
    for quantity in ("filter-normalised trace", "filter-normalised trace standard error"):
        assert values(one, quantity) == pytest.approx(values(other, quantity), rel=1e-9)
    for quantity in ("trace", "eigenvalue"):
        assert abs(values(other, quantity)[0] / values(one, quantity)[0] - 1) > 0.5


def test_single_precision_gives_the_same_flatness():
    s = subject("norms", dtype=torch.float32)
    double = dataclasses.replace(s.network, module=copy.deepcopy(s.network.module).double())
    other = see("flatness", subject("norms", network=double, inputs=s.inputs.double()))
    assert [r.value for r in see("flatness", s)] == pytest.approx([r.value for r in other], rel=1e-3)


@pytest.mark.parametrize("count", [0, -1, 28, None])
def test_eigenvalues_are_as_many_as_parameters_at_most(count):
    with pytest.raises(UserError, match=f"eigenvalues={count} must be 1 to 27, the parameters that trained"):
        see("flatness", subject("norms", frozen=2, eigenvalues=count))


def test_a_flat_loss_has_no_curvature_and_no_variation(monkeypatch):
    s = saturated("plain")
    assert {r.value for r in see("flatness", s)} == {0.0}
    walk = see("loss-variation", s)
    assert {r.value for r in walk} == {0.0}
    assert len(walk) == 11 + 1 + 10 + 1
    assert {r.value for r in see("gradient-scale", s)} == {0.0}
    for dense in (1024, 0):  # large matrices are left to Lanczos, which cannot start on 0
        monkeypatch.setattr(importlib.import_module("raytransfer.probes.gradient_components"), "_DENSE", dense)
        assert see("gradient-components", s) == []


class WithSpare(nn.Sequential):
    """Layers one after the other, but for the last, which nothing uses."""

    def forward(self, images):
        for layer in list(self)[:-1]:
            images = layer(images)
        return images


def test_weights_that_nothing_uses_change_no_reading():
    s = subject("norms")
    module = WithSpare(*s.network.module, nn.Conv2d(3, 3, 1).double()).eval()
    stages = {stage.name: [str(i)] for i, stage in enumerate(s.network.stages)}
    spare = dataclasses.replace(s, network=staged(module, (1, SIDE, SIDE), stages))
    assert "3.weight" in trained_weights(spare.network)
    for probe in ("loss-variation", "gradient-components", "gradient-scale"):
        assert see(probe, spare) == see(probe, s)
    assert values(see("flatness", spare), "eigenvalue") == pytest.approx(values(see("flatness", s), "eigenvalue"))


# --- loss-variation


@all_kinds
@pytest.mark.parametrize("frozen", [0, 1])
def test_the_walk_is_that_of_networks_rebuilt_at_each_step(kind, frozen):
    s = subject(kind, frozen=frozen, learning_rate=0.3)
    gradient = literal_gradient(s.network, s)
    losses, variations = [], []
    for p in range(11):
        moved = {name: s.network.module.get_parameter(name) - p * 0.3 * g for name, g in gradient.items()}
        network = rebuilt(s.network, **moved)
        losses.append(functional.cross_entropy(network.module(s.inputs), s.labels).item())
        if p:
            there = literal_gradient(network, s)
            change = math.sqrt(sum((there[k] - gradient[k]).square().sum().item() for k in gradient))
            length = math.sqrt(sum((p * 0.3 * g).square().sum().item() for g in gradient.values()))
            variations.append(change / length)
    readings = see("loss-variation", s)
    assert [r.index for r in readings] == [*range(11), None, *range(1, 11), None]
    assert values(readings, "walk loss") == pytest.approx(losses, rel=1e-9)
    assert values(readings, "loss variation") == [pytest.approx(max(losses) - min(losses), rel=1e-9)]
    assert values(readings, "gradient variation") == pytest.approx([*variations, max(variations)], rel=1e-7)
    assert losses[1] != losses[0]


def test_a_walk_overflows_to_the_largest_float32():
    readings = see("loss-variation", subject("plain", dtype=torch.float32, learning_rate=1e30))
    assert values(readings, "walk loss")[-1] == LARGEST
    assert values(readings, "gradient variation")[-1] == LARGEST


def test_a_walk_from_a_gradient_that_is_no_number_overflows():
    s = subject("plain", dtype=torch.float32)
    for weight in (s.network.module[1][2].weight, s.network.module[2][1].weight):
        weight.data *= 1e20
    assert math.isnan(mean_loss(s.network, s))
    readings = see("loss-variation", s)
    assert {r.value for r in readings if r.quantity in ("walk loss", "gradient variation")} == {LARGEST}


# --- gradient-components


@all_kinds
@pytest.mark.parametrize("frozen", [0, 1])
def test_components_are_those_of_the_gradient_s_svd(kind, frozen):
    s = subject(kind, frozen=frozen)
    readings = see("gradient-components", s)
    gradient = literal_gradient(s.network, s)
    stages = list(WEIGHTS[kind].items())[frozen:]
    assert list(dict.fromkeys(r.stage for r in readings)) == [stage for stage, _ in stages]
    for stage, paths in stages:
        path = max(paths, key=lambda path: gradient[f"{path}.weight"].norm().item())
        g = gradient[f"{path}.weight"].flatten(1).numpy()
        w = s.network.module.get_parameter(f"{path}.weight").detach().flatten(1).numpy()
        u, sigma, vh = np.linalg.svd(g)
        rank = min(10, np.linalg.matrix_rank(g))
        projections = [abs(u[:, i] @ w @ vh[i]) for i in range(rank)]
        assert values(readings, "singular value", stage) == pytest.approx(sigma[:rank].tolist(), rel=1e-9)
        assert values(readings, "projection", stage) == pytest.approx(projections, rel=1e-6, abs=1e-9)
        relative = [value / np.linalg.norm(w) for value in projections]
        assert values(readings, "relative projection", stage) == pytest.approx(relative, rel=1e-6, abs=1e-9)
        assert [r.index for r in readings if r.stage == stage] == [i for i in range(1, rank + 1) for _ in range(3)]


def test_a_head_has_a_component_less_than_classes_in_single_precision():
    readings = see("gradient-components", subject("dropout", dtype=torch.float32))
    assert [r.index for r in readings if r.stage == "layer3" and r.quantity == "projection"] == [1, 2]


def test_weights_of_zero_have_no_projection():
    s = subject("dropout")
    s.network.module[2][0].weight.data.zero_()
    readings = see("gradient-components", s)
    assert values(readings, "singular value", "layer3")[0] > 0
    assert values(readings, "projection", "layer3") == values(readings, "relative projection", "layer3") == [0.0, 0.0]


@pytest.mark.parametrize("rank", [4, 30])
@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_large_matrices_have_the_same_leading_components(rank, shape, monkeypatch):
    rng = np.random.default_rng(0)
    g = rng.normal(size=(shape[0], rank)) * 2.0 ** -np.arange(rank) @ rng.normal(size=(rank, shape[1]))
    full_u, full_sigma, full_vh = (part.numpy() for part in leading_components(torch.tensor(g), seed=0))
    monkeypatch.setattr(importlib.import_module("raytransfer.probes.gradient_components"), "_DENSE", 20)
    u, sigma, vh = (part.numpy() for part in leading_components(torch.tensor(g), seed=0))
    assert sigma.shape == full_sigma.shape == (10,)
    np.testing.assert_allclose(sigma, full_sigma, rtol=1e-7, atol=1e-7 * sigma[0])
    kept = min(rank, 10)
    outer = np.einsum("mk,kn->kmn", u, vh)[:kept]
    np.testing.assert_allclose(outer, np.einsum("mk,kn->kmn", full_u, full_vh)[:kept], atol=1e-6)


def test_few_components_that_are_not_0_are_the_same_again(monkeypatch):
    """Lanczos then goes on from random vectors."""
    g = torch.zeros(30, 50, dtype=torch.float64)
    g[:3] = torch.randn(3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(importlib.import_module("raytransfer.probes.gradient_components"), "_DENSE", 20)
    once, again = leading_components(g, seed=0), leading_components(g, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    eigenvalues = torch.zeros(300, dtype=torch.float64)
    eigenvalues[:3] = torch.tensor([5.0, 2.0, 1.0])
    found = [largest_eigenvalues(eigenvalues.mul, 300, 20, 0, {"w": eigenvalues}) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0] == pytest.approx(eigenvalues[:20].tolist(), abs=1e-12)


# --- gradient-scale


@all_kinds
@pytest.mark.parametrize("frozen", [0, 2])
def test_gradient_scale_is_that_of_each_stage_on_its_own(kind, frozen):
    s = subject(kind, frozen=frozen)
    gradient = literal_gradient(s.network, s, every=True)
    expected = []
    for i, (stage, paths) in enumerate(WEIGHTS[kind].items()):
        with torch.no_grad():
            taken = s.network.through(s.inputs, stop=i)
        taken.requires_grad_()
        functional.cross_entropy(s.network.through(taken * 1, start=i), s.labels).backward()
        stacked = torch.cat([gradient[f"{path}.weight"].flatten() for path in paths])
        expected.append(("input gradient", stage, pytest.approx(taken.grad.norm().item(), rel=1e-9)))
        expected.append(("weight gradient", stage, pytest.approx(stacked.norm().item(), rel=1e-9)))
    s.network.module.zero_grad()
    readings = see("gradient-scale", s)
    assert [(r.quantity, r.stage, r.value) for r in readings] == expected
    assert all(r.value > 0 for r in readings)


def test_a_stage_without_weights_has_only_an_input_gradient():
    module = nn.Sequential(nn.BatchNorm2d(1), make("norms", 0).module).double()
    stages = {"norm": ["0"], "conv": ["1.0"], "head": ["1.1", "1.2"]}
    s = subject(network=staged(module.eval(), (1, SIDE, SIDE), stages))
    assert [r.quantity for r in see("gradient-scale", s) if r.stage == "norm"] == ["input gradient"]
    assert {r.stage for r in see("gradient-components", s)} == {"conv", "head"}
