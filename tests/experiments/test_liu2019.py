"""The sweeps of Liu et al. 2019, tiny: what they lay out, what they refuse, and what they report."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from raytransfer.config import load_config, to_yaml
from raytransfer.errors import UserError
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.checkpoints.cells import spaced_steps, with_drops
from raytransfer.experiments.checkpoints.config import CheckpointsConfig
from raytransfer.experiments.mechanisms.config import MechanismsConfig
from raytransfer.experiments.theory import report as theory_report
from raytransfer.experiments.theory.config import TheoryConfig
from raytransfer.networks import build
from raytransfer.report.console import show_answer, show_places, show_tables
from raytransfer.report.files import write_files
from raytransfer.specs import DistanceSpec, NetworkSpec, PretrainSpec, ProbeSpec, Recipe, SimulationSpec, TransferSpec
from raytransfer.store import Store, import_weights, read_table
from raytransfer.sweep.backlog import backlog
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.trials import Site, simulating
from tests.analysis.test_theory import simulations
from tests.helpers import Page, Quiet, asked

pytestmark = pytest.mark.usefixtures("no_pictures")

YAML = {
    CheckpointsConfig: """
data: digits
tasks: {low: {classes: [0, 1, 2]}, high: {classes: [3, 4, 5]}}
targets: [low]
bases: [high]
train_per_class: 4
base_per_class: 6
seeds: 2
n_layers: [2]
base_steps: 8
base_milestones: [0.5]
base_checkpoints: 3
recipe: {steps: 4, batch_size: 8, learning_rate: 0.01, evaluations: 1}
""",
    MechanismsConfig: """
data: digits
tasks: {low: {classes: [0, 1, 2]}, high: {classes: [3, 4, 5]}}
targets: [low]
bases: [high]
dials: {shuffle_px: [2]}
train_per_class: 4
seeds: 2
n_layers: [7]
probes: [generalisation, flatness, landscape, path]
probe_steps: [0, 2, last]
probe_images: 12
eigenvalues: 2
landscape_points: 3
recipe: {steps: 4, batch_size: 8, learning_rate: 0.01, evaluations: 1}
""",
    TheoryConfig: """
