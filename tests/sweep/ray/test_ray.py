"""What is handed to Ray Tune as machines come and go, without a Ray: how many trials, and which again."""

import sys
from types import SimpleNamespace

import pytest
from ray.exceptions import OutOfMemoryError

from raytransfer.errors import StorageError, UserError
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import Store, failures, publish_failure
from raytransfer.sweep.ray import Slots, tuning, wait_for_machines
from raytransfer.sweep.run import Run
from raytransfer.trials import Site
from tests.helpers import ROOT, Quiet

cluster = sys.modules["raytransfer.sweep.ray.cluster"]  # the package has a function of that name


class Watching(Quiet):
    """An observer that lets trials die and fail, and notes it."""

    def __init__(self):
        super().__init__()
        self.dead, self.failures, self.sizes = [], {}, []

    def died(self, trial):
        self.dead.append(trial)

    def failed(self, trial, reason, skipped):
        self.failures[trial] = reason

    def resized(self, slots):
        self.sizes.append(slots)


@pytest.fixture
def machines(monkeypatch):
    """A cluster that a test makes up."""
    made_up = {"now": {"CPU": 2.0}, "most": {}, "gone": 0, "leave": False}
    monkeypatch.setattr(cluster, "_resources", lambda: made_up["now"])
    monkeypatch.setattr(cluster, "_could_become", lambda: made_up["most"])
    monkeypatch.setattr(tuning, "machines_gone", lambda: made_up["gone"])
    monkeypatch.setattr(tuning, "machines_leave", lambda: made_up["leave"])
    monkeypatch.setattr(tuning, "_LOOK_S", 0.0)
    return made_up


@pytest.fixture
def searcher(tiny, machines):
    """What Tune asks for trials, of a sweep of two bases and their transfers; its run and its observer."""
    config = tiny("treatments=[baseB,AnB]", "n_layers=[2]")
    plan, store, observer = make_plan(config), Store(config.out), Watching()
    store.create()
    run = Run(plan.trials, Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9), observer)
    made = tuning._Searcher(run, Slots(None, 1.0))
    made.add_configurations([SimpleNamespace(storage=None)])
    made.run, made.observer = run, observer
    return made


def first_of(handed):
    return tuning.from_json(handed.config["trials"][0][0]).id


def test_slots_are_cores_where_no_machine_has_or_will_have_a_gpu(machines):
    slots = Slots(None, 0.25)
    assert (slots.per_trial, slots.now(), slots.wanted_now()) == ({"CPU": 1.0}, 2, 2)
    machines["now"] = {"CPU": 8.0, "GPU": 2.0}
    slots = Slots(None, 0.25)
    assert (slots.per_trial, slots.now()) == ({"GPU": 0.25}, 8)
    assert Slots(3, 0.25).now() == 3


def test_a_cluster_that_starts_machines_when_they_are_wanted_is_asked_for_all_it_may_have(machines):
    machines["now"], machines["most"] = {"memory": 1e9}, {"CPU": 32, "GPU": 4}
    wait_for_machines()
    slots = Slots(None, 0.5, may_grow=True)
    assert (slots.per_trial, slots.now(), slots.wanted_now()) == ({"GPU": 0.5}, 0, 8)
    assert Slots(5, 0.5, may_grow=True).wanted_now() == 5


def test_more_slots_than_there_are_can_be_wanted_of_a_cluster_that_may_grow_alone(machines):
    slots = Slots(9, 1.0, may_grow=True)
    assert (slots.now(), slots.wanted_now()) == (2, 9)
    with pytest.raises(UserError, match=r"slots=9 must not exceed what is there: 2 slots of 1 CPU"):
        Slots(9, 1.0)


