"""What a plan says of trainings that are split over processes."""

import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from raytransfer.commands import forecasting
from raytransfer.commands.forecasting import Forecast, forecast, print_forecast
from raytransfer.commands.planning import plan_as_json, print_plan
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.specs import PretrainSpec
from raytransfer.store import Store
from raytransfer.sweep import estimate as estimating
from raytransfer.sweep import rehearsing
from raytransfer.sweep.backlog import backlog
from raytransfer.sweep.estimate import Estimate, estimate
from raytransfer.sweep.places import NOT_IN_A_CELL
from raytransfer.sweep.timing import Cost
from raytransfer.training import RankDied, Ranks

FORECAST = Forecast(
    seconds={"base1": 10.0, "base2": 14.0, "transfer": 3.0, "other": 5.0},
    bases={"base1", "base2"},
    slots=8,
    of_base=8,
    share=1.0,
    base_share=8.0,
    unit="GPU",
    basis="nothing",
    splits=[],
    failed=[],
    at_least=False,
)


def test_a_split_base_holds_all_its_gpus_and_the_others_wait_for_it():
    assert FORECAST.duration_s == 10 + 14 + 5
    assert FORECAST.work_s == 32
    assert FORECAST.paid_hours * 3600 == pytest.approx(8 * 24 + 8)
    halves = replace(FORECAST, of_base=4)
    assert halves.duration_s == 14 + 5
    assert replace(FORECAST, slots=1, of_base=1).duration_s == 32
    assert replace(FORECAST, seconds={"transfer": 3.0, "other": 5.0}, slots=1, of_base=1).duration_s == 8


def test_json_of_a_plan_has_the_numbers_of_its_forecast_and_counts_a_trial_of_two_places_once(tiny, tmp_path):
    config = tiny("treatments=[baseB,AnB]", "n_layers=[2]", "directions=[A->B]", "halves={A: [0,1,2,3,4], B: [5,6,7]}")
    config.halves += tiny("halves={A: [0,1,2,3,4,8], B: [5,6,7]}").halves  # with the same base B
    plan, store = make_plan(config), Store(str(tmp_path / "none"))
    todo = backlog(plan, store, "cached")
    found = replace(FORECAST, seconds=dict.fromkeys(plan.trials, 2.0), splits=["split"], failed=["broken"])
    found = replace(found, bases=set(list(plan.trials)[:3]), at_least=True)
    told = plan_as_json(replace(plan, accounts=["what matched"]), todo, store, found, 1800)
    assert (len(plan.cells), told["trials"], told["to_run"], told["accounts"]) == (4, 5, 5, ["what matched"])
    console = Console(width=400, record=True, quiet=False)
    print_plan(console, plan, todo, store)
    assert console.export_text().endswith(f"5 trials, 5 to run, in {store.root}\n")
    (first, *_) = plan.cells
    print_plan(console, replace(plan, cells=[*plan.cells, replace(first, treatment="BnB")]), todo, store)
    assert console.export_text().endswith(f"5 to run, in {store.root}; a trial of two treatments counts once\n")
    counts = {treatment: count["to run"] for treatment, count in told["treatments"].items()}
    assert counts == {"baseB": 1, "AnB": 2, NOT_IN_A_CELL: 2}
    assert told["estimate"] == {
        "duration_s": 3 * 2 + 2,
        "at_least": True,
        "work_s": 10,
        "slots": 8,
        "held_s": pytest.approx(8 * 6 + 4),
        "unit": "GPU",
        "price": pytest.approx((8 * 6 + 4) / 2),
        "basis": "nothing; split; broken",
        "work_s_by_treatment": {treatment: 2 * count for treatment, count in counts.items()},
    }


def test_what_times_were_measured_on_is_said():
    every = Estimate(seconds={}, kinds=5, measured=5, broken_off=0)
    assert forecasting._basis(every) == "a few measured steps of each kind of training and one measurement of each kind"
    assert forecasting._basis(replace(every, measured=3, broken_off=1)) == (
        f"3 of 5 kinds of trials, as many as could be measured in {estimating.TIME_S:.0f} s; 1 kind of measurements "
        "broken off, which would take longer than that"
    )
    failed = replace(every, measured=3, failed=("a", "b"))  # for which there was time
    assert forecasting._basis(failed) == "3 of 5 kinds of trials"
    assert forecasting._basis(replace(failed, measured=2)).endswith("as many as could be measured in 12 s")
    split = rehearsing.Split(count=2, start_s=1.25, messages_s=[0.001, 0.003])
    told = "added are 2 ms a step for what its processes tell each other, above all their gradients, and 1.2 s for"
    assert told in forecasting._of_split(split, "GPU")


