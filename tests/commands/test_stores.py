"""What the commands tell of a store: while a sweep runs, after it was killed, and when it is done."""

import datetime
import io
import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import raytransfer as rt
from raytransfer.commands import cleaning
from raytransfer.commands.cleaning import KINDS, garbage
from raytransfer.commands.failed import failed_trials
from raytransfer.commands.opening import sweeps_of
from raytransfer.commands.status import print_interrupted, status
from raytransfer.config import as_argument
from raytransfer.errors import StorageError, UserError
from raytransfer.specs import from_json
from raytransfer.specs.dependencies import needs
from raytransfer.store import (
    Store,
    all_checkpoints,
    delete_checkpoint,
    finish_times,
    finished,
    held,
    lock,
    publish_failure,
    read_places,
    read_progress,
    read_table,
    save_checkpoint,
    write_places,
    write_progress,
)
from raytransfer.sweep import record, run
from tests.commands.conftest import TINY
from tests.helpers import Page

NOT_ASKED = "only read by others"


def forget(store, *treatments):
    """Take from a store the rows of some treatments' trials, as if they had not run yet; gives their identities."""
    trials = rt.load(store.root).trials
    gone = trials["treatment"].isin(treatments)
    (file,) = Path(store.root, "trials").iterdir()
    rows = pq.read_table(file)
    pq.write_table(rows.filter(pc.invert(pc.is_in(rows["id"], pa.array(trials["id"][gone])))), file)
    return list(trials["id"][gone])


def counts(store, treatment):
    _, (standing,) = status(store.root)
    return {state: count for state, count in standing.treatments[treatment].items() if count}


def test_of_several_sweeps_the_last_one_to_have_written_comes_last(store, folder, command):
    begun = folder.with_name(folder.name[:-8] + "zzzzzzzz")
    begun.mkdir()
    places = pd.read_parquet(folder / "places.parquet").iloc[:1].assign(id="not run")
    places.to_parquet(begun / "places.parquet")
    assert [standing.sweep for standing in status(store.root)[1]] == [begun.name, folder.name]
    assert f"{begun.name}: unfinished, 1 trial; no row yet\n" in command("status", store.root)[1]
    console = Console(file=io.StringIO(), width=200)
    print_interrupted(console, store, begun.name)  # which tells of this sweep alone
    assert (begun.name in console.file.getvalue(), folder.name in console.file.getvalue()) == (True, False)
    (begun / "places.parquet").rename(begun / "config.yaml")  # as it was told to stop before it had written them
    console = Console(file=io.StringIO(), width=200)
    print_interrupted(console, store, begun.name)
    assert console.file.getvalue() == ""


def test_a_finished_sweep_is_complete(store, command):
    holder, (standing,) = status(store.root)
    assert (holder, standing.state, standing.trials, standing.left_s) == (None, "complete", 9, None)
    assert {name: each["done"] for name, each in standing.treatments.items()} == {"baseB": 3, "AnB": 3, NOT_ASKED: 3}
    code, printed, _ = command("status", store.root)
    assert code == 0
    assert f"{standing.sweep}: complete, 9 trials; last row {standing.last}" in printed
    told = json.loads(command("status", store.root, "--json")[1])
    assert (told["store"], told["held"]) == (store.root, None)
    assert told["sweeps"][0]["treatments"]["AnB"] == {"done": 3, "running": 0, "failed": 0, "waiting": 0, "left": 0}


def test_rows_have_the_time_they_were_written_merged_or_not(store):
    merged = finish_times(store)
    assert merged == dict(read_table(store, "trials")[["id", "finished_at"]].itertuples(index=False))
    trial, *_ = forget(store, "AnB")
    (file,) = Path(store.root, "trials").iterdir()
    pq.write_table(pq.read_table(file).drop_columns(["finished_at"]), file)  # as an older raytransfer wrote it
    assert set(finish_times(store).values()) == {store.times("trials")[file.name]}
    store.write(f"trials/{trial}.parquet", b"not read for its time")
    assert finish_times(store)[trial] > merged[trial]
    os.utime(store.place(f"trials/{trial}.parquet"), (2e9, 2e9))
    assert status(store.root)[1][0].last == "2033-05-18T03:33:20+00:00"  # of the last row


