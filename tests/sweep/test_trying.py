"""What is tried at the plan, what failed, and how long a sweep will take."""

import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from raytransfer.commands.forecasting import forecast, print_forecast
from raytransfer.distances import DISTANCES, Sample
from raytransfer.errors import UserError
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.networks.settings import plain_settings
from raytransfer.scores import SCORES, Representation
from raytransfer.store import Store, write_failures
from raytransfer.store.schema import FAILURES
from raytransfer.sweep import estimate as estimating
from raytransfer.sweep import timing, trying
from raytransfer.sweep.backlog import backlog
from raytransfer.sweep.estimate import _spread, estimate
from raytransfer.sweep.failures import failure_rows, why
from raytransfer.sweep.places import described, places
from raytransfer.sweep.slots import beyond_memory, check_ranks, check_slots, slots_of_base, without_gpus
from raytransfer.sweep.trying import check_trials


def test_an_image_left_over_in_an_evaluation_is_tried_alone(tiny, monkeypatch):
    plan = make_plan(tiny("network=tests.bad_input.networks:squeezed", "n_layers=[1]"))
    check_trials(plan.trials.values(), plan, images="images")
    monkeypatch.setattr(trying, "EVALUATION_BATCH", 24)  # of 25 training images one is left
    with pytest.raises(UserError, match=r"squeezed does not take an image alone, and digits\[.* leaves one over"):
        check_trials(plan.trials.values(), plan, images="images")


def test_steps_are_tried_on_one_core(tiny, monkeypatch):
    threads, step = [], trying.try_step
    monkeypatch.setattr(trying, "try_step", lambda *given: threads.append(torch.get_num_threads()) or step(*given))
    with plain_settings():
        torch.set_num_threads(2)
        plan = make_plan(tiny("n_layers=[1]"))
        check_trials(plan.trials.values(), plan, images="images")
    assert threads == [1]


def test_a_training_is_split_over_no_more_than_one_machine_has():
    check_ranks(1, 1, 0, "GPU")  # machines may be on their way
    check_ranks(2, 8, 8, "GPU")
    with pytest.raises(UserError, match="gpus_per_trial=4 must not exceed what one machine has: 2 CPU cores"):
        check_ranks(4, 4, 2, "CPU")
    with pytest.raises(UserError, match=r"base_gpus_per_trial=8 must not exceed what one machine has: 1 GPU$"):
        check_ranks(1, 8, 1, "GPU")


@pytest.mark.parametrize(
    ("units", "share", "base_ranks", "slots", "of_base"),
    [(8, 0.25, 1, 32, 1), (8, 2 / 3, 8, 8, 8), (8, 0.25, 2, 32, 8), (8, 2, 2, 4, 1), (7, 2, 5, 3, 3), (8, 1, 8, 8, 8)],
)
def test_a_base_takes_the_slots_of_its_gpus(units, share, base_ranks, slots, of_base):
    assert check_slots(None, units, share, "GPU", base_ranks) == slots
    assert slots_of_base(base_ranks, share) == of_base
    if of_base > 1:
        with pytest.raises(UserError, match=f"slots=1 must be at least {of_base}, for a base takes so many"):
            check_slots(1, units, share, "GPU", base_ranks)


def test_what_more_than_a_gpu_means_without_one_is_told():
    assert without_gpus(1.0) is without_gpus("auto") is None
    assert without_gpus(0.5) == "gpus_per_trial=0.5 changes nothing: there is no GPU, so a trial takes a CPU core"
    assert without_gpus(2).endswith("there is no GPU, so a training is split over 2 of them")


