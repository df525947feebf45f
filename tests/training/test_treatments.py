"""Which tensors move in which phase of a training, and how, for every way to adapt copied layers."""

import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from raytransfer.networks import add_lora, freeze
from raytransfer.specs import UNCUT, Surgery
from raytransfer.specs.treatments import TREATMENTS
from raytransfer.training import Phase, Step, learning_rate, loop, phases, stream_seed, train
from raytransfer.training.frozen import FrozenOutputs, batch_source
from tests.training.test_loop import RECIPE, device_data, net, small, task
from tests.trials.test_resume import dropping

FROZEN = Surgery(n_layers=0, frozen=True)


def network_of(name):
    """A network as copied: with other statistics than those it starts with, where it has some."""
    if name == "convnet8":
        return net(channels=3)
    network = dropping(seed=0)
    with torch.no_grad():
        for buffer in network.module.buffers():
            buffer.add_(1)
    return network


def moved(name, surgery, **changes):
    """For the beginning and each step in turn, the tensors that the step changed; the states, too."""
    recipe = replace(RECIPE, **{"weight_decay": 0.01, **changes})
    network, states = network_of(name), []
    depth = len(network.stages)
    freeze(network, surgery.frozen_stages(depth))
    if surgery.lora_rank:
        add_lora(network, surgery.n_layers, rank=surgery.lora_rank, seed=0)
    train(
        network,
        device_data(task(channels=3), recipe),
        seed=3,
        surgery=surgery,
        checkpoint_steps=frozenset(range(recipe.steps + 1)),
        on_checkpoint=lambda step, module: states.append({k: v.clone() for k, v in module.state_dict().items()}),
    )
    steps = pairwise(states)
    changed = [{key for key in after if not torch.equal(before[key], after[key])} for before, after in steps]
    return network, changed, states


def tensors(network, stages):
    return {name for i in stages for name in network.stages[i].tensors}


def test_phases_of_a_training():
    three = frozenset({0, 1, 2})
    assert phases(12, three, "never") == [Phase(first=0, last=12, frozen=three)]
    halfway = [Phase(first=0, last=6, frozen=three), Phase(first=6, last=12, frozen=frozenset())]
    assert phases(12, three, "halfway") == halfway
    gradual = phases(12, three, "gradual")
    assert [(phase.first, phase.last, set(phase.frozen)) for phase in gradual] == [
        (0, 2, {0, 1, 2}),
        (2, 4, {0, 1}),
        (4, 6, {0}),
        (6, 12, set()),
    ]
    for thaw in ("halfway", "gradual"):
        for steps in range(1, 9):  # several releases may fall on one step, none on a phase without one
            found = phases(steps, three, thaw)
            assert [phase.first for phase in found[1:]] == [phase.last for phase in found[:-1]]
            assert (found[0].first, found[-1].last, found[-1].frozen) == (0, steps, frozenset())
            assert all(phase.first < phase.last for phase in found)


@pytest.mark.parametrize(("name", "n"), [("convnet8", 4), ("dropping", 1), ("dropping", 2)])
@pytest.mark.parametrize(
    "surgery",
    [
        FROZEN,
        UNCUT,
        replace(FROZEN, surgical=True),
        replace(FROZEN, thaw="halfway"),
        replace(FROZEN, thaw="gradual"),
        replace(UNCUT, l2_sp=True),
        replace(UNCUT, layer_decay=0.75),
    ],
    ids=str,
)
def test_exactly_what_should_moves_at_every_step(name, n, surgery):
    surgery = replace(surgery, n_layers=n)
    network, changed, _ = moved(name, surgery, learning_rate=0.05)
    depth = len(network.stages)
    for phase in phases(RECIPE.steps, surgery.frozen_stages(depth), surgery.thaw):
        still = tensors(network, phase.frozen)
        assert bool(still) == bool(phase.frozen)
        # A step may leave a tensor behind a dead ReLU; over a phase of two steps none of these is left.
        over_all = set().union(*changed[phase.first : phase.last])
        assert over_all == set(network.module.state_dict()) - still


def test_surgical_tuning_moves_one_layer_and_the_head():
    _, changed, _ = moved("convnet8", Surgery(n_layers=3, frozen=True, surgical=True))
    assert set().union(*changed) == {"conv3.0.weight", "conv3.0.bias", "fc8.0.weight", "fc8.0.bias"}


@pytest.mark.parametrize(("name", "n"), [("convnet8", 4), ("dropping", 1)])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lp_ft_is_anb_for_half_of_its_steps(name, n, momentum):
    _, _, frozen = moved(name, replace(FROZEN, n_layers=n), momentum=momentum)
    _, _, thawed = moved(name, replace(FROZEN, n_layers=n, thaw="halfway"), momentum=momentum)
    same = [all(torch.equal(one[key], two[key]) for key in one) for one, two in zip(frozen, thawed, strict=True)]
    assert same == [True] * 7 + [False] * 6