@pytest.mark.usefixtures("no_pictures")
def test_a_running_sweep_is_seen_from_outside_and_leaves_nothing_behind(tmp_path, cache_dir, monkeypatch):
    root, seen = tmp_path / "out", []
    monkeypatch.setattr(record, "_EVERY_S", 0.02)
    attempt = run.attempt

    def attempt_and_look(spec, site, steps):
        while spec.id not in read_progress(Store(str(root)))["running"]:
            time.sleep(0.01)  # until the thread has written it
        seen.append((spec.id, *status(str(root))))
        return attempt(spec, site, steps)

    monkeypatch.setattr(run, "attempt", attempt_and_look)
    options = TINY | {"splits": 1, "treatments": ["baseB", "AnB"]}
    rt.run("yosinski", out=root, cache_dir=cache_dir, data_dir=tmp_path, quiet=True, **options)
    for done, (trial, holder, (standing,)) in enumerate(seen):
        assert (holder, standing.state, standing.trials) == ("by another sweep", "running", 3)
        assert [running.id for running in standing.running] == [trial]
        assert sum(each["done"] for each in standing.treatments.values()) == done
        assert (standing.left_s is None) == (done == 0)
    assert len(seen) == 3
    assert not (root / "progress.json").exists()
    assert status(str(root))[1][0].state == "complete"


def test_an_interrupted_sweep_says_how_it_stands(tmp_path, cache_dir, monkeypatch, capsys):
    attempt, tried = run.attempt, []

    def attempt_twice(spec, site, steps):
        tried.append(spec.id)
        if len(tried) > 2:
            raise KeyboardInterrupt
        return attempt(spec, site, steps)

    monkeypatch.setattr(run, "attempt", attempt_twice)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        rt.run("yosinski", out=tmp_path / "out", cache_dir=cache_dir, data_dir=tmp_path, **TINY)
    *_, headline, _, base, transfer, other, _, how = capsys.readouterr().out.splitlines()
    (folder,) = (tmp_path / "out" / "sweeps").iterdir()
    assert headline.startswith(f"{folder.name}: unfinished, 9 trials; last row 20")
    assert sum(int(row.split()[-2]) for row in (base, transfer, other)) == 2
    assert transfer.split()[:2] == ["AnB", "3"]
    assert how == f"raytransfer report {tmp_path / 'out'} reports what there is"


def test_an_interrupted_sweep_ends_as_such_though_how_it_stands_cannot_be_read(
    store, cache_dir, tmp_path, monkeypatch, capsys
):
    def interrupted(*_):
        for file in Path(store.root).glob("sweeps/*/places.parquet"):
            file.write_bytes(b"PAR1")
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "attempt", interrupted)
    given = TINY | {"out": store.root, "cache_dir": cache_dir, "data_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        rt.run("yosinski", **given | {"splits": 4})
    assert "reports what there is" not in capsys.readouterr().out


def test_a_killed_sweep_is_told_from_a_running_one(store, command, folder):
    (trial, *_) = forget(store, "AnB")
    told = {"sweep": folder.name, "host": "far", "process": 7, "started": "2030-01-01T00:00:00+00:00"}
    told |= {"written": "2030-01-01T00:00:00+00:00", "running": {trial: "2030-01-01T00:00:00+00:00"}, "left_s": 90}
    write_progress(store, told)
    with lock(store):
        holder, (standing,) = status(store.root)
        assert (holder, standing.state, standing.left_s) == ("by another sweep", "running", 90)
        assert counts(store, "AnB") == {"running": 1, "left": 2}
        assert json.loads(command("status", store.root, "--json")[1])["held"] == "by another sweep"
        printed = command("status", store.root)[1]
        assert "running, 9 trials; process 7 on far, since 2030-01-01T00:00:00+00:00; about 90 s left" in printed
        assert f"running  {trial}, AnB (halves=random, split=random" in printed
    _, (standing,) = status(store.root)
    assert (standing.state, standing.left_s, standing.running) == ("stopped", None, [])
    assert counts(store, "AnB") == {"left": 3}
    assert "stopped, 9 trials; it was killed; it ran as process 7 on far" in command("status", store.root)[1]


def ago(seconds):
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)).isoformat()


