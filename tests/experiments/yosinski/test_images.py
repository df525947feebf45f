"""A grid with several numbers of training images a class, trained for real in small."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import raytransfer as rt
from raytransfer.analysis import readings
from raytransfer.commands.comparing import compare
from raytransfer.errors import UserError
from raytransfer.experiments.yosinski import report
from raytransfer.experiments.yosinski.images import changes_sentences, changes_with_images, images_figure
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import Store
from raytransfer.tasks import load_task

OPTIONS = {
    "backend": "in-process",
    "train_per_class": [8, 4],
    "halves": ["random"],
    "splits": 3,
    "n_layers": [2, 7],
    "treatments": ["baseB", "BnB", "AnB+"],
    "recipe": {"steps": 4, "warmup_steps": 0, "evaluations": 1, "batch_size": 8},
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, no_pictures):
    root = tmp_path_factory.mktemp("images")
    return rt.run("yosinski", out=root / "out", cache_dir=str(root / "cache"), quiet=True, **OPTIONS)


def test_each_number_is_a_grid_of_its_own(sweep):
    results = sweep.frames["results"]
    assert results.groupby("train_per_class")["train_images"].unique().map(list).to_dict() == {4: [20], 8: [40]}
    every = sweep.frames["readings"]
    for number, rows in results.groupby("train_per_class"):
        alone = readings(rows)
        there = every[every["train_per_class"] == number].drop(columns="train_per_class")
        pd.testing.assert_frame_equal(there.reset_index(drop=True), alone)
    assert {"images", "readings", "lines", "points"} <= set(sweep.figures)


def test_changes_are_paired_by_run(sweep):
    results = sweep.frames["results"]
    key = ["split", "direction", "seed"]
    top1 = results.set_index(["train_per_class", "treatment", "n_layers", *key])["top1"].sort_index()
    boosts = {number: top1[number, "AnB+", 7] - top1[number, "baseB", 0] for number in (4, 8)}
    change = (boosts[8] - boosts[4]).groupby("split").mean()
    row = sweep.frames["changes"].query("reading == 'generalisation boost' and n_layers == 7").iloc[0]
    half = 4.302652729911275 * change.std(ddof=1) / np.sqrt(3)  # t(0.975, 2)
    assert (row["estimate"], row["low"], row["high"]) == pytest.approx(
        (change.mean(), change.mean() - half, change.mean() + half)
    )
    assert (row["fewest"], row["most"], row["units"]) == (4, 8, 3)
    (said,) = [text for text in changes_sentences(sweep.frames["changes"]) if "generalisation boost" in text]
    assert said.startswith("With 8 images a class in place of 4, the generalisation boost at n = 7 changes by ")
    assert said in sweep.answer
    less = pd.DataFrame([{**row, "estimate": -0.07, "low": -0.219, "high": 0.08}])
    assert "changes by −7.0 [−21.9, 8.0] points: 3 units. " in changes_sentences(less)[0]


def test_a_number_that_has_hardly_begun_leaves_numbers_numbers(sweep, tiny, monkeypatch):
    results = sweep.frames["results"]
    begun = results[(results["train_per_class"] == 8) | (results["treatment"] == "baseB")]
    monkeypatch.setattr(report, "results_of", lambda cells, store: begun)
    config, store = tiny("train_per_class=[4,8]"), Store(str(Path(sweep.folder).parents[1]))
    found = report.make_report(make_plan(config), store, config)
    assert set(found.frames["readings"]["train_per_class"]) == {8}
    assert found.frames["readings"]["low"].dtype == float
    assert "images" in found.figures


def test_the_fewer_images_are_among_the_more(tiny):
    plan = make_plan(tiny("train_per_class=[4,8]", "treatments=[baseB]"))
    (dataset,) = plan.datasets.values()
    rows = {cell.train_per_class: set() for cell in plan.cells}
    for cell in plan.cells:
        if cell.direction == "A->B":
            rows[cell.train_per_class] |= set(load_task(dataset, cell.spec.task).train.rows.tolist())
    assert len(rows[4]) == 20
    assert rows[4] < rows[8]


def test_one_number_in_a_list_is_that_number(tiny):
    listed, plain = (make_plan(tiny(f"train_per_class={number}")) for number in ("[4]", "4"))
    assert listed.cells == plain.cells


def test_two_such_sweeps_are_compared_number_by_number(sweep):
    (found,) = compare(sweep.folder, sweep.folder)
    assert set(found.changes["train_per_class"]) == {4, 8}
    assert (found.changes["estimate"] == 0).all()


def test_a_reading_is_drawn_against_the_number_of_images(sweep):
    figure = images_figure(sweep.frames["readings"], title="t")
    (panel,) = [axes for axes in figure.axes if axes.get_title("left").startswith("generalisation boost")]
    curve = next(line for line in panel.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o")
    expected = sweep.frames["readings"].query("reading == 'generalisation boost' and n_layers == 2")
    assert curve.get_ydata() == pytest.approx(100 * expected["estimate"].to_numpy())
    with pytest.raises(ValueError, match="nothing to draw"):
        images_figure(sweep.frames["readings"].head(0), title="t")


def test_changes_of_one_split_are_given_without_an_interval(sweep):
    results = sweep.frames["results"]
    changes = changes_with_images(results[results["split"] == "random0"])
    assert changes["low"].isna().all()
    assert all("1 unit, too few for an interval: nothing is concluded" in text for text in changes_sentences(changes))
    assert len(changes_sentences(changes)) == 2


def test_a_change_that_is_not_significant_says_what_is_detectable(sweep):
    rows = sweep.frames["changes"].query("n_layers == 7 and low <= 0 <= high")
    said = changes_sentences(rows)
    assert len(said) == len(rows) > 0
    for text, seen in zip(said, rows["detectable"], strict=True):
        assert f"detectable in 4 studies of 5: {100 * seen:.1f} points" in text


def test_bases_alone_have_no_reading_that_could_change(tmp_path, cache_dir, no_pictures):
    alone = OPTIONS | {"treatments": ["baseB"], "splits": 1}
    sweep = rt.run("yosinski", out=tmp_path / "out", cache_dir=str(cache_dir), quiet=True, **alone)
    assert (sweep.complete, sweep.frames["changes"].empty, len(sweep.answer)) == (True, True, 0)
    assert "images" not in sweep.figures


@pytest.mark.parametrize("value", ["[]", "[4,4]", "[4,x]", "[0]", "1.5"])
def test_other_numbers_are_refused(tiny, value):
    with pytest.raises(UserError, match=r"train_per_class=.* must be at least 1, or list such numbers, each once"):
        make_plan(tiny(f"train_per_class={value}"))
