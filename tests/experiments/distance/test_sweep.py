import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from raytransfer.config import load_config
from raytransfer.distances import DISTANCES
from raytransfer.distances.sample import Sample
from raytransfer.errors import UserError
from raytransfer.experiments.design import make_design
from raytransfer.experiments.distance.config import DistanceConfig
from raytransfer.experiments.distance.plan import make_plan
from raytransfer.experiments.distance.report import make_report
from raytransfer.scores import SCORES
from raytransfer.scores.representation import Representation
from raytransfer.specs import DistanceSpec, ScoreSpec, from_json
from raytransfer.specs.dependencies import batch_of, needs
from raytransfer.store import Store, failures, load_weights, read_table
from raytransfer.sweep.backlog import backlog
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.tasks import load_task, sample_task
from raytransfer.trials import Site
from raytransfer.trials.measuring import labels_drawn, run_distance
from tests.bad_input.test_data import folders
from tests.helpers import ROOT, Quiet

TINY = """
data: digits
tasks: {low: {classes: [0, 1, 2]}, high: {classes: [3, 4, 5]}}
targets: [low]
bases: [high]
dials: {blur_px: [1], shared: [0.4]}
train_per_class: 6
base_per_class: 8
seeds: 1
n_layers: [2, 7]
images: 20
distances: [FID, class overlap]
scores: [LogME, NCE]
recipe: {steps: 4, batch_size: 8, learning_rate: 0.01, evaluations: 1}
"""


@pytest.fixture
def tiny(tmp_path, cache_dir):
    yaml = tmp_path / "tiny.yaml"
    yaml.write_text(TINY)

    def configure(*overrides):
        places = [f"cache_dir={cache_dir}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}"]
        given = {override.partition("=")[0] for override in overrides}
        return load_config(DistanceConfig, yaml, [*(p for p in places if p.partition("=")[0] not in given), *overrides])

    return configure


def sweep(config):
    plan, store, observer = make_plan(config), Store(config.out), Quiet()
    store.create()
    todo = backlog(plan, store, config.mode).to_run
    site = Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)
    run_in_process(Run(todo, site, observer))
    return plan, store, observer.ended


def test_a_sweep_measures_every_pair(tiny):
    plan, store, ended = sweep(tiny())
    assert set(ended) == set(plan.trials)
    rows = pd.concat([read_table(store, table)[["id", "value"]] for table in ("distances", "scores")])
    assert np.isfinite(rows["value"]).all()
    by_base = {name: {cell.measure for cell in plan.cells if cell.base == name} for name in ("high", "low blur_px=1")}
    measures = {"FID of pixels", "FID of probe", "class overlap", "LogME", "NCE", None}
    assert by_base == dict.fromkeys(by_base, measures)
    # 4 bases (high; low unchanged, blurred, with other classes) into one target
    assert {cell.base for cell in plan.cells} == {None, "high", "low unchanged", "low blur_px=1", "low shared=0.4"}
    counts = pd.Series([cell.treatment for cell in plan.cells]).value_counts().to_dict()
    assert counts == {"baseB": 1, "RnB": 2, "baseA": 4, "AnB": 8, "AnB+": 8, "distance": 12, "score": 12}
    assert sweep(tiny())[2] == []


def test_a_sweep_without_measures_names_no_file_of_them_and_settings_are_as_they_were_given(tiny):
    config = tiny("distances=[]", "scores=[]", "bases=[]", "dials={noise: [40]}", "n_layers=[2]")
    plan, store, _ = sweep(config)
    report = make_report(plan, store, config)
    assert report.main == ("outcomes", "Every transfer of the sweep, one row each")
    assert report.frames["dials"]["setting"].to_list() == [pd.NA, "40"]