def test_the_cluster_file_of_a_head_says_what_its_cluster_could_become(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_BOOTSTRAP", tmp_path / "none.yaml")
    assert cluster._could_become() == {}
    monkeypatch.setattr(cluster, "_BOOTSTRAP", ROOT / "cluster.yaml")
    assert cluster._could_become() == {"CPU": 32, "GPU": 4}  # four machines of two kinds together


def test_a_cluster_that_no_machine_joins_is_asked_for_one_and_not_waited_for_without_end(machines, monkeypatch):
    machines["now"], asked = {"memory": 1e9}, []
    monkeypatch.setattr(cluster, "_JOIN_S", 0.0)
    monkeypatch.setattr(cluster, "request_resources", lambda bundles: asked.append(bundles))
    with pytest.raises(UserError, match="no machine with a CPU or GPU for trials joined the Ray cluster within 0 s"):
        wait_for_machines()
    assert asked == [[{"CPU": 1}], []]  # the wish is taken back


def test_as_many_trials_are_handed_out_as_there_are_slots_when_machines_join_and_leave(searcher, machines):
    machines["now"] = {"CPU": 1.0}
    assert searcher.next_trial() is not None
    assert searcher.next_trial() is None
    machines["now"] = {"CPU": 3.0}
    assert searcher.next_trial() is not None
    assert searcher.next_trial() is None  # the transfers wait for their bases
    machines["now"] = {}
    assert searcher.next_trial() is None
    assert searcher.observer.sizes == [1, 3, 0]


def test_a_trial_has_begun_when_tune_has_found_a_slot(searcher):
    handed = searcher.next_trial()
    assert searcher.observer.begun == []
    searcher.on_trial_start(handed.trial_id)
    assert searcher.observer.begun == [first_of(handed)]


def test_a_process_may_die_three_times_and_a_machine_as_often_as_it_likes(searcher, machines):
    handed = searcher.next_trial()
    trial = first_of(handed)
    for _ in range(10):  # machines
        machines["gone"] += 1
        searcher.on_trial_complete(handed.trial_id, error=True)
        handed = searcher.next_trial()
        assert first_of(handed) == trial
    machines["leave"] = True
    searcher.on_trial_complete(handed.trial_id, error=True)
    machines["leave"] = False
    for _ in range(4):  # processes
        assert searcher.observer.failures == {}
        handed = searcher.next_trial()
        assert first_of(handed) == trial
        searcher.on_trial_complete(handed.trial_id, error=True)
    assert len(searcher.observer.dead) == 14
    assert "its process died 4 times" in searcher.observer.failures[trial]
    assert "its process died 4 times" in failures(searcher.run.site.store())[trial]


def test_what_a_process_wrote_before_it_died_counts(searcher):
    handed = searcher.next_trial()
    trial = first_of(handed)
    publish_failure(searcher.run.site.store(), trial, "boom")
    searcher.on_trial_complete(handed.trial_id, error=True)
    assert searcher.observer.failures == {trial: "boom"}
    assert searcher.observer.dead == []


def test_a_sweep_whose_storage_is_gone_hands_out_nothing_more(searcher):
    handed = searcher.next_trial()
    searcher.on_trial_complete(handed.trial_id, {"abandon": "out=x: no room (on host)"})
    with pytest.raises(StorageError, match=r"out=x: no room \(on host\)"):
        searcher.next_trial()
    assert searcher.observer.failures == {}


def test_where_memory_runs_out_tune_is_started_again_for_what_ran(searcher, machines, monkeypatch):
    run, rounds = searcher.run, []

    class Tuner:
        """Tune as it ends when Ray stops a worker, twice; then as it runs to the end."""

        def __init__(self, *_, tune_config, **__):
            self.searcher = tune_config.search_alg
            self.searcher.add_configurations([SimpleNamespace(storage=None)])

        def fit(self):
            rounds.append(len(run.specs) - run.unfinished)
            while handed := list(iter(self.searcher.next_trial, None)):
                for trial in handed:
                    self.searcher.on_trial_start(trial.trial_id)
                if len(rounds) < 3:
                    raise RuntimeError("unexpected") from OutOfMemoryError("too much")
                for trial in handed:
                    reasons = [None] * len(trial.config["trials"])
                    self.searcher.on_trial_complete(trial.trial_id, {"reasons": reasons})

    monkeypatch.setattr(tuning.tune, "Tuner", Tuner)
    tuning.run_on_ray(run, Slots(None, 1.0))
    assert rounds == [0, 0, 0]
    assert len(searcher.observer.dead) == 2 * 2  # two slots, twice
    assert searcher.observer.failures == {}
    assert len(searcher.observer.ended) == len(run.specs)


def test_other_errors_of_tune_are_not_hidden(searcher, monkeypatch):
    class Tuner:
        def __init__(self, **_):
            pass

        def fit(self):
            raise RuntimeError("something else") from ValueError("a fault")

    monkeypatch.setattr(tuning.tune, "Tuner", lambda *_, **__: Tuner())
    with pytest.raises(RuntimeError, match="something else"):
        tuning.run_on_ray(searcher.run, Slots(None, 1.0))