@pytest.mark.parametrize(
    ("memory_gb", "share", "slots", "told"),
    [
        (20.0, 0.1, 30, "lets 10 trials at once on a GPU use 200 GB, and a GPU here has 80 GB"),
        (20.0, 0.1, 4, None),  # 4 of 20 GB fit
        (20.0, 0.25, 8, None),
        (81.0, 2.0, 1, "lets 1 trial at once on a GPU use 81 GB"),
        (80.0, 1.0, 2, None),
    ],
)
def test_memory_that_no_gpu_here_has_is_told(monkeypatch, memory_gb, share, slots, told):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert beyond_memory(1000, share, slots) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    sizes = [SimpleNamespace(total_memory=size) for size in (80e9, 141e9)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", sizes.__getitem__)
    note = beyond_memory(memory_gb, share, slots)
    assert note is None if told is None else note.startswith(f"memory_gb={memory_gb:g} {told}")


@pytest.mark.parametrize("name", [name for name, entry in DISTANCES.items() if entry.reads in ("features", "pixels")])
def test_the_least_that_a_distance_is_said_to_take_is_enough(name):
    def sample(label, seed):
        features = np.random.default_rng(seed).random((2, 16))
        return Sample(name=label, features=features, labels=np.zeros(2, np.int64), classes=("one",))

    assert DISTANCES[name].least_labels == 1
    assert np.isfinite(DISTANCES[name].function(sample("a", 0), sample("b", 1)))


@pytest.mark.parametrize("name", SCORES)
def test_the_least_that_a_score_is_said_to_take_is_enough(name):
    draw = np.random.default_rng(0)
    head = draw.dirichlet(np.ones(3), size=4)
    parts = {"features": draw.random((4, 8)), "reference": draw.random((4, 8)), "head": head}
    assert np.isfinite(SCORES[name].function(Representation(name=name, labels=np.array([0, 0, 1, 1]), **parts)))


TRACE = 'on host: Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n    ^^^\n'
REASONS = [
    (f"{TRACE}ValueError: too\nlong", ("ValueError", "too")),
    (f"{TRACE}KeyError", ("KeyError", "KeyError")),
    (f"{TRACE}RuntimeError: \n  cuDNN failed\nwith", ("RuntimeError", "cuDNN failed")),
    (f"{TRACE}a.b.UserError: x: y", ("a.b.UserError", "x: y")),
    (
        f"{TRACE}ValueError: first\n\nDuring handling\n\n{TRACE[9:]}RuntimeError: Error(s):\n\tMissing",
        ("RuntimeError", "Error(s):"),
    ),
    ("its process died 3 times; Ray's logs say why", (None, "its process died 3 times; Ray's logs say why")),
    ("", (None, "")),
]


@pytest.mark.parametrize(("error", "expected"), REASONS)
def test_why_a_trial_failed(error, expected):
    assert why(error) == expected


def test_failures_have_their_place_in_the_sweep(tiny, tmp_path):
    plan = make_plan(tiny("treatments=[AnB]"))
    failed = dict.fromkeys(plan.trials, f"{TRACE}ValueError: boom")
    rows = failure_rows(failed, places(plan.trials, plan.cells))
    assert {row["id"] for row in rows} == set(plan.trials)
    assert {(row["treatment"], row["n_layers"]) for row in rows} == {
        ("AnB", 2),
        ("AnB", 7),
        ("only read by others", None),
    }
    one = next(cell for cell in plan.cells if cell.direction == "A->B" and cell.spec.surgery.n_layers == 2)
    (place,) = places({one.spec.id: one.spec}, plan.cells)[one.spec.id]
    assert described(place) == "AnB (halves=random, split=random0, direction=A->B, n_layers=2, seed=0)"
    store = Store(str(tmp_path / "store"))
    path = write_failures(store, "sweeps/one", rows)
    table = pd.read_parquet(path)
    assert list(table.columns) == [column.name for column in FAILURES]
    assert set(table["error"]) == {"ValueError"}
    assert set(table["reason"]) == {"boom"}
    write_failures(store, "sweeps/one", [])
    assert not store.exists("sweeps/one/failures.parquet")


def test_what_is_not_measured_in_time_lies_between_what_is(tiny, monkeypatch):
    plan = make_plan(tiny("treatments=[RnB]", "n_layers=all"))
    monkeypatch.setattr(estimating, "TIME_S", 0.0)
    found = estimate(plan.trials.values(), plan, "cpu", 10**9)
    assert (found.kinds, found.measured, found.broken_off) == (7, 1, 0)
    assert found.seconds.keys() == plan.trials.keys()
    assert len(set(found.seconds.values())) == 1
    monkeypatch.undo()
    found = estimate(plan.trials.values(), plan, "cpu", 10**9)
    assert found.measured <= found.kinds == 7
    assert all(seconds > 0 for seconds in found.seconds.values())


def test_measurements_that_are_not_taken_are_as_long_as_the_most_alike(monkeypatch):
    kinds = {
        ("score", "LogME", 2): 1.0,
        ("score", "LogME", 7): None,
        ("score", "NCE", 2): None,
        ("score", "kNN", 2): 3.0,
        ("probe", "path"): None,
        ("distance", "FID"): 8.0,
    }
    specs = {kind: [SimpleNamespace(kind=kind[0], id=f"{kind} {i}", kind_of=kind) for i in "ab"] for kind in kinds}
    now = [0.0]

    def timed(first, other, *_):
        assert (other == first) != (first.kind == "distance")  # which has a task of its own
        now[0] += kinds[first.kind_of]
        return kinds[first.kind_of], first.kind == "score"

    monkeypatch.setattr(estimating, "timed_measurement", timed)
    monkeypatch.setattr(estimating.time, "monotonic", lambda: now[0])
    seconds, taken, broken_off = estimating._measurements(specs, None, "cpu", 0, 11.0, [])
    expected = zip(specs.values(), (1.0, 1.0, 2.0, 3.0, 4.0, 8.0), strict=True)
    assert seconds == {spec.id: cost for same, cost in expected for spec in same}
    assert (taken, broken_off) == (3, 1)


def test_a_batch_that_does_not_fit_is_told_by_the_plan(tiny):
    plan = make_plan(tiny("network=tests.bad_input.networks:crowded", "n_layers=[1]", "treatments=[AnB]"))
    check_trials(plan.trials.values(), plan, images="images")
    with pytest.raises(
        UserError, match=r"too: training .*crowded with 0 frozen layers, recipe.batch_size=\d+: OutOf.*: 4"
    ):
        estimate(plan.trials.values(), plan, "cpu", 10**9)


def test_a_measurement_that_fails_leaves_the_rest_of_the_plan(tiny, monkeypatch):
    config = tiny("treatments=[baseB]", "probes=[landscape, deviation]")
    plan, run = make_plan(config), timing.run

    def fails(spec, site):
        if getattr(spec, "probe", "") == "landscape":
            raise RuntimeError("no gradient here\nat all")
        run(spec, site)

    monkeypatch.setattr(timing, "run", fails)
    found = estimate(plan.trials.values(), plan, "cpu", 10**9)
    assert found.seconds.keys() == plan.trials.keys()
    (failed,) = found.failed
    assert failed.startswith("probe landscape (halves=random, split=random0, direction=")
    assert failed.endswith("): RuntimeError: no gradient here")
    assert (found.kinds, found.measured) == (3, 2)
    todo, console = backlog(plan, Store(config.out), "cached"), Console(width=400, record=True)
    print_forecast(console, forecast(console, plan, todo, config), plan, config)
    said = console.export_text()
    assert f"Not measured, as it failed, which it would in the sweep, too: {failed}" in said
    assert "At least" in said


# The alarm may fall between the opening of a file and what would close it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_measurement_that_takes_too_long_is_broken_off(tiny, monkeypatch):
    plan = make_plan(tiny("treatments=[baseB]", "probes=[landscape]"))
    monkeypatch.setattr(timing, "_MEASUREMENT_S", 0.02)
    found = estimate(plan.trials.values(), plan, "cpu", 10**9)
    assert found.broken_off == 1
    assert found.seconds.keys() == plan.trials.keys()


def test_what_trains_after_a_measurement_that_was_broken_off_computes_as_before(tiny, monkeypatch):
    plan = make_plan(tiny("treatments=[baseB]", "probes=[landscape]"))

    def never_ends(*_):  # broken off where no context has been entered that would undo it
        torch.set_grad_enabled(False)
        torch.autocast("cpu", dtype=torch.bfloat16).__enter__()
        time.sleep(60)

    monkeypatch.setattr(timing, "_MEASUREMENT_S", 0.1)
    monkeypatch.setattr(timing, "run", never_ends)
    try:
        assert estimate(plan.trials.values(), plan, "cpu", 10**9).broken_off == 1
        assert torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert torch.autocast_increment_nesting() == 1
    finally:
        torch.set_grad_enabled(True)
        torch.set_autocast_enabled("cpu", enabled=False)
        for _ in range(torch.autocast_increment_nesting()):
            torch.autocast_decrement_nesting()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 13])
def test_kinds_are_spread_each_once(count):
    order = _spread(range(count))
    assert sorted(order) == list(range(count))
    assert order[:2] == [0, count - 1][: min(count, 2)]
