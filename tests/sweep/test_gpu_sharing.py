import json
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import Store
from raytransfer.sweep import driver as running
from raytransfer.sweep.gpu_sharing import SideBySide, _choice, _why_stop, measure
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
    sharing = _choice(base, "cpu", groups(*speeds), "the reason")
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
        measure(elsewhere, plan.sources[0][1], "cpu", 10**9, seconds=0.2)


@pytest.mark.parametrize("mps", [False, True])
def test_a_kept_choice_is_taken_and_says_where_trials_take_turns(tiny, monkeypatch, mps, capsys):
    monkeypatch.setattr("raytransfer.sweep.ray.has_gpus", lambda: True)
    config = replace(tiny(), gpus_per_trial="auto")
    plan, store = make_plan(config), Store(config.out)
    store.create()
    kept = replace(_choice(plan.longest_base, "cpu", groups(100, 190, 380), "4 at most"), mps=mps)
    store.write("gpu_sharing.json", json.dumps(asdict(kept)).encode())
    assert running._gpus_per_trial(Console(width=200), plan, store, config) == 1 / 4
    said = capsys.readouterr().out
    assert kept.reason in said
    assert ("remove gpu_sharing.json" in said) is not mps
    assert (", MPS)" in said) is mps
