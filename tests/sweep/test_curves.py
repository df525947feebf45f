"""What TensorBoard, MLflow and Weights & Biases are given of a sweep."""

import contextlib
import dataclasses
import errno
import io
import logging
import os
import re
import shutil
import sqlite3
import struct
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter

from raytransfer.config import load_config
from raytransfer.errors import UserError
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import Store, compact, curve_of
from raytransfer.sweep import curves as observing
from raytransfer.sweep.curves import Curves, trackers
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.sweep.tensorboard import TensorBoard
from raytransfer.sweep.wandb import WandB
from raytransfer.trials import Site
from tests.bad_input.commands import QUICK, call
from tests.conftest import TINY

SCALARS = {"top1", "loss_nats", "train_loss_nats", "learning_rate"}
NAME = "AnB (halves=random, split=random0, direction=A->B, n_layers=2, seed=0)"


@pytest.fixture(scope="module")
def plan(tmp_path_factory, cache_dir):
    """A plan of two trainings and a probe, without a store."""
    yaml = tmp_path_factory.mktemp("plan") / "tiny.yaml"
    yaml.write_text(TINY)
    few = ["treatments=[AnB]", "n_layers=[2]", "directions=[A->B]", "probes=[deviation]"]
    return make_plan(load_config(GridConfig, yaml, [*few, f"cache_dir={cache_dir}"]))


@pytest.fixture(scope="module")
def ran(plan, tmp_path_factory):
    """The store in which it has run, while a tracker looked on, and that tracker."""
    store, tracker = Store(str(tmp_path_factory.mktemp("ran") / "out")), Remembering()
    store.create()
    site = Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)
    with Curves([tracker], Console(quiet=True), store, "sweep-1", plan) as curves:
        run_in_process(Run(plan.trials, site, curves))
    return store, tracker


@pytest.fixture
def store(ran, tmp_path):
    """A copy of the store."""
    shutil.copytree(ran[0].root, tmp_path / "out")
    return Store(str(tmp_path / "out"))


class Remembering:
    """A tracker that keeps what it is given; it fails at the training number ``fails_at``."""

    option = "remembering=here"

    def __init__(self, fails_at=None):
        self.logged, self.fails_at = {}, fails_at

    def turn_to(self, sweep):
        self.sweep = sweep
        return set(self.logged)

    def log(self, training):
        if len(self.logged) == self.fails_at:
            raise OSError(28, "No space left on device")
        assert training.trial not in self.logged
        self.logged[training.trial] = training


def give(store, plan, *found):
    """What a sweep does that has nothing to run; gives what it says."""
    said = io.StringIO()
    with Curves(found, Console(file=said, width=200), store, "sweep-1", plan):
        pass
    return said.getvalue()


def expected(store, plan):
    """The curve of AnB's training, as steps and scalars, and its identity."""
    trial = next(cell.spec.id for cell in plan.cells if cell.treatment == "AnB")
    rows = curve_of(store, trial)
    return trial, {name: {row["step"]: row[name] for row in rows if row[name] is not None} for name in SCALARS}


def test_each_training_is_told_once_with_its_place_options_and_curve(plan, ran):
    store, tracker = ran
    trial, curve = expected(store, plan)
    assert (len(tracker.logged), tracker.sweep) == (2, "sweep-1")  # and the probe is none
    told = tracker.logged[trial]
    assert told.name == NAME
    assert told.place == {
        "treatment": "AnB",
        "halves": "random",
        "split": "random0",
        "direction": "A->B",
        "n_layers": 2,
        "seed": 0,
    }
    assert (told.options["recipe.learning_rate"], told.options["surgery.n_layers"]) == (0.01, 2)
    assert not [name for name in told.options if "training" in name]
    assert {name: {step: s[name] for step, s in told.curve if name in s} for name in SCALARS} == curve
    assert all(curve.values())


def test_what_finished_unseen_is_given_later_and_nothing_twice(plan, ran, store):
    late = Remembering()
    assert give(store, plan, late) == ""
    assert late.logged == ran[1].logged
    assert give(store, plan, late) == ""
    compact(store)
    merged = Remembering()
    give(store, plan, merged)
    assert merged.logged == late.logged
    unknown = {"train_loss_nats": float("nan"), "learning_rate": None}
    assert observing._scalars(dict.fromkeys(SCALARS, 1.0) | unknown) == {"top1": 1.0, "loss_nats": 1.0}


