"""Whole sweeps of tiny trials: what runs, what is left alone, and what is equal to the bit."""

import functools
import io
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from raytransfer import trials as trial
from raytransfer.config import load_config, to_yaml
from raytransfer.errors import StorageError, UserError
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.experiments.yosinski.report import make_report, results_of
from raytransfer.report.files import write_files
from raytransfer.specs import PretrainSpec, ProbeSpec, Trained, TransferSpec, from_json
from raytransfer.specs.dependencies import checkpoints_read, in_order, needs
from raytransfer.store import (
    Store,
    all_checkpoints,
    compact,
    failures,
    finished,
    load_state,
    load_weights,
    lock,
    publish_failure,
    read_places,
    read_progress,
    read_table,
    save_checkpoint,
    save_state,
    write_places,
    write_progress,
)
from raytransfer.sweep import driver
from raytransfer.sweep.backlog import backlog
from raytransfer.sweep.observer import Observer
from raytransfer.sweep.places import place_rows
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.tasks import load_task
from raytransfer.training import DeviceData
from raytransfer.trials import Site, prepare, site, training
from tests.conftest import TINY
from tests.helpers import REPEATABLE, Page, asked, with_defaults


class Recorder(Observer):
    """An observer that remembers."""

    def __init__(self):
        self.order, self.failures = [], {}

    def started(self, trials):
        self.order.extend(trials)

    def died(self, trial, why):
        raise AssertionError("no process to die")

    def failed(self, trial, reason, skipped):
        self.failures[trial] = skipped


def run(config):
    """Run what is missing, in process; gives the plan, the store and who ran."""
    plan, store, recorder = make_plan(config), Store(config.out), Recorder()
    todo = backlog(plan, store, config.mode)
    store.create()
    site = Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)
    run_in_process(Run(todo.to_run, site, recorder))
    return plan, store, recorder


def repeatable(store):
    return read_table(store, "trials")[REPEATABLE]


@pytest.fixture(scope="module")
def run_once(tmp_path_factory, cache_dir):
    """Run a sweep that several tests look at, and none changes; gives its configuration and what ``run`` gives."""

    @functools.cache
    def run_or_recall(*overrides):
        folder = tmp_path_factory.mktemp("once")
        (folder / "tiny.yaml").write_text(TINY)
        places = [f"cache_dir={cache_dir}", f"data_dir={folder}", f"out={folder / 'out'}"]
        config = load_config(GridConfig, folder / "tiny.yaml", with_defaults(places, overrides))
        return config, *run(config)

    return run_or_recall


def test_rows_say_what_ran(run_once):
    _, plan, store, recorder = run_once()
    assert len(recorder.order) == len(plan.trials) == 2 * (2 + 5 * 2)
    rows = read_table(store, "trials").set_index("id")
    assert rows.notna().all()[["top1", "loss_nats", "train_top1", "wall_time_s", "device", "versions"]].all()
    for identity, spec in plan.trials.items():
        row = rows.loc[identity]
        assert from_json(row["config"]) == spec
        transfer = isinstance(spec, TransferSpec)
        assert row["n_layers"] == (spec.surgery.n_layers if transfer else 0)
        assert row["cut"] == {2: "conv2", 7: "fc7"}[spec.surgery.n_layers] if transfer else pd.isna(row["cut"])
        assert row["steps"] == spec.recipe.steps
        assert row["train_images"] == 25
        weights = next(iter(needs(spec)), None)
        assert row["pretrain_id"] == weights.training.id if weights else pd.isna(row["pretrain_id"])
        assert str(list(spec.task.classes)).strip("[]").replace(",", "") in row["target_task"]


def test_rows_say_the_commit_of_a_checkout_of_this_package_and_of_no_other(tmp_path, monkeypatch):
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "file").write_text("as committed")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()

    def told(place):
        monkeypatch.setattr(site, "__file__", str(tmp_path / place))
        return site._commit.__wrapped__()

    assert told("raytransfer/trials/site.py") == head
    assert told("lib/raytransfer/trials/site.py") is None  # installed somewhere in a checkout of something else
    (tmp_path / "file").write_text("changed")
    assert told("raytransfer/trials/site.py") == f"{head}+"


