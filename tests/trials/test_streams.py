"""Which trainings draw the same random numbers from one seed, and which draw anew."""

import dataclasses

import pytest
import torch

from raytransfer.specs import (
    NetworkSpec,
    PretrainSpec,
    ProbeSpec,
    Recipe,
    SimulationSpec,
    Surgery,
    TransferSpec,
)
from raytransfer.store import Store, save_checkpoint
from raytransfer.tasks import DataSource, load_task, open_dataset, task_spec
from raytransfer.training import DeviceData
from raytransfer.trials import Site, probing, simulating
from raytransfer.trials.simulating import run_simulation
from raytransfer.trials.training import prepare, stored_network, training_seed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits(cache_dir, tmp_path_factory):
    return open_dataset(DataSource(data="digits", data_dir=str(tmp_path_factory.mktemp("none")), cache_dir=cache_dir))


def base(digits, classes, seed=0, per_class=5, dials=None, **options):
    task = task_spec(digits, classes, per_class, seed, dials, **options)
    recipe = Recipe(steps=2, batch_size=4, learning_rate=0.01, evaluations=1)
    return PretrainSpec(task=task, network=NetworkSpec(name="convnet8"), recipe=recipe, seed=seed)


def started(digits, store, spec):
    """The weights before the first step."""
    data = DeviceData(load_task(digits, spec.task), spec.recipe, CPU, memory_bytes=0)
    return prepare(spec, store, data).module.state_dict()


def copied(target, source, **surgery):
    weights = None if source is None else source.weights
    surgery = Surgery(**({"n_layers": 3, "frozen": True} | surgery))
    same = {"task": target.task, "network": target.network, "recipe": target.recipe, "seed": target.seed}
    return TransferSpec(weights=weights, surgery=surgery, **same)


def same(one, other, names=None):
    return [name for name in names or one if torch.equal(one[name], other[name])]


def test_tasks_of_other_classes_start_from_other_weights_and_order(digits, tmp_path):
    store = Store(str(tmp_path))
    one, other = base(digits, [0, 1, 2]), base(digits, [3, 4, 5])
    weights = [started(digits, store, spec) for spec in (one, other)]
    assert not [name for name in same(*weights) if name.endswith("weight")]
    assert training_seed(one) != training_seed(other)
    assert training_seed(one) != training_seed(dataclasses.replace(one, seed=1))


@pytest.mark.parametrize(
    "variant",
    [
        {"dials": {"blur_px": 1.0, "noise": 20.0}},
        {"dials": {"random_labels": 0.5}},
        {"per_class": 9},
        {"classes": [0, 1, 7], "paired_with": [0, 1, 2]},
    ],
)
def test_variants_of_a_task_start_from_the_same_weights_and_order(digits, tmp_path, variant):
    store = Store(str(tmp_path))
    one, other = base(digits, [0, 1, 2]), base(digits, **({"classes": [0, 1, 2]} | variant))
    first, second = (started(digits, store, spec) for spec in (one, other))
    assert same(first, second) == list(first)
    assert training_seed(one) == training_seed(other)
    assert one.id != other.id


def test_transfers_to_one_target_share_fresh_layers_and_order_whatever_they_copy(digits, tmp_path):
    store = Store(str(tmp_path))
    target, other = base(digits, [0, 1, 2]), base(digits, [3, 4, 5])
    of_bases = {}
    for spec in (target, other):
        of_bases[spec] = started(digits, store, spec)
        save_checkpoint(store, spec.id, 2, of_bases[spec])
    specs = [copied(target, source) for source in (target, other, None)]
    bnb, anb, rnb = (started(digits, store, spec) for spec in specs)
    copies = [name for name in bnb if name.startswith(("conv1", "conv2", "conv3"))]
    fresh = [name for name in bnb if name not in copies]
    assert fresh
    assert same(bnb, anb, fresh) == same(rnb, anb, fresh) == fresh
    assert not [name for name in [*same(bnb, anb, copies), *same(rnb, anb, copies)] if name.endswith("weight")]
    assert not [name for name in same(bnb, of_bases[target], fresh) if name.endswith("weight")]
    assert len({training_seed(spec) for spec in specs}) == 1
    assert training_seed(specs[0]) != training_seed(target)
    elsewhere = started(digits, store, copied(other, None))
    assert not [name for name in same(rnb, elsewhere) if name.endswith("weight")]