def test_a_tracker_that_fails_is_one_line_and_keeps_no_other_from_it(plan, store):
    full, whole = Remembering(fails_at=1), Remembering()
    said = give(store, plan, full, whole)
    assert said.splitlines() == [
        "remembering=here failed, and gets no more learning curves of this run: [Errno 28] No space left on device; "
        "the same command writes what is missing"
    ]
    assert (len(full.logged), len(whole.logged)) == (1, 2)
    full.fails_at = None
    give(store, plan, full)
    assert full.logged == whole.logged


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_tracker_that_gets_on_with_nothing_keeps_no_sweep_from_its_end(plan, store, monkeypatch, interrupted):
    monkeypatch.setattr(observing, "_INTERRUPTED_S" if interrupted else "_PATIENCE_S", 0.05)
    begun, goes_on, said = threading.Event(), threading.Event(), io.StringIO()

    class Stuck(Remembering):
        def log(self, training):
            begun.set()
            goes_on.wait(5)

    console = Console(file=said, width=200)
    with contextlib.suppress(KeyboardInterrupt), Curves([Stuck()], console, store, "s", plan):
        assert begun.wait(60)
        if interrupted:
            raise KeyboardInterrupt
    goes_on.set()
    assert said.getvalue().startswith("remembering=here: 2 learning curves not written; the same command")


def test_a_training_whose_curve_is_gone_keeps_no_other_from_a_tracker(plan, store):
    trial, _ = expected(store, plan)
    store.delete(f"curves/{trial}.parquet")
    tracker = Remembering()
    assert give(store, plan, tracker) == ""
    assert len(tracker.logged) == 1
    assert trial not in tracker.logged


def scalars(folder):
    """What the event files of a run say: tag -> step -> value."""
    found = {}
    for file in folder.iterdir():
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += length + 16  # with the checksums of the length and of the event
            for value in event.summary.value:
                assert event.step not in found.setdefault(value.tag, {})
                found[value.tag][event.step] = value.simple_value
    return found


def test_tensorboard_has_a_run_of_each_training(plan, store, tmp_path):
    board = tmp_path / "a" / "board"
    for _ in range(2):  # the second finds all there
        assert give(store, plan, TensorBoard(str(board))) == ""
    _, curve = expected(store, plan)
    assert scalars(board / NAME) == {name: pytest.approx(values, rel=1e-6) for name, values in curve.items()}
    assert [len(list(run.iterdir())) for run in board.iterdir()] == [1, 1]


def test_a_place_longer_than_a_folder_s_name_has_its_run_of_tensorboard(ran, tmp_path):
    (training, *_) = ran[1].logged.values()
    for trial in ("b" * 16, "c" * 16):
        long = f"AnB (halves={'ä ' * 150}, n=2)"
        TensorBoard(str(tmp_path)).log(dataclasses.replace(training, trial=trial, name=long))
    (first, second) = sorted(run.name for run in tmp_path.iterdir())
    assert first.startswith("AnB (halves=ä ä ")
    assert first.endswith(", n=2) " + "b" * 16)
    assert second == first.replace("b" * 16, "c" * 16)
    assert TensorBoard(str(tmp_path)).turn_to("sweep-1") == {"b" * 16, "c" * 16}


def test_what_a_killed_command_was_writing_for_tensorboard_is_not_taken_for_a_run(plan, store, tmp_path):
    trial, _ = expected(store, plan)
    (tmp_path / ".left").mkdir()
    (tmp_path / ".left" / f"events.out.tfevents.1.host.{trial}").write_bytes(b"half")
    assert TensorBoard(str(tmp_path)).turn_to("sweep-1") == set()


def test_tensorboard_has_a_run_of_its_own_for_another_training_at_the_same_place(ran, tmp_path):
    board, (training, *_) = tmp_path / "board", ran[1].logged.values()
    others = [training, dataclasses.replace(training, trial="b" * 16), dataclasses.replace(training, trial="c" * 16)]
    for told in others:
        TensorBoard(str(board)).log(told)
    assert {run.name for run in board.iterdir()} == {training.name, *(f"{training.name} {c * 16}" for c in "bc")}
    assert [len(list(run.iterdir())) for run in board.iterdir()] == [1, 1, 1]
    assert TensorBoard(str(board)).turn_to("sweep-2") == {told.trial for told in others}


def test_a_disk_that_fills_up_below_tensorboard_is_one_line(plan, store, tmp_path, monkeypatch):
    write, written = RecordWriter.write, []

    def full(writer, event):
        written.append(event)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, event)

    monkeypatch.setattr(observing, "_PATIENCE_S", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "write", full)
        board = TensorBoard(str(tmp_path / "board"))
        assert give(store, plan, board).splitlines() == [
            f"{board.option} failed, and gets no more learning curves of this run: [Errno 28] No space left on device; "
            "the same command writes what is missing"
        ]
    assert give(store, plan, TensorBoard(str(tmp_path / "board"))) == ""
    assert [len(list(run.iterdir())) for run in (tmp_path / "board").iterdir()] == [1, 1]