def test_scores_follow_from_the_curve(tiny):
    _, store, _ = run(tiny("n_layers=[2]", "treatments=[RnB]", "recipe.evaluations=6", "recipe.steps=13"))
    rows = read_table(store, "trials").set_index("id")
    curves = read_table(store, "curves")
    for identity, curve in curves.groupby("id"):
        assert len(curve) == 6
        assert curve["step"].max() == rows.loc[identity, "steps"]
        assert rows.loc[identity, "top1"] == curve.sort_values("step")["top1"].iloc[-1]
        assert pd.isna(rows.loc[identity, "top1_best10"])
    _, store, _ = run(tiny("n_layers=[2]", "treatments=[RnB]", "recipe.evaluations=20", "recipe.steps=20"))
    long = read_table(store, "curves").groupby("id").filter(lambda curve: len(curve) == 20).groupby("id")["top1"]
    assert long.ngroups
    for identity, top1 in long:
        best = read_table(store, "trials").set_index("id").loc[identity, "top1_best10"]
        assert best == pytest.approx(np.sort(top1)[-10:].mean())


def test_copied_layers_equal_the_base_before_the_first_step_and_fresh_ones_do_not(tiny):
    plan, store = make_plan(tiny()), run(tiny("treatments=[baseB]"))[1]
    copies = [spec for spec in plan.trials.values() if needs(spec)]
    for spec in copies:
        data = DeviceData(
            load_task(plan.datasets[spec.task.fingerprint], spec.task), spec.recipe, torch.device("cpu"), 10**9
        )
        network = prepare(spec, store, data)
        base = load_weights(store, spec.weights)
        copied = set(network.first_names(spec.surgery.copied(8)))
        for name, tensor in network.module.state_dict().items():
            if name in copied:
                assert torch.equal(tensor, base[name])
            elif name.endswith("weight"):
                assert not torch.equal(tensor, base[name])
    assert {spec.surgery.frozen for spec in copies} == {True, False}


def test_fresh_layers_do_not_start_where_those_of_the_base_started(tiny):
    still = ["recipe.steps=1", "recipe.learning_rate=1e-12", "recipe.weight_decay=0"]
    plan, store = make_plan(tiny(*still)), run(tiny("treatments=[baseB]", *still))[1]
    spec = next(spec for spec in plan.trials.values() if needs(spec))
    start = load_weights(store, Trained(training=spec.weights.training, step=1))  # as good as untrained
    data = DeviceData(
        load_task(plan.datasets[spec.task.fingerprint], spec.task), spec.recipe, torch.device("cpu"), 10**9
    )
    fresh = prepare(spec, store, data).module.state_dict()
    assert (fresh["fc8.0.weight"] - start["fc8.0.weight"]).abs().mean() > 0.1


def test_treatments_of_a_unit_share_fresh_weights(tiny):
    plan, store = make_plan(tiny()), run(tiny("treatments=[baseB]"))[1]
    unit = [spec for spec in plan.trials.values() if isinstance(spec, TransferSpec) and spec.surgery.n_layers == 2]
    heads = {}
    for spec in unit:
        data = DeviceData(
            load_task(plan.datasets[spec.task.fingerprint], spec.task), spec.recipe, torch.device("cpu"), 10**9
        )
        head = prepare(spec, store, data).module.state_dict()["fc8.0.weight"]
        heads.setdefault(spec.task, []).append(head)
    assert all(len(same) == 5 and all(torch.equal(same[0], other) for other in same) for same in heads.values())


def test_two_sweeps_of_one_plan_are_equal_to_the_bit(tiny, tmp_path):
    stores = [run(tiny("n_layers=[2]", f"out={tmp_path / name}"))[1] for name in ("one", "two")]
    pd.testing.assert_frame_equal(*(repeatable(store) for store in stores), check_exact=True)
    curves = [read_table(store, "curves") for store in stores]
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_a_finished_sweep_has_nothing_to_do(tiny):
    few = "treatments=[baseB,AnB+]"
    run(tiny(few))
    assert run(tiny(few))[2].order == []


