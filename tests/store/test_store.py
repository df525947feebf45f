import errno
import fcntl
import json
import os
import socket
import subprocess
import threading
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock

from raytransfer.errors import StorageError, UnreadableError, UserError
from raytransfer.store import (
    Store,
    clear_failures,
    compact,
    failures,
    finish_times,
    finished,
    held,
    is_compact,
    load_weights,
    lock,
    publish,
    publish_failure,
    read_table,
    save_checkpoint,
    stored_steps,
)
from raytransfer.store.root import absolute
from raytransfer.store.schema import CURVES, SCHEMA_VERSION, TRIALS, arrow_schema
from tests.helpers import checkpoint


@pytest.fixture(params=["plain", "with space & ünïcode"])
def store(tmp_path, request):
    made = Store(str(tmp_path / request.param))
    made.create()
    return made


def row(trial, top1=0.5):
    return {"id": trial, "top1": top1, "stages": ["conv1", "fc8"], "n_layers": 0, "frozen": None}


def curve(trial):
    return [{"id": trial, "step": step, "top1": step / 10} for step in (1, 2, 3)]


def test_checkpoints_come_back_to_the_bit(store):
    state = {
        "a": torch.randn(3, 2),
        "strided": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "steps": torch.tensor(7),
    }
    state["tied"] = state["a"]  # as a network has it that uses one layer, or one weight, under two names
    save_checkpoint(store, "t1", 20, state)
    save_checkpoint(store, "t1", 3, state)
    loaded = load_weights(store, checkpoint("t1", 20))
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert stored_steps(store, "t1") == {3, 20}
    assert stored_steps(store, "t2") == set()
    with pytest.raises(UnreadableError, match=r"checkpoints/t1/4\.safetensors is gone"):
        load_weights(store, checkpoint("t1", 4))


def test_the_same_weights_are_the_same_file(store):
    state = {"a": torch.arange(4.0), "b": torch.ones(2)}
    save_checkpoint(store, "t1", 1, state)
    save_checkpoint(store, "t2", 1, dict(reversed(state.items())))
    assert store.read("checkpoints/t1/1.safetensors") == store.read("checkpoints/t2/1.safetensors")


def test_rows_come_back_in_the_schema(store):
    for trial in ("b", "a"):
        publish(store, "trials", row(trial), curve(trial))
    trials, curves = read_table(store, "trials"), read_table(store, "curves")
    assert list(trials.columns) == [column.name for column in TRIALS]
    assert list(curves.columns) == [column.name for column in CURVES]
    assert trials["id"].tolist() == ["a", "b"]
    assert curves[["id", "step"]].to_numpy().tolist() == [[t, s] for t in "ab" for s in (1, 2, 3)]
    assert finished(store) == {"a", "b"}
    in_pandas = pd.read_parquet(store.place("trials"))
    assert sorted(in_pandas["id"]) == ["a", "b"]


def test_an_empty_store_has_empty_tables(store):
    assert finished(store) == set()
    assert read_table(store, "trials").empty
    compact(store)
    assert store.names("trials") == []


def test_compaction_keeps_every_row_once(store):
    for trial in "abc":
        publish(store, "trials", row(trial), curve(trial))
    before = read_table(store, "trials"), read_table(store, "curves")
    assert not is_compact(store)
    compact(store)
    assert is_compact(store)
    assert len(store.names("trials")) == len(store.names("curves")) == 1
    publish(store, "trials", row("d"), curve("d"))
    assert not is_compact(store)  # two files
    assert finished(store) == set("abcd")
    compact(store)
    assert len(store.names("trials")) == 1
    for table, old in zip(("trials", "curves"), before, strict=True):
        new = read_table(store, table)
        pd.testing.assert_frame_equal(new[new["id"] != "d"].reset_index(drop=True), old)


@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_compaction_killed_at_any_deletion_loses_and_doubles_nothing(store, monkeypatch, survivors):
    for trial in "abc":
        publish(store, "trials", row(trial), curve(trial))
    expected = read_table(store, "trials")
    deleted = []

    def delete(name):
        if len(deleted) == survivors:
            raise RuntimeError("killed")
        deleted.append(name)
        Path(store.place(name)).unlink()

    monkeypatch.setattr(store, "delete", delete)
    with pytest.raises(RuntimeError, match="killed"):
        compact(store)
    monkeypatch.undo()
    for _ in range(2):
        pd.testing.assert_frame_equal(read_table(store, "trials"), expected)
        assert len(read_table(store, "curves")) == 9
        compact(store)


def test_compaction_deletes_several_files_at_once_and_older_merged_ones_before_the_others(store, monkeypatch):
    for trial in ("a", "b"):
        publish(store, "trials", row(trial))
    compact(store)
    for trial in "abcdefgh":
        publish(store, "trials", row(trial))
    deleted, meet = [], threading.Barrier(4)

    def delete(name):
        if "part-" not in name:
            meet.wait(timeout=30)  # breaks unless four are under way
        deleted.append(name)
        Path(store.place(name)).unlink()

    monkeypatch.setattr(store, "delete", delete)
    compact(store)
    assert "part-" in deleted[0]
    assert sorted(deleted[1:]) == [f"trials/{trial}.parquet" for trial in "abcdefgh"]
    assert len(store.names("trials")) == 1