def test_correlations_are_drawn_only_where_a_target_has_any(tiny):
    few = ["tasks={a: {classes: [0, 1]}, b: {classes: [2, 3]}, c: {classes: [4, 5]}}", "targets=all", "bases=all"]
    measured = ["distances=[FID]", "distance_features=[pixels]", "scores=[]", "drawn=[FID of pixels]"]
    config = tiny(*few, *measured, "dials={}", "dial_grid=null", "n_layers=[2]", "tree=null")
    plan, store, _ = sweep(config)
    report = make_report(plan, store, config)
    known = report.frames["correlations"].query("coefficient == 'Spearman'").groupby("scope")["estimate"].count()
    assert (known["within target"], known["pooled"] > 0) == (0, True)
    assert set(report.figures) == {"transfer-against-FID-of-pixels"}
    # It is said why no measure is called the best, and of bands only where there are some.
    assert any(note.endswith("is not said: it takes 4 bases of one target.") for note in report.notes)
    assert not any("puts bases best in the order" in said for said in report.answer)
    assert "band" not in report.captions["transfer-against-FID-of-pixels"]


def test_a_new_measure_runs_alone(tiny):
    sweep(tiny())
    plan, _, ended = sweep(
        tiny("distances=[FID,class overlap,MMD2]", "distance_features=[pixels]", "scores=[LogME,NCE,kNN]")
    )
    assert {plan.trials[trial].measure for trial in ended} == {"MMD2", "kNN"}


def test_values_are_those_of_the_measures(tiny):
    plan, store, _ = sweep(tiny())
    overlap = {c.base: c.spec for c in plan.cells if c.measure == "class overlap"}
    rows = read_table(store, "distances").set_index("id")
    values = {base: rows.loc[spec.id, "value"] for base, spec in overlap.items()}
    # low shared=0.4 keeps 1 of 3 classes: 1 shared of 5 in all
    assert values == pytest.approx({"high": 1, "low unchanged": 0, "low blur_px=1": 0, "low shared=0.4": 0.8})
    assert pd.isna(rows.loc[overlap["high"].id, "features"])
    fid = next(c.spec for c in plan.cells if c.measure == "FID of pixels" and c.base == "low blur_px=1")
    # 20 of the base's 24 images were drawn, and all 18 of the target's
    sides = {rows.loc[fid.id, f"{side}_task"]: rows.loc[fid.id, f"{side}_images"] for side in ("source", "target")}
    assert sides == {task.label: 20 if task.dials else 18 for task in (fid.source, fid.target)}
    assert rows.loc[fid.id, "value"] == DISTANCES["FID"].function(
        *(pixels_of(plan, fid, task) for task in (fid.source, fid.target))
    )
    probed = next(c.spec for c in plan.cells if c.measure == "FID of probe" and c.base == "low blur_px=1")
    assert rows.loc[probed.id, "value"] != rows.loc[fid.id, "value"]


def test_distances_of_class_names_know_all_classes_whichever_images_are_drawn(tiny):
    options = ["distances=[class overlap,tree]", "tree={x: ['0', '1', '2'], y: ['3', '4', '5']}", "scores=[]"]
    plan, store, _ = sweep(tiny(*options, "dials={random_labels: [1]}", "images=4"))  # some label is not there twice
    for spec in plan.trials.values():
        if isinstance(spec, DistanceSpec):
            drawn = labels_drawn(plan.datasets[spec.source.fingerprint], spec.source, 4, spec.seed)
            assert (np.bincount(drawn, minlength=3) < 2).any()
    rows = read_table(store, "distances").set_index("id")
    found = {(c.measure, c.base): rows.loc[c.spec.id, "value"] for c in plan.cells if c.treatment == "distance"}
    same = {(name, base): 0 for name in ("class overlap", "tree") for base in ("low unchanged", "low random_labels=1")}
    assert found == same | {("class overlap", "high"): 1, ("tree", "high"): 1}
    assert set(rows["source_images"]) == set(rows["target_images"]) == {0}


def pixels_of(plan, spec, task):
    """What a distance of pixels looks at of a task."""
    part = sample_task(plan.datasets[task.fingerprint], task, spec.images, spec.seed).train
    features = part.images[part.rows].reshape(len(part.rows), -1) / 255
    return Sample(name="", features=features, labels=part.labels, classes=("a", "b", "c"))


