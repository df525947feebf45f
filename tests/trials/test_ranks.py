"""Trainings split over processes: on two, with gloo, the losses of one, and a common end."""

import copy
import functools
import os
import signal
import subprocess
import threading
import time
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from raytransfer.errors import UnreadableError
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.networks import train_mode
from raytransfer.networks.partition import find_stages
from raytransfer.networks.stages import Network
from raytransfer.specs import TransferSpec
from raytransfer.store import failures, load_state, read_table, save_state
from raytransfer.sweep import run as sweep_run
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.training import (
    Interrupted,
    RankDied,
    Ranks,
    TrainingState,
    check_parts,
    frozen,
    never,
    share_batch_norm,
)
from raytransfer.trials import Site, attempt, run, splitting
from tests.helpers import REPEATABLE, Quiet
from tests.trials.test_resume import Setup, same


@pytest.fixture
def trials(request, tiny, tmp_path):
    """A base, a transfer that reuses its frozen layers' outputs, and where one process runs them and where two do."""
    network = f"network={getattr(request, 'param', 'convnet8')}"
    recipe = ("recipe.pad_px=0", "recipe.mirror=false", "recipe.clip_norm=1", "recipe.steps=40")
    plan = make_plan(tiny("n_layers=[2]", "treatments=[AnB]", "directions=[A->B]", network, *recipe))
    place = {"sources": plan.sources, "device": "cpu", "memory_bytes": 10**9, "save_every_s": 0}
    one = Site(root=str(tmp_path / "one"), **place)
    two = Site(root=str(tmp_path / "two"), ranks=2, base_ranks=2, **place)
    return plan.longest_base, next(spec for spec in plan.trials.values() if isinstance(spec, TransferSpec)), one, two


def assert_same(spec, one, two):
    """The row and the learning curve of a trial differ by rounding alone."""
    (row, split), (curve, split_curve) = (
        [table[table["id"] == spec.id] for table in (read_table(site.store(), name) for site in (one, two))]
        for name in ("trials", "curves")
    )
    assert (len(row), len(split), len(curve), len(split_curve)) == (1, 1, 3, 3)
    assert (row["ranks"].item(), split["ranks"].item()) == (1, 2)
    assert row["reused_layers"].item() == split["reused_layers"].item() == (2 if isinstance(spec, TransferSpec) else 0)
    # Of 448 test images one may fall to the other side.
    pd.testing.assert_frame_equal(curve, split_curve, rtol=1e-4, atol=1.5 / 448 if "top1" in curve else 0)
    pd.testing.assert_frame_equal(row[REPEATABLE], split[REPEATABLE], rtol=1e-4, atol=1.5 / 448)


@pytest.mark.parametrize("trials", ["tests.trials.networks:normed"], indirect=True)
def test_a_transfer_on_two_ranks_has_the_losses_of_one_process(trials):
    """Its third layer trains with batch normalisation, over the parts of both."""
    base, transfer, one, two = trials
    for site in (one, two):
        for spec in (base, transfer):
            run(spec, replace(site, base_ranks=1))
    assert_same(transfer, one, two)


class Dying(Quiet):
    """An observer that lets processes die, and notes of which trial."""

    def __init__(self):
        super().__init__()
        self.dead, self.causes = [], []

    def died(self, trial, why):
        self.dead.append(trial)
        self.causes.append(why)


def test_ranks_that_are_stopped_and_one_that_is_killed_end_with_the_row_of_one_process(trials, monkeypatch):
    base, _, one, two = trials
    run(base, one)
    with pytest.raises(Interrupted, match="told to stop"):
        attempt(base, two, stop=lambda: True)

    store, begun, original, steps = two.store(), [], splitting._started, []

    def started(folder, rank):
        begun.append(original(folder, rank))
        return begun[-1]

    def kill_the_second():
        while not steps or steps[-1] < 4:
            steps.append(TrainingState.from_bytes(load_state(store, base.id)).step)
            time.sleep(0.005)
        os.kill(begun[1].pid, signal.SIGKILL)
        since = time.monotonic()
        while begun[0].poll() is None:
            time.sleep(0.005)
        steps.append(TrainingState.from_bytes(load_state(store, base.id)).step)
        took.append(time.monotonic() - since)

    took, observer = [], Dying()
    monkeypatch.setattr(splitting, "_started", started)
    thread = threading.Thread(target=kill_the_second)
    thread.start()
    sweep = Run({base.id: base}, two, observer)
    run_in_process(sweep)
    thread.join()
    assert steps[0] == 1
    assert 4 <= steps[-1] < 40
    assert took[0] < 5
    assert observer.dead == [base.id]
    assert observer.causes == ["rank 1 of 2 was ended by signal 9"]
    assert observer.ended == [base.id]
    assert [process.returncode for process in begun[1:]] == [-signal.SIGKILL, 0, 0]
    assert_same(base, one, two)


