"""Where the cluster is, and what is handed to Ray Tune as machines come and go, without a Ray."""

import http.server
import logging
import os
import socket
import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import AuthenticationError, OutOfMemoryError

from raytransfer.errors import StorageError, UserError
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import Store, compact, failures, publish, publish_failure, save_state
from raytransfer.sweep.ray import Slots, tuning, wait_for_machines
from raytransfer.sweep.run import Run
from raytransfer.sweep.slots import of_this_machine
from raytransfer.trials import Site
from tests.helpers import ROOT, Quiet

cluster = sys.modules["raytransfer.sweep.ray.cluster"]  # the package has a function of that name
RESOURCES = cluster._resources


class Watching(Quiet):
    """An observer that lets trials die and fail, and notes it."""

    def __init__(self):
        super().__init__()
        self.dead, self.causes, self.failures, self.sizes = [], [], {}, []

    def died(self, trial, why):
        self.dead.append(trial)
        self.causes.append(why)

    def failed(self, trial, reason, skipped):
        self.failures[trial] = reason

    def resized(self, slots):
        self.sizes.append(slots)


@pytest.fixture
def machines(monkeypatch):
    """A cluster that a test makes up."""
    made_up = {"now": {"CPU": 2.0}, "most": {}, "machines": [], "gone": 0, "leave": False}
    monkeypatch.setattr(cluster, "_resources", lambda together=1: made_up["now"])
    monkeypatch.setattr(cluster, "_could_become", lambda together=1: made_up["most"])
    monkeypatch.setattr(cluster, "_machines", lambda: made_up["machines"] or [made_up["now"]])
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
    made = tuning._Searcher(run, Slots(None, 1.0, may_grow=True))
    made.add_configurations([SimpleNamespace(storage=None)])
    made.run, made.observer = run, observer
    return made


def first_of(handed):
    return tuning.from_json(handed.config["trials"][0][0]).id


def resources_of(handed):
    handed.create_placement_group_factory()  # as Tune does first
    return handed.placement_group_factory.required_resources


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


def test_the_gpus_of_a_trial_are_of_one_machine(machines, monkeypatch):
    machines["now"], machines["machines"] = {"GPU": 7.0}, [{"GPU": 4.0}, {"GPU": 3.0}, {"CPU": 8.0}]
    monkeypatch.setattr(cluster, "_resources", RESOURCES)
    monkeypatch.setattr(ray, "cluster_resources", lambda: machines["now"])
    assert (Slots(None, 1.0).now(), Slots(None, 2).now(), Slots(None, 3).now()) == (7, 3, 2)
    assert Slots(None, 2).per_trial == {"GPU": 2.0}
    with pytest.raises(UserError, match="gpus_per_trial=5 must not exceed what one machine has: 4 GPUs"):
        Slots(None, 5)


def test_bases_can_take_more_than_other_trials(searcher, machines):
    machines["now"] = {"CPU": 5.0}
    made = tuning._Searcher(searcher.run, Slots(None, 1.0, 2))
    made.add_configurations([SimpleNamespace(storage=None)])
    bases = [made.next_trial(), made.next_trial()]
    assert [resources_of(base) for base in bases] == [{"CPU": 2.0}, {"CPU": 2.0}]
    assert made.next_trial() is None  # the transfers wait for them
    made.on_trial_complete(bases[0].trial_id, {"died": "rank 1 of 2 was ended by signal 9"})
    assert searcher.observer.dead == [first_of(bases[0])]
    assert first_of(made.next_trial()) == first_of(bases[0])
    made.on_trial_complete(bases[1].trial_id, {"reasons": [None]})
    assert resources_of(made.next_trial()) == {"CPU": 1.0}


def test_what_is_too_large_for_the_room_that_is_left_is_waited_for(searcher, machines):
    machines["now"] = {"CPU": 3.0}
    made = tuning._Searcher(searcher.run, Slots(None, 1.0, 2))
    made.add_configurations([SimpleNamespace(storage=None)])
    assert made.next_trial() is not None
    assert made.next_trial() is None
    machines["now"] = {"CPU": 4.0}
    assert made.next_trial() is not None