data: digits
tasks: {Q: {classes: all, merged: 2}}
bases: []
dials: {noise: [50], random_labels: [1]}
images: 8
widths: [20, 200]
seeds: 2
""",
}
OF = {experiment.config: experiment for experiment in EXPERIMENTS.values()}


@pytest.fixture
def tiny(tmp_path, cache_dir):
    def configure(kind, *overrides):
        yaml = tmp_path / f"{kind.__name__}.yaml"
        yaml.write_text(YAML[kind])
        places = [f"cache_dir={cache_dir}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}"]
        given = {override.partition("=")[0] for override in overrides}
        return load_config(kind, yaml, [*(p for p in places if p.partition("=")[0] not in given), *overrides])

    return configure


def run_and_report(config):
    """Run what is missing and report; gives what was printed and the folder of the report."""
    experiment, store = OF[type(config)], Store(config.out)
    plan = experiment.plan(config)
    store.create()
    site = Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)
    run_in_process(Run(backlog(plan, store, "cached").to_run, site, Quiet()))
    console = Console(file=io.StringIO(), width=160)
    report = experiment.report(plan, store, config)
    asked_for = asked(config=to_yaml(config))
    files = write_files(report, store, folder="sweeps/sweep", cells=plan.cells, asked=asked_for, places=[])
    show_tables(console, report)
    show_places(console, report, store, files)
    show_answer(console, report)
    (folder,) = Path(config.out, "sweeps").iterdir()
    page = Page((folder / "report.html").read_text())
    assert page.faults == []
    assert report.answer
    assert all(sentence in page.text for sentence in report.answer)
    assert (
        set(report.figures)
        == {path.stem for path in folder.glob("*.pdf")}
        == set(report.captions) & set(report.figures)
    )
    return console.file.getvalue(), folder


def test_steps_to_transfer_from_are_evenly_spaced_on_a_logarithmic_axis():
    assert spaced_steps(1000, 5) == [0, 1, 10, 100, 1000]
    assert spaced_steps(3, 12) == [0, 1, 2, 3]
    assert spaced_steps(50, 2) == [0, 50]
    assert with_drops([0, 1000], 1000, [0.5, 0.98]) == [0, 500, 550, 980, 1000]


def test_the_sweep_along_pretraining_lays_out_both_arms_at_every_checkpoint(tiny):
    plan = EXPERIMENTS["checkpoints"].plan(tiny(CheckpointsConfig))
    bases = [spec for spec in plan.trials.values() if isinstance(spec, PretrainSpec)]
    assert {(base.recipe.schedule, base.recipe.steps) for base in bases} == {
        ("step", 8),
        ("cosine", 8),
        ("constant", 8),
    }
    assert {(base.recipe.schedule, base.recipe.milestones) for base in bases} == {
        ("step", (0.5,)),
        ("cosine", ()),
        ("constant", ()),
    }
    transfers = [spec for spec in plan.trials.values() if isinstance(spec, TransferSpec)]
    steps = {0, 1, 4, 5, 8}  # 5 because the rate drops after 4
    assert {spec.weights.step for spec in transfers} == steps
    assert len(transfers) == len(bases) * len(steps) * 2
    assert {(spec.recipe.schedule, spec.recipe.steps) for spec in transfers} == {("cosine", 4)}
    looks = [spec for spec in plan.trials.values() if isinstance(spec, ProbeSpec)]
    assert len(looks) == len(bases) * len(steps)
    assert all(look.seed == look.trained.seed for look in looks)


def test_how_far_a_rate_drops_is_of_trainings_alone_whose_rate_drops(tiny):
    plan = EXPERIMENTS["checkpoints"].plan(tiny(CheckpointsConfig, "recipe.gamma=0.3"))
    gammas = {
        (type(spec), spec.recipe.schedule, spec.recipe.gamma)
        for spec in plan.trials.values()
        if not isinstance(spec, ProbeSpec)
    }
    assert gammas == {
        (PretrainSpec, "step", 0.3),
        (PretrainSpec, "cosine", Recipe.gamma),
        (PretrainSpec, "constant", Recipe.gamma),
        (TransferSpec, "cosine", Recipe.gamma),
    }


def test_without_a_step_schedule_no_steps_are_added_around_drops(tiny):
    plan = EXPERIMENTS["checkpoints"].plan(tiny(CheckpointsConfig, "schedules=[cosine]"))
    assert {spec.weights.step for spec in plan.trials.values() if isinstance(spec, TransferSpec)} == {0, 1, 8}


def test_the_sweep_along_pretraining_reports_what_the_store_holds(tiny):
    config = tiny(CheckpointsConfig, "schedules=[step,constant]", "probes=[generalisation]")
    printed, folder = run_and_report(config)
    assert "Does transfer rise, then decline?" in printed
    assert "Drops of the learning rate" in printed
    assert "Verdicts" in printed
    assert "Every transfer of the sweep, one row each (bases.parquet: the bases' own accuracy), in pandas:" in printed
    assert " along pretraining: too few units: " in printed
    assert "convnet8 on digits: 1 pair x 2 seeds." in (folder / "report.html").read_text()
    outcomes, bases = (pd.read_parquet(folder / f"{name}.parquet") for name in ("outcomes", "bases"))
    assert len(outcomes) == 2 * 2 * 5 * 2
    assert len(bases) == 2 * 2 * 5
    trained = read_table(Store(config.out), "trials").set_index("id")[["top1", "train_top1"]]
    last = bases[bases["step"] == 8].set_index(["schedule", "seed"])[["top1", "train_top1"]]
    for cell in EXPERIMENTS["checkpoints"].plan(config).cells:
        if cell.treatment == "baseA":
            assert last.loc[cell.schedule, cell.seed].to_dict() == trained.loc[cell.spec.id].to_dict()
    drops = pd.read_parquet(folder / "drop_effects.parquet")
    assert set(zip(drops["drop_step"], drops["before_step"], drops["after_step"], strict=True)) == {(4, 4, 5)}
    looked_at = pd.read_parquet(folder / "probe_readings.parquet")["trained_id"].nunique()
    assert looked_at == 2 * 2 + len(outcomes)
    # Until the drop, both schedules train the same network and give the same transfers.
    early = outcomes[outcomes["pretrain_step"] <= 4]
    by_schedule = early.pivot(index=["seed", "treatment", "pretrain_step"], columns="schedule", values="top1")
    assert (by_schedule["step"] == by_schedule["constant"]).all()
    curves = pd.read_parquet(folder / "curves.parquet").set_index(["schedule", "treatment", "pretrain_step"])
    chosen = outcomes[(outcomes["schedule"] == "step") & (outcomes["treatment"] == "AnB")]
    assert curves.loc[("step", "AnB", 8), "mean"] == pytest.approx(chosen[chosen["pretrain_step"] == 8]["top1"].mean())
    assert (folder / "checkpoints.png").exists()


def test_fine_tuned_and_scratch_networks_are_compared_and_judged(tiny):
    printed, folder = run_and_report(tiny(MechanismsConfig))
    assert "Claim: flatter minima" in printed
    assert "Verdicts" in printed
    readings = pd.read_parquet(folder / "probe_readings.parquet")
    assert set(readings["treatment"]) == {"baseB", "AnB+", "restart"}
    assert set(readings["base"].dropna()) == {"high", "unchanged", "shuffle_px=2"}
    compared = pd.read_parquet(folder / "comparisons.parquet")
    barriers = readings[readings["quantity"] == "barrier"].fillna({"base": ""})
    seen = barriers.set_index(["treatment", "against", "base", "seed"])["value"].sort_index()
    for start, against, scratch in (("one start", "twin", "restart"), ("two starts", "cousin", "baseB")):
        test = compared[(compared["test"] == f"barrier from {start} at the last step") & (compared["base"] == "high")]
        tuned, own = seen.loc[("AnB+", against, "high")], seen.loc[(scratch, "twin", "")]
        assert len(tuned) == len(own) == 2
        assert test["estimate"].item() == pytest.approx((tuned - own).mean())
    assert len(pd.read_parquet(folder / "barriers.parquet")) == 2 * 4
    assert "Barrier of the loss on the line between two networks" in printed
    assert "flatter minima" in (folder / "verdicts.md").read_text()
    for name in ("comparisons", "training", "landscapes", "paths"):
        assert (folder / f"{name}.png").exists()
    assert not (folder / "gradients.png").exists()  # its probes were not asked for


def test_a_network_without_its_last_look_is_not_compared_at_an_earlier_one(tiny):
    config = tiny(MechanismsConfig, "probes=[deviation]", "probe_steps=[2,last]", "dials={}")
    experiment, store = OF[MechanismsConfig], Store(config.out)
    plan = experiment.plan(config)
    store.create()
    missing = backlog(plan, store, "cached").to_run
    (lost,) = [
        name
        for name, spec in missing.items()
        if isinstance(spec, ProbeSpec) and isinstance(spec.trained, PretrainSpec) and (spec.step, spec.seed) == (4, 0)
    ]
    site = Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)
    run_in_process(Run({name: spec for name, spec in missing.items() if name != lost}, site, Quiet()))
    frames = experiment.report(plan, store, config).frames
    assert set(frames["effects"]["seed"]) == {1}
    assert frames["probe_readings"]["value"].notna().all()


def test_pairs_of_one_start_and_of_two_are_trained_for_both_kinds_of_networks(tiny):
    plan = EXPERIMENTS["mechanisms"].plan(tiny(MechanismsConfig, "n_layers=[2,7]", "dials={}", "seeds=1"))
    looks = [spec for spec in plan.trials.values() if isinstance(spec, ProbeSpec) and spec.probe == "path"]
    (start,) = {look.trained for look in looks if isinstance(look.trained, PretrainSpec)}
    kinds = {}
    for look in looks:
        first, second = look.trained, look.other.training
        assert first.seed != second.seed
        assert first.task == second.task
        copied = [each.weights if isinstance(each, TransferSpec) else None for each in (first, second)]
        step = copied[0] and copied[0].step
        n = copied[0] and first.surgery.n_layers
        kinds[look.against, step, n] = copied[0] == copied[1]
        if step == 0:
            assert copied[0].training == start
        if look.against == "cousin":
            bases = [weights.training for weights in copied]
            assert bases[0].task == bases[1].task
            assert bases[0].seed != bases[1].seed
    assert kinds == {
        ("twin", None, None): True,  # nothing is copied: two initialisations
        ("twin", 0, 7): True,  # one initialisation
        ("twin", 4, 7): True,  # one base
        ("cousin", 4, 7): False,  # two bases
        ("twin", 4, 2): True,
    }


def test_bases_that_one_dial_makes_of_several_targets_have_one_name(tiny):
    plan = EXPERIMENTS["mechanisms"].plan(tiny(MechanismsConfig, "targets=all", "bases=[]", "dials={shuffle_px: [2]}"))
    tuned = {(cell.target, cell.base) for cell in plan.cells if cell.treatment == "AnB+"}
    assert tuned == {(target, base) for target in ("low", "high") for base in ("unchanged", "shuffle_px=2")}


def test_weights_of_others_need_no_base(tiny, tmp_path):
    network = build(NetworkSpec(name="resnet18"), image=(3, 32, 32), classes=3, seed=0)
    torch.save(network.module.state_dict(), tmp_path / "mine.pth")
    weights = (
        f"weights={{network: resnet18, weights: {tmp_path / 'mine.pth'}, mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}}"
    )
    config = tiny(MechanismsConfig, weights, "image_size_px=32", "seeds=1", "probes=[deviation]")
    plan = EXPERIMENTS["mechanisms"].plan(config)
    trainings = {(cell.treatment, cell.target, cell.base) for cell in plan.cells if "probe" not in cell.treatment}
    assert trainings == {("baseB", "low", None), ("AnB+", "low", "resnet18@mine.pth")}
    store = Store(config.out)
    store.create()
    for state in plan.imports.values():
        import_weights(store, state)
    printed, folder = run_and_report(config)
    assert "Claim: weights stay near" in printed
    assert set(pd.read_parquet(folder / "comparisons.parquet")["base"]) == {"resnet18@mine.pth"}
    assert plan.network == "resnet18"  # which figures are headed with, whatever the option network says
    with pytest.raises(UserError, match="dials is given and would change nothing: it takes weights=null"):
        tiny(MechanismsConfig, weights, "dials={shuffle_px: [2]}")


def test_only_compared_networks_are_looked_at(tiny):
    plan = EXPERIMENTS["mechanisms"].plan(tiny(MechanismsConfig))
    looks = [spec for spec in plan.trials.values() if isinstance(spec, ProbeSpec)]
    assert {type(look.trained) for look in looks} == {PretrainSpec, TransferSpec}
    assert {look.trained.task.label_count for look in looks} == {3}
    assert {look.trained.task.train_per_class for look in looks} == {4}  # the target's, not the bases' own
    assert sum(isinstance(spec, DistanceSpec) for spec in plan.trials.values()) == 3 * 2


def test_simulations_say_what_differs_and_how_far_the_weights_moved(tiny):
    printed, folder = run_and_report(tiny(TheoryConfig))
    assert "Distance moved / bound" in printed
    rows = pd.read_parquet(folder / "simulations.parquet")
    assert len(rows) == 2 * 3 * 2
    assert set(zip(rows["kind"], rows["dial"], rows["level"], strict=True)) == {
        ("none", "", 0.0),
        ("input", "noise", 50.0),
        ("label", "random_labels", 1.0),
    }
    same = rows[rows["kind"] == "none"]
    assert (same["distance"] < 1e-3).all()
    assert (rows[rows["kind"] != "none"]["distance"] > 0.1).all()
    assert (folder / "theory.png").exists()


def test_the_answer_says_from_which_width_on_the_bound_is_met(tiny, monkeypatch):
    config = tiny(TheoryConfig)
    for spread, said in ((0.01, "from width 100 on"), (0.5, "from no width on")):  # of the widest alone
        rows = simulations((1.0, 1.0, 1.0), bases=("blur2",))
        widest = rows["width"] == rows["width"].max()
        rows.loc[widest, "distance"] *= 1 + spread * np.array([-1, 1, -1, 1])
        monkeypatch.setattr(theory_report, "_rows", lambda *_, rows=rows: rows)
        found = EXPERIMENTS["theory"].report(EXPERIMENTS["theory"].plan(config), Store(config.out), config)
        (sentence,) = found.answer
        assert sentence.endswith(f"the interval lies within 0.9 to 1.1 {said}.")


def test_simulations_train_on_images_of_unit_range_and_labels_of_both_signs(tiny):
    plan = EXPERIMENTS["theory"].plan(tiny(TheoryConfig, "widths=[20]", "seeds=1", "dials={noise: [50]}"))
    assert {type(spec) for spec in plan.trials.values()} == {SimulationSpec}
    site = Site(sources=plan.sources, root="unused", device="cpu", memory_bytes=0)
    for spec in plan.trials.values():
        pixels, labels = simulating._images(spec, spec.target, site)
        assert pixels.shape == (8, 64)
        assert 0 <= pixels.min() < pixels.max() <= 1
        assert set(labels) == {-1.0, 1.0}


def test_a_plan_says_that_a_base_has_fewer_steps_than_are_asked_for(tiny):
    plan = OF[CheckpointsConfig].plan(tiny(CheckpointsConfig, "base_checkpoints=12"))
    (told,) = plan.accounts
    assert told.startswith("base_checkpoints=12 gives 8 steps: of 12 that are even on a logarithmic axis of 1 to 8,")
    assert {cell.step for cell in plan.cells} - {None} == {0, 1, 2, 3, 4, 5, 6, 8}
    assert OF[CheckpointsConfig].plan(tiny(CheckpointsConfig)).accounts == []


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        (
            CheckpointsConfig,
            ["base_checkpoints=[0,9]"],
            r"base_checkpoints has 9, which a base never reaches: .* 0\.\.8",
        ),
        (CheckpointsConfig, ["base_checkpoints=1"], r"base_checkpoints=1 must lie in 2..1000"),
        (CheckpointsConfig, ["base_checkpoints=1001"], r"base_checkpoints=1001 must lie in 2..1000"),
        (CheckpointsConfig, ["base_checkpoints=[3]"], r"base_checkpoints=\[3\] must be a number, or list at least two"),
        (
            CheckpointsConfig,
            ["base_milestones=[]"],
            r"schedules has step, which drops at base_milestones, and there are",
        ),
        (
            CheckpointsConfig,
            ["base_checkpoints=[3,3]"],
            r"base_checkpoints=\[3, 3\] must be a number, or list at least two",
        ),
        (CheckpointsConfig, ["base_checkpoints=many"], r"base_checkpoints=many must be a number, or list at least two"),
        (
            CheckpointsConfig,
            ["schedules=[linear]"],
            r"schedules=linear is not known; choose from constant, step, cosine",
        ),
        (CheckpointsConfig, ["base_milestones=[1.5]"], r"base_milestones=\[1.5\] must be fractions of the steps"),
        (
            MechanismsConfig,
            [
                "tasks={low: {classes: [0, 1, 2]}, unchanged: {classes: [3, 4, 5]}}",
                "targets=[low]",
                "bases=[unchanged]",
            ],
            r"task unchanged is called like the bases that dials make: rename it",
        ),
        (MechanismsConfig, ["probes=[]"], r"probes=\[\] leaves nothing to compare"),
        (
            MechanismsConfig,
            ["distance=Task2Vec"],
            r"distance=Task2Vec is not known, or needs more than images: proxy-A, MMD2",
        ),
        (MechanismsConfig, ["probe_steps=[5]"], r"probe_steps has 5, which no training reaches: a step lies in 0\.\.4"),
        (TheoryConfig, ["tasks={Q: {classes: [0, 1, 2]}}"], r"task Q .*has 3 labels: the theory is of two"),
        (TheoryConfig, ["widths=[7]"], r"widths=\[7\] must be even numbers of at least 2"),
        (TheoryConfig, ["widths=[]"], r"widths=\[\] must be even numbers of at least 2"),
        (TheoryConfig, ["widths=[8,8]"], r"widths=\[8, 8\] must be even numbers of at least 2, each once"),
        (TheoryConfig, ["base_steps=3"], r"base_steps is given and would change nothing: it takes trainings"),
        (TheoryConfig, ["recipe.steps=3"], r"recipe.steps in the command line is no option"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(tiny, kind, overrides, message):
    with pytest.raises(UserError, match=message):
        OF[kind].plan(tiny(kind, *overrides))