def test_a_rank_that_does_not_answer_ends_its_trial_which_goes_on(trials, monkeypatch):
    """It is stopped, as by SIGSTOP, and lives: in a message or before one."""
    base, _, one, two = trials
    run(base, one)
    two = replace(two, retry_s=0)
    store, begun, original, reasons = two.store(), [], splitting._started, []

    def started(folder, rank):
        begun.append(original(folder, rank))
        return begun[-1]

    def stop_the_second():
        while load_state(store, base.id) is None:
            time.sleep(0.005)
        os.kill(begun[1].pid, signal.SIGSTOP)

    class Failing(Quiet):
        def failed(self, trial, reason, skipped):
            reasons.append(reason)

    monkeypatch.setattr(splitting, "_started", started)
    monkeypatch.setattr(splitting, "_PATIENCE_S", 3.0)
    monkeypatch.setattr(splitting, "_GRACE_S", 1.0)
    monkeypatch.setattr(sweep_run, "_RETRIES", 0)
    thread = threading.Thread(target=stop_the_second)
    thread.start()
    run_in_process(Run({base.id: base}, two, Failing()))
    thread.join()
    assert [process.returncode for process in begun] == [splitting._LOST, -signal.SIGKILL]
    (reason,) = reasons
    assert "died 1 times; rank 1 of 2 did not answer: rank 0 of 2 has lost another one: " in reason
    assert failures(store) == {base.id: reason}

    step = TrainingState.from_bytes(load_state(store, base.id)).step
    assert 1 <= step < 40
    monkeypatch.undo()
    observer = Quiet()
    run_in_process(Run({base.id: base}, two, observer))
    assert observer.ended == [base.id]
    assert_same(base, one, two)


def test_a_state_that_ranks_pass_over_is_told_by_the_process_that_watches(trials, caplog):
    base, _, one, two = trials
    run(base, one)
    save_state(two.store(), base.id, b"half")
    run(base, two)
    (line,) = caplog.messages
    assert line.startswith(f"the state of training {base.id} is passed over, it starts from its beginning: no state")
    assert_same(base, one, two)


def test_ranks_that_die_again_and_again_are_a_failure(trials, monkeypatch):
    base, _, _, two = trials

    def die(*_):
        raise RankDied("rank 1 of 2 was ended by signal 9")

    class Failing(Dying):
        def failed(self, trial, reason, skipped):
            reasons.append(reason)

    reasons, observer = [], Failing()
    monkeypatch.setattr(splitting, "_wait", die)
    monkeypatch.setattr(splitting, "_started", lambda *_: subprocess.Popen(["true"]))
    run_in_process(Run({base.id: base}, two, observer))
    assert len(observer.dead) == 3
    assert reasons == ["its process died 4 times; rank 1 of 2 was ended by signal 9"]
    assert failures(two.store()) == {base.id: reasons[0]}


def test_a_rank_that_goes_on_draws_the_dropout_it_had_drawn(monkeypatch):
    """Its state is the first rank's: what it draws follows from seed, rank and step alone."""
    monkeypatch.setattr(Ranks, "_sum", lambda *_: None)
    monkeypatch.setattr(frozen, "EVALUATION_BATCH", 4)  # or the first rank would have all that there is

    def setup(rank):
        class OfRank(Setup):
            def data(self):
                data = super().data()
                data.ranks = Ranks(rank=rank, count=2)
                return data

        return OfRank("dropping", streamed=False)

    undisturbed = setup(1).train(setup(1).network())
    state = setup(1).until(5)
    state = TrainingState.from_bytes(state.to_bytes())
    state.random["cpu"].copy_(torch.Generator().manual_seed(8).get_state())
    assert same(setup(1).train(setup(1).network(seed=9), state=state), undisturbed)


