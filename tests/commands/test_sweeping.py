"""What a report says of how a sweep ran."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import raytransfer as rt
from raytransfer.commands import planning, sweeping
from raytransfer.commands.sweeping import _what_bound
from raytransfer.config import as_argument
from raytransfer.errors import StorageError, UnreadableError, UserError
from raytransfer.store import (
    Store,
    compact,
    finished,
    lock,
    publish,
    publish_failure,
    read_places,
    read_table,
)
from raytransfer.sweep import run
from tests.commands.conftest import TINY


def test_what_bound_trainings_of_streamed_images_is_said(tmp_path):
    store = Store(str(tmp_path))
    store.create()
    plan = SimpleNamespace(trials={"slow": None, "quick": None, "usual": None, "old": None})
    assert _what_bound(plan, store) == []
    for trial, waited in (("slow", 0.9), ("quick", 0.3), ("usual", 0.42), ("old", None), ("of another sweep", 0.0)):
        publish(store, "trials", {"id": trial, "waited": waited}, [{"id": trial}])
    said = "Streamed images: trainings waited for them 54% of their time (30% to 90%), so decoding binds: "
    assert _what_bound(plan, store) == [f"{said}more CPU cores for each slot would help."]
    del plan.trials["slow"], plan.trials["usual"]
    (line,) = _what_bound(plan, store)
    assert line == "Streamed images: trainings waited for them 30% of their time (30% to 30%), so arithmetic binds."


@pytest.mark.usefixtures("no_pictures")
def test_rows_that_are_there_twice_since_their_merging_was_killed_are_merged_where_nothing_is_left_to_run(
    store, monkeypatch, cache_dir, tmp_path
):
    first = read_table(store, "trials").iloc[0]
    curves = read_table(store, "curves")
    publish(store, "trials", first.dropna().to_dict(), curves[curves["id"] == first["id"]].to_dict("records"))

    def killed(*_):
        raise KeyboardInterrupt

    def run():
        rt.run("yosinski", out=store.root, cache_dir=cache_dir, data_dir=tmp_path, quiet=True, **TINY)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            compact(store)
    assert len(pd.read_parquet(store.place("trials"))) > 9
    with lock(store):  # whose driver merges them in the end
        run()
        with monkeypatch.context() as patch:
            patch.setattr(sweeping, "held", lambda _: None)  # which takes the lock just after one has looked
            run()
    assert len(pd.read_parquet(store.place("trials"))) > 9
    run()
    assert len(pd.read_parquet(store.place("trials"))) == 9
    assert not pd.read_parquet(store.place("curves")).duplicated(["id", "step"]).any()


def options_of(store, cache_dir, data_dir, **more):
    given = TINY | {f"recipe.{name}": value for name, value in TINY["recipe"].items()} | more
    given |= {"out": store.root, "cache_dir": cache_dir, "data_dir": data_dir}
    return [as_argument(name, value) for name, value in given.items() if name != "recipe"]


@pytest.mark.usefixtures("no_pictures")
def test_a_plan_says_what_the_sweep_then_does(store, folder, command, cache_dir, tmp_path):
    places = read_places(store, f"sweeps/{folder.name}")
    waits, (read,) = places.loc[places["treatment"] == "AnB", ["id", "reads"]].iloc[0]
    failed = read.partition("/")[0]
    (file,) = Path(store.root, "trials").iterdir()
    rows = pq.read_table(file)
    pq.write_table(rows.filter(pc.invert(pc.is_in(rows["id"], pa.array([waits, failed])))), file)
    publish_failure(store, failed, "ValueError: no")
    options = options_of(store, cache_dir, tmp_path, splits=4)
    code, printed, _ = command("plan", "yosinski", *options, "--json")
    told = json.loads(printed)
    assert (code, told["trials"], told["to_run"]) == (0, 12, 3)
    assert told["treatments"] == {
        "baseB": {"to run": 1, "there": 3, "failed": 0, "waiting": 0},
        "AnB": {"to run": 1, "there": 2, "failed": 0, "waiting": 1},
        "only read by others": {"to run": 1, "there": 2, "failed": 1, "waiting": 0},
    }
    before = finished(store)
    code, printed, _ = command("run", "yosinski", *options)
    assert code == 1
    assert "12 trials, 3 to run" in printed
    assert "1 trial failed, 1 waiting for others; mode=retry runs them again" in printed
    assert (len(before), len(finished(store) - before)) == (7, 3)
    code, printed, _ = command("report", "yosinski", *options, "--json")
    (told,) = json.loads(printed)
    assert (code, told["failed"], told["left"]) == (1, 1, 0)
    assert [row["id"] for row in told["frames"]["failures"]] == [failed]
    code, printed, _ = command("run", "yosinski", *options, "mode=retry")
    assert (code, "12 trials, 2 to run" in printed) == (0, True)
    assert len(finished(store)) == 12


@pytest.mark.usefixtures("no_pictures")
def test_what_is_left_is_an_error_of_a_run_and_none_of_a_report(store, command, monkeypatch, cache_dir, tmp_path):
    options = options_of(store, cache_dir, tmp_path, splits=4)
    with monkeypatch.context() as patch:
        patch.setattr(planning, "check_trials", lambda *_, **__: pytest.fail("nothing is to run"))
        code, printed, error = command("report", "yosinski", *options, "--json")
    assert (code, json.loads(printed)[0]["left"], "Not run" in error) == (0, 3, False)
    monkeypatch.setattr(sweeping, "run_missing", lambda *_: None)  # as where weights are damaged again and again
    code, printed, _ = command("run", "yosinski", *options)
    assert (code, "Not run: 3 trials; the same command runs them." in printed) == (1, True)


@pytest.mark.usefixtures("no_pictures")
def test_notes_of_a_report_stand_beside_each_other_where_some_of_its_images_are_streamed(
    store, command, monkeypatch, cache_dir, tmp_path
):
    opened = sweeping.open_sweep

    def with_another(*given):
        at, config, plan = opened(*given)
        return at, config, replace(plan, datasets={**plan.datasets, "x": SimpleNamespace(name="x", streamed=True)})

    monkeypatch.setattr(sweeping, "open_sweep", with_another)
    monkeypatch.setattr(sweeping, "_what_bound", lambda *_: ["what bound"])
    options = options_of(store, cache_dir, tmp_path, splits=4)
    (told,) = json.loads(command("report", "yosinski", *options, "--json")[1])
    assert told["notes"][-2:] == ["what bound", "9 of 12 trials have finished: all results here are of these alone."]


@pytest.mark.usefixtures("no_pictures")
def test_every_reason_of_a_failure_is_told_with_five_of_its_trials(store, command, cache_dir, tmp_path):
    options, trials = options_of(store, cache_dir, tmp_path), rt.load(store.root).trials["id"].tolist()
    for number, trial in enumerate(trials[:7]):
        publish_failure(store, trial, "ValueError: that" if number == 6 else "ValueError: this")
        printed = command("report", "yosinski", *options)[1]
        assert ("\nand 1 more\n" in printed) is (number >= 5)
        assert "and 0 more" not in printed
        assert printed.count("failed ValueError: this") == 1
    assert printed.count("failed ValueError: that") == 1
    assert "7 trials failed" in printed


@pytest.mark.parametrize("name", ["plan", "report"])
def test_what_only_looks_mends_nothing_and_an_older_store_is_refused(store, command, cache_dir, tmp_path, name):
    options = options_of(store, cache_dir, tmp_path)
    (part,) = store.names("trials")
    store.write(f"trials/{part}", b"PAR1")
    code, _, error = command(name, "yosinski", *options)
    assert (code, "run the sweep, and it is set aside and its trials run again" in error) == (2, True)
    if name == "plan":
        assert command(name, "yosinski", *options, "mode=force")[0] == 0  # which looks at no row
    assert store.read(f"trials/{part}") == b"PAR1"
    store.write("store.json", b'{"schema_version": 1, "hash_version": 1}')
    code, _, error = command(name, "yosinski", *options)
    assert (code, "was written with" in error) == (2, True)


def test_a_report_of_a_store_that_one_may_only_read_is_shown_and_a_run_s_ends(
    store, command, monkeypatch, cache_dir, tmp_path
):
    def refuse(*_):
        raise StorageError("read only")

    options = options_of(store, cache_dir, tmp_path)
    publish_failure(store, rt.load(store.root).trials["id"][0], "ValueError: no")
    monkeypatch.setattr(Store, "write", refuse)
    code, printed, error = command("report", "yosinski", *options)
    assert (code, error) == (1, "")  # for the failure
    assert "The report's files are not written: read only" in printed
    assert "1 trial failed, 0 waiting for others" in printed
    code, printed, error = command("run", "yosinski", *options)
    assert (code, "Answer" in printed, error) == (3, False, "error: read only\n")


@pytest.mark.usefixtures("no_pictures")
def test_by_force_all_runs_once_whether_damage_was_there_before_or_shows_at_the_end(
    store, monkeypatch, cache_dir, tmp_path
):
    ran, attempt = [], run.attempt

    def attempt_and_damage(spec, *given):
        ran.append(spec.id)
        if len(ran) == 9:
            store.write("trials/part-late.parquet", b"PAR1")
        return attempt(spec, *given)

    monkeypatch.setattr(run, "attempt", attempt_and_damage)
    given = TINY | {"out": store.root, "cache_dir": cache_dir, "data_dir": tmp_path, "quiet": True}
    store.write("trials/part-early.parquet", b"PAR1")
    for mode in ("cached", "force"):
        with lock(store), pytest.raises(UserError, match="is in use by another sweep"):
            rt.run("yosinski", **given, mode=mode)
    assert store.names("damaged") == []
    sweep = rt.run("yosinski", **given, mode="force")
    assert (sweep.complete, len(ran), len(set(ran))) == (True, 9, 9)
    assert store.names("damaged/trials") == ["part-early.parquet", "part-late.parquet"]
    assert rt.run("yosinski", **given, mode="force").complete
    assert len(ran) == 18


@pytest.mark.usefixtures("no_pictures")
def test_what_failed_is_retried_though_damage_shows_first(store, cache_dir, tmp_path):
    publish_failure(store, min(finished(store)), "ValueError: no")
    store.write("trials/part-early.parquet", b"PAR1")
    given = TINY | {"out": store.root, "cache_dir": cache_dir, "data_dir": tmp_path, "quiet": True}
    assert rt.run("yosinski", **given, mode="retry").complete


def test_what_no_repair_mends_is_told(tmp_path):
    def damaged(_):
        raise UnreadableError("sweeps/x", "sweeps/x is damaged")

    Store(str(tmp_path)).create()
    config = SimpleNamespace(out=str(tmp_path), retry_s=1.0, mode="cached")
    with pytest.raises(UnreadableError, match="sweeps/x is damaged"):
        planning.repaired(Console(quiet=True), config, damaged, may_write=True)
