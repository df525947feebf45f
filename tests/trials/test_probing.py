"""What probes look at: batch normalisation that trains takes the statistics of the images looked at."""

from dataclasses import replace

import torch
from torch import nn

from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.networks import build, freeze
from raytransfer.specs import NetworkSpec, ProbeSpec, Trained
from raytransfer.store import Store, compact, finished, load_weights, read_table, save_checkpoint
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.trials import Site, run
from raytransfer.trials.probing import _settle
from tests.helpers import Quiet, staged

NORMED = "tests.trials.networks:normed"


def normalised(network):
    return [m for m in network.module.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_normalisation_that_trains_normalises_the_images_whatever_it_saw_before():
    network = build(NetworkSpec(name=NORMED), image=(1, 8, 8), classes=3, seed=0)
    network.module.eval()
    layers = normalised(network)
    layers[0].running_mean.fill_(2.0)  # as copied ones have
    seen = {}
    for layer in layers:
        layer.register_forward_hook(lambda layer, _, outputs: seen.update({layer: outputs}))
    for shift in (3, -3):
        inputs = shift + 5 * torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        _settle(network, inputs)
        assert not any(layer.training for layer in network.module.modules())
        assert {layer.momentum for layer in layers} == {0.1}
        with torch.no_grad():
            network.through(inputs)
        for layer in layers:
            assert seen[layer].mean((0, 2, 3)).abs().max() < 1e-3  # the layer before has another variance in training
            assert (seen[layer].var((0, 2, 3)) - 1).abs().max() < 1e-2


def test_a_settled_network_gives_in_eval_mode_what_it_gives_in_training():
    """Up to the variance, which is divided by n in training and by n - 1 after it."""
    network = build(NetworkSpec(name=NORMED), image=(1, 8, 8), classes=3, seed=0)
    inputs = torch.randn(2000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.module.train()
        training = network.through(inputs)
        network.module.eval()
        _settle(network, inputs)
        torch.testing.assert_close(network.through(inputs), training, rtol=1e-3, atol=1e-4)


def test_normalisation_of_frozen_random_layers_stays_as_it_trains():
    network = build(NetworkSpec(name=NORMED), image=(1, 8, 8), classes=3, seed=0)
    freeze(network, [0])
    network.module.eval()
    frozen, *fresh = normalised(network)
    _settle(network, 3 + 5 * torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert not frozen.running_mean.any()
    assert (frozen.running_var == 1).all()
    assert all(layer.running_mean.any() for layer in fresh)


def test_images_that_a_network_writes_over_are_looked_at_as_they_were():
    module = nn.Sequential(nn.CELU(inplace=True), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 2))
    network = staged(module.eval(), (1, 4, 4), {"first": ["0", "1"], "head": ["2", "3"]})
    inputs = torch.randn(20, 1, 4, 4)
    before = inputs.clone()
    _settle(network, inputs)
    assert inputs.equal(before)


def test_probes_along_training_settle_a_network_at_every_step(tiny, tmp_path):
    options = [f"network={NORMED}", "n_layers=[2]", "treatments=[baseB]", "directions=[A->B]", "probe_steps=[0,last]"]
    plan = make_plan(tiny(*options, "probes=[generalisation,gradient-scale]", "probe_images=12"))
    looks = [spec for spec in plan.trials.values() if isinstance(spec, ProbeSpec)]
    assert {(look.probe, look.step): look.settled for look in looks} == {
        ("generalisation", 0): False,  # which tells what the training's own evaluation would
        ("generalisation", 6): False,
        ("gradient-scale", 0): True,
        ("gradient-scale", 6): True,
    }
    site = Site(sources=plan.sources, root=str(tmp_path / "out"), device="cpu", memory_bytes=10**9)
    run_in_process(Run(plan.trials, site, Quiet(), keep_checkpoints=True))
    scales = {look.step: [look, replace(look, settled=not look.settled)] for look in looks if look.images}
    for both in scales.values():
        run(both[1], site)
    read = read_table(Store(site.root), "readings").set_index("id")["value"]
    before, after = ([read.loc[look.id].tolist() for look in scales[step]] for step in (0, 6))
    assert before[0] != before[1]
    assert after[0] != after[1]


def test_a_probe_that_finds_nothing_to_read_has_finished(tiny, tmp_path):
    plan = make_plan(tiny("treatments=[baseB]", "directions=[A->B]", "probes=[gradient-components]", "probe_images=4"))
    probe = next(spec for spec in plan.trials.values() if isinstance(spec, ProbeSpec))
    site = Site(sources=plan.sources, root=str(tmp_path / "out"), device="cpu", memory_bytes=10**9)
    store = site.store()
    run_in_process(Run({probe.trained.id: probe.trained}, site, Quiet()))
    trained = Trained(training=probe.trained, step=probe.step)
    dead = {name: weights.zero_() for name, weights in load_weights(store, trained).items()}
    save_checkpoint(store, probe.trained.id, probe.step, dead)  # only biases of the head have a gradient
    run(probe, site)
    for _ in range(2):
        assert finished(store) == {probe.trained.id, probe.id}
        assert read_table(store, "probes")["id"].tolist() == [probe.id]
        assert read_table(store, "readings").empty
        compact(store)