def test_mlflow_has_an_experiment_of_the_sweep_and_a_run_of_each_training(plan, store, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes seconds to make
    uri = (tmp_path / "runs").as_uri()
    trial, curve = expected(store, plan)
    client = mlflow.MlflowClient(tracking_uri=uri)
    begun = client.create_run(client.create_experiment("sweep-1"), tags={"raytransfer.trial": trial}).info.run_id
    for _ in range(2):
        assert give(store, plan, *trackers(plan_config(mlflow=uri))) == ""
    runs = client.search_runs([client.get_experiment_by_name("sweep-1").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 2
    (run,) = [run for run in runs if run.info.run_id == begun]
    found = {name: {m.step: m.value for m in client.get_metric_history(begun, name)} for name in SCALARS}
    assert found == curve
    assert run.data.params["recipe.learning_rate"] == "0.01"
    other = next(run for run in runs if run.info.run_id != begun)
    assert other.data.tags["treatment"] == "only read by others"


@pytest.mark.filterwarnings("ignore")  # of what MLflow calls
def test_what_fails_in_mlflows_database_is_one_line(plan, store, tmp_path, capfd):
    pytest.importorskip("mlflow")
    found = trackers(plan_config(mlflow=f"sqlite:///{tmp_path / 'runs.db'}"))
    capfd.readouterr()
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as database:
        database.execute("alter table metrics rename to others")
    said = give(store, plan, *found)
    assert re.fullmatch(r"mlflow=sqlite:.*runs.db failed, and gets no more .*\n", said)
    assert capfd.readouterr() == ("", "")


def test_wandb_has_a_run_of_each_training(plan, store, tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for _ in range(2):
        assert give(store, plan, *trackers(plan_config(wandb="mine"))) == ""
    trial, _ = expected(store, plan)
    (run,) = (tmp_path / "wandb").glob(f"offline-run-*-1-{trial}")
    content = (run / f"run-1-{trial}.wandb").read_bytes()
    for part in (NAME, "sweep-1", "recipe.learning_rate", "top1", "AnB"):
        assert part.encode() in content
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
    assert capsys.readouterr() == ("", "")


def test_a_disk_that_fills_up_below_wandb_is_one_line(plan, store, tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb").teardown()  # which keeps the folder of the test before
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        patch.setattr(logging.FileHandler, "emit", lambda handler, record: handler.handleError(record))
        board = WandB("full")
        assert give(store, plan, board).splitlines() == [
            "wandb=full failed, and gets no more learning curves of this run: [Errno 28] No space left on device; the "
            "same command writes what is missing"
        ]
    assert capfd.readouterr().err == ""
    assert board.turn_to("sweep-1") == set()
    assert give(store, plan, WandB("full")) == ""
    assert len(board.turn_to("sweep-1")) == 2


def plan_config(**options):
    config = GridConfig()
    for name, value in options.items():
        setattr(config, name, value)
    return config


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
@pytest.mark.parametrize("content", ["raise TypeError('of another protobuf')", "raise OSError('a library is gone')"])
def test_a_package_that_is_installed_by_half_is_one_line(name, content, tmp_path, monkeypatch):
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UserError, match=rf"^{name}=x needs the package {name} \((of another|a library).*\): pip"):
        trackers(plan_config(**{name: "x"}))


def test_a_folder_called_mlflow_is_not_taken_for_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    with pytest.raises(UserError, match=r"^mlflow=x needs the package mlflow \(module 'mlflow' has no attribute 'ent"):
        trackers(plan_config(mlflow="x"))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_package_that_is_missing_is_one_line_with_what_installs_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UserError, match=rf"^{name}=x needs the package {name} \(.*\): pip install 'raytransfer\[{name}\]'$"
    ):
        trackers(plan_config(**{name: "x"}))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("tensorboard=file/board", "tensorboard=.*file/board is no folder that can be made: .*Not a directory"),
        ("tensorboard=file", "tensorboard=.*file is no folder that can be made: .*File exists"),
        ("tensorboard=/proc/board", "tensorboard=/proc/board is no folder that can be made: "),
        ("tensorboard=", "tensorboard= is empty"),
        ("mlflow=", "mlflow= is empty"),
        ("mlflow=https://me:secret@host", "mlflow holds a password, which would end up .* MLFLOW_TRACKING_USERNAME"),
        ("wandb=", "wandb= is empty"),
    ],
)
def test_places_that_cannot_be_are_refused_before_anything_runs(tmp_path, cache_dir, monkeypatch, option, message):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    code, output, error = call(
        "run", "yosinski", *QUICK["yosinski"], "backend=ray", option, folder=tmp_path, cache=cache_dir
    )
    assert (code, len(error.splitlines())) == (2, 1)
    assert re.search(f"^error: {message}", error), error
    assert "Ray" not in output
    assert "secret" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