def test_a_trial_run_again_replaces_its_row(store):
    for trial in "ab":
        publish(store, "trials", row(trial, top1=0.1), curve(trial))
    compact(store)
    publish(store, "trials", row("a", top1=0.9), curve("a")[:1])
    assert read_table(store, "trials")["top1"].tolist() == [0.9, 0.1]
    assert len(read_table(store, "curves")) == 4
    compact(store)
    assert read_table(store, "trials")["top1"].tolist() == [0.9, 0.1]


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(("table", "details"), [("trials", "curves"), ("probes", "readings")])
def test_a_row_without_its_learning_curve_or_readings_counts_once_it_has_run_again(store, table, details, merged):
    def leave(trial, n_layers):
        rows = curve(trial) if table == "trials" else [{"id": trial, "quantity": "trace", "value": 1.0}]
        publish(store, table, {"id": trial, "n_layers": n_layers}, rows)

    for trial in "abc":
        leave(trial, n_layers=1)
    store.delete(f"{details}/b.parquet")  # what a copy lacks that was made while a sweep ran
    publish(store, "distances", {"id": "d"})
    if merged:
        compact(store)
    assert finished(store) == finish_times(store).keys() == {"a", "c", "d"}
    assert None not in finish_times(store).values()  # rows that do not say when count as old as their file
    assert read_table(store, table)["id"].tolist() == ["a", "c"]
    leave("b", n_layers=9)
    assert finished(store) == finish_times(store).keys() == {"a", "b", "c", "d"}
    assert read_table(store, table)["n_layers"].tolist() == [1, 9, 1]


def test_half_written_files_are_invisible(store):
    publish(store, "trials", row("a"), curve("a"))
    Path(store.place("trials/.b.parquet.0123")).write_bytes(b"half")
    assert finished(store) == {"a"}
    assert len(pd.read_parquet(store.place("trials"))) == 1


def test_a_write_that_fails_leaves_the_old_content(store, monkeypatch):
    store.write("x/y", b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StorageError, match=r"x/y: \[Errno 28\] disk full"):
        store.write("x/y", b"new")
    assert store.read("x/y") == b"old"
    assert [path.name for path in Path(store.place("x")).iterdir()] == ["y"]


def test_a_damaged_file_is_named(store):
    publish(store, "trials", row("a"), curve("a"))
    Path(store.place("trials/a.parquet")).write_bytes(b"not parquet")
    (Path(store.place("trials")) / "notes.txt").write_text("not a table")
    with pytest.raises(UnreadableError, match=r"trials/a\.parquet is damaged: ") as raised:
        read_table(store, "trials")
    assert raised.value.name == "trials/a.parquet"


def test_readers_and_a_merging_driver_get_along(store, monkeypatch):
    for trial in "abc":
        publish(store, "trials", row(trial), curve(trial))
    original, calls = store.files, []

    def files_then_merge(folder):
        listed = original(folder)
        if not calls:
            compact(Store(store.root))
        calls.append(folder)
        return listed

    monkeypatch.setattr(store, "files", files_then_merge)
    assert read_table(store, "trials")["id"].tolist() == ["a", "b", "c"]
    assert calls[:2] == ["trials", "trials"]  # looked for again, as all had vanished


def test_rows_are_read_while_a_slow_storage_deletes_what_was_merged(store, monkeypatch):
    for trial in "abcde":
        publish(store, "trials", row(trial), curve(trial))
    small = store.files("trials")
    monkeypatch.setattr(store, "delete", lambda name: None)
    compact(store)
    monkeypatch.undo()
    original = store.files

    def files_then_delete_one(folder):
        listed = original(folder)
        store.delete(f"{folder}/{small.pop()}")
        return listed

    monkeypatch.setattr(store, "files", files_then_delete_one)
    assert read_table(store, "trials")["id"].tolist() == [*"abcde"]


def test_failures_are_kept_until_cleared_or_finished(store):
    for trial in ("a", "b", "c"):
        publish_failure(store, trial, "Traceback: boom")
    publish(store, "trials", row("a"), curve("a"))
    assert failures(store) == {"b": "Traceback: boom", "c": "Traceback: boom"}
    clear_failures(store, ["b", "z"])
    assert set(failures(store)) == {"c"}


def test_a_second_driver_is_kept_out(store):
    with lock(store), pytest.raises(UserError, match="is in use by another sweep"), lock(Store(store.root)):
        pass
    with lock(Store(store.root)):  # free again
        pass
    with FileLock(store.place(".lock"), timeout=0):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP])
