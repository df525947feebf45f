import importlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import RayTaskError
from rich.console import Console

from raytransfer.errors import UserError
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import Store, lock
from raytransfer.sweep import driver as running
from raytransfer.sweep.gpu_sharing import SideBySide, _choice, _told, _why_stop, measure
from raytransfer.sweep.ray import measure_sharing
from raytransfer.words import number_of


def groups(*speeds, used=1.0, total=80.0):
    """Measurements with 1, 2, 4, ... trials side by side."""
    return [
        SideBySide(trials=2**i, images_per_s=speed, used_gb=used * 2**i, total_gb=total)
        for i, speed in enumerate(speeds)
    ]


@pytest.mark.parametrize(
    ("measured", "most", "why"),
    [
        (groups(100), 8, ""),
        (groups(100, 190), 8, ""),
        (groups(100, 109), 8, "2 bring less than 10% more than 1"),
        (groups(100, 190, 200), 8, "4 bring less than 10% more than 2"),
        (groups(100, 190, 380, 700), 8, "8 at most"),
        (groups(100, 190), 3, "3 at most"),
        (groups(100, 190, used=20), 8, "4 do not fit: 2 use 40.0 of 80.0 GB"),
        (groups(100, 190, used=17), 8, ""),
        (groups(100, used=0, total=0), 8, ""),  # a CPU
    ],
)
def test_when_to_try_no_more(measured, most, why):
    assert _why_stop(measured, most) == why


@pytest.mark.parametrize(
    ("speeds", "chosen"), [([100], 1), ([100, 109], 1), ([100, 150, 160], 2), ([9, 18, 36, 70], 8)]
)
def test_the_choice_is_the_fewest_trials_that_no_doubling_beats(tiny, speeds, chosen):
    base = make_plan(tiny()).longest_base
    sharing = _choice(base, "cpu", 10**9, groups(*speeds), "the reason")
    assert sharing.trials_per_gpu == chosen
    assert sharing.reason.startswith(
        f"{number_of(chosen, 'trial')} on each GPU: images a second by trials side by side 1: {speeds[0]}"
    )
    assert sharing.reason.endswith("; the reason")


def test_real_processes_side_by_side(tiny):
    plan = make_plan(tiny())
    sharing = measure(plan.longest_base, plan.sources[0][1], "cpu", 10**9, most=2, seconds=0.2)
    assert [group.trials for group in sharing.measured] == [1, 2]
    assert all(group.images_per_s > 100 for group in sharing.measured)
    assert sharing.trial == plan.longest_base.id


def test_what_cannot_run_says_why(tiny):
    plan = make_plan(tiny())
    elsewhere = replace(plan.longest_base, task=replace(plan.longest_base.task, fingerprint="f" * 16))
    with pytest.raises(RuntimeError, match="fingerprint"):
        measure(elsewhere, plan.sources[0][1], "cpu", 10**9, most=2, seconds=0.2)


def test_of_an_error_of_many_lines_the_first_is_told():
    """As of CUDA's, which end with how to compile PyTorch."""
    lines = "CUDA error: invalid argument", "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."
    command = [sys.executable, "-c", "raise RuntimeError({!r})".format("\n".join(lines))]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        pytest.raises(RuntimeError, match=r"^RuntimeError: CUDA error: invalid argument$"),
    ):
        _told(process)


def test_a_base_that_does_not_train_on_a_gpu_is_told_in_a_line(tiny, monkeypatch):
    def fails(_):
        raise RayTaskError("on_a_gpu", "a traceback", RuntimeError("CUDA out of memory.\nTried to"))

    plan = make_plan(tiny())
    task = SimpleNamespace(remote=lambda: None)
    cluster = importlib.import_module("raytransfer.sweep.ray.cluster")  # the package has a function of that name
    monkeypatch.setattr(cluster, "ray", SimpleNamespace(remote=lambda **_: lambda _: task, get=fails))
    with pytest.raises(
        UserError, match=r"^gpus_per_trial=auto: a base does not train .*: CUDA out of memory\. Tried to$"
    ):
        measure_sharing(plan.longest_base, plan.sources[0][1], 10**9)


@pytest.mark.parametrize(("machine", "most"), [({"GPU": 2.0, "CPU": 8.0}, 4), ({"GPU": 2.0}, 1)])
def test_side_by_side_are_as_many_as_the_gpu_s_machine_has_cores_for(tiny, monkeypatch, machine, most):
    """And not as many as the cluster has on average, of which the head may have no GPU, or no machine one yet."""
    plan, tried = make_plan(tiny()), []
    cluster = importlib.import_module("raytransfer.sweep.ray.cluster")  # the package has a function of that name
    nodes = [{"NodeID": "head", "Resources": {"CPU": 64.0}}, {"NodeID": "other", "Resources": machine}]
    ray = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 64.0},
        get=lambda made: made(),
        get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: "other"),
        nodes=lambda: nodes,
        remote=lambda **_: lambda function: SimpleNamespace(remote=lambda: function),
    )
    monkeypatch.setattr(cluster, "ray", ray)
    monkeypatch.setattr(cluster, "measure", lambda *given: tried.append(given[-1]))
    measure_sharing(plan.longest_base, plan.sources[0][1], 10**9)
    assert tried == [most]