def test_a_forecast_is_a_row_a_treatment_and_how_long_all_takes(tiny):
    config = tiny("n_layers=[2]", "treatments=[baseB,AnB]", "directions=[A->B]")
    plan, console = make_plan(config), Console(width=400, record=True, quiet=False)
    cells = {cell.treatment: cell.spec.id for cell in plan.cells}
    (base,) = set(plan.trials) - set(cells.values())
    seconds = {base: 30.0, cells["baseB"]: 2.5, cells["AnB"]: 1200.0}
    found = replace(FORECAST, seconds=seconds, bases={base, cells["baseB"]}, of_base=1, slots=2)
    print_forecast(console, found, plan, config)
    print_forecast(console, found, plan, replace(config, backend="ray"))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert lines[:4] == [
        ["treatment", "to", "run", "each", "together"],
        [*NOT_IN_A_CELL.split(), "1", "30.00", "s", "30", "s"],
        ["baseB", "1", "2.50", "s", "2", "s"],
        ["AnB", "1", "20", "min", "20", "min"],
    ]
    assert " ".join(lines[4]) == "About 20 min on 2 slots of this machine: 21 min of work, from nothing"
    assert " ".join(lines[9]).startswith("About 20 min on 2 slots of this machine, after Ray has started: 21 min")
    assert len(lines) == 10


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "3 min of a GPU in all: 2 bases, 1 at once, each on 8, then 2 other trials, 2 at once, each on 1"),
        ({"seconds": {"base1": 10.0}}, "80 s of a GPU in all: 1 base, 1 at once, each on 8"),
        (
            {"seconds": {"x": 60.0, "y": 30.0, "z": 3.0}, "bases": set(), "share": 0.5, "slots": 2},
            "46 s of a GPU in all: 3 trials, 2 at once, each on 0.5",
        ),
    ],
)
def test_what_is_split_says_how_much_of_a_machine_it_holds(given, told):
    found = replace(FORECAST, **given)
    found = replace(found, bases=found.bases & found.seconds.keys())
    assert forecasting._held(found) == f"What runs holds {told}"


def test_a_trial_of_two_treatments_costs_once_in_the_first(tiny):
    plan = make_plan(tiny("n_layers=[2]", "treatments=[AnB]"))
    (first, *_) = plan.cells
    twice = replace(plan, cells=[*plan.cells, replace(first, treatment="BnB")])
    assert forecasting.costs(twice, {first.spec.id: 1.0}) == {"AnB": [1.0]}


def said(config, tmp_path, monkeypatch, machine):
    """What the command prints of a plan on a machine of so many cores, and what it gives as JSON."""
    monkeypatch.setattr("raytransfer.commands.forecasting.of_this_machine", lambda: machine)
    plan, store = make_plan(config), Store(str(tmp_path / "none"))
    todo, console = backlog(plan, store, "cached"), Console(width=400, record=True, quiet=False)
    found = forecast(console, plan, todo, config)
    print_forecast(console, found, plan, config)
    return " ".join(console.export_text().split()), plan_as_json(plan, todo, store, found, None)["estimate"]


def test_a_plan_measures_what_two_processes_tell_each_other(tiny, tmp_path, monkeypatch):
    config = replace(tiny("n_layers=[2]", "treatments=[AnB]"), base_gpus_per_trial=2, backend="ray", price_per_hour=1)
    text, found = said(config, tmp_path, monkeypatch, (2, "CPU"))
    assert "Split over 2 CPU cores: a step is measured with 1/2 of its images; added are " in text
    assert "measured on 2 processes" in text
    assert "would not start" not in text
    assert "2 bases, 1 at once, each on 2, then 2 other trials, 2 at once, each on 1" in text
    assert not found["at_least"]
    assert found["held_s"] > found["work_s"] > 0
    assert found["unit"] == "CPU core"


