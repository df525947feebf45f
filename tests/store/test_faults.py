"""What a store makes of storage that stutters, fails, fills up or was damaged, and of another driver."""

import datetime
import errno
import io
import json
import logging
import os
import pickle
import random
import shutil
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from pyarrow import ArrowException, BufferReader, PythonFile, fs

from raytransfer.errors import StorageError, UnreadableError, UserError
from raytransfer.storage import retries as patience
from raytransfer.store import (
    Store,
    compact,
    failure,
    failures,
    finished,
    held,
    load_weights,
    lock,
    locking,
    publish,
    publish_failure,
    read_table,
    repair,
    save_checkpoint,
)
from raytransfer.sweep.driver import _kept_sharing
from raytransfer.trials import Site
from tests.helpers import checkpoint

AWS = "When writing: AWS Error {} during PutObject operation: no luck"


class Upload(io.BytesIO):
    """A file that is seen once it is closed, and then whole, as those of an object store."""

    def __init__(self, root, path):
        super().__init__()
        self._place, self._whole = Path(f"{root}/{path}"), Path(f"{root}-{uuid.uuid4().hex}")

    def close(self):
        if not self.closed:
            self._whole.write_bytes(self.getvalue())
            self._whole.replace(self._place)
        super().close()


class Stuttering(fs.FileSystemHandler):
    """A file system that stands in for an object store, and in which some requests fail, done or not done."""

    def __init__(self, root, faults):
        self.root = root
        self.inner, self.faults, self.calls, self.failed = (
            fs.SubTreeFileSystem(root, fs.LocalFileSystem()),
            faults,
            0,
            0,
        )

    def _maybe(self, moment):
        self.calls += 1
        message = self.faults(moment)
        if message:
            self.failed += 1
            raise OSError(message)

    def get_type_name(self):
        return "stuttering"

    def normalize_path(self, path):
        return path

    def get_file_info(self, paths):
        self._maybe("before")
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector):
        self._maybe("before")
        return self.inner.get_file_info(selector)

    def open_input_file(self, path):
        self._maybe("before")
        return self.inner.open_input_file(path)

    def open_output_stream(self, path, metadata):
        self._maybe("before")
        self.inner.create_dir(path.rpartition("/")[0] or ".", recursive=True)
        stream = PythonFile(Upload(self.root, path), mode="w")
        self._maybe("after")
        return stream

    def delete_file(self, path):
        self._maybe("before")
        self.inner.delete_file(path)
        self._maybe("after")

    def delete_dir(self, path):
        self._maybe("before")
        self.inner.delete_dir(path)

    def _not_used(self, *_):
        raise NotImplementedError

    create_dir = move = copy_file = delete_dir_contents = delete_root_dir_contents = _not_used
    open_input_stream = open_append_stream = _not_used


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A store on storage that is not a local folder, whose faults a function decides on."""
    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_WAIT_S", 0.002)

    def make(faults=lambda moment: None, retry_s=60.0):
        store = Store(str(tmp_path / "bucket"), retry_s)
        (tmp_path / "bucket").mkdir(exist_ok=True)
        handler = Stuttering(str(tmp_path / "bucket"), faults)
        store._fs, store._path = fs.PyFileSystem(handler), ""
        store.handler = handler
        return store

    return make


def row(trial, top1=0.5):
    return {"id": trial, "top1": top1, "stages": ["conv1"], "n_layers": 0}


def curve(trial):
    return [{"id": trial, "step": step, "top1": step / 10} for step in (1, 2, 3)]


def test_a_third_of_requests_failing_before_or_after_they_are_done_changes_nothing(remote):
    draws = random.Random(0)
    faults = ["INTERNAL_FAILURE", "SLOW_DOWN", "NETWORK_CONNECTION", "REQUEST_TIMEOUT"]
    store = remote(lambda moment: AWS.format(draws.choice(faults)) if draws.random() < 0.3 else None)
    calm = remote()
    weights = {"w": torch.randn(5)}
    store.create()
    for trial in "abcdefgh":
        save_checkpoint(store, trial, 3, weights)
        publish(store, "trials", row(trial), curve(trial))
    assert finished(store) == set("abcdefgh")
    compact(store)
    publish(store, "trials", row("a", top1=0.9), curve("a"))
    assert store.handler.failed > 50
    trials = read_table(calm, "trials")
    assert trials["id"].tolist() == list("abcdefgh")
    assert trials["top1"].tolist() == [0.9] + 7 * [0.5]
    assert len(read_table(calm, "curves")) == 24
    assert torch.equal(load_weights(store, checkpoint("c", 3))["w"], weights["w"])


def test_a_file_that_comes_back_empty_is_read_again(remote):
    store, empty = remote(), []
    store.write("x/y", b"content")
    original = store.handler.open_input_file

    def sometimes_nothing(path):
        empty.append(1)
        return BufferReader(b"") if len(empty) <= 3 else original(path)

    store.handler.open_input_file = sometimes_nothing
    assert store.read("x/y") == b"content"
    assert len(empty) == 4


def test_an_error_of_arrow_s_own_is_no_traceback(remote):
    def refuse(moment):
        raise ArrowException("DefaultAzureCredential failed")

    with pytest.raises(StorageError, match="x/y: DefaultAzureCredential failed"):
        remote(refuse).read("x/y")


def test_an_outage_is_waited_for_and_said(remote, monkeypatch, caplog):
    monkeypatch.setattr(patience, "_SAY_AFTER_S", 0.0)
    back_s = time.monotonic() + 0.3
    store = remote(lambda moment: AWS.format("NETWORK_CONNECTION") if time.monotonic() < back_s else None)
    with caplog.at_level(logging.WARNING, logger="raytransfer"):
        store.write("x/y", b"content")
    assert store.read("x/y") == b"content"
    assert time.monotonic() >= back_s
    assert len([line for line in caplog.messages if "x/y does not answer, trying on for 60 s" in line]) == 1


def test_storage_that_never_comes_back_ends_in_one_clear_error(remote):
    store = remote(lambda moment: AWS.format("NETWORK_CONNECTION"), retry_s=0.1)
    with pytest.raises(StorageError, match=r"x/y has not answered for \d+ s: When writing: AWS Error NETWORK_CONN"):
        store.write("x/y", b"content")


@pytest.mark.parametrize(
    "message",
    [
        AWS.format("ACCESS_DENIED"),
        AWS.format("INVALID_ACCESS_KEY_ID"),
        "Bucket 'b' not found",
        "google::cloud::Status(PERMISSION_DENIED: no)",
        "403 Forbidden",
    ],
)
def test_what_storage_refuses_for_good_is_not_asked_again(remote, message):
    store = remote(lambda moment: message)
    with pytest.raises(StorageError, match="x/y: "):
        store.read("x/y")
    assert store.handler.calls == 1


@pytest.mark.parametrize(
    ("code", "tries"), [(errno.ENOSPC, 1), (errno.EROFS, 1), (errno.EDQUOT, 1), (errno.ESTALE, 3), (errno.EIO, 3)]
)
def test_a_full_or_read_only_disk_is_told_at_once_and_a_network_disk_is_waited_for(tmp_path, monkeypatch, code, tries):
    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0.001)
    store, calls, fsync = Store(str(tmp_path)), [], os.fsync

    def fail_twice(descriptor):
        calls.append(1)
        if len(calls) <= 2:
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", fail_twice)
    if tries == 1:
        with pytest.raises(StorageError, match=rf"x/y: \[Errno {code}\] {os.strerror(code)}"):
            store.write("x/y", b"content")
        assert store.names("x") == []
    else:
        store.write("x/y", b"content")
    assert len(calls) == tries


def test_an_unwritable_store_is_named_before_anything_runs(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(UserError, match=r"out=.* cannot be written: .*Read-only file system"):
        Store(str(tmp_path)).create()


def test_passwords_in_an_address_are_refused_and_not_repeated():
    with pytest.raises(UserError, match="holds a password") as raised:
        Store("s3://key:very-secret@bucket/x")
    assert "very-secret" not in str(raised.value)


def test_google_s_storage_without_a_network_is_told_as_soon_as_any_other(monkeypatch):
    monkeypatch.setattr("raytransfer.store.root._CHECK_PATIENCE_S", 0.1)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"out=gs://.* cannot be read: .*has not answered"):
        Store("gs://anonymous@bucket/x?endpoint_override=127.0.0.1:1&scheme=http").check()
    assert time.monotonic() - started < 10
    assert Store("gs://anonymous@bucket/x?retry_limit_seconds=5").root.endswith("x?retry_limit_seconds=5")


def test_a_folder_that_is_not_shared_is_told_from_the_drivers(tmp_path):
    driver, elsewhere = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    driver.create()
    shutil.copytree(driver.root, tmp_path / "copy")
    identity = driver.create()
    Store(driver.root).check_identity(identity)
    elsewhere.create()
    for wrong in (elsewhere, Store(str(tmp_path / "copy")), Store(str(tmp_path / "nothing"))):
        with pytest.raises(StorageError, match=r"is not the same place on .* as where the sweep was started"):
            wrong.check_identity(identity)
    with pytest.raises(StorageError, match="is not the same place"):
        Site(sources=(), root=elsewhere.root, device="cpu", memory_bytes=0, store_id=identity).store()


@pytest.fixture
def full(tmp_path):
    store = Store(str(tmp_path / "out"))
    store.create()
    for trial in "abc":
        publish(store, "trials", row(trial), curve(trial))
    return store


@pytest.mark.parametrize("lost", [1, 3])
def test_what_a_driver_that_starts_clears_away_under_a_writer_is_written_again(full, monkeypatch, lost):
    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0.001)
    replace, calls = Path.replace, []

    def replace_cleared(path, target):
        calls.append(path)
        if len(calls) <= lost:
            Store(full.root).delete_unfinished()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_cleared)
    full.write("sweeps/x/config.yaml", b"mine")
    assert full.read("sweeps/x/config.yaml") == b"mine"
    assert len(set(calls)) == lost + 1


def cut(store, name, keep=0.5):
    path = Path(store.place(name))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("table", ["trials", "curves"])
def test_a_truncated_file_is_set_aside_and_its_trial_is_missing(full, table, keep):
    cut(full, f"{table}/b.parquet", keep)
    assert repair(full) == [f"{table}/b.parquet"]
    assert finished(full) == {"a", "c"}
    assert set(read_table(full, "trials")["id"]) == {"a", "c"}
    assert full.exists(f"damaged/{table}/b.parquet")
    assert repair(full) == []


def test_a_truncated_file_of_many_trials_costs_those_trials_alone(full):
    compact(full)
    publish(full, "trials", row("d"), curve("d"))
    (merged,) = (name for name in full.names("curves") if name.startswith("part-"))
    cut(full, f"curves/{merged}")
    assert repair(full) == [f"curves/{merged}"]
    assert finished(full) == {"d"}
    assert read_table(full, "trials")["id"].tolist() == ["d"]


def test_a_damaged_note_of_a_failure_is_no_failure(full):
    full.write("failed/x.json", b'{"id": "x", "err')
    full.write("failed/y.json", b'{"id": "y", "error": "boom"}')
    assert failures(full) == {"y": "boom"}


def test_what_killed_writers_left_is_cleared_away_and_nothing_else(full):
    beside = Path(full.place("trials/.b.parquet." + "0f" * 16))
    beside.write_bytes(b"half")
    before = sorted(path for path in Path(full.root).rglob("*") if path != beside)
    full.delete_unfinished()
    assert sorted(Path(full.root).rglob("*")) == before


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(full, keep):
    save_checkpoint(full, "a", 3, {"w": torch.randn(100)})
    cut(full, "checkpoints/a/3.safetensors", keep)
    with pytest.raises(UnreadableError, match=r"checkpoints/a/3\.safetensors is damaged: "):
        load_weights(full, checkpoint("a", 3))


class Mine:
    """When unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("how", ["pickle", "torch.save"])