def test_of_two_sweeps_that_runs_which_the_driver_named_and_there_what_has_not_ended_since(store, command, folder):
    other = folder.with_name(folder.name[:-8] + "zzzzzzzz")
    shutil.copytree(folder, other)
    runs, failed, _ = forget(store, "AnB")
    publish_failure(store, failed, "ValueError: no")
    places = pd.read_parquet(folder / "places.parquet")
    bases = places.loc[places["treatment"] == "baseB", "id"].tolist()
    two = places[places["id"] == runs].assign(n_layers=[5])  # two places in one treatment
    pd.concat([places, two]).to_parquet(folder / "places.parquet")
    running = {runs: ago(60), failed: ago(60), bases[0]: ago(3600), bases[1]: ago(-3600)}
    running[bases[2]] = finish_times(store)[bases[2]].isoformat()  # at once
    told = {"sweep": folder.name, "host": "far", "process": 7, "started": ago(3600), "written": ago(60), "left_s": 90}
    write_progress(store, told | {"running": running})
    with lock(store):
        standings = {standing.sweep: standing for standing in status(store.root)[1]}
        assert (standings[other.name].state, standings[other.name].running) == ("unfinished", [])
        standing = standings[folder.name]
        assert (standing.state, standing.trials) == ("running", 9)
        assert 20 < standing.left_s <= 30
        # One base ended since it was handed out; one was done before and runs again, for its weights.
        assert {trial.id for trial in standing.running} == {runs, bases[1]}
        assert len(standing.running) == 2
        assert dict(standing.treatments["AnB"]) == {"done": 0, "running": 1, "failed": 1, "waiting": 0, "left": 1}
        assert standing.treatments["baseB"]["running"] == 1
        write_progress(store, told | {"running": running, "written": ago(600)})
        printed = command("status", store.root)[1]
        assert "about 0 s left" in printed
        assert re.search(rf"^running  {runs}, AnB \(.*\), for 6\d s$", printed, re.MULTILINE)
        assert "is held by" not in printed


def test_a_time_that_cannot_be_read_is_taken_for_now(store, command, folder):
    (trial, *_) = forget(store, "AnB")
    told = {"sweep": folder.name, "host": "far", "process": 7, "started": "?", "written": "?", "left_s": 90}
    write_progress(store, told | {"running": {trial: "?"}})
    with lock(store):
        printed = command("status", store.root)[1]
    assert "about 90 s left" in printed
    assert re.search(rf"^running  {trial}, AnB \(.*\), for 0 s$", printed, re.MULTILINE)


def test_a_store_that_is_held_says_so_and_one_without_a_sweep_too(store, command):
    with lock(store):
        said = "The store is held by another sweep, which has not said yet what it runs"
        assert command("status", store.root)[1].splitlines()[-1] == said
    shutil.rmtree(Path(store.root, "sweeps"))
    assert command("status", store.root)[1] == f"{store.root} holds no sweep\n"


def test_what_ran_when_its_driver_was_killed_after_the_last_trial_is_complete(store, folder):
    write_progress(store, {"sweep": folder.name, "running": {}, "left_s": 0})
    assert status(store.root)[1][0].state == "complete"


@pytest.mark.parametrize(("count", "more"), [(20, ""), (22, "and 2 more that run")])
def test_of_very_many_that_run_some_are_shown(store, folder, command, count, more):
    places = pd.read_parquet(folder / "places.parquet").iloc[[0] * count]
    places.assign(id=[f"t{number}" for number in range(count)]).to_parquet(folder / "places.parquet")
    running = dict.fromkeys((f"t{number}" for number in range(count)), ago(60))
    write_progress(store, {"sweep": folder.name, "running": running, "left_s": None})
    with lock(store):
        lines = command("status", store.root)[1].splitlines()
    assert "time left is not known yet; no row yet" in lines[0]
    assert sum(line.startswith("running  t") for line in lines) == 20
    assert [line for line in lines if line.startswith("and ")] == [more] * bool(more)


def test_progress_that_cannot_be_written_stops_no_sweep(store, monkeypatch):
    def refuse(*_):
        raise StorageError("full")

    monkeypatch.setattr(Store, "write", refuse)
    monkeypatch.setattr(Store, "delete", refuse)
    with record.Record(store, "sweeps/x", lambda: 1.0, lambda: None) as observer:
        observer.started(["a"])
        observer.finished("a")


def test_a_driver_that_has_lost_the_store_leaves_the_record_of_the_one_that_has_it(store):
    lost = []
    with record.Record(store, "sweeps/x", lambda: 1.0, lambda: "taken over" if lost else None):
        assert read_progress(store)["sweep"] == "x"
        lost.append(True)
        write_progress(store, {"sweep": "y", "running": {}})
    assert read_progress(store)["sweep"] == "y"


def test_what_reads_the_weights_of_what_failed_waits(store, folder):
    places = read_places(store, f"sweeps/{folder.name}")
    read = places.loc[places["treatment"] == "AnB", "reads"].iloc[0]
    publish_failure(store, read[0].partition("/")[0], "ValueError: no")
    assert counts(store, "AnB") == {"done": 3}
    assert status(store.root)[1][0].state == "unfinished"
    forget(store, "AnB")
    assert counts(store, NOT_ASKED) == {"done": 2, "failed": 1}
    assert counts(store, "AnB") == {"waiting": 1, "left": 2}


