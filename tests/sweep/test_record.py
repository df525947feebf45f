"""What a sweep that runs leaves in its store for others to read, and when."""

import datetime
import os
import threading
import time

import pytest

from raytransfer.store import Store, delete_progress, read_progress, write_progress
from raytransfer.sweep import record


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store that is patient; changes are written soon."""
    monkeypatch.setattr(record, "_EVERY_S", 0.01)
    return Store(str(tmp_path), retry_s=600.0)


def soon(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_says_which_sweep_runs_where_since_when_and_for_how_long_yet(store):
    left = [90.0, 30.0]
    with record.Record(store, "sweeps/x", lambda: left.pop(0), lambda: None) as observer:
        first = read_progress(store)
        time.sleep(1.1)  # times are in whole seconds
        observer.started(["a"])
        soon(lambda: read_progress(store)["running"])
        then = read_progress(store)
    same = {"sweep": "x", "host": os.uname().nodename, "process": os.getpid(), "started": first["started"]}
    assert first == same | {"running": {}, "written": first["started"], "left_s": 90.0}
    assert then == same | {"running": {"a": then["running"]["a"]}, "written": then["written"], "left_s": 30.0}
    told = (first["started"], then["running"]["a"], then["written"])
    times = [datetime.datetime.fromisoformat(text) for text in told]
    now = datetime.datetime.now(datetime.UTC)
    assert now - datetime.timedelta(minutes=1) < times[0] < times[1] <= times[2] <= now


def test_what_ended_in_whatever_way_runs_no_longer_and_what_runs_beside_it_does(store):
    with record.Record(store, "sweeps/x", lambda: None, lambda: None) as observer:
        observer.started(["a", "b"])
        for tell, left in (
            (lambda: observer.finished("a"), {"b"}),
            (lambda: observer.started(["c", "d"]), {"b", "c", "d"}),
            (lambda: observer.died("b", "killed"), {"c", "d"}),
            (lambda: observer.failed("c", "no", []), {"d"}),
        ):
            tell()
            soon(lambda left=left: read_progress(store)["running"].keys() == left)


def test_a_slow_storage_misses_no_change_is_written_no_more_than_changes_and_nothing_after_the_end(store, monkeypatch):
    begun, may_go_on, written = threading.Event(), threading.Event(), []

    def write_slowly(to, progress):
        assert to.retry_s == 2.0  # an interrupted command ends soon
        begun.set()
        may_go_on.wait(10)
        write_progress(to, progress)
        written.append(set(progress["running"]))

    with record.Record(store, "sweeps/x", lambda: None, lambda: None) as observer:
        monkeypatch.setattr(record, "write_progress", write_slowly)
        observer.started(["a"])
        assert begun.wait(10)
        observer.started(["b"])  # while the first is written
        may_go_on.set()
        soon(lambda: written[-1:] == [{"a", "b"}])
        time.sleep(0.1)
        assert written == [{"a"}, {"a", "b"}]
        begun.clear()
        may_go_on.clear()
        observer.finished("a")
        assert begun.wait(10)
        threading.Timer(0.1, may_go_on.set).start()
    assert read_progress(store) is None
    assert len(written) == 3  # before that


def test_nothing_is_written_once_the_store_is_another_s(store):
    lost = []
    with record.Record(store, "sweeps/x", lambda: None, lambda: "taken over" if lost else None) as observer:
        lost.append(True)
        delete_progress(store)
        observer.started(["a"])
        time.sleep(0.1)
        assert read_progress(store) is None