def test_where_flock_is_not_known_a_file_keeps_a_second_driver_out(store, monkeypatch, code):
    with lock(store):  # leaves the file that flock takes
        pass

    def refuse(file, operation):
        # As NFS does, which looks first whether the file is open for what the lock is for.
        wanted = os.O_RDONLY if operation & fcntl.LOCK_SH else os.O_WRONLY
        has = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        error = code if has in (wanted, os.O_RDWR) else errno.EBADF
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", refuse)
    with lock(store):
        message = (
            rf"is in use by another sweep, process {os.getpid()} on .* \(if that has ended, remove .*\.lock\.held\)"
        )
        with pytest.raises(UserError, match=message), lock(Store(store.root)):
            pass
    with lock(Store(store.root)):  # free again
        pass
    held = Path(store.place(".lock.held"))
    process = subprocess.Popen(["true"])
    process.wait()
    held.write_text(f"{process.pid}\n{socket.gethostname()}\n")
    with lock(store):  # its holder was killed
        pass


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EACCES, r"\.lock belongs to \S+, and you may not write to it: have it made writable"),
        (errno.EPERM, r"\.lock belongs to \S+, and you may not write to it: have it made writable"),
        (errno.EROFS, "cannot be locked: .*Read-only file system.*; name another folder"),
    ],
)
def test_a_lock_that_cannot_be_written_is_named_with_its_owner(store, monkeypatch, code, message):
    Path(store.place(".lock")).touch()

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code), store.place(".lock"))

    monkeypatch.setattr("raytransfer.store.locking.FileLock", refuse)
    with pytest.raises(UserError, match=message), lock(store):
        pass


def test_a_pipe_in_the_lock_s_place_is_held_by_nobody(store):
    os.mkfifo(Path(store.root, ".lock"))
    told = []
    asking = threading.Thread(target=lambda: told.append(held(store)), daemon=True)
    asking.start()
    asking.join(5)  # else it would wait for ever
    assert told == [None]


def test_what_fails_under_a_lock_is_not_taken_for_the_lock_s_fault(store):
    with pytest.raises(PermissionError, match="of the sweep's own"), lock(store):
        raise PermissionError("of the sweep's own")


@pytest.mark.parametrize("path", ["s3://bucket/x", "hf://datasets/x", "HTTPS://a.org/x.tar"])
def test_an_address_is_refused_where_only_a_disk_will_do(path):
    with pytest.raises(UserError, match=rf"^data_dir={path} is an address, and data_dir takes what lies on a disk: "):
        absolute("data_dir", path)


@pytest.mark.parametrize("option", ["out", "data", "cache_dir"])
@pytest.mark.parametrize("path", ["s3:/b/x", "S3:b", "gs:/b", "abfs:x", "file:rel", "file:/x", "hdfs:/x", "https:/x"])
def test_an_address_with_one_slash_is_no_folder(path, option):
    with pytest.raises(UserError, match=rf"{option}={path} is neither an address.* write \./{path} for a folder"):
        absolute(option, path)


def test_the_address_of_a_folder_is_that_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(f"file://{tmp_path}/out")
    store.create()
    assert store.root == str(tmp_path / "out")
    with lock(store), pytest.raises(UserError, match="is in use by another sweep"), lock(Store("out")):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_may_have_colons_and_lie_at_home_and_have_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Store("~/x").root == str(tmp_path / "home" / "x")
    with pytest.raises(UserError, match="out= is empty: it must name a place"):
        Store("")
    assert Store("./s3:x").root == str(tmp_path / "s3:x")
    assert Store("run:1").root == str(tmp_path / "run:1")


def test_a_store_of_another_version_is_refused(store):
    mark = json.dumps({"schema_version": SCHEMA_VERSION + 1, "hash_version": 1}).encode()
    store.write("store.json", mark)
    for refused in (store.check, store.create):
        with pytest.raises(UserError, match=r"was written with .*schema_version.*: use the raytransfer that made it"):
            refused()
    assert store.read("store.json") == mark
    store.write("store.json", b"{")
    with pytest.raises(UserError, match=r"has a damaged store\.json \(.*write \{\"schema_version\": .* into it"):
        store.check()


def test_a_folder_of_other_things_is_no_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds other files and is no store of raytransfer"):
        Store(str(tmp_path)).check()


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o755)
    store = Store(str(tmp_path / "file" / "out"))
    with pytest.raises(UserError, match=r"out=.*file/out cannot be written"):
        store.create()
    with pytest.raises(UserError, match=r"out=.*file/out cannot be written: .*/file is no folder"):
        store.check()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)  # root may write anywhere
        with pytest.raises(UserError, match=f"{tmp_path} is no folder that you may write to"):
            Store(str(tmp_path / "out")).check()
    with pytest.raises(UserError, match="out=gopher://x is no place for a store: Unrecognized"):
        Store("gopher://x")


def test_the_schema_has_a_meaning_for_every_column():
    for table in (TRIALS, CURVES):
        assert len(arrow_schema(table).names) == len({column.name for column in table})
        assert all(column.meaning.endswith(".") for column in table)
