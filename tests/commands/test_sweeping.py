"""What a report says of how a sweep ran."""

from types import SimpleNamespace

import pandas as pd
import pytest

import raytransfer as rt
from raytransfer.commands import sweeping
from raytransfer.commands.sweeping import _what_bound
from raytransfer.store import Store, compact, lock, publish, read_table
from tests.commands.conftest import TINY


def test_what_bound_trainings_of_streamed_images_is_said(tmp_path):
    store = Store(str(tmp_path))
    store.create()
    plan = SimpleNamespace(trials={"slow": None, "quick": None, "old": None})
    assert _what_bound(plan, store) == []
    for trial, waited in (("slow", 0.9), ("quick", 0.3), ("old", None), ("of another sweep", 0.0)):
        publish(store, "trials", {"id": trial, "waited": waited}, [{"id": trial}])
    said = "Streamed images: trainings waited for them 60% of their time (30% to 90%), so decoding binds: "
    assert _what_bound(plan, store) == [f"{said}more CPU cores for each slot would help."]
    del plan.trials["slow"]
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
