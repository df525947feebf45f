"""A sweep on a GPU that is not there: nothing lies on the wrong device, and steps can be recorded."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from raytransfer.library import load, run

ON_A_GPU = """
from tests.pretended_gpu import pretend
pretend()
from raytransfer.cli import main
main()
"""
ON_THE_SECOND = """
import threading
import torch
from tests.pretended_gpu import pretend
pretend(2)
from raytransfer.tasks.threads import ahead
from raytransfer.training import DeviceData, images
from tests.training.test_loop import RECIPE, task
torch.cuda.set_device(1)
data = DeviceData(task(), RECIPE, torch.device("cuda"), memory_bytes=0)
send, sent = images.to_device, []
def to_device(tensor, device):
    where = torch.cuda.current_device() if device.index is None else device.index
    sent.append((where, threading.current_thread() is threading.main_thread()))
    return send(tensor, device)
images.to_device = to_device
next(ahead(data.fetch, data.draw(torch.Generator())))
assert data.streamed and {*sent} == {(1, False)}, sent
"""
SENDING = """
import torch
from tests import pretended_gpu
pretended_gpu.pretend()
from raytransfer.networks import train_mode
from raytransfer.training import DeviceData, Step
from raytransfer.training.step import RecordedStep
from tests.training.test_loop import RECIPE, net, task
replays = []
pretended_gpu.Graph.replay = lambda graph: replays.append(graph)
for sends in (False, True):
    network, data = net(), DeviceData(task(), RECIPE, torch.device("cuda"), 10**9)
    network.module.to(data.device)
    train_mode(network)
    if sends:
        through = network.through
        network.through = lambda inputs, **where: through(inputs * torch.ones(1).to(inputs.device), **where)
    take = RecordedStep(step := Step(network, data, data))
    for _, views in zip(range(6), data.draw(torch.Generator())):
        take(data.fetch(views))
    assert len(replays) == 3, (sends, replays)  # the first three steps are not recorded, nor any that sends
    assert not sends or step.loss_sum.item() > 0
"""
TIMED = """
import torch
from tests.pretended_gpu import pretend
pretend()
from raytransfer.specs import NetworkSpec, PretrainSpec, TaskSpec
from raytransfer.sweep import timing
from tests.training.test_loop import RECIPE, task
many, streamed, step, evaluation = task(2000), set(), timing._timed_step, timing._timed_evaluation
timing._timed_step = lambda take, data, *more: streamed.add(data.streamed) or step(take, data, *more)
timing._timed_evaluation = lambda net, data, *more: streamed.add(data.streamed) or evaluation(net, data, *more)
of = TaskSpec(dataset="x", fingerprint="x", classes=(0, 1, 2, 3), train_per_class=None, draw_seed=0)
spec = PretrainSpec(task=of, network=NetworkSpec(name="convnet8"), recipe=RECIPE, seed=0)
for memory_bytes, expected in ((10**9, False), (100_000, True)):
    timing.timed_training(spec, many, torch.device("cuda"), memory_bytes, 1, 1)
    assert streamed == {expected}, (memory_bytes, streamed)
    streamed.clear()
"""
OPTIONS = {
    "splits": 1,
    "halves": ["random"],
    "directions": ["A->B"],
    "n_layers": [3],
    "treatments": ["baseB", "AnB", "AnB+"],
    "probes": ["generalisation", "gradient-scale"],
    "backend": "in-process",
}
RECIPE = {
    "steps": 12,
    "warmup_steps": 2,
    "batch_size": 16,
    "evaluations": 2,
    "clip_norm": 1.0,
    "optimizer": "adamw",
    "learning_rate": 0.002,
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one, and the other sweep would be on it")
def test_a_sweep_on_a_pretended_gpu_gives_what_a_cpu_does(tmp_path):
    values = {**OPTIONS, **{f"recipe.{name}": value for name, value in RECIPE.items()}, "out": tmp_path / "gpu"}
    written = [f"{name}={value}".replace("'", "") for name, value in values.items()]
    subprocess.run([sys.executable, "-c", ON_A_GPU, "run", "yosinski", *written], check=True, capture_output=True)
    run("yosinski", **OPTIONS, recipe=RECIPE, out=str(tmp_path / "cpu"))
    tables = [load(str(tmp_path / name)) for name in ("gpu", "cpu")]
    trials = pd.merge(*(table.trials.drop_duplicates("id") for table in tables), on="id", suffixes=("", "_here"))
    assert len(trials) == len({*tables[1].trials["id"]}) >= 4
    assert set(trials["device"]) == {"pretended GPU"}
    np.testing.assert_allclose(trials["loss_nats"], trials["loss_nats_here"], rtol=1e-3)
    keys = ["id", "quantity", "stage", "index"]
    readings = pd.merge(*(table.probes.drop_duplicates(keys) for table in tables), on=keys, suffixes=("", "_here"))
    assert len(readings) > 20
    np.testing.assert_allclose(readings["value"], readings["value_here"], rtol=0.02, atol=1e-3)


def test_a_rank_s_threads_send_streamed_images_to_its_own_gpu():
    subprocess.run([sys.executable, "-c", ON_THE_SECOND], check=True, capture_output=True, timeout=120)


def test_a_plan_times_images_as_streamed_where_all_of_them_do_not_fit_the_gpu():
    subprocess.run([sys.executable, "-c", TIMED], check=True, capture_output=True, timeout=120)


def test_a_step_in_which_a_network_sends_a_tensor_to_the_gpu_is_not_recorded():
    subprocess.run([sys.executable, "-c", SENDING], check=True, capture_output=True, timeout=120)