def test_a_checkpoint_that_hides_code_is_refused_and_the_code_does_not_run(full, tmp_path, how):
    trap, path = tmp_path / "sprung", Path(full.place("checkpoints/a/3.safetensors"))
    path.parent.mkdir(parents=True)
    if how == "pickle":
        path.write_bytes(pickle.dumps({"w": Mine(trap)}))
    else:
        torch.save({"w": torch.zeros(1), "x": Mine(trap)}, path)
    with pytest.raises(UnreadableError, match="is damaged"):
        load_weights(full, checkpoint("a", 3))
    assert not trap.exists()
    if how == "pickle":  # the trap works
        pickle.loads(path.read_bytes())
        assert trap.exists()


@pytest.fixture
def quick(monkeypatch):
    """Leases that beat and expire fast."""
    for name, seconds in (("_BEAT_S", 0.05), ("_LOOK_S", 0.05), ("_DEAD_AFTER_S", 1.0), ("_SETTLE_S", 0.1)):
        monkeypatch.setattr(locking, name, seconds)


@pytest.fixture
def two(remote, quick, monkeypatch):
    """Two drivers' views of one store; threads that renew leases get theirs from the same place."""
    stores = [remote(), remote()]
    monkeypatch.setattr(locking, "Store", lambda root, retry_s: stores[0])
    return stores