def test_an_extended_sweep_runs_only_what_is_new(tiny):
    few = "treatments=[baseB,AnB]"
    plan, store, _ = run(tiny(few))
    old = read_table(store, "trials")
    compact(store)
    for change in ("seeds=2", "n_layers=[2,5,7]", "splits=2"):
        wider, _, recorder = run(tiny(few, change))
        assert set(recorder.order) == set(wider.trials) - set(plan.trials)
    kept = read_table(store, "trials")
    kept = kept[kept["id"].isin(plan.trials)].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, old, check_exact=True)


def test_a_base_shared_by_two_sweeps_is_trained_once(tiny):
    _, _, first = run(tiny("treatments=[AnB]"))
    _, _, second = run(tiny("treatments=[baseB,BnB+]"))
    assert len(first.order) == 2 + 4
    assert len(second.order) == 4


class Killed(BaseException):
    """Stands in for the end of the process: nothing handles it."""


@pytest.mark.parametrize(("moment", "after"), [("save_checkpoint", 1), ("publish", 0), ("publish", 2), ("publish", 5)])
def test_killed_anywhere_and_run_again_is_an_undisturbed_run(tiny, run_once, monkeypatch, moment, after):
    few = ["n_layers=[7]", "treatments=[baseB,BnB+,AnB]"]
    undisturbed = run_once(*few)[2]
    original, calls = getattr(training, moment), []

    def kill(*arguments):
        calls.append(1)
        if len(calls) > after:
            raise Killed("now")
        original(*arguments)

    monkeypatch.setattr(training, moment, kill)
    config = tiny(*few)
    with pytest.raises(Killed, match="now"):
        run(config)
    monkeypatch.undo()
    done = finished(Store(config.out))
    plan, store, recorder = run(config)
    assert not done & set(recorder.order)
    assert done | set(recorder.order) == set(plan.trials)
    pd.testing.assert_frame_equal(repeatable(store), repeatable(undisturbed), check_exact=True)


def break_trial(monkeypatch, condition):
    original = trial.run

    def run_or_raise(spec, *arguments):
        if condition(spec):
            raise RuntimeError("boom")
        original(spec, *arguments)

    monkeypatch.setattr(trial, "run", run_or_raise)


def test_a_failed_base_costs_only_what_copies_it(tiny, monkeypatch):
    few = ["n_layers=[7]", "treatments=[baseB,BnB,AnB+,RnB]"]  # the last of which copies none
    plan = make_plan(tiny(*few))
    bad = next(iter(plan.trials.values()))
    needing = {
        identity for identity, spec in plan.trials.items() if bad in [weights.training for weights in needs(spec)]
    }
    break_trial(monkeypatch, lambda spec: spec == bad)
    _, store, recorder = run(tiny(*few))
    assert {t: set(skipped) for t, skipped in recorder.failures.items()} == {bad.id: needing}
    assert finished(store) == set(plan.trials) - needing - {bad.id}
    assert "RuntimeError: boom" in failures(store)[bad.id]
    monkeypatch.undo()
    assert run(tiny(*few))[2].order == []  # cached: a failure is reported, not repeated
    left = backlog(plan, store, "cached")
    assert (set(left.failed), set(left.blocked)) == ({bad.id}, needing)
    assert backlog(make_plan(tiny("n_layers=[7]", "treatments=[RnB]")), store, "cached").failed == {}  # not its trials
    assert set(run(tiny(*few, "mode=retry"))[2].order) == needing | {bad.id}
    assert finished(store) == set(plan.trials)


def test_a_failure_shows_even_where_the_trial_had_finished(tiny, monkeypatch):
    config = ("treatments=[RnB]", "n_layers=[2]")
    plan, store, _ = run(tiny(*config))
    break_trial(monkeypatch, lambda spec: True)
    run(tiny(*config, "mode=force"))
    assert set(backlog(plan, store, "cached").failed) == set(plan.trials)
    monkeypatch.undo()
    run(tiny(*config, "mode=retry"))
    left = backlog(plan, store, "cached")
    assert not left.failed
    assert not left.to_run