def test_scores_see_what_the_base_makes_of_the_target(tiny):
    plan, store, _ = sweep(tiny())
    rows = read_table(store, "scores").set_index("id")
    spec = next(c.spec for c in plan.cells if c.measure == "LogME" and c.n_layers == 7 and c.base == "high")
    dataset = plan.datasets[spec.task.fingerprint]
    part = load_task(dataset, spec.task).train
    weights = load_weights(store, spec.weights)
    x = torch.tensor(part.images[part.rows]).float()
    x = (x - torch.tensor(dataset.channel_mean)) / torch.tensor(dataset.channel_std)
    for i in range(1, 6):
        x = torch.nn.functional.conv2d(x, weights[f"conv{i}.0.weight"], weights[f"conv{i}.0.bias"], padding=1)
        x = torch.relu(torch.nn.functional.max_pool2d(x, 2) if i in (2, 5) else x)
    x = x.flatten(1)
    for i, layer in ((6, 1), (7, 0)):
        x = torch.relu(x @ weights[f"fc{i}.{layer}.weight"].T + weights[f"fc{i}.{layer}.bias"])
    by_hand = Representation(name="", features=x.double().numpy(), labels=part.labels)
    assert rows.loc[spec.id, "value"] == pytest.approx(SCORES["LogME"].function(by_hand), rel=1e-4)
    assert rows.loc[spec.id, ["images", "cut", "n_layers"]].tolist() == [18, "fc7", 7]
    whole = next(c for c in plan.cells if c.measure == "NCE")
    assert whole.n_layers is None
    assert rows.loc[whole.spec.id, ["n_layers", "cut"]].tolist() == [8, "fc8"]


def test_every_measure_runs(tiny):
    tree = "tree={small: ['0', '1', '2'], large: ['3', '4', '5', '6', '7', '8', '9']}"
    plan, store, _ = sweep(
        tiny(f"distances=[{','.join(DISTANCES)}]", f"scores=[{','.join(SCORES)}]", tree, "n_layers=[7]")
    )
    kinds = {(type(s), s.measure) for s in plan.trials.values() if isinstance(s, DistanceSpec | ScoreSpec)}
    assert kinds == {(DistanceSpec, name) for name in DISTANCES} | {(ScoreSpec, name) for name in SCORES}
    assert failures(store) == {}
    for table in ("distances", "scores"):
        for row in read_table(store, table).itertuples():
            spec = plan.trials[row.id]
            assert from_json(row.config) == spec
            assert (None if pd.isna(row.reference_id) else row.reference_id) == getattr(
                spec.reference, "source_id", None
            )
    features = read_table(store, "distances").set_index("id")["features"].dropna()
    assert {
        (told, plan.trials[trial].n_layers, plan.trials[trial].reference is None) for trial, told in features.items()
    } == {
        ("pixels", None, True),
        ("layer 7", 7, False),
        ("weights", None, False),
    }


def test_symmetric_distances_of_pixels_are_taken_once(tiny):
    plan = make_plan(tiny("targets=all", "bases=all", "dials={}", "base_per_class=6", "scores=[]"))
    specs = {(c.measure, c.base): c.spec.id for c in plan.cells if c.treatment == "distance"}
    assert specs["FID of pixels", "low"] == specs["FID of pixels", "high"]
    assert specs["FID of probe", "low"] != specs["FID of probe", "high"]
    bases = {c.spec.id for c in plan.cells if c.treatment in ("baseA", "baseB")}
    assert len(bases) == 2  # each task is trained once, whichever its role