def test_released_layers_start_with_fresh_buffers_and_the_others_go_on():
    """Twice as a loop of torch's own SGD, to which parameters are added at a step."""
    recipe = replace(RECIPE, weight_decay=0.01)
    surgery = Surgery(n_layers=2, frozen=True, thaw="gradual")
    _, _, states = moved("convnet8", surgery, weight_decay=0.01)
    naive, data = network_of("convnet8"), device_data(task(channels=3), recipe)
    views = data.draw(torch.Generator().manual_seed(stream_seed(3, "batches")))
    named = dict(naive.module.named_parameters())
    first, second = (tensors(naive, {i}) for i in range(2))
    optimizer = torch.optim.SGD([p for name, p in named.items() if name not in first | second], lr=1, momentum=0.9)
    optimizer.param_groups[0]["weight_decay"] = 0.01
    for step in range(recipe.steps):
        if step in (3, 6):  # a quarter, a half
            group = [named[name] for name in sorted(second if step == 3 else first)]
            optimizer.add_param_group({"params": group, "weight_decay": 0.01})
        inputs, labels = data.inputs(data.fetch(next(views)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        naive.module.zero_grad()
        functional.cross_entropy(naive.module(inputs), labels).backward()
        optimizer.step()
        for name, tensor in naive.module.state_dict().items():
            torch.testing.assert_close(states[step + 1][name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_l2_sp_pulls_copied_layers_back_to_where_they_were(optimizer):
    decay = 2.0
    recipe = replace(
        RECIPE, optimizer=optimizer, learning_rate=0.01, momentum=0.5, weight_decay=decay, bias_decay_multiplier=0.5
    )
    data, network, naive = device_data(task(), recipe), small(), small()
    start = {name: p.detach().clone() for name, p in naive.module.named_parameters()}
    train(network, data, seed=5, surgery=Surgery(n_layers=1, frozen=False, l2_sp=True))
    views = data.draw(torch.Generator().manual_seed(stream_seed(5, "batches")))
    named = {name: p for name, p in naive.module.named_parameters() if "unused" not in name}
    if optimizer == "sgd":
        rule = torch.optim.SGD(named.values(), lr=1, momentum=0.5)
    else:
        rule = torch.optim.Adam(named.values(), lr=1)
    for step in range(recipe.steps):
        inputs, labels = data.inputs(data.fetch(next(views)))
        rule.param_groups[0]["lr"] = rate = learning_rate(recipe, step)
        naive.module.zero_grad()
        loss = functional.cross_entropy(naive.module(inputs), labels)
        bias = {name for name, p in named.items() if name.endswith("bias") or (optimizer == "adamw" and p.ndim == 1)}
        penalty = sum(
            decay
            * (0.5 if name in bias else 1.0)
            * (p - (start[name] if name.startswith("0.") else 0)).square().sum()
            / 2
            for name, p in named.items()
        )
        if optimizer == "sgd":
            (loss + penalty).backward()
        else:  # its decay does not go through the moments
            loss.backward()
            for p, gradient in zip(named.values(), torch.autograd.grad(penalty, list(named.values())), strict=True):
                p.data -= rate * gradient
        rule.step()
    expected = naive.module.state_dict()
    for name, tensor in network.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5)


def test_rates_fall_from_the_head_down():
    network = net()
    recipe = replace(RECIPE, bias_lr_multiplier=2.0)
    step = Step(network, device_data(task(), recipe), None, layer_decay=0.75)
    step.set_rate(0.1)
    rates = {name: group._rate for group in step._groups for name in group.names}
    for i, stage in enumerate(["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]):
        place = 1 if stage.startswith("fc") else 0
        (weight,) = (name for name in rates if name.startswith(stage) and name.endswith("weight"))
        assert weight == f"{stage}.{place if stage == 'fc6' else 0}.weight"
        assert rates[weight] == pytest.approx(0.1 * 0.75 ** (7 - i))
        assert rates[weight.replace("weight", "bias")] == pytest.approx(0.2 * 0.75 ** (7 - i))


@pytest.mark.parametrize("name", ["convnet8", "dropping"])
def test_adapters_train_beside_weights_that_stay(name):
    n = 4 if name == "convnet8" else 2
    network, changed, _ = moved(name, Surgery(n_layers=n, frozen=True, lora_rank=2))
    above = tensors(network, range(n, len(network.stages)))
    assert set().union(*changed) == above | {key for key in network.module.state_dict() if "lora" in key}


def test_frozen_outputs_are_reused_in_every_phase_and_change_no_bit():
    recipe, results = replace(RECIPE, steps=24), []
    for memory_bytes in (10**9, 0):
        network, data = net(), device_data(task(), recipe, memory_bytes)
        freeze(network, range(4))
        outcome = train(network, data, seed=3, surgery=Surgery(n_layers=4, frozen=True, thaw="gradual"))
        results.append((outcome.curve, outcome.train_loss_nats, network.module.state_dict()))
        kept = len(data.test) * 8 * 8 * 4 if memory_bytes else 0  # images alone: all layers train in the end
        assert data.memory_left == memory_bytes - kept
        assert outcome.reused_layers == 0
    (curve, loss, weights), (other_curve, other_loss, others) = results
    assert (curve, loss) == (other_curve, other_loss)
    assert all(torch.equal(weights[key], others[key]) for key in weights)


def test_a_phase_takes_memory_for_outputs_once_those_of_the_phase_before_are_gone(monkeypatch):
    made, alive = [], []

    def noted(*args):
        alive.append(sum(other() is not None for other in made))
        found = batch_source(*args)
        if isinstance(found, FrozenOutputs):
            made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(loop, "batch_source", noted)
    network, data = net(), device_data(task(), replace(RECIPE, steps=24))
    freeze(network, range(4))
    train(network, data, seed=3, surgery=Surgery(n_layers=4, frozen=True, thaw="gradual"))
    assert len(made) == 4
    assert alive == [0] * 5


def test_every_treatment_has_looks_of_its_own():
    looks = [(treatment.color, treatment.marker) for treatment in TREATMENTS.values()]
    assert len(set(looks)) == len({color for color, _ in looks}) == len(TREATMENTS)