def test_where_failures_are_retried_what_was_only_interrupted_goes_on(tiny):
    config = tiny("treatments=[RnB]", "n_layers=[2]")
    plan, store = make_plan(config), Store(config.out)
    failed, interrupted, *_ = plan.trials
    for identity in (failed, interrupted):
        save_state(store, identity, b"half")
    save_checkpoint(store, interrupted, 3, {})  # which is not written again by what goes on from step 4
    publish_failure(store, failed, "boom")
    assert driver._cleared(plan, store, "retry") == plan.trials
    assert (load_state(store, failed), load_state(store, interrupted)) == (None, b"half")
    assert failures(store) == {}
    assert set(all_checkpoints(store)) == {f"{interrupted}/3"}
    driver._cleared(plan, store, "force")
    assert load_state(store, interrupted) is None
    assert not all_checkpoints(store)


def test_a_driver_that_is_kept_out_of_a_new_store_does_not_say_which_store_it_is(tiny):
    config = tiny()
    plan, store = make_plan(config), Store(config.out)
    with lock(store), pytest.raises(UserError, match="is in use by another sweep"):
        driver.run_missing(Console(quiet=True), plan, store, config, "sweeps/a", Recorder())
    assert store.names("") == []


def test_a_trial_runs_as_the_options_say_and_finds_its_sweep_written_down(tiny, monkeypatch):
    split = ["backend=in-process", "gpus_per_trial=2", "base_gpus_per_trial=4"]
    config = tiny(*split, "treatments=[baseB]", "save_every_s=7", "retry_s=8", "memory_gb=0.5")
    plan, store, sites, killed = make_plan(config), Store(config.out), [], []

    def interrupted(_, site, __):
        sites.append(site)
        raise KeyboardInterrupt

    def look_and_write(*given):
        killed.append(read_progress(store))
        write_places(*given)

    monkeypatch.setattr("raytransfer.sweep.run.attempt", interrupted)
    monkeypatch.setattr(driver, "write_places", look_and_write)
    monkeypatch.setattr(driver, "of_this_machine", lambda: (3, "CPU"))
    with pytest.raises(UserError, match="base_gpus_per_trial=4 must not exceed what one machine has: 3 CPU cores"):
        driver.run_missing(Console(quiet=True), plan, store, config, "sweeps/a", Recorder())
    assert store.names("") == []
    monkeypatch.setattr(driver, "of_this_machine", lambda: (4, "CPU"))
    store.create()
    half = Path(store.place(f"trials/.x.parquet.{'0' * 32}"))
    half.parent.mkdir()
    half.write_bytes(b"half")
    write_progress(store, {"sweep": "killed", "running": {}})
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        driver.run_missing(Console(quiet=True), plan, store, config, "sweeps/a", Recorder())
    (site,) = sites
    assert (site.root, site.sources) == (store.root, plan.sources)
    assert site.store_id is not None
    store.check_identity(site.store_id)
    assert (site.save_every_s, site.retry_s, site.memory_bytes) == (7, 8, 5 * 10**8)
    assert (site.ranks, site.base_ranks) == (2, 4)
    assert store.read("sweeps/a/config.yaml") == to_yaml(config).encode()
    assert set(read_places(store, "sweeps/a")["id"]) == set(plan.trials)
    assert killed == [None]  # else this sweep would be taken for that one
    assert not half.exists()


def test_a_driver_whose_store_is_taken_over_starts_no_other_trial_and_leaves_the_new_one_s_record(tiny, monkeypatch):
    class TakenOver(Recorder):
        def finished(self, trial):
            write_progress(store, {"sweep": "another", "running": {}})
            ended.append(trial)

    @contextmanager
    def lock_that_is_lost(_):
        yield lambda: "taken over" if ended else None

    config, ended, recorder = tiny("treatments=[baseB]"), [], TakenOver()
    plan, store = make_plan(config), Store(config.out)
    monkeypatch.setattr(driver, "lock", lock_that_is_lost)
    with pytest.raises(StorageError, match=r"^taken over$"):
        driver.run_missing(Console(quiet=True), plan, store, config, "sweeps/a", recorder)
    assert recorder.order == ended == list(finished(store))
    assert read_progress(store)["sweep"] == "another"


