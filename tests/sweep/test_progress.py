"""What a person sees of a running sweep."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import Store, read_table, top1_of
from raytransfer.sweep import progress
from raytransfer.sweep.progress import ProgressView
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.trials import Site
from tests.helpers import rendered


@pytest.fixture
def clock(monkeypatch):
    """The time, which a test sets."""
    told = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: 1000.0 + told.now)
    return told


@pytest.fixture
def view(tiny, clock):
    """The view of a sweep of two bases and two transfers of each, on a terminal, with its trials by treatment."""
    plan = make_plan(tiny("treatments=[baseB,AnB]"))
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    made = ProgressView(console, plan.cells, plan.trials, {}.get)
    made.resized(2)
    made.trials = {}
    for cell in plan.cells:
        made.trials.setdefault(cell.treatment, []).append(cell.spec.id)
    return made


def shown(view):
    return [line.split() for line in rendered(view._view())]


def printed(view):
    return re.sub(r"\x1b\[[\d;]*m", "", view._console.file.getvalue())


def test_it_counts_by_treatment_and_tells_what_runs_and_for_how_long(view, clock):
    one, other = view.trials["baseB"]
    view.started([one])
    view.started([other])
    clock.now = 10.0
    view._top1 = lambda trial: 0.75
    view.finished(one)
    clock.now = 12.0
    lines = shown(view)
    assert lines[:3] == [
        ["treatment", "done", "running", "left", "failed", "top-1"],
        ["baseB", "1", "1", "75.0%"],
        ["AnB", "0", "4"],
    ]
    assert lines[3][:3] == ["12", "s", "baseB"]
    assert lines[-1][1:3] == ["1/6", "trials,"]
    view.finished(other)
    assert printed(view) == "baseB       2 trials done after 12 s\n"  # of the six


def test_what_failed_counts_with_what_it_costs_and_is_said_at_once(view):
    base = view.trials["baseB"][0]
    view.started([base])
    view.failed(base, 'on a machine: Traceback:\n  File "x.py", line 1, in f\nValueError: no', view.trials["AnB"][:2])
    lines = shown(view)
    assert lines[1] == ["baseB", "0", "1", "1"]
    assert lines[2] == ["AnB", "0", "2", "2"]
    assert lines[3:] == [[lines[-1][0], "3/6", "trials,", "1", "failed"]]  # nothing runs
    told = printed(view)
    assert told.startswith(f"failed   {base}, baseB (halves=random, ")
    assert told.endswith("): ValueError: no; skipped: 2 trials that would read its weights\n")
    view.failed(view.trials["baseB"][1], "boom", [])
    assert shown(view)[1] == ["baseB", "0", "2"]
    assert printed(view).endswith("): boom\n")


def test_what_died_is_told_with_its_cause(view):
    base = view.trials["baseB"][0]
    view.started([base])
    view.died(base, "rank 1 of 2 was ended by signal 9")
    assert printed(view) == f"again    {base}: its process died; rank 1 of 2 was ended by signal 9\n"
    assert shown(view)[1] == ["baseB", "0", "2"]
    assert len(shown(view)) == 4  # none runs


def test_slots_that_come_and_go_are_told(view):
    assert printed(view) == ""  # of the first
    view.resized(3)
    assert printed(view) == "slots    2 -> 3, as machines join or leave\n"


def test_of_many_that_run_some_are_shown_each_since_it_began(tiny, clock):
    plan = make_plan(tiny("treatments=[AnB]", "splits=2"))
    view = ProgressView(Console(file=io.StringIO(), width=120), plan.cells, plan.trials)
    for number, trial in enumerate(plan.trials):
        view.started([trial])
        clock.now += 2.0
        lines = shown(view)[2:-1]
        assert [line[:2] for line in lines[:8]] == [[str(2 * age), "s"] for age in range(number + 1, 0, -1)][:8]
        assert lines[8:] == ([["and", str(number - 7), "more"]] if number > 7 else [])
    assert number == 11


def test_trials_handed_out_together_share_the_time_between_them(view, clock):
    one, other = view.trials["baseB"]
    view.started([one, other])
    clock.now = 20.0
    view.finished(one)
    transfers = 20.0 / 2 * 2 * (0.84 + 0.44)  # a base took 10 s
    assert view.seconds_left() == pytest.approx(transfers / 2)
    clock.now = 22.0
    view.finished(other)
    assert view.seconds_left() == pytest.approx((20.0 + 22.0) / 20.0 * transfers / 2 / 2)


def test_the_time_left_is_what_the_kinds_took_less_what_the_running_ones_have_had(view, clock):
    one, other = view.trials["baseB"]
    view.started([one])
    assert view.seconds_left() is None
    clock.now = 10.0
    view.finished(one)
    # A base takes 10 s. What AnB takes is not known: less for 2 or 7 frozen layers, which save 0.08 of it each.
    transfers = 10.0 * 2 * (0.84 + 0.44)
    assert view.seconds_left() == pytest.approx((10.0 + transfers) / 2)
    view.started([other])
    clock.now = 14.0
    assert view.seconds_left() == pytest.approx((10.0 - 4.0 + transfers) / 2)
    clock.now = 90.0  # it takes longer than the first one
    assert view.seconds_left() == pytest.approx(transfers / 2)


def test_the_first_on_each_slot_tell_only_until_there_are_others_and_the_last_has_one_slot(tiny, clock):
    plan = make_plan(tiny("treatments=[baseB]", "seeds=2"))
    view = ProgressView(Console(quiet=True), plan.cells, plan.trials)
    view.resized(2)
    one, other, third, last = plan.trials
    view.started([one])
    view.started([other])
    clock.now = 10.0
    view.finished(one)
    assert view.seconds_left() == pytest.approx(10.0)  # three of 10 s less 10 s, on two slots
    view.finished(other)
    assert view.seconds_left() == pytest.approx(10.0)
    view.started([third])
    clock.now = 14.0
    view.finished(third)
    assert view.seconds_left() == pytest.approx(4.0 / 2)
    view.started([last])
    clock.now = 15.0
    assert view.seconds_left() == pytest.approx(3.0)


def test_a_running_sweep_on_a_terminal_shows_accuracies_of_its_trials(tiny):
    plan = make_plan(tiny("treatments=[baseB]"))
    store = Store(tiny().out)
    store.create()
    console = Console(file=io.StringIO(), force_terminal=True, highlight=False, width=120)
    site = Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)
    with ProgressView(console, plan.cells, plan.trials, lambda trial: top1_of(store, trial)) as view:
        run_in_process(Run(plan.trials, site, view))
        last = shown(view)
    assert last[1] == ["baseB", "2", f"{100 * read_table(store, 'trials')['top1'].mean():.1f}%"]
    assert "baseB       2 trials done after" in console.file.getvalue()


def test_without_a_terminal_there_is_a_line_now_and_then(tiny, clock):
    plan = make_plan(tiny("treatments=[baseB]", "seeds=2"))
    console = Console(file=io.StringIO(), width=120)
    view = ProgressView(console, plan.cells, plan.trials)
    view.resized(1)
    for trial in plan.trials:
        view.started([trial])
        clock.now += 10.0
        view.finished(trial)
    lines = ["2/4 trials, 20 s left", "4/4 trials, 0 s left", "baseB       4 trials done after 40 s"]
    assert console.file.getvalue().splitlines() == lines


def test_lines_of_treatments_with_long_names_stand_below_each_other(tiny):
    plan = make_plan(tiny("treatments=[baseB,AnB-layer-decay]"))
    console = Console(file=io.StringIO(), width=120)
    view = ProgressView(console, plan.cells, plan.trials)
    for trial in plan.trials:
        view.finished(trial)
    lines = console.file.getvalue().splitlines()
    assert len({line.index(" trials done after ") for line in lines if "done after" in line}) == 1
