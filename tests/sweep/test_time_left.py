"""Whether the time left that a sweep tells is right, on the times that trials of real sweeps took."""

import csv
import heapq
import io
from collections import deque
from itertools import count, pairwise
from pathlib import Path

import pytest
from rich.console import Console

from raytransfer.config import load_config
from raytransfer.experiments import EXPERIMENTS
from raytransfer.specs import TrainingSpec
from raytransfer.specs.dependencies import alike, batch_of, needs, scouts_first
from raytransfer.sweep import progress
from raytransfer.sweep.progress import ProgressView
from raytransfer.sweep.run import Run
from raytransfer.trials import Site

# Processor seconds of trials by kind, those that a process began with first, from sweeps on two slots: yosinski and
# mechanisms whole, distance and checkpoints with seeds=1. Where a replay needs more they come again.
RECORDED = Path(__file__).with_name("seconds_by_kind.csv")
HANDING_OUT_S = 0.01
WHEN = (0.1, 0.2, 0.3, 0.5, 0.75)  # of the sweep's time


@pytest.fixture(scope="module", params=["yosinski", "distance", "mechanisms", "checkpoints"])
def recorded(request, cache_dir):
    """The trials of an experiment's sweep on digits, and what those of each kind took one after the other."""
    experiment = EXPERIMENTS[request.param]
    specs = experiment.plan(load_config(experiment.config, experiment.defaults, [f"cache_dir={cache_dir}"])).trials
    with RECORDED.open() as file:
        rows = [row for row in csv.reader(file) if row[0] == request.param]
    return specs, {kind: [float(time) for time in times] for _, kind, *times in rows}


def told(specs, seconds, slots, tmp_path, monkeypatch):
    """Run a sweep's trials on a clock that goes by what was recorded; gives how long it took, and what it told when."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    view = ProgressView(Console(file=io.StringIO()), [], specs)
    site = Site(sources=(), root=str(tmp_path), device="cpu", memory_bytes=0)
    run = Run(scouts_first(specs, slots), site, view)
    run.resize(slots)
    left = {kind: deque(times) for kind, times in seconds.items()}
    running, order, looks = [], count(), []
    while run.unfinished:
        while len(running) < slots and (trials := run.next()):
            run.started(trials)
            took = HANDING_OUT_S
            for trial in trials:
                times = left[" ".join(map(str, alike(specs[trial])))]
                took += times[0]
                times.rotate(-1)
            heapq.heappush(running, (now + took, next(order), trials))
        now, _, trials = heapq.heappop(running)
        for trial in trials:
            run.end(trial, None)
        looks.append((now, view.seconds_left()))
    return now, looks


@pytest.mark.parametrize("slots", [2, 4])
def test_the_time_left_is_right_within_a_fifth_after_a_tenth_of_it(slots, recorded, tmp_path, monkeypatch):
    whole, looks = told(*recorded, slots, tmp_path, monkeypatch)
    ratios = {}
    for share in WHEN:
        now, left = [look for look in looks if look[0] <= share * whole][-1]
        ratios[share] = left / (whole - now)
    assert {share: ratio for share, ratio in ratios.items() if not 0.8 < ratio < 1.2} == {}, ratios


@pytest.mark.parametrize("slots", [1, 5])
def test_scouts_of_every_kind_come_first_with_what_they_need_and_the_others_keep_their_order(slots, recorded):
    specs = recorded[0]
    rank = {trial: i for i, trial in enumerate(specs)}
    order = scouts_first(specs, slots)
    assert order.keys() == specs.keys()
    (end,) = [i for i, (one, other) in enumerate(pairwise(order), 1) if rank[one] > rank[other]]
    scouts = set(list(order)[:end])
    assert {weights.training.id for trial in scouts for weights in needs(specs[trial])} <= scouts
    every, early = {}, {}
    for trial, spec in specs.items():
        batches = every.setdefault(alike(spec), set())
        batches.add(batch_of(spec) or trial)
        if trial in scouts:
            early.setdefault(alike(spec), set()).add(batch_of(spec) or trial)
    trained = {alike(spec) for spec in specs.values() if isinstance(spec, TrainingSpec)}
    for kind, batches in every.items():
        assert len(early[kind]) >= min(len(batches), 1 if kind in trained else slots + 1), kind
    assert len(scouts) < 0.35 * len(specs)