def normalised_alone_and_shared(device, ranks, stop):
    """Batch normalisation and its gradient of one rank, whose messages go out and come back, and without any."""
    outputs = []
    for share in (lambda: None, share_batch_norm):
        share()
        torch.manual_seed(0)
        norm, x = nn.BatchNorm2d(3).to(device), torch.randn(8, 3, 4, 4, device=device, requires_grad=True)
        norm(x).square().mul(x).sum().backward()
        outputs.append([x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    torch.testing.assert_close(*outputs)


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


def cut(layer):
    """A network with a layer in its middle, in the mode of training."""
    parts = {"first": nn.Conv2d(2, 4, 3), "second": layer, "flat": nn.Flatten(), "head": nn.Linear(4 * 16, 3)}
    module = nn.Sequential(OrderedDict(parts))
    network = Network(module, find_stages(module, (2, 6, 6)), (2, 6, 6))
    train_mode(network)
    return network


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (nn.BatchNorm2d(4), None),
        (nn.BatchNorm2d(4, affine=False, track_running_stats=False), None),
        (nn.Sequential(spectral_norm(nn.Conv2d(4, 4, 1)), nn.Dropout()), None),  # moves, by no image
        (nn.InstanceNorm2d(4, track_running_stats=True), r"^second\.running_mean keeps statistics of the images"),
        (Centred(), "^what it makes of an image in training depends on the others of a batch$"),
    ],
)
def test_only_batch_normalisation_may_look_at_several_images_of_a_batch_that_is_split(layer, complaint):
    network = cut(layer)
    before, random = copy.deepcopy(network.module.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError, match=complaint) if complaint else nullcontext():
        check_parts(network)
    torch.testing.assert_close(network.module.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert functional.batch_norm(torch.ones(2, 4), None, None, training=True).tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_one_rank_sends_to_itself(device, tmp_path, monkeypatch):
    """With gloo, and with NCCL; whatever the folder for temporary files is called."""
    folder = tmp_path / "job#1?"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    splitting.run_ranks(functools.partial(normalised_alone_and_shared, device), device, 1, never, 60)
    assert list(tmp_path.iterdir()) == [folder]


def test_ranks_begin_after_the_same_step(monkeypatch):
    Ranks().agree(3, torch.device("cpu"))
    monkeypatch.setattr(Ranks, "_sum", lambda _, tensors, factor: tensors[0].add_(3))
    Ranks(rank=1, count=2).agree(3, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="rank 1 of 2 begins after step 0, and another does not"):
        Ranks(rank=1, count=2).agree(0, torch.device("cpu"))


def test_what_a_rank_raised_is_raised_once_it_is_known(tmp_path):
    with pytest.raises(RankDied, match="rank 1 of 2 was ended by signal 9"):
        splitting._raise_ending([splitting._LOST, -9], tmp_path)
    with pytest.raises(RankDied, match=r"^ranks ended with the codes \[0, 7\]$"):
        splitting._raise_ending([0, 7], tmp_path)
    (tmp_path / "lost-1").write_text("rank 1 of 3 has lost another one: in vain")
    with pytest.raises(RankDied, match=r"^ranks 0, 2 of 3 did not answer: rank 1 of 3 has lost another one: in vain$"):
        splitting._raise_ending([None, splitting._LOST, None], tmp_path)
    with pytest.raises(RankDied, match=r"^rank 0 of 2 was ended by signal 6, and rank 1 of 2 lived on without an"):
        splitting._raise_ending([-signal.SIGABRT, None], tmp_path)
    with pytest.raises(RankDied, match=r"^rank 0 of 2 was ended by signal 11$"):
        splitting._raise_ending([-signal.SIGSEGV, None], tmp_path)

    class Own(Exception):  # noqa: N818 - of a module that cannot be imported
        pass

    for error, raised in (
        (FloatingPointError("training diverged"), FloatingPointError),
        (UnreadableError("weights", "training diverged"), UnreadableError),
        (Own("training diverged"), RuntimeError),
    ):
        (tmp_path / "error-1").write_bytes(splitting._pickled(error, "where it was"))
        with pytest.raises(raised, match="training diverged") as found:
            splitting._raise_ending([splitting._LOST, 1], tmp_path)
        assert str(found.value.__cause__) == "on rank 1 of 2:\nwhere it was"