def test_a_distance_of_equal_labels_leaves_other_pairs_out_and_says_so(tiny):
    options = ["dials={blur_px: [1], shared: [0.4], merged: [2], random_labels: [1]}", "seeds=2", "scores=[]"]
    plan = make_plan(tiny(*options, "distances=[NTK residual,class overlap]"))
    measured = {cell.base for cell in plan.cells if cell.measure == "NTK residual"}
    assert measured == {"low unchanged", "low blur_px=1", "low random_labels=1"}
    assert {cell.base for cell in plan.cells if cell.measure == "class overlap"} > measured
    reason = "whose labels differ: it is defined for tasks with the same labels"
    assert plan.accounts == [f"NTK residual: not measured for 6 of 12 pairs (base, target, seed), {reason}"]
    assert make_plan(tiny(*options, "distances=[class overlap]")).accounts == []
    few = make_plan(tiny("images=5", "distances=[NTK residual]", "drawn=[]", *options))  # draws that miss a label
    for spec in few.trials.values():
        if isinstance(spec, DistanceSpec):
            drawn = [
                labels_drawn(dataset, task, 5, spec.seed)
                for task in (spec.source, spec.target)
                for dataset in few.datasets.values()
            ]
            assert [len(labels) for labels in drawn] == [5, 5]
            assert len({tuple(np.flatnonzero(np.bincount(labels) >= 2)) for labels in drawn}) == 1


def test_dials_have_levels(tiny):
    design = make_design(tiny("dials={shuffle_px: [4, 1], merged: [2], inverted: [true], shared: [1, 0]}", "bases=[]"))
    rows = [(row.dial, row.base, row.level) for row in design.dials]
    assert ("shuffle_px", "low shuffle_px=1", 3.0) in rows
    assert ("merged", "low merged=2", 1.0) in rows
    assert ("inverted", "low inverted", 1.0) in rows
    assert [row for row in rows if row[0] == "shared"] == [
        ("shared", "low unchanged", 0.0),
        ("shared", "low shared=0", 1.0),
    ]
    assert {dial for dial, base, level in rows if base == "low unchanged"} == {
        "shuffle_px",
        "merged",
        "inverted",
        "shared",
    }


def test_settings_that_make_the_same_task_are_one_base(tiny):
    design = make_design(tiny("dials={shared: [0.8, 0.79, 0], noise: [20, 20.0]}", "bases=[]"))
    assert [pair.base.name for pair in design.pairs] == [
        "low unchanged",
        "low shared=0.8",
        "low shared=0",
        "low noise=20",
    ]
    assert [row.level for row in design.dials if row.dial == "shared"] == pytest.approx([0.0, 0.2, 1.0])
    config = tiny("dial_grid={input: {noise: [0]}, label: {shared: [0.8, 0.79]}}", "bases=[]")
    assert [row.label_setting for row in make_design(config, config.dial_grid).grid] == ["shared=0.8"]