def test_a_second_driver_is_kept_out_of_an_object_store_and_told_by_whom(two):
    first, second = two
    with lock(first) as lost:
        me = f"process {os.getpid()} on {os.uname().nodename}"
        with pytest.raises(UserError, match=f"is in use by another sweep, {me}"), lock(second):
            pass
        assert lost() is None
    with lock(second):  # given back
        pass
    assert not first.exists("lock.json")


def test_a_driver_that_is_interrupted_while_it_takes_the_lock_leaves_none(two, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^$"), lock(two[0]):
        pass
    assert not two[0].exists("lock.json")


def test_of_two_drivers_that_start_at_once_the_one_that_wrote_first_is_kept_out(two, monkeypatch):
    others = b'{"owner": "y", "host": "h", "process": 1, "beats": 1}'
    monkeypatch.setattr(time, "sleep", lambda _: two[1].write("lock.json", others))
    with pytest.raises(UserError, match="which started at the same time"), lock(two[0]):
        pass
    assert two[0].read("lock.json") == others


def test_a_new_object_store_that_a_driver_has_just_locked_is_no_folder_of_other_things(two):
    with lock(two[0]):
        two[1].check()


def test_an_object_store_that_cannot_be_written_is_named_before_anything_runs(remote, quick):
    store = remote(lambda moment: AWS.format("ACCESS_DENIED") if moment == "after" else None)
    with pytest.raises(UserError, match=r"out=.* cannot be written: .*ACCESS_DENIED") as raised, lock(store):
        pass
    assert not isinstance(raised.value, StorageError)  # whose exit code says that something ran


@pytest.mark.parametrize("left", [b'{"owner": "x", "host": "gone", "process": 7, "beats": 3}', b"", b"[1]", b"\xff"])
def test_the_lock_of_a_dead_driver_is_taken_over_after_a_while(two, left, caplog):
    two[0].write("lock.json", left)
    started = time.monotonic()
    with caplog.at_level(logging.INFO, logger="raytransfer"), lock(two[0]) as lost:
        assert time.monotonic() - started >= 1.0
        assert lost() is None
    assert "waiting up to 1 s for a sign of life" in caplog.text
    assert "has ended without giving it back" in caplog.text


def test_a_clock_that_jumps_neither_frees_a_lock_nor_keeps_it(two, monkeypatch):
    two[0].write("lock.json", b'{"owner": "x", "host": "gone", "process": 7, "beats": 3}')
    hours = iter([1e9, -1e9, 0.0] * 1000)
    monkeypatch.setattr(time, "time", lambda: next(hours))
    with lock(two[0]), pytest.raises(UserError, match="is in use by another sweep"), lock(two[1]):
        pass


def test_a_driver_whose_lock_was_taken_over_learns_of_it(two):
    with lock(two[0]) as lost:
        two[0].write("lock.json", json.dumps({"owner": "y", "host": "h", "process": 1, "beats": 1}).encode())
        deadline = time.monotonic() + 10
        while lost() is None and time.monotonic() < deadline:
            two[0].write("lock.json", json.dumps({"owner": "y", "host": "h", "process": 1, "beats": 1}).encode())
            time.sleep(0.02)
        assert "was taken over by another sweep, process 1 on h" in lost()
    assert two[0].exists("lock.json")  # the other's, which stays


def test_a_driver_that_was_suspended_learns_that_another_took_over_and_has_ended(two, monkeypatch):
    monkeypatch.setattr(locking, "_BEAT_S", 3.0)  # the first one's second beat comes too late
    with lock(two[0]) as lost:
        with lock(two[1]):
            assert lost() is None
        deadline = time.monotonic() + 10
        while lost() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "was taken over by another command, and that ended" in (lost() or "")
    assert not two[0].exists("lock.json")


@pytest.mark.parametrize("wrong_s", [0, -600, 600, 7200])
def test_a_driver_lives_or_is_dead_whatever_this_machine_s_clock_says(two, monkeypatch, wrong_s):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(seconds=wrong_s)

    monkeypatch.setattr(locking, "_LOOK_S", 0.3)
    monkeypatch.setattr(locking, "_BEAT_S", 0.2)
    monkeypatch.setattr(locking, "datetime", SimpleNamespace(datetime=Clock, UTC=datetime.UTC))
    with lock(two[0]):
        found = held(two[1])
        assert found is None if wrong_s > 3600 else f"process {os.getpid()} on " in found  # S3 would refuse to answer
    assert held(two[1]) is None
    two[1].write("lock.json", b'{"owner": "x", "host": "gone", "process": 7, "beats": 3}')
    assert (held(two[1]) is None) == bool(wrong_s)  # it may have been renewed just now
    os.utime(Path(two[1].handler.root, "lock.json"), (0, 0))
    started = time.monotonic()
    assert held(two[1]) is None
    assert time.monotonic() - started < 0.2


@pytest.mark.parametrize("ended", [False, True])
def test_a_driver_that_was_suspended_looks_at_its_lock_before_it_hands_out_more(two, monkeypatch, ended):
    monkeypatch.setattr(locking, "_BEAT_S", 60.0)  # what renews the lock has not come to it yet
    monkeypatch.setattr(locking, "_SURE_S", 0.8)
    with lock(two[0]) as lost:
        calls = two[0].handler.calls
        assert lost() is None
        assert two[0].handler.calls == calls
        with lock(two[1]):
            told = None if ended else lost()
        told = told or lost()
    assert told is not None
    assert "was taken over by another" in told
    assert ("and that ended" in told) == ended


def test_a_driver_that_was_suspended_while_it_read_its_lock_does_not_renew_what_is_another_s(two, monkeypatch):
    monkeypatch.setattr(locking, "_SURE_S", 0.3)
    others = b'{"owner": "y", "host": "h", "process": 1, "beats": 1}'
    read = two[0].read

    def suspended(name):
        monkeypatch.setattr(two[0], "read", read)
        found = read(name)
        two[1].write(name, others)
        time.sleep(0.5)
        return found

    with lock(two[0]) as lost:
        monkeypatch.setattr(two[0], "read", suspended)
        deadline = time.monotonic() + 10
        while lost() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "was taken over by another sweep, process 1 on h" in (lost() or "")
        time.sleep(0.5)
        assert two[0].read("lock.json") == others


@pytest.mark.parametrize("holder", [0, 1])
def test_of_two_drivers_that_got_past_the_lock_the_one_that_holds_it_keeps_its_workers(two, monkeypatch, holder):
    monkeypatch.setattr(locking, "_BEAT_S", 60.0)
    made = []
    with lock(two[0]):
        leases = [two[0].read("lock.json"), b'{"owner": "y", "host": "h", "process": 1, "beats": 1}']
        for store, lease in zip(two, leases, strict=True):
            store.write("lock.json", lease)
            made.append((store, store.create(), store.read("store.json")))
        two[0].write("lock.json", leases[holder])
        two[0].write("store.json", made[1 - holder][2])  # the other wrote last
        store, identity, _ = made[holder]
        store.check_identity(identity)
        with pytest.raises(StorageError, match="is not the same place"):
            store.check_identity("of another store")


def test_a_damaged_lock_is_its_holder_s_who_renews_it(two):
    with lock(two[0]) as lost:
        two[0].write("lock.json", b"")
        time.sleep(0.3)
        assert lost() is None
        assert f'"process": {os.getpid()}'.encode() in two[0].read("lock.json")


def test_an_outage_does_not_cost_a_driver_its_lock(remote, quick, monkeypatch):
    down = []
    store = remote(lambda moment: AWS.format("NETWORK_CONNECTION") if down else None, retry_s=0.05)
    monkeypatch.setattr(locking, "Store", lambda root, retry_s: store)
    with lock(store) as lost:
        down.append(1)
        time.sleep(0.3)
        down.clear()
        before = store.read("lock.json")
        deadline = time.monotonic() + 10
        while store.read("lock.json") == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert store.read("lock.json") != before
        assert lost() is None


def test_a_driver_that_was_suspended_goes_on_where_its_lock_cannot_be_looked_at(remote, quick, monkeypatch):
    down = []
    store = remote(lambda moment: AWS.format("NETWORK_CONNECTION") if down else None, retry_s=0.05)
    monkeypatch.setattr(locking, "Store", lambda root, retry_s: store)
    monkeypatch.setattr(locking, "_BEAT_S", 60.0)  # what renews the lock has not come to it yet
    monkeypatch.setattr(locking, "_SURE_S", 0.5)
    with lock(store) as lost:
        down.append(1)
        time.sleep(0.6)
        failed = store.handler.failed
        assert lost() is None
        assert store.handler.failed > failed
        down.clear()


def test_rows_can_be_read_with_pandas_while_a_sweep_runs(full):
    assert len(pd.read_parquet(full.place("trials"))) == 3


def test_storage_that_does_not_answer_is_never_taken_for_damage_or_for_nothing(remote):
    down = []
    store = remote(lambda moment: AWS.format("NETWORK_CONNECTION") if down else None, retry_s=0.05)
    store.create()
    publish_failure(store, "x", "boom")
    store.handler.open_input_file = lambda path: store.handler._maybe("before")
    down.append(1)
    for ask in (store._mark, lambda: failure(store, "x"), lambda: _kept_sharing(store)):
        with pytest.raises(StorageError, match="has not answered for"):
            ask()
