"""What a report says of how a sweep ran."""

from types import SimpleNamespace

from raytransfer.commands.sweeping import _what_bound
from raytransfer.store import Store, publish


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