def test_a_grid_of_dials_holds_every_combination_once(tiny):
    grid = "dial_grid={input: {shuffle_px: [8, 2]}, label: {random_labels: [0, 1]}}"
    config = tiny(grid, "bases=[]", "dials={shuffle_px: [2]}")
    design = make_design(config, config.dial_grid)
    assert [(row.base, row.input_level, row.label_level) for row in design.grid] == [
        ("low unchanged", 0.0, 0.0),
        ("low random_labels=1", 0.0, 1.0),
        ("low shuffle_px=2", 2.0, 0.0),
        ("low shuffle_px=2 random_labels=1", 2.0, 1.0),
    ]
    assert len(design.pairs) == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tasks={}"], "tasks={} must name at least one task"),
        (["tasks={low: 3}"], "task low is 3: it must be a mapping"),
        (["tasks={low: {class: [0]}}"], "task low has the key class: a task takes data, classes, resolution_px"),
        (["tasks={low: {classes: [0, 11]}}", "bases=[]"], "task low holds class index 11: digits has 10 classes"),
        (["targets=[middle]"], "targets name middle, which is no task; choose from low, high, or all"),
        (["targets=[]"], "targets=.. must name at least one task"),
        (
            ["tasks={low: {}, low unchanged: {}}", "targets=[low]", "dials={noise: [20]}"],
            "task low unchanged is called like the base that dials make of low: rename it",
        ),
        (["bases=[high,high]"], "must name each task once"),
        (["bases=[]", "dials={}"], "leave no pair"),
        (["dials={sharpen: [1]}"], "dials has sharpen, which is no dial; choose from resolution_px"),
        (["dials={blur_px: []}"], "dials.blur_px=.. must list at least one value"),
        (["dials=[blur_px]"], "must be dials with lists of values"),
        (["dials={shared: [2]}"], r"shared=2 must lie in 0\.\.1"),
        (["dials={shared: [0]}", "tasks={low: {}}", "bases=[]"], "asks for 10 classes that task low does not have"),
        (["dials={shuffle_px: [3]}"], "shuffle_px=3 must divide the images' side"),
        (["dial_grid={input: {blur_px: [1]}}"], "must be {input: {dial: values}, label"),
        (
            ["dial_grid={input: {merged: [2]}, label: {merged: [2]}}"],
            "dial_grid.input has merged: choose from resolution",
        ),
        (["distances=[EMD]"], "distances has EMD, which is not known; choose from proxy-A"),
        (["scores=[LogME,LogME]"], "scores=.* must name each once"),
        (["distance_features=[words]"], "distance_features=words is not known; choose from pixels, probe"),
        (["train_per_class=1"], "train_per_class=1 must be at least 2"),
        (["train_per_class=600"], "has only"),
        (["images=1"], r"images=1 must lie in 2\.\."),
        (["tree={a: ['0'], b: ['7']}", "distances=[tree]"], "tree"),
        (["preset=real"], "preset=real is not in tiny.yaml: it has none"),
        (["network=caffenet"], "must|starves|does not take"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(tiny, overrides, message):
    with pytest.raises(UserError, match=message):
        make_plan(tiny(*overrides))


def test_tasks_of_unequal_images_are_refused_unless_converted(tiny, tmp_path):
    from PIL import Image

    for part in ("train", "test"):
        for name in ("x", "y"):
            folder = tmp_path / "colour" / part / name
            folder.mkdir(parents=True)
            for i in range(8):
                pixels = np.random.default_rng([i, ord(name)]).integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    tasks = f"tasks={{low: {{classes: [0, 1]}}, high: {{data: {tmp_path}/colour}}}}"
    with pytest.raises(UserError, match=r"task low are 1x8x8 and those of high 3x12x12.*image_size_px"):
        make_plan(tiny(tasks, "dials={}"))
    plan, _, ended = sweep(tiny(tasks, "dials={}", "image_size_px=8", "channels=3"))
    assert len(ended) == len(plan.trials)
    assert {dataset.train_images.shape[1:] for dataset in plan.datasets.values()} == {(3, 8, 8)}


def test_data_sets_that_differ_have_names_of_their_own(tiny, tmp_path):
    for place, count in (("north", 8), ("south", 9)):
        folders(tmp_path / place / "birds", "train", "test", count=count)
    (tmp_path / "gulls").symlink_to(tmp_path / "south" / "birds")

    def planned(other):
        tasks = f"tasks={{low: {{data: {tmp_path}/north/birds}}, high: {{data: {tmp_path}/{other}}}}}"
        return make_plan(tiny(tasks, "dials={}", "image_size_px=8"))

    with pytest.raises(UserError, match=r"north/birds and .*south/birds are different .* both named birds: .* rename"):
        planned("south/birds")
    labels = [{task.label for task in planned(other).design.specs([0])} for other in ("gulls", "south/../north/birds")]
    assert [{label.partition("[")[0] for label in found} for found in labels] == [{"birds", "gulls"}, {"birds"}]


def test_the_hierarchy_is_part_of_the_identity(tiny):
    trees = (
        "{a: ['0', '1', '2'], b: ['3', '4', '5', '6', '7', '8', '9']}",
        "['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']",
    )
    ids = []
    for tree in trees:
        plan = make_plan(tiny(f"tree={tree}", "distances=[tree]", "scores=[]"))
        ids.append({trial for trial, spec in plan.trials.items() if isinstance(spec, DistanceSpec)})
        assert json.loads(next(iter(plan.trials[t].tree for t in ids[-1])))
    assert not ids[0] & ids[1]


def test_readme_s_measure_is_added_by_a_file_and_a_line(tiny, monkeypatch):
    from raytransfer import distances

    readme = (ROOT / "raytransfer" / "distances" / "README.md").read_text()
    file, line = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    scope = vars(distances).copy()
    exec(file, scope)
    monkeypatch.setitem(DISTANCES, "mean gap", eval(line.strip().removeprefix('"mean gap": ').rstrip(","), scope))
    plan, store, _ = sweep(tiny("distances=[mean gap]", "scores=[]", "distance_features=[pixels]"))
    rows = read_table(store, "distances").set_index("id")["value"]
    values = {cell.base: rows[cell.spec.id] for cell in plan.cells if cell.measure == "mean gap of pixels"}
    assert len(values) == 4
    assert min(values.values()) > 0
    monkeypatch.setitem(DISTANCES, "mean gap", replace(DISTANCES["mean gap"], function=lambda *_: float("nan")))
    site = Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)
    spec = next(cell.spec for cell in plan.cells if cell.measure == "mean gap of pixels")
    with pytest.raises(FloatingPointError, match="mean gap is nan"):
        run_distance(spec, site)