def test_directions_of_probes_and_first_weights_of_simulations_are_those_of_the_task(digits, tmp_path, monkeypatch):
    site = Site(sources=(), root=str(tmp_path), device="cpu", memory_bytes=10**9)
    monkeypatch.setattr(Site, "dataset", lambda self, fingerprint: digits)
    store, seeds, starts = Store(str(tmp_path)), [], []

    def simulate(x_p, y_p, x_q, y_q, *, width, seed):
        assert 0 <= x_q.min() < 0.5 < x_q.max() <= 1
        assert set(y_q) == {-1, 1}
        assert (len(x_p), len(x_q), width) == (4, 4, 8)
        starts.append(seed)

    monkeypatch.setattr(simulating, "simulate", simulate)
    monkeypatch.setattr(simulating, "asdict", lambda simulation: {})
    monkeypatch.setattr(simulating, "publish", lambda *row: None)
    far = base(digits, [7, 8], dials={"noise": 9.0}).task
    for classes in ([0, 1], [0, 2]):
        for dials in (None, {"blur_px": 1.0}):
            spec = base(digits, classes, dials=dials)
            save_checkpoint(store, spec.id, 2, started(digits, store, spec))
            look = ProbeSpec(probe="landscape", trained=spec, step=2, images=4, points=3, seed=0)
            subject = probing._subject(look, site)
            assert len(subject.inputs) == len(subject.labels) == look.images
            seeds.append(subject.seed)
            run_simulation(SimulationSpec(source=far, target=spec.task, width=8, images=4, seed=0), site)
    for drawn in (seeds, starts):
        assert drawn[0] == drawn[1] != drawn[2] == drawn[3]


def test_adapters_are_those_of_the_target(digits, tmp_path):
    store = Store(str(tmp_path))
    target, other = base(digits, [0, 1, 2]), base(digits, [3, 4, 5])
    for spec in (target, other):
        save_checkpoint(store, spec.id, 2, started(digits, store, spec))
    specs = [copied(to, source, lora_rank=2) for to, source in ((target, target), (target, other), (other, other))]
    first, second, third = (started(digits, store, spec) for spec in specs)
    drawn = [name for name in first if name.endswith("lora_a")]
    assert drawn
    assert same(first, second, drawn) == drawn
    assert not same(first, third, drawn)


def test_weights_lie_in_memory_as_the_recipe_says(digits, tmp_path):
    store, plain = Store(str(tmp_path)), base(digits, [0, 1, 2])
    spec = dataclasses.replace(plain, recipe=dataclasses.replace(plain.recipe, channels_last=True))
    fresh = started(digits, store, spec)
    save_checkpoint(store, spec.id, 2, fresh)
    data = DeviceData(load_task(digits, spec.task), spec.recipe, CPU, memory_bytes=0)
    for found in (fresh, stored_network(spec.weights, store, data).module.state_dict()):
        maps = [tensor for tensor in found.values() if tensor.ndim == 4]
        assert maps
        assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in maps)


def test_stored_weights_hold_no_versions_of_layers_and_are_those_of_these_layers(cache_dir, tmp_path):
    """torchvision's MNASNet refuses a state dict that does not say its version."""
    source = DataSource(data="digits", data_dir=str(tmp_path), cache_dir=cache_dir, image_size_px=32, channels=3)
    digits, store = open_dataset(source), Store(str(tmp_path))
    spec = dataclasses.replace(base(digits, [0, 1, 2]), network=NetworkSpec(name="torchvision/mnasnet0_5"))
    fresh = started(digits, store, spec)
    save_checkpoint(store, spec.id, 2, fresh)
    data = DeviceData(load_task(digits, spec.task), spec.recipe, CPU, memory_bytes=0)
    found = stored_network(spec.weights, store, data).module.state_dict()
    assert same(found, fresh) == list(found)
