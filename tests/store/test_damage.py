"""What lies in a store that is none of its own files, and what was damaged in it."""

import os
from contextlib import suppress

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytransfer.errors import StorageError, UnreadableError, UserError
from raytransfer.store import (
    Store,
    compact,
    failures,
    finished,
    publish,
    read_places,
    read_table,
    repair,
    stored_steps,
    write_places,
)
from raytransfer.store.schema import TABLES, arrow_schema
from tests.store.test_store import curve, row


@pytest.fixture
def store(tmp_path):
    made = Store(str(tmp_path / "out"))
    made.create()
    publish(made, "trials", row("a"), curve("a"))
    return made


@pytest.mark.parametrize("mark", [b"null", b"[1]", b"3", b'"text"', b"[" * 100_000, b"\xff", b""])
def test_a_mark_that_holds_no_mapping_is_one_line(store, mark):
    store.write("store.json", mark)
    with pytest.raises(
        UserError, match=r"has a damaged store\.json \(.*write \{\"schema_version\": .* into it"
    ) as error:
        store.check()
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1, 2]}, "this table has no column x"),
        ({"id": [1, 2]}, "its column id is int64, not string"),
        ({"top1": [0.5]}, "it has no column id"),
    ],
)
def test_a_foreign_table_is_named_and_set_aside(store, columns, message):
    pq.write_table(pa.table(columns), store.place("trials/part-foreign.parquet"))
    for read in (finished, lambda store: read_table(store, "trials")):
        with pytest.raises(UnreadableError, match=rf"part-foreign\.parquet is damaged: {message}"):
            read(store)
    assert repair(store) == ["trials/part-foreign.parquet"]
    assert store.exists("damaged/trials/part-foreign.parquet")
    assert read_table(store, "trials")["id"].tolist() == ["a"]


@pytest.mark.parametrize("table", ["trials", "curves"])
def test_columns_of_a_newer_raytransfer_are_no_damage_and_stay_when_rows_are_merged(store, table):
    publish(store, "trials", row("b"), curve("b"))
    name = store.place(f"{table}/b.parquet")
    newer = pq.read_table(name)
    newer = newer.append_column("new", pa.array([7] * len(newer)))
    pq.write_table(newer, name)
    before = read_table(store, table)
    assert list(before.columns) == arrow_schema(TABLES[table]).names
    assert repair(store) == []
    compact(store)
    assert finished(store) == {"a", "b"}
    pd.testing.assert_frame_equal(read_table(store, table), before)
    (merged,) = store.names(table)
    rows = pq.read_table(store.place(f"{table}/{merged}")).to_pylist()
    assert {row["id"]: row["new"] for row in rows} == {"a": None, "b": 7}
    store.write("curves/part-damaged.parquet", b"damaged")
    assert repair(store) == ["curves/part-damaged.parquet"]
    assert "new" in pq.read_schema(store.place(f"{table}/{merged}")).names


def test_places_that_a_newer_raytransfer_wrote_are_no_damage(store):
    write_places(store, "sweeps/x", [{"id": "a", "treatment": "baseB", "reads": []}])
    before, file = read_places(store, "sweeps/x"), store.place("sweeps/x/places.parquet")
    pq.write_table(pq.read_table(file).append_column("new", pa.array([7])), file)
    pd.testing.assert_frame_equal(read_places(store, "sweeps/x"), before)


def test_folders_and_pipes_are_no_rows(store):
    os.mkdir(store.place("trials/b.parquet"))  # noqa: PTH102
    os.mkfifo(store.place("trials/c.parquet"))
    os.makedirs(store.place("failed/d.json"))  # noqa: PTH103
    store.write("checkpoints/a/notes.txt", b"mine")
    assert finished(store) == {"a"}
    assert read_table(store, "trials")["id"].tolist() == ["a"]
    assert failures(store) == {}
    assert stored_steps(store, "a") == set()


def test_a_file_where_a_folder_should_be_is_named_at_once(tmp_path):
    store = Store(str(tmp_path / "out"))
    store.create()
    store.write("trials", b"in the way")
    with pytest.raises(StorageError, match=r"out/trials: .*Not a directory"):
        finished(store)
    with pytest.raises(StorageError, match=r"out/trials/a\.parquet: "):
        publish(store, "trials", row("a"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("store") / "out"))
    store.create()
    publish(store, "trials", row("a"), curve("a"))
    return store, store.read("trials/a.parquet")


def test_text_that_is_no_text_is_damage(rows):
    store, content = rows
    length = (1).to_bytes(4, "little")  # in front of each value, here the trial's identity
    assert length + b"a" in content
    store.write("trials/a.parquet", content.replace(length + b"a", length + b"\xc8"))
    with pytest.raises(UnreadableError, match=r"a\.parquet is damaged: .*UTF"):
        read_table(store, "trials")


@settings(max_examples=150)
@given(data=st.data())
def test_random_damage_never_gives_another_error_than_ours(rows, data):
    store, content = rows
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    store.write("trials/a.parquet", bytes(damaged[: data.draw(st.integers(0, 2 * len(damaged)))]))
    with suppress(UnreadableError):
        assert len(read_table(store, "trials")) <= 1


@pytest.mark.parametrize("done", range(4))
def test_what_a_killed_repair_leaves_is_sound_or_found_damaged_again(store, monkeypatch, done):
    publish(store, "trials", row("b"), curve("b"))
    store.write("curves/a.parquet", b"damaged")
    calls = []

    def until_killed(do):
        def do_or_die(*arguments):
            calls.append(arguments)
            if len(calls) > done:
                raise KeyboardInterrupt
            do(*arguments)

        return do_or_die

    monkeypatch.setattr(store, "write", until_killed(store.write))
    monkeypatch.setattr(store, "delete", until_killed(store.delete))
    with suppress(KeyboardInterrupt):
        repair(store)
    monkeypatch.undo()
    try:
        read_table(store, "curves")
    except UnreadableError:
        repair(store)
    assert finished(store) == {"b"}
    assert set(read_table(store, "curves")["id"]) == {"b"}