def test_places_say_what_every_trial_reads(store, folder):
    specs = {trial: from_json(config) for trial, config in read_table(store, "trials")[["id", "config"]].to_numpy()}
    places = pd.read_parquet(folder / "places.parquet")
    assert set(places["id"]) == set(specs)
    for trial, reads in zip(places["id"], places["reads"], strict=True):
        assert list(reads) == [f"{weights.training.id}/{weights.step}" for weights in needs(specs[trial])]


def test_failures_have_their_places_in_every_sweep(store, command, folder):
    assert command("failures", store.root)[1] == "0 trials failed\n"
    trials = rt.load(store.root).trials.set_index("treatment")["id"]
    for trial in trials["AnB"]:
        publish_failure(store, trial, 'Traceback:\n  File "x.py", line 1, in f\n    f()\nValueError: no')
    publish_failure(store, "0123456789abcdef", "its process died")
    found = failed_trials(store.root)
    placed = found[found["sweep"] == folder.name]
    assert set(placed["id"]) == set(trials["AnB"])
    assert set(placed["split"]) == {"random0", "random1", "random2"}
    assert set(zip(placed["error"], placed["reason"], placed["n_layers"], strict=True)) == {("ValueError", "no", 2)}
    (other,) = found[found["sweep"].isna()].to_dict("records")
    assert (other["id"], other["reason"]) == ("0123456789abcdef", "its process died")
    code, printed, _ = command("failures", store.root)
    assert code == 0
    assert printed.count("ValueError: no") == 1  # for three trials
    assert "0123456789abcdef: in no sweep of this store" in printed
    assert printed.endswith("4 trials failed; mode=retry runs them again\n")
    told = json.loads(command("failures", store.root, "--json")[1])
    assert {row["split"] for row in told} == {"random0", "random1", "random2", None}


def test_failures_of_several_sweeps_and_reasons_are_told_apart(store, command, folder):
    shutil.copytree(folder, folder.with_name(folder.name[:-8] + "zzzzzzzz"))
    older = folder.with_name(folder.name[:-8] + "aaaaaaaa")
    older.mkdir()
    (older / "config.yaml").write_text("seeds: 1\n")  # without places
    places = pd.read_parquet(folder / "places.parquet")
    one, other, *_ = places.loc[places["treatment"] == "AnB", "id"]
    pd.concat([places, places[places["id"] == one].assign(n_layers=[5])]).to_parquet(folder / "places.parquet")
    publish_failure(store, one, "ValueError: this")
    publish_failure(store, other, "ValueError: that")
    found = failed_trials(store.root)
    assert found.groupby(["id", "sweep"]).size().to_dict() == {
        **{(one, folder.name): 2, (one, folder.name[:-8] + "zzzzzzzz"): 1},
        **{(other, folder.name): 1, (other, folder.name[:-8] + "zzzzzzzz"): 1},
    }
    assert set(found.loc[(found["id"] == one) & (found["sweep"] == folder.name), "n_layers"]) == {2, 5}
    assert len(json.loads(command("failures", store.root, "--json")[1])) == len(found) == 5
    publish_failure(store, "0123456789abcdef", 'Traceback:\n  File "x.py", line 1, in f\nKeyError: that')
    publish_failure(store, "123456789abcdef0", 'Traceback:\n  File "x.py", line 1, in f\nTypeError: that')
    printed = command("failures", store.root)[1]
    assert printed.index("0123456789abcdef: ") < printed.index("KeyError: that") < printed.index("123456789abcdef0: ")
    assert "TypeError: that" in printed
    assert "ValueError: this" in printed
    assert "ValueError: that" in printed
    assert printed.endswith("\n4 trials failed; mode=retry runs them again\n")


def garbage_of(store, **options):
    return {(file.kind, file.name) for file in garbage(store.root, **options)}