def test_the_cluster_file_of_a_head_says_what_its_cluster_could_become(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_BOOTSTRAP", tmp_path / "none.yaml")
    assert cluster._could_become() == {}
    monkeypatch.setattr(cluster, "_BOOTSTRAP", ROOT / "cluster.yaml")
    assert cluster._could_become() == {"CPU": 32, "GPU": 4}  # four machines of two kinds together
    assert cluster._could_become(2)["GPU"] == 0


def test_a_cluster_that_no_machine_joins_is_asked_for_one_and_not_waited_for_without_end(machines, monkeypatch):
    machines["now"], asked = {"memory": 1e9}, []
    monkeypatch.setattr(cluster, "_JOIN_S", 0.0)
    monkeypatch.setattr(cluster, "request_resources", lambda bundles: asked.append(bundles))
    with pytest.raises(UserError, match="no machine with a CPU or GPU for trials joined the Ray cluster within 0 s"):
        wait_for_machines()
    assert asked == [[{"CPU": 1}], []]  # the wish is taken back


@pytest.mark.parametrize(("kind", "what"), [("GPU", "2 GPUs"), ("CPU", "2 CPU cores")])
def test_a_cluster_without_the_gpus_of_a_training_that_is_split_is_told_so(machines, monkeypatch, kind, what):
    machines["now"], asked = {"CPU": 1.0, kind: 1.0}, []
    machines["machines"] = [machines["now"], {"CPU": 1.0}]
    monkeypatch.setattr(cluster, "_resources", RESOURCES)
    monkeypatch.setattr(ray, "cluster_resources", lambda: machines["now"])
    monkeypatch.setattr(cluster, "_JOIN_S", 0.0)
    monkeypatch.setattr(cluster, "request_resources", lambda bundles: asked.append(bundles))
    wait_for_machines()
    with pytest.raises(UserError, match=f"no machine with {what} for a training that is split joined the Ray cluster"):
        wait_for_machines(2)
    assert asked == [[{kind: 2}], []]
    machines["most"] = {kind: 4}
    wait_for_machines(2)


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


def test_a_ray_of_this_machine_alone_that_has_died_ends_the_sweep(searcher, machines):
    alone = tuning._Searcher(searcher.run, Slots(None, 1.0))
    alone.add_configurations([SimpleNamespace(storage=None)])
    assert alone.next_trial() is not None
    machines["now"] = {}
    assert alone.next_trial() is None
    with pytest.raises(StorageError, match="the Ray of this machine has died"):
        alone.next_trial()


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
    assert searcher.observer.causes == ["a machine left the cluster"] * 11 + ["Ray's logs say why"] * 3
    assert "its process died 4 times" in searcher.observer.failures[trial]
    assert "its process died 4 times" in failures(searcher.run.site.store())[trial]


def test_what_kills_its_process_fails_alone(searcher, monkeypatch):
    monkeypatch.setattr("raytransfer.sweep.run.batch_of", lambda spec: "one")
    handed = searcher.next_trial()
    other, killer = (tuning.from_json(text).id for text, _ in handed.config["trials"])
    while searcher.observer.failures == {}:
        trials = [tuning.from_json(text).id for text, _ in handed.config["trials"]]
        reasons = None if killer in trials else {"reasons": [None] * len(trials)}
        searcher.on_trial_complete(handed.trial_id, reasons, error=reasons is None)
        handed = searcher.next_trial()
    assert searcher.observer.failures.keys() == {killer}
    assert searcher.observer.ended == [other]


@pytest.mark.parametrize("noted", [True, False])
def test_a_process_on_a_gpu_ends_after_a_failure_but_not_for_weights_that_cannot_be_read(searcher, monkeypatch, noted):
    def attempt(spec, site, *_):
        if noted:
            publish_failure(site.store(), spec.id, "boom")
        return "boom"

    def end(_code):
        raise SystemExit

    monkeypatch.setattr(tuning, "attempt", attempt)
    monkeypatch.setattr(tuning.os, "_exit", end)
    monkeypatch.setattr(tuning.gc, "freeze", lambda: None)
    monkeypatch.setattr(tuning, "_gpu_works", lambda: True)
    monkeypatch.setattr(searcher.run, "site", replace(searcher.run.site, device="cuda"))
    worker = SimpleNamespace(_work=searcher.next_trial().config, _leaving=lambda: False)
    with pytest.raises(tuning._Spent) if noted else nullcontext():  # an exit Ray warns of
        assert tuning._Worker.step(worker) == {"reasons": ["boom"], "told": [], "done": True}


def test_what_a_trial_tells_in_its_process_is_told_by_the_driver_once(searcher, monkeypatch, caplog):
    store, worker = searcher.run.site.store(), tuning._Worker.__new__(tuning._Worker)
    monkeypatch.setattr(tuning, "Leaving", lambda: lambda: False)
    monkeypatch.setattr(tuning.gc, "freeze", lambda: None)
    first, second = searcher.next_trial(), searcher.next_trial()
    save_state(store, first_of(first), b"half")
    worker.setup(first.config)
    try:
        result = worker.step()
        worker.reset_config(second.config)
        assert worker.step()["told"] == []
    finally:
        logging.getLogger("raytransfer.trials").removeHandler(tuning._TOLD)
    caplog.clear()
    searcher.on_trial_complete(first.trial_id, result)
    (line,) = caplog.messages
    assert line.startswith(
        f"the state of training {first_of(first)} is passed over, it starts from its beginning: no state of a training"
    )
    assert searcher.observer.ended == [first_of(first)]


@pytest.mark.parametrize("works", [True, False])
def test_what_leaves_the_gpu_broken_fails_no_other_of_its_batch(searcher, monkeypatch, works):
    def attempt(spec, site, *_):
        publish_failure(site.store(), spec.id, "boom")
        tried.append(spec.id)
        return "boom"

    def synchronize():
        if not works:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def end(_code):
        raise SystemExit

    tried = []
    monkeypatch.setattr("raytransfer.sweep.run.batch_of", lambda spec: "one")
    monkeypatch.setattr(tuning, "attempt", attempt)
    monkeypatch.setattr(tuning.os, "_exit", end)
    monkeypatch.setattr(tuning.gc, "freeze", lambda: None)
    monkeypatch.setattr(tuning.torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(searcher.run, "site", replace(searcher.run.site, device="cuda"))
    handed = searcher.next_trial()
    with pytest.raises(tuning._Spent if works else SystemExit):
        tuning._Worker.step(SimpleNamespace(_work=handed.config, _leaving=lambda: False))
    first, second = (tuning.from_json(text).id for text, _ in handed.config["trials"])
    assert tried == ([first, second] if works else [first])
    searcher.on_trial_complete(handed.trial_id, error=True)
    assert searcher.observer.failures == dict.fromkeys(tried, "boom")
    assert searcher.observer.dead == ([] if works else [second])


def test_what_a_process_wrote_before_it_died_counts(searcher):
    handed = searcher.next_trial()
    trial = first_of(handed)
    publish_failure(searcher.run.site.store(), trial, "boom")
    searcher.on_trial_complete(handed.trial_id, error=True)
    assert searcher.observer.failures == {trial: "boom"}
    assert searcher.observer.dead == []


def test_rows_that_were_merged_before_tell_nothing_of_what_runs_again(searcher):
    store, slots = searcher.run.site.store(), Slots(None, 1.0)
    first, second, *_ = searcher.run.specs
    for trial in (first, second):
        publish(store, "trials", {"id": trial})
    compact(store)
    made = tuning._Searcher(searcher.run, slots)
    made.add_configurations([SimpleNamespace(storage=None)])
    handed = {first_of(handed): handed for handed in (made.next_trial(), made.next_trial())}
    publish(store, "trials", {"id": first})
    for trial in (first, second):
        made.on_trial_complete(handed[trial].trial_id, error=True)
    assert (searcher.observer.ended, searcher.observer.dead) == ([first], [second])
    (merged,) = (name for name in store.names("trials") if name.startswith("part-"))
    store.write(f"trials/{merged}", b"damaged")
    tuning._Searcher(searcher.run, slots)  # else it would end here, and mode=force would be forgotten


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
    assert {*searcher.observer.causes} == {"a machine ran out of memory"}
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


RAY_S_GREETING = bytes.fromhex("000018040000000000000400400000000500400000fe0300000001000600004000")
ANOTHER_S_GREETING = bytes.fromhex("00000c04000000000000030000008000040000fe03")  # of HTTP/2, as proxies send it


@contextmanager
def server(greeting):
    """Something that listens on this machine and sends all its clients the same; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept = []

        def greet():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                kept.append(connection)
                connection.sendall(greeting)

        threading.Thread(target=greet, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


@pytest.fixture
def addresses(monkeypatch, tmp_path):
    """Addresses as they are given, no waiting, and a folder of Ray's that nobody else uses."""
    monkeypatch.setattr(cluster, "canonicalize_bootstrap_address", lambda address: address)
    monkeypatch.setattr(cluster, "_CONNECT_S", 1.0)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("", "RAY_ADDRESS= is no address of a Ray cluster: give the head's address as host:port"),
        ("host", "RAY_ADDRESS=host is no address of a Ray cluster: give"),
        ("host:", "RAY_ADDRESS=host: is no address"),
        (":6379", "RAY_ADDRESS=:6379 is no address"),
        ("host:6379/x", "RAY_ADDRESS=host:6379/x is no address"),
        ("::1", "RAY_ADDRESS=::1 is no address of a Ray cluster: give"),
        (
            "ray://host:10001",
            "RAY_ADDRESS=ray://host:10001 is no address .* but of Ray's client or jobs,",
        ),
        ("http://host:8265", "RAY_ADDRESS=http://host:8265 is no address .* but of Ray's client or jobs"),
        ("127.0.0.1:99999", "RAY_ADDRESS=127.0.0.1:99999 leads to no Ray cluster"),
    ],
)
def test_what_is_no_address_of_a_cluster_is_refused(addresses, monkeypatch, named, message):
    monkeypatch.setenv("RAY_ADDRESS", named)
    with pytest.raises(UserError, match=message), cluster.cluster():
        pass


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", ANOTHER_S_GREETING, RAY_S_GREETING[:12]])
def test_what_listens_and_does_not_greet_as_ray_does_is_refused(addresses, monkeypatch, greeting):
    with server(greeting) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError, match=f"RAY_ADDRESS={address} leads to no Ray cluster: start one there"):
            cluster._address()


