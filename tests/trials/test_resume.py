"""Trainings that are stopped and go on: to the bit what they had been without a stop."""

import functools
import itertools
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.networks import add_lora, freeze
from raytransfer.specs import UNCUT, Surgery
from raytransfer.specs.dependencies import needs
from raytransfer.store import Store, failures, is_unmerged, read_table
from raytransfer.store.states import delete_state, load_state, save_state
from raytransfer.training import DeviceData, Evaluation, Interrupted, TrainingState, train
from raytransfer.trials import Site, attempt, run, training
from tests.helpers import REPEATABLE, staged
from tests.training.test_loop import RECIPE, net, states, task

TOLD = "told to stop after step"
DAMAGED = "no state of a training, or a damaged one"


class Versioned(nn.Linear):
    """Refuses a state dict that tells no version, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *more):
        assert metadata.get("version") == 2
        super()._load_from_state_dict(state, prefix, metadata, *more)


def dropping(seed, fixed=False):
    """A small network with batch normalisation and dropout, in a layer that may be frozen and in one that trains.

    Its head refuses a state dict without versions. The scales of its normalisation may be kept out of training.
    """
    torch.manual_seed(seed)
    conv = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    conv[1].weight.requires_grad_(not fixed)
    hidden = nn.Sequential(nn.Dropout(0.2), nn.Flatten(), nn.Linear(8 * 4 * 4, 16), nn.ReLU())
    head = nn.Sequential(nn.Dropout(0.5), Versioned(16, 4))
    return staged(nn.Sequential(conv, hidden, head), (3, 8, 8), {f"layer{i + 1}": [str(i)] for i in range(3)})


class Setup:
    """A training that can be done again and again, each time in fresh objects."""

    def __init__(
        self,
        name="convnet8",
        frozen=0,
        side=8,
        memory_bytes=10**9,
        streamed=False,
        device="cpu",
        surgery=UNCUT,
        **changes,
    ):
        self.name, self.frozen, self.side, self.surgery = name, frozen, side, surgery
        self.memory_bytes, self.streamed, self.device = memory_bytes, streamed, torch.device(device)
        self.recipe = replace(RECIPE, **changes)

    def network(self, seed=0):
        if self.name in ("dropping", "fixed"):
            network = dropping(seed, fixed=self.name == "fixed")
        else:
            network = net(self.name, 3, self.side, seed)
        network.module.to(self.device)
        if self.recipe.channels_last:
            network.module.to(memory_format=torch.channels_last)
        freeze(network, range(self.frozen))
        if self.surgery is not UNCUT:
            freeze(network, self.surgery.frozen_stages(len(network.stages)))
        if self.surgery.lora_rank:
            add_lora(network, self.surgery.n_layers, rank=self.surgery.lora_rank, seed=seed)
        return network

    def data(self):
        data = DeviceData(task(channels=3, side=self.side), self.recipe, self.device, self.memory_bytes)
        data.streamed |= self.streamed  # as images are that do not fit a GPU
        return data

    def train(self, network, **options):
        """The outcome but for its times, and the final weights."""
        data = self.data()
        outcome = asdict(train(network, data, seed=3, surgery=self.surgery, **options))
        assert outcome.pop("images_per_s") > 0
        waited = outcome.pop("waited")  # a time, too
        assert math.isnan(waited) or (data.streamed and 0 <= waited <= 1)
        return outcome, states(network)

    @functools.cached_property
    def undisturbed(self):
        """What it gives without a stop."""
        return self.train(self.network())

    def until(self, step, state=None, **options):
        """The state of a training, from another or from its beginning, that is stopped after a step."""
        # Weights of another seed: what it goes on with has to come from the state, or it differs.
        network, saved = self.network(seed=0 if state is None else 9), []
        steps = itertools.count(state.step + 1 if state else 1)
        options |= {"state": state, "on_state": saved.append, "stop": lambda: next(steps) == step}
        with pytest.raises(Interrupted, match=f"{TOLD} {step} of {self.recipe.steps}"):
            self.train(network, **options)
        (state,) = saved
        return TrainingState.from_bytes(state.to_bytes())

    def with_stops(self, steps):
        """What ``train`` gives, with a stop after each of the steps."""
        state = None
        for step in steps:
            state = self.until(step, state)
            state.check(self.network(), self.data(), self.surgery)
        return self.train(self.network(seed=9), state=state)


def same(first, second):
    """Whether two trainings gave the same outcomes and weights, to the bit."""
    (one, weights), (two, other_weights) = first, second
    return one == two and all(torch.equal(weights[key], other_weights[key]) for key in weights)


MIRRORED = Setup(mirror=True, pad_px=1)


@settings(max_examples=15)
@given(stops=st.sets(st.integers(1, 12), min_size=1, max_size=3).map(sorted))
def test_stopped_anywhere_and_gone_on_with_is_as_never_stopped(stops):
    assert same(MIRRORED.with_stops(stops), MIRRORED.undisturbed)


@pytest.mark.parametrize("stops", [(1, 3, 4), (11, 12)])  # evaluations come after 3, 6, 9 and 12
@pytest.mark.parametrize(
    "setup",
    [
        Setup(mirror=True, channels_last=True),
        Setup(mirror=True, channels_last=True, precision="bf16"),
        Setup(mirror=True, channels_last=True, frozen=3),
        Setup(mirror=True, frozen=3, memory_bytes=0),
        Setup(pad_px=1, momentum=0.0, bias_lr_multiplier=2.0, warmup_steps=5),
        Setup(mirror=True, optimizer="adamw", learning_rate=0.002, label_smoothing=0.1, clip_norm=0.5),
        Setup("dropping", mirror=True, channels_last=True, frozen=1, optimizer="adamw", learning_rate=0.002),
        Setup(pad_px=1, streamed=True),
        Setup(crop_area=0.2, mirror=True, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        Setup(crop_area=0.2, mirror=True, rand_augment=2),
        Setup("dropping", mirror=True),
        Setup("dropping", mirror=True, channels_last=True, frozen=1),
        Setup("dropping", mirror=True, precision="bf16", frozen=2),
    ],
    ids=lambda setup: f"{setup.name}-{setup.frozen}" if isinstance(setup, Setup) else None,
)
def test_every_kind_of_training_goes_on_to_the_bit(setup, stops):
    if setup.frozen:  # dropout is in the second layer of one
        reused = 0 if setup.memory_bytes == 0 else 1 if setup.name == "dropping" else setup.frozen
        assert setup.undisturbed[0]["reused_layers"] == reused
    assert same(setup.with_stops(stops), setup.undisturbed)


# Phases of halfway end after 6 steps, those of gradual after 3 and 6, or 1, 3, 4 and 6.
TREATED = [
    ("convnet8", Surgery(n_layers=4, frozen=True, thaw="halfway"), {}),
    ("convnet8", Surgery(n_layers=4, frozen=True, thaw="gradual"), {"optimizer": "adamw", "learning_rate": 0.002}),
    ("convnet8", Surgery(n_layers=2, frozen=True, thaw="gradual"), {"streamed": True, "pad_px": 1}),
    ("convnet8", Surgery(n_layers=2, frozen=True, thaw="gradual"), {"memory_bytes": 0}),
    ("convnet8", Surgery(n_layers=4, frozen=True, surgical=True), {}),
    ("convnet8", Surgery(n_layers=4, frozen=True, lora_rank=2), {}),
    ("convnet8", Surgery(n_layers=4, frozen=False, layer_decay=0.75), {}),
    ("dropping", Surgery(n_layers=2, frozen=True, thaw="halfway"), {"mirror": True}),
    ("dropping", Surgery(n_layers=2, frozen=True, thaw="gradual"), {"mirror": True}),
    ("fixed", Surgery(n_layers=2, frozen=True, thaw="halfway"), {"mirror": True}),
    ("dropping", Surgery(n_layers=2, frozen=True, lora_rank=2), {"optimizer": "adamw", "learning_rate": 0.002}),
]


@pytest.mark.parametrize("stops", [(2, 6), (3, 4, 7)])
@pytest.mark.parametrize("setup", [Setup(name, surgery=surgery, **changes) for name, surgery, changes in TREATED])
def test_every_treatment_goes_on_to_the_bit(setup, stops):
    assert same(setup.with_stops(stops), setup.undisturbed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("stops", [(8,), (20,), (28,)])
@pytest.mark.parametrize(("name", "surgery", "changes"), TREATED)
def test_every_treatment_goes_on_to_the_bit_on_a_gpu(monkeypatch, name, surgery, changes, stops):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # as in every trial
    setup = Setup(name, surgery=surgery, device="cuda", steps=40, **changes)
    assert same(setup.with_stops(stops), setup.train(setup.network()))


class Copied(Setup):
    """A training whose network begins, whatever its seed, with the same copied weights, as those of a trial do."""

    def network(self, seed=0):
        return super().network(0)


def test_l2_sp_goes_on_to_the_bit():
    setup = Copied(surgery=Surgery(n_layers=4, frozen=False, l2_sp=True), weight_decay=0.5)
    undisturbed = setup.train(setup.network())
    assert same(setup.with_stops((2, 7)), undisturbed)
    plain = Copied(weight_decay=0.5)
    assert not same(plain.train(plain.network()), undisturbed)


def test_a_state_of_another_phase_is_told():
    setup = Setup(surgery=Surgery(n_layers=4, frozen=True, thaw="gradual"))
    state = setup.until(4)
    with pytest.raises(ValueError, match=r"its optimiser's buffers differ in name: .*'momentum/conv3.0.bias'"):
        state.check(setup.network(), setup.data(), Surgery(n_layers=4, frozen=True, thaw="never"))


@pytest.mark.parametrize("frozen", [0, 4])
def test_a_network_with_batch_norm_goes_on_to_the_bit(frozen):
    setup = Setup("resnet18", frozen, side=32, steps=4, evaluations=2, batch_size=4, channels_last=True, mirror=True)
    assert same(setup.with_stops([3]), setup.train(setup.network()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("stops", [(2,), (8,)])  # before a step is recorded, and after
@pytest.mark.parametrize(
    "setup",
    [
        Setup(device="cuda", mirror=True, channels_last=True),
        Setup(device="cuda", mirror=True, channels_last=True, precision="bf16"),
        Setup(device="cuda", mirror=True, channels_last=True, frozen=3),
        Setup(device="cuda", pad_px=1, streamed=True),
        Setup(device="cuda", crop_area=0.2, mirror=True, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        Setup(device="cuda", mirror=True, optimizer="adamw", learning_rate=0.002, clip_norm=0.5),
        Setup("dropping", device="cuda", mirror=True, channels_last=True),
        Setup("resnet18", device="cuda", side=32, batch_size=4, channels_last=True),
    ],
    ids=lambda setup: f"{setup.name}-{setup.frozen}" if isinstance(setup, Setup) else None,
)
def test_a_gpu_goes_on_to_the_bit(monkeypatch, setup, stops):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # as in every trial
    assert same(setup.with_stops(stops), setup.train(setup.network()))


def test_checkpoints_are_not_taken_again():
    def taking(taken):
        return {
            "checkpoint_steps": frozenset({0, 2, 5, 9}),
            "on_checkpoint": lambda step, module: taken.append((step, module.state_dict()["conv1.0.weight"].clone())),
        }

    setup, whole, before, after = Setup(), [], [], []
    setup.train(setup.network(), **taking(whole))
    state = setup.until(5, **taking(before))
    setup.train(setup.network(), state=state, **taking(after))
    assert [step for step, _ in before] == [0, 2, 5]
    assert [step for step, _ in after] == [9]
    assert torch.equal(after[0][1], whole[-1][1])


def test_saving_by_the_clock_changes_no_bit():
    setup, saved = Setup("dropping", mirror=True), []
    undisturbed = setup.train(setup.network())

    def keep(state):
        saved.append((state, state.to_bytes()))

    assert same(setup.train(setup.network(), on_state=keep, save_every_s=0), undisturbed)
    assert [state.step for state, _ in saved] == list(range(1, 13))
    assert all(state.to_bytes() == content for state, content in saved)  # later steps do not reach into a state
    for state, _ in saved[3:6]:
        assert same(setup.train(setup.network(seed=9), state=state), undisturbed)


def test_a_short_training_is_not_saved():
    setup, saved = Setup(), []
    setup.train(setup.network(), on_state=saved.append)
    assert saved == []


def test_the_same_state_is_the_same_bytes():
    setup = Setup(channels_last=True)
    first, second = (replace(setup.until(4), seconds=1.0) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()


NUMBERS = st.floats(allow_nan=False)


@settings(max_examples=25)
@given(
    numbers=st.tuples(NUMBERS, NUMBERS),
    curve=st.lists(st.builds(Evaluation, **dict.fromkeys(Evaluation.__annotations__, NUMBERS)), max_size=3),
    tensor=st.sampled_from([torch.tensor(7), torch.randn(2, 3), torch.tensor([math.nan, -0.0, math.inf])]),
)
def test_a_state_comes_back_to_the_bit(numbers, curve, tensor):
    state = TrainingState(
        step=4,
        since=1,
        seconds=numbers[0],
        wall_time_s=numbers[1],
        curve=tuple(curve),
        weights={"a.weight": tensor, "a/b": torch.zeros(0)},
        optimizer={"momentum/a.weight": tensor + 1, "step/a.weight": tensor + 2},
        loss_sum=torch.tensor(0.1),
        random={"cpu": torch.get_rng_state()},
    )
    content = state.to_bytes()
    found = TrainingState.from_bytes(content)
    assert (found.step, found.since, found.curve) == (4, 1, tuple(curve))
    assert (found.seconds, found.wall_time_s) == numbers
    assert found.weights.keys() == state.weights.keys()
    assert found.weights["a.weight"].dtype == tensor.dtype
    assert found.optimizer.keys() == state.optimizer.keys()
    assert torch.equal(found.random["cpu"], state.random["cpu"])
    assert found.to_bytes() == content


CONTENT = Setup("dropping").until(4).to_bytes()


@settings(max_examples=30)
@given(length=st.integers(0, len(CONTENT) - 1))
def test_a_truncated_state_is_refused(length):
    with pytest.raises(ValueError, match=DAMAGED):
        TrainingState.from_bytes(CONTENT[:length])


@pytest.mark.parametrize(
    "content",
    [
        b"x" * 1000,
        save({"weights/a": torch.ones(2)}),
        save({"conv1.0.weight": torch.ones(2)}, {"state": "{}"}),
        save({"loss/sum": torch.ones(())}, {"state": json.dumps({"step": 1, "curve": []})}),
        save({"loss/sum": torch.ones(())}, {"state": json.dumps({"curve": [{"step": 1}]})}),
        save({"loss/sum": torch.ones(())}, {"state": "{"}),
        CONTENT.replace(b'\\"since\\"', b'\\"sense\\"'),
    ],
    ids=["no file", "weights alone", "a network", "no time", "no step", "no JSON", "another key"],
)
def test_what_is_no_state_is_refused(content):
    with pytest.raises(ValueError, match=DAMAGED):
        TrainingState.from_bytes(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": 13}, r"step 13 is not in 1\.\.12"),
        ({"step": 7}, r"other steps than \[3, 6\]"),
        ({"weights": {}}, "its weights differ in name: .*'0.0.bias'"),
        ({"optimizer": {}}, "its optimiser's buffers differ in name: .*'momentum/2.1.bias'"),
        ({"loss_sum": torch.zeros(2)}, r"its loss differ: sum is \(2,\) torch.float32, not \(\)"),
        ({"random": {"cpu": torch.zeros(3)}}, "its random differ: cpu is"),
        ({"random": {"cpu": torch.get_rng_state(), "cuda": torch.zeros(16)}}, r"differ in name: \['cuda'\]"),
    ],
)
def test_a_state_of_another_training_is_told(change, reason):
    setup, state = Setup("dropping"), TrainingState.from_bytes(CONTENT)
    state.check(setup.network(), setup.data())
    with pytest.raises(ValueError, match=reason):
        replace(state, **change).check(setup.network(), setup.data())


def test_a_state_of_a_training_with_other_frozen_layers_is_told():
    setup = Setup("dropping", frozen=1)
    with pytest.raises(ValueError, match=r"its optimiser's buffers differ in name: .*'momentum/0\.0\.weight'"):
        TrainingState.from_bytes(CONTENT).check(setup.network(), setup.data())


STEPS = frozenset({0, 2, 5})


def after(steps):
    """Say stop after so many steps of this attempt."""
    calls = itertools.count(1)
    return lambda: next(calls) == steps


def left_by(spec, site):
    """What a trial left that it must leave again, run anew: row, curve and checkpoints, and nothing to go on from."""
    store = Store(site.root)
    assert load_state(store, spec.id) is None
    rows, curves = (read_table(store, table) for table in ("trials", "curves"))
    files = {name: store.read(f"checkpoints/{spec.id}/{name}") for name in store.names(f"checkpoints/{spec.id}")}
    own = [table[table["id"] == spec.id].reset_index(drop=True) for table in (rows[REPEATABLE], curves)]
    return *own, files


def assert_same(found, expected):
    pd.testing.assert_frame_equal(found[0], expected[0], check_exact=True)
    pd.testing.assert_frame_equal(found[1], expected[1], check_exact=True)
    assert found[2] == expected[2]
    assert len(expected[0]) == 1


@pytest.fixture
def stopped(tiny, tmp_path):
    """A base or a transfer from it, stopped after three steps, where it runs, and what it leaves if not stopped."""
    plan = make_plan(tiny("n_layers=[2]", "treatments=[AnB]", "directions=[A->B]"))

    def stop(which):
        base = next(spec for spec in plan.trials.values() if not needs(spec))
        spec = base if which == "base" else next(spec for spec in plan.trials.values() if needs(spec))
        site, undisturbed = (
            Site(sources=plan.sources, root=str(tmp_path / name), device="cpu", memory_bytes=10**9)
            for name in ("stopped", "undisturbed")
        )
        if spec is not base:
            for place in (site, undisturbed):
                run(base, place)
        run(spec, undisturbed, STEPS)
        with pytest.raises(Interrupted, match=f"{TOLD} 3 of 6"):
            attempt(spec, site, STEPS, after(3))
        assert not is_unmerged(Store(site.root), spec.id)
        assert failures(Store(site.root)) == {}
        return spec, site, left_by(spec, undisturbed)

    return stop


@pytest.mark.parametrize("which", ["base", "transfer"])
def test_a_stopped_trial_run_again_leaves_what_it_had_left(stopped, monkeypatch, which):
    spec, site, expected = stopped(which)
    original, written = training.save_checkpoint, []

    def note(store, trial, step, state):
        written.append(step)
        original(store, trial, step, state)

    monkeypatch.setattr(training, "save_checkpoint", note)
    with pytest.raises(Interrupted, match=f"{TOLD} 4 of 6"):
        run(spec, site, STEPS, after(1))
    assert written == []
    run(spec, site, STEPS)
    assert written == ([5, 6] if which == "base" else [5])
    assert_same(left_by(spec, site), expected)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-1], DAMAGED),
        (lambda content: CONTENT, "its learning curve has other steps"),
    ],
)
def test_a_damaged_state_is_passed_over(stopped, caplog, damage, reason):
    spec, site, expected = stopped("base")
    store = Store(site.root)
    save_state(store, spec.id, damage(load_state(store, spec.id)))
    run(spec, site, STEPS)
    (message,) = caplog.messages
    assert f"the state of training {spec.id} is passed over" in message
    assert reason in message
    assert_same(left_by(spec, site), expected)


def test_a_state_past_a_checkpoint_that_is_missing_is_passed_over(stopped, caplog):
    spec, site, expected = stopped("base")
    store = Store(site.root)
    store.delete(f"checkpoints/{spec.id}/2.safetensors")
    run(spec, site, STEPS)
    assert "checkpoints that it passed are wanted and not there: [2]" in caplog.text
    assert_same(left_by(spec, site), expected)


def test_a_checkpoint_that_nobody_wants_any_more_may_be_missing(stopped, caplog):
    spec, site, _ = stopped("base")
    store = Store(site.root)
    store.delete(f"checkpoints/{spec.id}/2.safetensors")
    run(spec, site, STEPS - {2})
    assert caplog.messages == []
    assert store.names(f"checkpoints/{spec.id}") == ["0.safetensors", "5.safetensors", "6.safetensors"]


def test_wall_time_counts_the_attempts_before(stopped):
    spec, site, _ = stopped("transfer")
    store = Store(site.root)
    state = TrainingState.from_bytes(load_state(store, spec.id))
    assert state.wall_time_s > state.seconds > 0
    save_state(store, spec.id, replace(state, wall_time_s=5000.0).to_bytes())
    run(spec, site, STEPS)
    row = read_table(store, "trials").set_index("id").loc[spec.id]
    assert 5000 < row["wall_time_s"] < 6000


class Killed(BaseException):
    """Stands in for the end of the process: nothing handles it."""


def test_killed_between_its_row_and_its_state_a_trial_is_finished(stopped, monkeypatch):
    spec, site, expected = stopped("transfer")
    store = Store(site.root)

    def kill(*arguments):
        raise Killed("now")

    monkeypatch.setattr(training, "delete_state", kill)
    with pytest.raises(Killed, match="now"):
        run(spec, site, STEPS)
    monkeypatch.undo()
    assert is_unmerged(store, spec.id)
    assert load_state(store, spec.id) is not None
    run(spec, site, STEPS)  # as with mode=force, but that the state is left
    assert_same(left_by(spec, site), expected)


def test_states_are_files_of_the_store(tmp_path):
    store = Store(str(tmp_path / "out"))
    assert load_state(store, "t1") is None
    delete_state(store, "t1")
    save_state(store, "t1", b"one")
    save_state(store, "t1", b"two")
    assert load_state(store, "t1") == b"two"
    assert Path(store.place("states/t1.safetensors")).exists()
    delete_state(store, "t1")
    assert load_state(store, "t1") is None