def test_gc_says_what_can_go_and_removes_only_that(store, command):
    bases = {("bases", f"checkpoints/{name}.safetensors") for name in all_checkpoints(store)}
    assert garbage_of(store) == bases
    assert len(bases) == 6
    trial = min(finished(store))
    save_checkpoint(store, trial, 2, {})
    store.write(f"states/{trial}.safetensors", b"x")
    store.write("states/0123456789abcdef.safetensors", b"of a trial that is under way")
    store.write("damaged/trials/x.parquet", b"x")
    beside = f"trials/.x.parquet.{'0' * 32}"
    Path(store.root, beside).write_bytes(b"x")
    others = {
        ("checkpoints", f"checkpoints/{trial}/2.safetensors"),
        ("states", f"states/{trial}.safetensors"),
        ("damaged", "damaged/trials/x.parquet"),
        ("unfinished", beside),
    }
    assert garbage_of(store) == bases | others
    code, printed, _ = command("gc", store.root)
    assert (code, garbage_of(store)) == (0, bases | others)  # nothing was removed
    assert all(kind in printed for kind in KINDS)
    assert "removed" not in printed
    code, printed, _ = command("gc", store.root, "checkpoints", "states", "damaged", "unfinished", "--delete")
    assert "4 files" in printed
    assert garbage_of(store) == bases
    assert store.exists("states/0123456789abcdef.safetensors")
    command("gc", store.root, "--delete")
    assert command("gc", store.root) == (0, f"Nothing of {store.root} can go\n", "")
    assert store.names("checkpoints") == []
    assert len(finished(store)) == 9