@pytest.mark.parametrize("mode", ["retry", "force"])
def test_what_fails_is_tried_once_a_command_and_what_finishes_runs_once(tiny, monkeypatch, mode):
    config, tried = tiny("treatments=[RnB]", "n_layers=[2]", f"mode={mode}"), []
    plan, store = make_plan(config), Store(config.out)
    first = next(iter(plan.trials.values()))
    break_trial(monkeypatch, lambda spec: tried.append(spec.id) or spec == first)
    driver.run_missing(Console(quiet=True), plan, store, config, "sweeps/a", Recorder())
    assert sorted(tried) == sorted(plan.trials)
    assert set(failures(store)) == {first.id}


def test_weights_are_said_to_be_trained_anew_as_often_as_they_are(monkeypatch, tiny):
    said, ran = io.StringIO(), []
    monkeypatch.setattr(driver, "_run", lambda *_: ran.append(1) or SimpleNamespace(failures=1))
    monkeypatch.setattr(driver, "backlog", lambda *_: SimpleNamespace(to_run={"a": None}))
    driver.run_missing(Console(file=said), None, None, tiny("backend=in-process"), "sweeps/a", Recorder())
    assert len(ran) == 3
    assert said.getvalue().count("Still to run: 1 trial") == 2


@pytest.mark.parametrize("probes", ["probes=[]", "probes=[deviation]"])
def test_weights_that_another_sweep_is_left_to_read_are_kept_until_it_has(tiny, probes):
    def ran(plan, folder):
        driver.run_missing(Console(quiet=True), plan, store, config, folder, Recorder())
        return set(all_checkpoints(store))

    few = ["treatments=[baseB,AnB]", "n_layers=[2]", "directions=[A->B]"]
    config = tiny(*few, probes)
    store, plan, other = Store(config.out), make_plan(config), make_plan(tiny(*few, "probes=[loss-variation]"))
    write_places(store, "sweeps/interrupted", place_rows(other))
    store.write("sweeps/damaged/places.parquet", b"PAR1")  # which stops no other sweep
    kept = ran(plan, "sweeps/a")
    looks = {trial for trial, spec in other.trials.items() if isinstance(spec, ProbeSpec)}
    assert {name for spec in other.trials.values() for name in checkpoints_read(spec)} == kept
    assert set(backlog(other, store, "cached").to_run) == looks
    bases = {f"{trial}/6" for trial, spec in other.trials.items() if isinstance(spec, PretrainSpec)}
    assert bases < kept
    assert ran(other, "sweeps/interrupted") == bases


def test_a_base_keeps_its_weights_for_sweeps_to_come(tiny):
    bases, _, _ = run(tiny("treatments=[baseB]"))
    _, _, recorder = run(tiny("treatments=[baseB,BnB]"))
    assert len(recorder.order) == 4
    assert not set(recorder.order) & set(bases.trials)


def test_a_diverged_network_is_a_failure_with_its_reason(tiny):
    plan, store, recorder = run(tiny("treatments=[baseB]", "directions=[A->B]", "recipe.learning_rate=1e9"))
    assert set(recorder.failures) == set(plan.trials)
    assert "training diverged: its loss is" in next(iter(failures(store).values()))


def test_what_a_schedule_or_crop_does_not_use_is_no_other_run(tiny):
    plain = set(make_plan(tiny()).trials)
    assert set(make_plan(tiny("recipe.crop_px=8")).trials) == plain
    stepped = tiny("recipe.gamma=0.5", "recipe.milestones=[0.5]", "recipe.schedule=step")
    assert not set(make_plan(stepped).trials) & plain