def test_measurements_wait_for_every_base_and_come_in_batches(tiny):
    treeless = [name for name in DISTANCES if name != "tree"]
    plan = make_plan(tiny(f"scores=[{','.join(SCORES)}]", f"distances=[{','.join(treeless)}]"))
    run, ended, sizes = Run(plan.trials, None, Quiet()), set(), []
    while trials := run.next():
        specs = [plan.trials[trial] for trial in trials]
        assert all(weights.training.id in ended for spec in specs for weights in needs(spec))
        assert len(trials) == 1 or len({batch_of(spec) for spec in specs}) == 1
        assert len(trials) == 1 or all(isinstance(spec, DistanceSpec | ScoreSpec) for spec in specs)
        sizes.append(len(trials))
        for trial in trials:
            run.end(trial, None)
            ended.add(trial)
    assert ended == set(plan.trials)
    assert run.unfinished == 0
    scores_of_a_base = len([c for c in plan.cells if c.treatment == "score" and c.base == "high"])
    assert sizes.count(scores_of_a_base) == 4  # one batch for each base


def test_a_failed_base_fails_what_needs_it_once(tiny):
    plan = make_plan(tiny("scores=[CKA]", "distances=[FID]"))
    observer = SkipCounter()
    run = Run(plan.trials, None, observer)
    own = next(cell.spec.id for cell in plan.cells if cell.treatment == "baseB")
    while trials := run.next():
        for trial in trials:
            run.end(trial, "broken" if trial == own else None)
    needing = {trial for trial, spec in plan.trials.items() if own in {weights.training.id for weights in needs(spec)}}
    assert sorted(observer.skipped) == sorted(needing)
    assert run.unfinished == 0


class SkipCounter(Quiet):
    def __init__(self):
        super().__init__()
        self.skipped = []

    def failed(self, trial, reason, skipped):
        self.skipped += skipped


def test_the_time_left_counts_measurements_of_a_batch_once(tiny, monkeypatch):
    from rich.console import Console

    from raytransfer.sweep import progress

    plan = make_plan(tiny())
    scores = {trial: spec for trial, spec in plan.trials.items() if isinstance(spec, ScoreSpec) and spec.n_layers == 2}
    clock = [10.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    bar = progress.ProgressView(Console(quiet=True), plan.cells, scores)
    bar.resized(1)
    one, other, *rest = scores
    bar.started([one, other])
    clock[0] = 30.0
    bar.finished(one)
    bar.finished(other)
    assert bar.seconds_left() == pytest.approx(10.0 * len(rest))  # 20 s for the two
