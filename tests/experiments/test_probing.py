"""Probes as trials of a sweep: they change nothing, need no training again, and refuse what cannot be."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from raytransfer.config import load_config
from raytransfer.errors import UserError
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.experiments.yosinski.report import make_report
from raytransfer.probes import PROBES
from raytransfer.report.files import write_files
from raytransfer.report.rows import probe_readings
from raytransfer.specs import PretrainSpec, ProbeSpec, Trained, TransferSpec, from_json
from raytransfer.specs.dependencies import in_order, needs
from raytransfer.store import Store, load_weights, publish_failure, read_table, save_checkpoint, stored_steps
from raytransfer.sweep.backlog import backlog
from raytransfer.sweep.queue import Queue
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.trials import Site
from raytransfer.trials.probing import run_probe
from raytransfer.trials.training import run_training
from tests.conftest import TINY
from tests.helpers import REPEATABLE, Quiet, asked

SMALL = ["n_layers=[2]", "treatments=[baseB,AnB,AnB+]", "directions=[A->B]"]
ALL = f"probes=[{','.join(PROBES)}]"
FEW = ["probe_images=12", "eigenvalues=2"]


def site_of(plan, store):
    return Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)


def run(config):
    plan, store, recorder = make_plan(config), Store(config.out), Quiet()
    store.create()
    todo = backlog(plan, store, config.mode).to_run
    run_in_process(Run(todo, site_of(plan, store), recorder, keep_checkpoints=config.checkpoints == "all"))
    return plan, store, [plan.trials[trial] for trial in recorder.begun]


@pytest.fixture(scope="module")
def all_probes(tmp_path_factory, cache_dir):
    """A sweep with every probe: its plan and its store."""
    root = tmp_path_factory.mktemp("probed")
    (root / "tiny.yaml").write_text(TINY)
    places = [f"cache_dir={cache_dir}", f"data_dir={root}", f"out={root / 'out'}"]
    options = [*SMALL, ALL, *FEW, "landscape_points=3", "probe_steps=[0,3,last]", "checkpoints=all"]
    plan, store, _ = run(load_config(GridConfig, root / "tiny.yaml", [*places, *options]))
    return plan, store


def test_probes_leave_weights_and_results_as_they_are_without_them(tiny, all_probes):
    plain, store, _ = run(tiny(*SMALL, "checkpoints=all"))
    _, probed = all_probes
    with_probes = read_table(probed, "trials")
    with_probes = with_probes[with_probes["id"].isin(plain.trials)].reset_index(drop=True)  # but for the twins
    pd.testing.assert_frame_equal(read_table(store, "trials")[REPEATABLE], with_probes[REPEATABLE])
    for spec in plain.trials.values():
        weights = Trained(training=spec, step=spec.recipe.steps)
        before, after = (load_weights(place, weights) for place in (store, probed))
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_probe_leaves_readings_that_lead_to_its_network(all_probes, tiny):
    plan, store = all_probes
    readings = probe_readings(plan.cells, store)
    assert set(readings["probe"]) == set(PROBES)
    assert readings["value"].notna().all()
    rows = read_table(store, "probes").set_index("id")
    for identity, row in rows.iterrows():
        assert from_json(row["config"]) == plan.trials[identity]
        assert plan.trials[identity].revision == PROBES[row["probe"]].revision
        trained = plan.trials[row["trained_id"]]
        told = {"target_task": trained.task.label, "n_layers": 0}
        if isinstance(trained, TransferSpec):
            surgery = trained.surgery
            told |= {"base_task": trained.weights.label, "n_layers": surgery.n_layers, "frozen": surgery.frozen}
        assert row[["base_task", "target_task", "n_layers", "frozen"]].dropna().to_dict() == told
    steps = readings.groupby("probe")["step"].agg(set)
    assert steps["generalisation"] == steps["gradient-scale"] == {0, 3, 6}
    assert steps["flatness"] == steps["deviation"] == {3, 6}
    assert steps["landscape"] == steps["path"] == {6}
    assert steps["initial-landscape"] == {0}
    tops = readings[(readings["quantity"] == "test top1") & (readings["step"] == 6)].set_index("trained_id")["value"]
    finals = read_table(store, "trials").set_index("id")["top1"]
    assert tops.to_dict() == pytest.approx(finals.loc[tops.index].to_dict())
    frozen = rows[rows["frozen"].eq(True) & rows["probe"].eq("deviation")].index
    of_frozen = read_table(store, "readings").set_index("id").loc[frozen]
    of_frozen = of_frozen[of_frozen["quantity"] == "deviation"]
    assert (of_frozen.loc[of_frozen["stage"].isin(["conv1", "conv2"]), "value"] == 0).all()
    assert (of_frozen.loc[of_frozen["stage"] == "conv3", "value"] > 0).all()
    report = make_report(plan, store, tiny(*SMALL))
    files = write_files(report, store, folder="probed", cells=plan.cells, asked=asked(), places=[])
    assert len(pd.read_parquet(files["probe_readings.parquet"])) == len(readings)
    assert f"probe_readings ({len(readings)} rows)" in Path(files["report.html"]).read_text(encoding="utf-8")
    assert "n_layers" in pd.read_parquet(files["readings.parquet"])  # the readings of 2014 keep their file


def test_probes_of_kept_checkpoints_train_nothing(tiny):
    run(tiny(*SMALL, "checkpoints=all"))
    _, _, ran = run(tiny(*SMALL, "probes=[flatness,gradient-scale]", *FEW))
    assert {type(spec) for spec in ran} == {ProbeSpec}
    assert len(ran) == 2 * 3


def test_what_is_measured_is_measured_in_fp32_whatever_trainings_round_to(tiny, monkeypatch):
    allowed = {}  # by kind of trial, whether a GPU's convolutions may compute in TF32

    def noting(kind, work):
        def run_it(*arguments):
            allowed.setdefault(kind, set()).add(torch.backends.cudnn.allow_tf32)
            return work(*arguments)

        return run_it

    monkeypatch.setattr("raytransfer.trials.run_training", noting("training", run_training))
    monkeypatch.setattr("raytransfer.trials.probing.run_probe", noting("probe", run_probe))
    _, _, ran = run(tiny(*SMALL, "probes=[generalisation]"))
    assert {type(spec) for spec in ran} == {PretrainSpec, TransferSpec, ProbeSpec}
    assert allowed == {"training": {True}, "probe": {False}}


def test_a_checkpoint_goes_once_everything_has_read_it(tiny):
    plan, store, _ = run(tiny(*SMALL, "probes=[deviation,path]", "probe_steps=[3,last]"))
    for trial, spec in plan.trials.items():
        kept = {spec.recipe.steps} if isinstance(spec, PretrainSpec) else set()
        assert stored_steps(store, trial) == kept


def test_weights_that_are_gone_are_trained_again_with_what_they_copy(tiny):
    plan, store, _ = run(tiny(*SMALL))
    probed = make_plan(tiny(*SMALL, "probes=[flatness]", *FEW))
    base = next(spec for spec in plan.trials.values() if isinstance(spec, TransferSpec)).weights.training
    store.delete(f"checkpoints/{base.id}/{base.recipe.steps}.safetensors")
    again = backlog(probed, store, "cached").to_run.values()
    assert base in again
    assert {type(spec) for spec in again} == {PretrainSpec, TransferSpec, ProbeSpec}


def test_what_reads_the_weights_of_a_failed_base_waits_with_it(tiny):
    plan, store = make_plan(tiny(*SMALL, "probes=[flatness]", *FEW)), Store(tiny().out)
    store.create()
    base = next(spec for spec in plan.trials.values() if isinstance(spec, TransferSpec)).weights.training
    publish_failure(store, base.id, "no more memory")
    left = backlog(plan, store, "cached")
    transfers = {trial for trial, spec in plan.trials.items() if isinstance(spec, TransferSpec)}
    probes = {t for t, s in plan.trials.items() if isinstance(s, ProbeSpec) and isinstance(s.trained, TransferSpec)}
    assert set(left.blocked) == transfers | probes
    assert not set(left.blocked) & set(left.to_run)


def stage_specs(tiny):
    """A base, and transfers from its steps 0, 3 and 6."""
    transfer = next(s for s in make_plan(tiny(*SMALL)).trials.values() if isinstance(s, TransferSpec))
    base = transfer.weights.training
    return base, [replace(transfer, weights=Trained(training=base, step=step)) for step in (0, 3, 6)]


def test_a_trial_can_start_once_the_checkpoints_it_reads_are_there(tiny):
    base, transfers = stage_specs(tiny)
    queue = Queue(in_order(transfers))
    assert queue.next() == base.id
    assert queue.next() is None
    assert queue.awaited(base.id) == {0, 3, 6}
    queue.arrive(base.id, 3)
    assert queue.next() == transfers[1].id
    assert queue.next() is None
    assert set(queue.fail(base.id)) == {transfers[0].id, transfers[2].id}
    assert queue.unfinished == {transfers[1].id}


def test_transfers_start_from_early_checkpoints_while_their_base_still_trains(tiny):
    base, transfers = stage_specs(tiny)
    plan, store = make_plan(tiny(*SMALL)), Store(tiny().out)
    sweep = Run(in_order(transfers), site_of(plan, store), Quiet())
    assert sweep.next() == [base.id]
    assert sweep.next() == []
    save_checkpoint(store, base.id, 0, {"weight": torch.zeros(1)})
    sweep._looked = float("-inf")  # the store is looked at once a second
    assert sweep.next() == [transfers[0].id]
    sweep.end(base.id, None)
    assert {trial for _ in range(2) for trial in sweep.next()} == {transfers[1].id, transfers[2].id}
    sweep.end(transfers[0].id, None)
    assert stored_steps(store, base.id) == set()


def test_a_probe_needs_the_networks_it_compares(tiny):
    plan = make_plan(tiny(*SMALL, "probes=[CKA,deviation]"))
    looks = [spec for spec in plan.trials.values() if isinstance(spec, ProbeSpec)]
    for look in looks:
        if look.probe == "deviation":
            assert needs(look) == [Trained(training=look.trained, step=6), Trained(training=look.trained, step=0)]
        elif look.against == "base":
            assert needs(look)[1] == look.trained.weights
        elif look.against == "scratch":
            assert needs(look)[1].training.task == look.trained.task
        else:
            assert needs(look)[1].training.seed != look.trained.seed
    against = [(look.against, type(look.trained)) for look in looks if look.probe == "CKA"]
    assert set(against) == {
        ("twin", PretrainSpec),
        ("twin", TransferSpec),
        ("base", TransferSpec),
        ("scratch", TransferSpec),
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["probes=[flat]"], r"probes has flat, which is not known; choose from generalisation, deviation, flatness"),
        (["probes=[path,path]"], r"probes=\['path', 'path'\] must name each once"),
        (["probes=[flatness]", "probe_steps=[7]"], r"probe_steps has 7, which no training reaches: .* 0\.\.6"),
        (["probes=[flatness]", "probe_steps=[end]"], r"probe_steps has end, .* or is last"),
        (["probes=[path]", "probe_steps=[0,3]"], r"leave out step 6, the last, and path looks there alone: add last"),
        (["probes=[landscape]", "probe_steps=[0]"], r"leave nothing for landscape: before step 1 the head has not"),
        (["probes=[flatness]", "eigenvalues=100000"], r"eigenvalues=100000 must not exceed .* convnet8 has \d{5} "),
        (["landscape_points=4"], r"landscape_points=4 must be odd and at least 3"),
        (["probe_images=3"], r"probe_images=3 must lie in 4\.\."),
        (["checkpoints=some"], r"checkpoints=some is not known; choose from needed, all"),
    ],
)
def test_probes_that_cannot_be_are_refused_before_training(tiny, overrides, message):
    with pytest.raises(UserError, match=message):
        make_plan(tiny(*SMALL, *overrides))


def test_a_probe_that_a_network_does_not_support_is_refused(tiny, monkeypatch):
    def unsupported(subject):
        raise RuntimeError("derivative for max_pool is not implemented")

    monkeypatch.setitem(PROBES, "path", type(PROBES["path"])(function=unsupported, steps="solution", meaning=""))
    with pytest.raises(UserError, match=r"probes=path does not work on network=convnet8: derivative for max_pool"):
        make_plan(tiny(*SMALL, "probes=[path]"))