def files_of(store):
    return {path for path in Path(store.root).rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_gc_of_one_kind_is_of_that_alone_and_to_look_writes_nothing(store, kind):
    save_checkpoint(store, min(finished(store)), 2, {})
    for name in (f"states/{min(finished(store))}.safetensors", "damaged/x"):
        store.write(name, b"x")
    Path(store.root, f"sweeps/.x.parquet.{'0' * 32}").write_bytes(b"x")  # with folders alone beside it
    Path(store.root, ".lock").unlink()  # of which to look has no need
    before, files = garbage_of(store), files_of(store)
    assert {found for found, _ in before} == {*KINDS}
    assert garbage_of(store, kinds=[kind]) == {file for file in before if file[0] == kind}
    assert files_of(store) == files
    gone = {Path(store.root, file.name) for file in garbage(store.root, [kind], delete=True)}
    assert garbage_of(store) == {file for file in before if file[0] != kind}
    assert files_of(store) - {Path(store.root, ".lock")} == files - gone


@pytest.mark.parametrize(
    "name", ["notes.txt", "mine.safetensors", "{}/notes.txt", "{}/.notes", "{}/best.safetensors", "{}/4.bak"]
)
def test_gc_neither_counts_nor_removes_what_people_put_beside_checkpoints(store, command, name):
    mine = "checkpoints/" + name.format(min(all_checkpoints(store)).partition("/")[0])
    store.write(mine, b"mine")
    assert "6 files, " in command("gc", store.root, "--delete")[1]
    assert store.read(mine) == b"mine"
    assert command("gc", store.root)[1] == f"Nothing of {store.root} can go\n"


def test_json_of_gc_lists_what_can_go_and_what_went(store, command):
    Path(store.root, "damaged").mkdir()
    Path(store.root, "damaged", "x").write_bytes(b"123")
    file = {"kind": "damaged", "name": "damaged/x", "size": 3}
    code, printed, error = command("gc", store.root, "damaged", "--json")
    assert (code, json.loads(printed), error) == (0, {"store": store.root, "removed": False, "files": [file]}, "")
    assert json.loads(command("gc", store.root, "damaged", "--delete", "--json")[1])["removed"]
    assert json.loads(command("gc", store.root, "damaged", "--json")[1])["files"] == []


@pytest.mark.parametrize(
    ("size", "written"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (2_600_000, "3 MB"), (999e6, "999 MB"), (1.26e9, "1.3 GB")],
)
def test_sizes_are_in_the_unit_that_suits_them(size, written):
    assert cleaning._size(size) == written


def test_gc_sums_the_sizes_of_each_kind_and_of_all(store, command):
    for name, size in (("damaged/x", 1500), ("damaged/y", 700), (f"states/{min(finished(store))}.safetensors", 800)):
        store.write(name, b"x" * size)
    printed = command("gc", store.root, "damaged", "states")[1].splitlines()
    assert [re.split("  +", line.strip()) for line in printed[:3]] == [
        ["kind", "files", "size", "what it is"],
        ["states", "1", "800 B", KINDS["states"]],
        ["damaged", "2", "2 kB", KINDS["damaged"]],
    ]
    assert printed[3] == "3 files, 3 kB can go; --delete removes them, of these kinds or of those named"
    assert command("gc", store.root, "damaged", "--delete")[1].splitlines()[-1] == "2 files, 2 kB removed"


def test_gc_keeps_what_is_read_by_what_is_left_to_run(store, folder):
    every, places = garbage_of(store), read_places(store, f"sweeps/{folder.name}")
    read = {f"checkpoints/{name}.safetensors" for names in places["reads"] for name in names}
    transfers = forget(store, "AnB")
    unread = {(kind, name) for kind, name in every if name not in read}
    assert (len(read), len(unread)) == (3, 3)
    assert garbage_of(store) == unread
    publish_failure(store, transfers[0], "it failed")  # and may be run again
    assert garbage_of(store) == unread
    trial = sorted(read)[0].split("/")[1]
    delete_checkpoint(store, trial, 4)  # it is trained anew, and reads nothing
    assert garbage_of(store) == unread


def test_gc_keeps_what_a_training_reads_that_runs_again_for_its_weights(store, folder):
    places = pq.read_table(folder / "places.parquet").to_pylist()
    reading = next(place for place in places if place["treatment"] == "AnB")
    probe = reading | {"id": "probe0", "treatment": "probe", "reads": [f"{reading['id']}/4"]}
    write_places(store, f"sweeps/{folder.name}", [*places, probe])
    (kept,) = reading["reads"]
    state = f"states/{reading['id']}.safetensors"
    store.write(state, b"where it stands when it runs again")
    assert ("bases", f"checkpoints/{kept}.safetensors") not in garbage_of(store)
    assert ("states", state) not in garbage_of(store)
    assert len(garbage_of(store)) == 5


def test_gc_takes_what_failed_though_it_had_finished_for_left_to_run(store, folder):
    places = read_places(store, f"sweeps/{folder.name}")
    trial, (read,) = places.loc[places["treatment"] == "AnB", ["id", "reads"]].iloc[0]
    state = f"states/{trial}.safetensors"
    store.write(state, b"where it stands when it is tried again")
    assert {("states", state), ("bases", f"checkpoints/{read}.safetensors")} <= garbage_of(store)
    publish_failure(store, trial, "ValueError: no")
    assert not {("states", state), ("bases", f"checkpoints/{read}.safetensors")} & garbage_of(store)


def test_gc_holds_the_store_while_it_removes_and_tells_weights_of_transfers_from_those_of_bases(store, monkeypatch):
    (trial, *_) = rt.load(store.root).trials.query("treatment == 'AnB'")["id"]
    save_checkpoint(store, trial, 4, {})
    assert ("checkpoints", f"checkpoints/{trial}/4.safetensors") in garbage_of(store)
    delete, holders = Store.delete, []

    def look_and_delete(self, name):
        holders.append(held(store))
        delete(self, name)

    monkeypatch.setattr(Store, "delete", look_and_delete)
    assert len(garbage(store.root, delete=True)) == 7
    assert set(holders) == {"by another sweep"}


def test_gc_passes_over_what_is_whole_by_the_time_it_looks(store, monkeypatch):
    monkeypatch.setattr(Store, "unfinished", lambda self: [Path(self.root, "trials", f".x.parquet.{'0' * 32}")])
    assert garbage(store.root, ["unfinished"]) == []


def test_gc_leaves_a_store_alone_that_a_sweep_holds(store):
    for delete in (False, True):
        with lock(store), pytest.raises(UserError, match="is in use by another sweep: wait for it to end"):
            garbage(store.root, delete=delete)


def test_of_an_older_sweep_status_tells_what_it_can_and_gc_refuses(store, folder, command):
    (folder / "places.parquet").unlink()
    _, (standing,) = status(store.root)
    assert standing.state is None
    assert "an older raytransfer wrote it" in command("status", store.root)[1]
    with pytest.raises(UserError, match="did not say which weights it still reads"):
        garbage(store.root)
    assert garbage(store.root, ["states", "damaged", "unfinished"]) == []


@pytest.mark.usefixtures("no_pictures")
def test_a_store_s_sweeps_are_reported_again(store, folder, command):
    for file in set(folder.iterdir()) - {folder / "config.yaml"}:
        file.unlink()
    code, printed, error = command("report", store.root)
    assert (code, error) == (0, "")
    assert printed.lstrip().startswith(folder.name)
    assert {"places.parquet", "report.html", "results.parquet"} <= {file.name for file in folder.iterdir()}
    page = (folder / "report.html").read_text()
    text = " ".join(Page(page).text.split())
    assert "raytransfer run yosinski " in text
    assert "n_layers=[2]" in text  # the command that makes it again
    assert text.count("yosinski on digits") == 2  # the title, which a browser shows, too
    assert "digits: 901 training and 896 test images of 10 classes, 8 x 8 pixels, grey" in text
    assert " classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 " in text
    assert '<th scope="row">recipe.steps = 4</th><td>200</td><td>Optimiser steps.</td>' in page  # and the default
    assert " data_dir = " not in text  # which changes no result
    assert "9 of 9 finished" in page  # of which 3 have no place
    assert status(store.root)[1][0].state == "complete"


@pytest.mark.usefixtures("folder")
def test_a_report_that_finds_no_room_for_temporary_files_says_so(store, command, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    code, _, error = command("report", store.root)
    assert code == 2
    assert re.fullmatch(r"error: yosinski_grid-\S+: the folder for temporary files cannot .*; name another .*\n", error)


@pytest.mark.usefixtures("no_pictures")
def test_json_of_a_report_has_standard_output_for_itself(store, folder, command, cache_dir):
    code, printed, error = command("report", store.root, "--json")
    (told,) = json.loads(printed)
    assert (code, told["sweep"], told["store"]) == (0, folder.name, store.root)
    assert folder.name in error  # beside the tables
    assert (told["failed"], told["left"], told["files"]["report.html"]) == (0, 0, str(folder / "report.html"))
    results = pd.read_parquet(folder / "results.parquet")
    assert [row["top1"] for row in told["frames"]["results"]] == results["top1"].tolist()
    assert [row["n_layers"] is None for row in told["frames"]["results"]] == results["n_layers"].isna().tolist()
    given = TINY | {f"recipe.{name}": value for name, value in TINY["recipe"].items()} | {"cache_dir": cache_dir}
    options = [as_argument(name, value) for name, value in given.items() if name != "recipe"]
    assert json.loads(command("report", "yosinski", f"out={store.root}", *options, "--json")[1]) == [told]
    assert command("report", store.root, "--json", "--markdown")[2].startswith("error: --markdown and --json are two")


@pytest.mark.usefixtures("no_pictures")
def test_a_report_says_of_how_many_trials_it_is_where_some_have_not_finished(store, folder, command):
    assert "have finished" not in command("report", store.root, "--markdown")[1]
    (part,) = Path(store.root, "trials").glob("*.parquet")
    rows = pd.read_parquet(part).sort_values("n_layers")  # bases first
    pq.write_table(pa.Table.from_pandas(rows[:-2], pq.read_schema(part), preserve_index=False), part)
    printed = command("report", store.root, "--markdown")[1]
    told = "7 of 9 trials have finished: all results here are of these alone."
    assert printed.rstrip().endswith(told)
    assert told in (folder / "report.html").read_text()
    publish_failure(store, rows["id"].iloc[-1], "on a machine: ValueError: no")
    told = told.replace("finished", "finished, and 1 failed")
    assert told in command("report", store.root)[1]
    (found,) = json.loads(command("report", store.root, "--json")[1])
    assert found["notes"] == [told]
    publish_failure(store, rows["id"].iloc[-2], "on a machine: ValueError: no")  # so that nothing is left to run
    (found,) = json.loads(command("report", store.root, "--json")[1])
    assert found["notes"] == [told.replace("1 failed", "2 failed")]


@pytest.mark.usefixtures("no_pictures")
def test_a_sweep_that_cannot_be_reported_keeps_no_other_from_it(store, folder, command):
    broken = folder.with_name(folder.name[:-8] + "00000000")
    shutil.copytree(folder, broken)
    (broken / "config.yaml").write_text("sedes: 3\n")
    (folder / "report.html").unlink()
    code, _, error = command("report", store.root)
    assert code == 2
    assert error == f"error: {broken.name}: sedes in config.yaml is no option: did you mean seeds? --help lists them\n"
    assert (folder / "report.html").exists()


@pytest.mark.usefixtures("no_pictures")
def test_what_people_put_beside_sweeps_is_none(store, folder, command):
    notes = folder.with_name("my-notes")
    notes.mkdir()
    (notes / "config.yaml").write_text("a: 1\n")
    (folder / "report.html").unlink()
    assert [standing.sweep for standing in status(store.root)[1]] == [folder.name]
    assert len(garbage(store.root)) == 6
    assert command("compare", store.root, folder)[0] == 0
    code, _, error = command("report", store.root)
    assert (code, (folder / "report.html").exists()) == (2, True)
    assert error.startswith(
        "error: my-notes: my-notes is no sweep's folder: its name begins with none of yosinski_grid"
    )


@pytest.mark.usefixtures("no_pictures")
def test_a_report_of_other_options_says_that_it_is_of_another_sweep(store, folder, command):
    code, printed, _ = command("report", store.root, "splits=2")
    (other,) = {path.name for path in folder.parent.iterdir()} - {folder.name}
    assert code == 0
    assert f"With these options, and this raytransfer, {folder.name} is {other}" in printed


def test_a_sweep_without_its_options_is_none_that_can_be_reported(store, folder):
    shutil.copytree(folder, folder.with_name(folder.name[:-8] + "00000000"))
    assert len(sweeps_of(store.root)[1]) == 2
    folder.with_name(folder.name[:-8] + "00000000").joinpath("config.yaml").unlink()
    assert sweeps_of(store.root)[1] == [folder.name]


COMMANDS = ("status", "failures", "gc", "report", "compare")


def spoil_version(root):
    Path(root, "store.json").write_text('{"schema_version": 1, "hash_version": 1}')


def spoil_progress(root):
    Path(root, "progress.json").write_text('{"sweep": ')


def spoil_places(root):
    next(Path(root, "sweeps").glob("*/places.parquet")).write_bytes(b"PAR1 and no more")
    publish_failure(Store(root), "0123456789abcdef", "so that failures looks for its place")


def spoil_results(root):
    next(Path(root, "sweeps").glob("*/results.parquet")).write_bytes(b"PAR1 and no more")


def spoil_config(root):
    next(Path(root, "sweeps").glob("*/config.yaml")).write_text("data: [")


def replace_config(root):
    next(Path(root, "sweeps").glob("*/config.yaml")).write_text("3\n")


def cut_config(root):
    file = next(Path(root, "sweeps").glob("*/config.yaml"))
    file.write_text(file.read_text()[:-9])


def cut_trials(root):
    file = next(Path(root, "trials").iterdir())
    file.write_bytes(file.read_bytes()[:-9])


def drop_results(root):
    next(Path(root, "sweeps").glob("*/results.parquet")).unlink()


SWEEP = r".*/out/sweeps/yosinski_grid-\S+"


@pytest.mark.parametrize(
    ("spoil", "commands", "message"),
    [
        (shutil.rmtree, COMMANDS, "is no store of raytransfer: it holds no store.json"),
        (lambda root: (shutil.rmtree(root), Path(root).mkdir()), COMMANDS, "is no store of raytransfer"),
        (spoil_version, COMMANDS, "was written with .*: use the raytransfer that made it, or name another folder"),
        (spoil_progress, ("status",), r"progress.json is damaged .*: a sweep that runs writes it anew within seconds"),
        (
            spoil_places,
            ("status", "failures", "gc"),
            "places.parquet is damaged: .*; raytransfer report STORE writes it",
        ),
        (spoil_results, ("compare",), "results.parquet is damaged: .*; raytransfer report STORE writes it anew"),
        (drop_results, ("compare",), "has no results.parquet: nothing of it has finished, or it has no report yet"),
        (spoil_config, ("compare", "report"), f"{SWEEP}/config.yaml cannot be read"),
        (replace_config, ("compare", "report"), f"{SWEEP}/config.yaml cannot be read: it must be a mapping of options"),
        (cut_config, ("compare", "report"), f"{SWEEP}/config.yaml cannot be read: it ends within a line, so that some"),
        (cut_trials, ("status", "gc", "report"), "part-.* is damaged: .*; run the sweep, and it is set aside and its"),
        (lambda root: shutil.rmtree(Path(root, "sweeps")), ("compare", "report"), "holds no sweep"),
    ],
)
def test_what_cannot_be_read_is_one_line(store, command, spoil, commands, message):
    spoil(store.root)
    for name in commands:
        code, printed, error = command(name, *[store.root] * (2 if name == "compare" else 1))
        assert code == 2, name
        assert len(error.splitlines()) == 1
        assert pd.Series([error]).str.match(f"error: .*{message}").all(), error
        assert "Traceback" not in printed


def test_a_sweep_s_folder_in_place_of_its_store_is_told(folder, command, tmp_path):
    assert command("status", tmp_path)[2] == f"error: {tmp_path} is no store of raytransfer: it holds no store.json\n"
    code, _, error = command("status", folder)
    assert code == 2
    assert error.endswith("it is the folder of a sweep, whose store lies two folders above\n")


def test_rows_that_a_report_may_not_read_are_one_line(store, command, monkeypatch):
    def refuse(self, folder):
        raise StorageError(f"{self.place(folder)}: Permission denied")

    monkeypatch.setattr(Store, "_listed", refuse)
    code, _, error = command("report", store.root)
    assert code == 2
    assert re.fullmatch(r"error: .*/out/trials: Permission denied\n", error), error


@pytest.mark.parametrize("name", COMMANDS)
def test_a_storage_that_refuses_is_one_line(store, command, monkeypatch, name):
    def refuse(self, *_):
        raise StorageError(f"{self.root}: Permission denied")

    monkeypatch.setattr(Store, "exists", refuse)
    code, _, error = command(name, *[store.root] * (2 if name == "compare" else 1))
    assert (code, error) == (2, f"error: {store.root}: Permission denied\n")