def test_a_web_server_is_no_ray(addresses, monkeypatch):
    handler = type("Quiet", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{web.server_port}")
        with pytest.raises(UserError, match="leads to no Ray cluster"):
            cluster._address()
        web.shutdown()


def test_a_cluster_that_is_there_is_joined_at_its_address(addresses, monkeypatch):
    with server(RAY_S_GREETING) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert cluster._address() == (address, address)
        monkeypatch.delenv("RAY_ADDRESS")
        addresses.write_text(f"{address}\n")
        assert cluster._address() == (None, address)
        monkeypatch.setattr(cluster, "canonicalize_bootstrap_address", lambda _: address)
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        assert cluster._address() == ("auto", address)
        monkeypatch.setenv("RAY_ADDRESS", "local")
        assert cluster._address() == ("local", None)


def test_a_cluster_that_nobody_named_is_joined_and_said(addresses, caplog):
    with server(RAY_S_GREETING) as address, caplog.at_level(logging.INFO, "raytransfer"):
        addresses.write_text(f"{address}\n")
        cluster._address()
        (line,) = caplog.messages
    assert line.startswith(f"joining the Ray cluster at {address}; RAY_ADDRESS=local starts one")


def test_no_address_and_no_cluster_is_a_machine_alone_and_auto_wants_a_cluster(addresses, monkeypatch):
    assert cluster._address() == (None, None)

    def none_there(_):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(cluster, "canonicalize_bootstrap_address", none_there)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(UserError, match="RAY_ADDRESS=auto, and no Ray cluster runs on this machine: give"):
        cluster._address()


@pytest.mark.parametrize("left", [b"", b"\xff\xfe\x00", b"host", b"x\n\ny", b"127.0.0.1:99999", None])
def test_a_file_that_leads_to_no_cluster_is_passed_over_and_said(addresses, caplog, left):
    if left is None:
        addresses.mkdir()
    else:
        addresses.write_bytes(left)
    with caplog.at_level(logging.INFO, "raytransfer"):
        assert cluster._address() == ("local", None)
    (record,) = caplog.records
    assert str(addresses) in record.getMessage()
    assert "of this machine alone" in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: /long"), "AF_UNIX .*/long; it writes to .*RAY_TMPDIR"),
        (PermissionError(13, "Permission denied", "/tmp/ray/session_1"), "'/tmp/ray/session_1'; .*RAY_TMPDIR"),
        (FileNotFoundError(2, "No such file", "/home/x/.ray"), r"'/home/x/.ray'; .* ~/.ray \(set HOME"),
        (Exception("The current node timed out during startup."), r"timed out during startup\.; .* must have room"),
        (RuntimeError("Timed out waiting for file /tmp/ray/port"), "waiting for file /tmp/ray/port; .* must have room"),
        (AuthenticationError("no token"), "the Ray cluster at .* does not let this machine in"),
    ],
)
def test_a_ray_that_does_not_start_is_one_line_with_the_way_out(addresses, monkeypatch, error, message):
    def fail(**_):
        raise error

    monkeypatch.setattr(cluster.ray, "init", fail)
    with pytest.raises(UserError, match=message), cluster.cluster():
        pass