@pytest.fixture
def kept(tiny):
    """A plan and its store, in which a choice is kept that was made with the service or without."""
    config = replace(tiny(), gpus_per_trial="auto")
    plan, store = make_plan(config), Store(config.out)
    store.create()

    def keep(*, mps, trials=4):
        speeds = [100, 190, 380][: trials.bit_length()]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        choice = replace(_choice(plan.longest_base, device, 10**9, groups(*speeds), "4 at most"), mps=mps)
        store.write("gpu_sharing.json", json.dumps(asdict(choice)).encode())
        return plan, store, config, choice

    return keep


@pytest.mark.parametrize("mps", [False, True])
def test_on_a_cluster_a_kept_choice_is_taken_and_says_where_trials_take_turns(kept, monkeypatch, mps, capsys):
    monkeypatch.setattr("raytransfer.sweep.ray.has_gpus", lambda: True)
    *given, choice = kept(mps=mps)
    assert running._gpus_per_trial(Console(width=200), *given, served=None) == 1 / 4
    said = capsys.readouterr().out
    assert choice.reason in said
    assert ("remove gpu_sharing.json" in said) is not mps
    assert (", MPS)" in said) is mps


@pytest.mark.parametrize(
    ("mps", "trials", "served", "share"),
    [
        (True, 4, True, 1 / 4),
        (False, 4, False, 1 / 4),
        (True, 1, False, 1.0),  # for which the service is not started
        (True, 4, False, 1 / 2),  # measured anew
        (False, 4, True, 1 / 2),
        (False, 1, True, 1 / 2),
    ],
)
def test_what_was_measured_holds_with_the_service_as_without(kept, monkeypatch, mps, trials, served, share):
    plan, store, config, choice = kept(mps=mps, trials=trials)
    monkeypatch.setattr("raytransfer.sweep.ray.has_gpus", lambda: True)
    anew = replace(choice, trials_per_gpu=2, mps=served)
    monkeypatch.setattr("raytransfer.sweep.ray.measure_sharing", lambda *_: anew)
    assert running._gpus_per_trial(Console(), plan, store, config, served=served) == share
    monkeypatch.setattr("raytransfer.sweep.ray.measure_sharing", lambda *_: pytest.fail("it is kept"))
    assert running._gpus_per_trial(Console(), plan, store, config, served=served) == share


@pytest.mark.parametrize(
    ("memory_gb", "device", "other", "share"),
    [
        (1.0, "one", {}, 1 / 4),
        (2.0, "one", {}, 1),
        (1.0, "other", {}, 1),
        (1.0, "one", {"trial": "of another network"}, 1),
    ],
)
def test_what_was_measured_holds_for_such_a_trial_of_as_much_memory_on_such_a_gpu(
    kept, monkeypatch, memory_gb, device, other, share
):
    plan, store, config, choice = kept(mps=False)
    store.write("gpu_sharing.json", json.dumps({**asdict(choice), "device": "one", **other}).encode())
    monkeypatch.setattr("raytransfer.sweep.ray.has_gpus", lambda: True)
    monkeypatch.setattr("raytransfer.sweep.ray.measure_sharing", lambda *_: replace(choice, trials_per_gpu=1))
    monkeypatch.setattr(running.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(running, "device_name", lambda _: device)
    config = replace(config, memory_gb=memory_gb)
    assert running._gpus_per_trial(Console(), plan, store, config, served=False) == share


@pytest.mark.parametrize("content", [b"", b"3", b'{"trial": '])
def test_a_damaged_measurement_is_made_anew_and_never_in_a_store_that_another_sweep_holds(kept, monkeypatch, content):
    plan, store, config, choice = kept(mps=False)
    store.write("gpu_sharing.json", content)
    monkeypatch.setattr("raytransfer.sweep.ray.has_gpus", lambda: True)
    monkeypatch.setattr("raytransfer.sweep.ray.measure_sharing", lambda *_: replace(choice, trials_per_gpu=2))
    identity = store.create()
    with lock(store), pytest.raises(UserError, match="is in use by another sweep"):
        running._gpus_per_trial(Console(), plan, store, config, served=False)
    store.check_identity(identity)
    assert running._gpus_per_trial(Console(), plan, store, config, served=False) == 1 / 2


def test_what_trains_no_network_of_the_zoo_has_a_gpu_for_each_trial(kept, monkeypatch):
    _, store, config, _ = kept(mps=False)
    monkeypatch.setattr("raytransfer.sweep.ray.has_gpus", lambda: True)
    plan = SimpleNamespace(tasks=())
    assert running._gpus_per_trial(Console(), plan, store, config, served=False) == 1.0


def test_the_service_is_for_trials_that_share_a_gpu_or_may(kept):
    plan, store, config, _ = kept(mps=True)
    assert running._may_share(plan, store, config)
    assert not running._may_share(plan, store, replace(config, slots=1))
    for share, shared in ((1.0, False), (0.6, False), (0.5, True), (2, False)):
        assert running._may_share(plan, store, replace(config, gpus_per_trial=share)) is shared
    kept(mps=False, trials=1)  # by itself it may be best for want of the service
    assert running._may_share(plan, store, config)
    kept(mps=True, trials=1)
    assert not running._may_share(plan, store, config)