def test_force_runs_everything_again(tiny):
    few = ["n_layers=[2]", "treatments=[baseB,AnB,RnB]"]
    plan, store, _ = run(tiny(*few))
    before = read_table(store, "trials")
    compact(store)
    _, _, recorder = run(tiny(*few, "mode=force"))
    assert set(recorder.order) == set(plan.trials)
    after = read_table(store, "trials")
    assert (after["finished_at"] > before["finished_at"].max()).all()
    pd.testing.assert_frame_equal(after[REPEATABLE], before[REPEATABLE], check_exact=True)


def test_a_base_whose_weights_are_gone_runs_again_when_they_are_needed(tiny):
    plan, store, _ = run(tiny("treatments=[AnB]", "directions=[A->B]"))
    (base,) = [identity for identity, spec in plan.trials.items() if not needs(spec)]
    Path(store.place(f"checkpoints/{base}/6.safetensors")).unlink()
    assert run(tiny("treatments=[AnB]", "directions=[A->B]"))[2].order == []
    wider = tiny("treatments=[AnB]", "directions=[A->B]", "n_layers=[2,3,7]")
    assert len(run(wider)[2].order) == 2
    assert Path(store.place(f"checkpoints/{base}/6.safetensors")).exists()


def test_a_trial_in_two_cells_counts_in_both(tiny, tmp_path):
    lists = "halves={A: [0,1,2,3,4], B: [5,6,7,8,9]}"
    other = "halves={A: [0,1,2,3,4], B: [5,6,7,8]}"  # shares half A
    config = tiny("treatments=[baseB]", lists)
    config.halves += tiny(other).halves
    plan, store, _ = run(config)
    assert (len(plan.cells), len(plan.trials)) == (4, 3)
    results = results_of(plan.cells, store)
    assert results["id"].nunique() == 3
    assert len(results) == 4
    assert results.groupby("id").size().max() == 2


def test_the_report_is_one_row_a_cell_and_two_pictures(run_once):
    config, plan, store, _ = run_once()
    report = make_report(plan, store, config)
    files = write_files(report, store, folder="grid", cells=plan.cells, asked=asked(config="seeds: 1\n"), places=[])
    assert len(report.frames["results"]) == len(plan.cells) == 24
    stored = pd.read_parquet(files["results.parquet"])
    assert stored["treatment"].value_counts().to_dict() == {
        "baseB": 2,
        "baseB-2x": 2,
        **dict.fromkeys(("BnB", "BnB+", "AnB", "AnB+", "RnB"), 4),
    }
    for name in ("points.png", "lines.png"):
        assert Path(files[name]).read_bytes().startswith(b"\x89PNG")
    assert Path(files["readings.pdf"]).read_bytes().startswith(b"%PDF")
    assert Path(files["config.yaml"]).read_text() == "seeds: 1\n"
    page = Page(Path(files["report.html"]).read_text())
    assert page.faults == []
    assert "24 of 24 finished" in page.text
    assert "torch" in page.text
    runs = [told for told in page.titles if re.match(r"AnB, n = 2: .*seed 0", told)]
    assert len(runs) == 2 * 2  # in two panels
    assert all(sentence in page.text for sentence in report.answer)
    assert {"1 unit, too few for an interval"} == set(re.findall(r"\d units?, too few for an interval", page.text))


def test_order_is_longest_first_after_the_bases(tiny):
    specs = list(in_order(cell.spec for cell in make_plan(tiny()).cells).values())
    lengths = [(spec.recipe.steps, -spec.surgery.frozen_layers) for spec in specs]
    assert set(lengths) == {(12, 0), (6, 0), (6, -2), (6, -7)}
    assert lengths[2:] == sorted(lengths[2:], reverse=True)
    assert Run({}, None, Recorder()).unfinished == 0


def test_fixed_halves_can_have_treatments_of_their_own(tiny):
    lists = "halves=[random,{A: [0,1,2,3,4], B: [5,6,7,8,9]}]"
    plan = make_plan(tiny(lists, "fixed_treatments=[baseB,AnB]"))
    found = {(cell.halves == "random", cell.treatment) for cell in plan.cells}
    assert {treatment for random, treatment in found if random} == set(tiny().treatments)
    assert {treatment for random, treatment in found if not random} == {"baseB", "AnB"}