def test_a_plan_for_a_larger_machine_says_what_is_not_measured(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(estimating, "rehearse", lambda *_: pytest.fail("there is no room"))
    at_once, times = [], estimating.timed_training
    monkeypatch.setattr(estimating, "timed_training", lambda *given: at_once.append(given[-2:]) or times(*given))
    config = replace(tiny("n_layers=[2]", "treatments=[AnB,BnB]"), base_gpus_per_trial=8, backend="ray")
    text, found = said(config, tmp_path, monkeypatch, (2, "CPU"))
    assert "split over 8 CPU cores, and this machine has 2, on which the sweep would not start" in text
    assert "come on top and are not measured (this machine has 2 CPU cores)" in text
    assert "2 bases, 1 at once, each on 8, then 4 other trials, 4 at once, each on 1" in text
    assert "At least " in text
    assert found["at_least"]
    assert found["slots"] == 8
    assert set(at_once) == {(8, 8), (1, 2)}  # processes of one training, and of all that decode side by side here


def test_a_base_that_takes_more_than_all_slots_runs_by_itself(tiny, tmp_path, monkeypatch):
    config = replace(tiny("n_layers=[2]", "treatments=[AnB]"), gpus_per_trial=2, base_gpus_per_trial=3, backend="ray")
    every = Estimate(seconds=dict.fromkeys(make_plan(config).trials, 1.0), kinds=1, measured=1, broken_off=0)
    monkeypatch.setattr("raytransfer.commands.forecasting.estimate", lambda *_, **__: every)
    for slots in (None, 1):
        _, found = said(replace(config, slots=slots), tmp_path, monkeypatch, (3, "CPU"))
        assert (found["slots"], found["duration_s"]) == (1, 4)  # two bases and two others of 1 s, one after the other


@pytest.mark.parametrize(
    ("more", "least"), [({}, False), ({"broken_off": 1}, True), ({"failed": ["score: ValueError: no"]}, True)]
)
def test_trials_that_share_a_gpu_pay_their_share_and_what_was_not_measured_makes_a_plan_a_lower_bound(
    tiny, tmp_path, monkeypatch, more, least
):
    config = replace(tiny("n_layers=[2]", "treatments=[AnB]"), gpus_per_trial=0.5, backend="ray", price_per_hour=3600)
    config = replace(config, slots=1)
    every = Estimate(seconds=dict.fromkeys(make_plan(config).trials, 3.0), kinds=1, measured=1, broken_off=0)
    monkeypatch.setattr("raytransfer.commands.forecasting.estimate", lambda *_, **__: replace(every, **more))
    text, found = said(config, tmp_path, monkeypatch, (1, "GPU"))
    assert (found["slots"], found["work_s"], found["duration_s"], found["held_s"]) == (1, 12, 12, 6)
    assert "about 6.00, in the currency of that price, for 6 s of a GPU" in text
    assert "only read by others 2 3.00 s 6 s AnB 2 3.00 s 6 s" in text
    assert found["at_least"] is least
    assert ("At least 12 s on 1 slot " in text, "About 12 s on 1 slot " in text) == (least, not least)
    assert ("Not measured, as it failed, which it would in the sweep, too: score: ValueError: no" in text) is (
        "failed" in more
    )


def test_a_split_training_takes_its_share_of_the_arithmetic_its_messages_and_its_start(tiny, monkeypatch):
    given, order = [], []

    def rehearsed(rehearsals, count, device):
        given.extend((rehearsal.images, count, device) for rehearsal in rehearsals)
        order.append("rehearsed")
        return rehearsing.Split(count=count, start_s=100.0, messages_s=[10.0 for _ in rehearsals])

    def timed(*given):
        _, rehearsal = times(*given)
        return Cost(step=0.5, image_frozen=0.0, image_trained=0.0, views_reused=0), rehearsal

    plan, times = make_plan(tiny("n_layers=[2]", "treatments=[AnB]")), estimating.timed_training
    monkeypatch.setattr(estimating, "timed_training", timed)
    monkeypatch.setattr(estimating, "rehearse", rehearsed)
    monkeypatch.setattr(estimating.torch.cuda, "empty_cache", lambda: order.append("emptied"))
    found = estimate(plan.trials.values(), plan, "cpu", 10**9, base_ranks=4, units=4)
    assert given == [(2, 4, "cpu")]  # of 8 images each has 2
    assert order == ["emptied", "rehearsed", "emptied"]  # a GPU's memory is free for others
    for trial, spec in plan.trials.items():
        split = isinstance(spec, PretrainSpec)
        assert found.seconds[trial] == (100 + 6 * 10.5 if split else 6 * 0.5)


def test_what_is_not_measured_split_takes_its_part_of_what_is_measured_whole(tiny, monkeypatch):
    cost = Cost(step=1.0, image_frozen=0.0, image_trained=0.0, views_reused=0)
    monkeypatch.setattr(estimating, "TIME_S", -1.0)
    monkeypatch.setattr(estimating, "timed_training", lambda *_: (cost, None))
    plan = make_plan(tiny("n_layers=[2]", "treatments=[AnB]"))
    found = estimate(plan.trials.values(), plan, "cpu", 10**9, base_ranks=4, units=1)
    assert found.measured == 1
    for trial, spec in plan.trials.items():
        assert found.seconds[trial] == (6 / 4 if isinstance(spec, PretrainSpec) else 6)


def test_what_hinders_a_rehearsal_is_told(monkeypatch):
    def die(*_):
        raise RankDied("rank 1 of 2 was ended by signal 9")

    monkeypatch.setattr(rehearsing, "run_ranks", die)
    assert rehearsing.rehearse([], 2, "cpu").why_not == "rank 1 of 2 was ended by signal 9"


def test_messages_are_what_a_step_with_them_takes_longer(tiny, tmp_path, monkeypatch):
    """Without processes: batch normalisation stays as it is."""
    plan = make_plan(tiny("n_layers=[2]", "treatments=[AnB]"))
    spec = plan.longest_base
    rehearsal = rehearsing.Rehearsal(spec=spec, shape=(1, 8, 8), images=4, steps=2)
    assert 0 < rehearsing._step_s(rehearsal, torch.device("cpu"), Ranks()) < 60
    times = iter([0.5, 0.25, 0.75, 0.2])
    monkeypatch.setattr(rehearsing, "_step_s", lambda *_: next(times))
    monkeypatch.setattr(rehearsing, "_average_s", lambda *_: 0.1)  # more than is left of the noise
    monkeypatch.setattr(rehearsing, "share_batch_norm", lambda: None)
    written = tmp_path / "seconds"
    rehearsing._rehearse([rehearsal, rehearsal], "cpu", str(written), Ranks(), lambda: False)
    assert json.loads(written.read_text())[1:] == [0.25, 0.1]