def test_a_process_that_uses_ray_already_is_told_to_let_it_go(addresses, monkeypatch):
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: True)
    with pytest.raises(UserError, match=r"has called ray.init: call ray.shutdown\(\) first"), cluster.cluster():
        pass


@pytest.mark.parametrize(
    ("count", "available", "where", "given"),
    [(2, True, None, 2), (2, False, None, 0), (0, False, None, 0), (2, True, "127.0.0.1:6379", None)],
)
def test_a_ray_that_is_started_has_the_gpus_that_pytorch_can_use(monkeypatch, count, available, where, given):
    """Ray itself counts them without PyTorch; trials on one that this cannot use would fail one after the other."""
    told = []
    monkeypatch.setattr(cluster.torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(cluster.torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(cluster, "_address", lambda: (where, where))
    monkeypatch.setattr(cluster.ray, "init", lambda **options: told.append(options["num_gpus"]))
    with cluster.cluster():
        pass
    assert told == [given]


@pytest.fixture
def one_core():
    """A process that may use one core of the machine, as in a job of a batch system."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_cores)})
    yield
    os.sched_setaffinity(0, all_cores)


@pytest.mark.parametrize(("where", "given"), [(None, 1), ("127.0.0.1:6379", None)])
def test_a_ray_that_is_started_has_the_cores_that_the_process_may_use(one_core, monkeypatch, where, given):
    """Ray itself counts all that the machine has, and would run as many trials at once."""
    told = []
    monkeypatch.setattr(cluster, "_address", lambda: (where, where))
    monkeypatch.setattr(cluster.ray, "init", lambda **options: told.append(options["num_cpus"]))
    with cluster.cluster():
        pass
    assert told == [given]


def test_a_plan_counts_the_cores_that_the_process_may_use(one_core, monkeypatch):
    monkeypatch.setattr("raytransfer.sweep.slots.usable_gpus", lambda: 0)
    assert of_this_machine() == (1, "CPU")


def test_sigterm_while_ray_starts_is_an_interruption(addresses, monkeypatch):
    monkeypatch.setattr(cluster.ray, "init", lambda **_: sys.exit(15))  # as its own handler does
    with pytest.raises(KeyboardInterrupt, match=r"^$"), cluster.cluster():
        pass
