"""Two sweeps side by side, with changes that are known."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from raytransfer.analysis import grid_changes, mean_changes, paired, readings, treatment_means
from raytransfer.analysis.intervals import clustered_t
from raytransfer.commands.comparing import compare
from raytransfer.errors import UserError
from tests.analysis.test_transfer import grid


def row(changes, of, **where):
    for name, value in where.items():
        changes = changes[changes[name] == value]
    (found,) = changes[changes["of"] == of].to_dict("records")
    return found


def test_the_change_of_a_reading_is_the_difference_of_the_readings():
    first, second = grid(seed=1), grid(seed=2)
    changes = grid_changes(first, second)
    before, after = readings(first), readings(second)
    keys = ["reading", "halves", "n_layers"]
    both = before.merge(after, on=keys, suffixes=("_before", "_after"))
    assert len(both) == len(before) > 0
    for reading in both.to_dict("records"):
        found = row(changes, reading["reading"], halves=reading["halves"], n_layers=reading["n_layers"])
        assert found["estimate"] == pytest.approx(reading["estimate_after"] - reading["estimate_before"])
    means = treatment_means(second)["mean"].to_numpy() - treatment_means(first)["mean"].to_numpy()
    assert changes["estimate"].to_numpy()[: len(means)] == pytest.approx(means)


def test_the_interval_of_a_change_is_paired_by_unit():
    first, second = grid(seed=1), grid(seed=2)
    found = row(grid_changes(first, second), "mean of AnB", halves="random", n_layers=2)
    runs = [t[(t["treatment"] == "AnB") & (t["halves"] == "random") & (t["n_layers"] == 2)] for t in (first, second)]
    change = runs[1]["top1"].to_numpy() - runs[0]["top1"].to_numpy()
    expected = clustered_t(change, pd.factorize(runs[0]["split"])[0])
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["units"] == 3


def test_a_change_that_all_runs_share_is_clear_and_what_they_do_not_share_is_left_out():
    first = grid()
    shift = np.random.default_rng(0).normal(0.1, 0.001, len(first))
    second = first.assign(top1=first["top1"] + np.where(first["treatment"] == "AnB", shift, 0.0))
    changes = grid_changes(first, second[second["n_layers"] != 3].sample(frac=1, random_state=0))
    clear = changes[changes["clear"]]
    random = set(clear.loc[clear["halves"] == "random", "of"])
    assert {"mean of AnB", "specificity drop"} <= random
    assert "mean of BnB" not in random
    assert set(changes["n_layers"]) == {0, 1, 2}
    assert not changes["clear"][changes["estimate"] == 0].any()  # all equal: no interval


@pytest.mark.parametrize(("shift", "clear"), [(0.1, True), (-0.1, True), (0.0, False)])
def test_a_change_is_clear_where_its_interval_lies_on_one_side_of_zero(shift, clear):
    first = grid()
    noise = np.random.default_rng(0).normal(shift, 0.01, len(first))
    changes = grid_changes(first, first.assign(top1=first["top1"] + noise))
    found = row(changes, "mean of AnB", halves="random", n_layers=2)
    assert (found["clear"], found["low"] < 0 < found["high"]) == (clear, not clear)


def test_grids_without_a_run_in_common_have_no_change_and_a_missing_column_is_named():
    first = grid()
    assert grid_changes(first, first.assign(seed=first["seed"] + 99)).empty
    with pytest.raises(ValueError, match="second lack the column top1"):
        grid_changes(first, first.drop(columns="top1"))
    with pytest.raises(ValueError, match="changes lack the column target_block"):
        mean_changes(pd.DataFrame({"seed": [0], "change": [0.1]}), [])


def test_units_of_changes_are_sources_of_targets_and_of_one_source_seeds():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"target": list("aabbccddee"), "target_block": list("xxxxyyyyzz"), "seed": [0, 1] * 5})
    rows = rows.assign(n_layers=2, change=rng.normal(size=10))
    (several,) = mean_changes(rows, ["n_layers"]).to_dict("records")
    expected = clustered_t(rows["change"].to_numpy(), np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2]))
    assert (several["units"], several["low"]) == (3, pytest.approx(expected.low))
    of_one = rows.assign(target_block="x", seed=[0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    (one,) = mean_changes(of_one, ["n_layers"]).to_dict("records")
    expected = clustered_t(rows["change"].to_numpy(), of_one["seed"].to_numpy())
    assert (one["units"], one["runs"], one["low"]) == (4, 10, pytest.approx(expected.low))


def test_changes_of_one_target_cover_what_they_should_where_its_bases_share_a_seed():
    rng = np.random.default_rng(0)
    place = pd.MultiIndex.from_product([range(1000), range(3), range(10)], names=["n_layers", "seed", "base"])
    rows = place.to_frame(index=False).assign(target_block="x")
    of_seeds = np.repeat(rng.normal(size=(1000, 3)), 10)
    found = mean_changes(rows.assign(change=of_seeds + rng.normal(size=len(rows))), ["n_layers"])
    assert 0.92 <= ((found["low"] <= 0) & (found["high"] >= 0)).mean() <= 0.98


def test_rows_are_paired_by_their_keys_alone_and_once():
    first = pd.DataFrame({"id": ["a", "b"], "seed": [0, 1], "top1": [0.5, 0.25]})
    second = pd.DataFrame({"id": ["b", "c", "d"], "seed": [1, 0, 2], "top1": [0.25, 0.75, 0.0]})
    assert paired(first, second, ["seed"], "top1").to_dict("list") == {
        "seed": [0, 1],
        "change": [0.25, 0.0],
        "same": [False, True],
        "id": ["a", "b"],
    }
    with pytest.raises(ValueError, match="not a one-to-one merge"):
        paired(first.assign(seed=0), second, ["seed"], "top1")


@pytest.fixture
def other(store, folder, tmp_path):
    """The folder of the same sweep in another store, of another learning rate, in which every AnB is better by 0.1."""
    shutil.copytree(store.root, tmp_path / "other")
    (found,) = (tmp_path / "other" / "sweeps").iterdir()
    config = (found / "config.yaml").read_text()
    config = re.sub("cache_dir: .*", "cache_dir: elsewhere", config)  # which changes no result
    (found / "config.yaml").write_text(config.replace("learning_rate: 0.01", "learning_rate: 0.5"))
    results = pd.read_parquet(found / "results.parquet")
    better = results["top1"] + np.where(results["treatment"] == "AnB", [0.1 + i / 1000 for i in range(len(results))], 0)
    results.assign(top1=better, id=results["id"].where(results["treatment"] != "AnB", "another")).to_parquet(
        found / "results.parquet"
    )
    return found


def test_two_stores_or_folders_are_compared(store, folder, other, command):
    (found,) = compare(store.root, str(other.parents[1]))
    assert found.options == [("recipe.learning_rate", 0.01, 0.5)]
    assert (found.shared, found.same, found.repeated_otherwise) == (6, 3, 0)
    change = row(found.changes, "mean of AnB")
    assert change["clear"]
    assert change["estimate"] == pytest.approx(0.1, abs=0.01)
    assert not row(found.changes, "mean of baseB")["clear"]
    code, printed, _ = command("compare", folder, other)
    assert code == 0
    assert "recipe.learning_rate: 0.01 -> 0.5" in printed
    assert "6 runs in common, 3 of them the same trial in both" in printed
    (line,) = [line.split() for line in printed.splitlines() if "mean of AnB" in line]
    assert line[-1] == "*"
    (told,) = json.loads(command("compare", folder, other, "--json")[1])
    assert told["options"] == [{"option": "recipe.learning_rate", "first": 0.01, "second": 0.5}]
    assert [entry["low"] for entry in told["changes"] if entry["of"] == "mean of baseB"] == [None]


def test_of_two_stores_the_sweeps_and_the_splits_that_both_have_are_compared(store, folder, other):
    shutil.copytree(folder, folder.with_name(folder.name.replace("digits", "letters")))  # which the other has not
    results = pd.read_parquet(other / "results.parquet")
    more = results[results["split"] == "random0"].assign(split="random9", id="more")
    pd.concat([results, more]).to_parquet(other / "results.parquet")
    (found,) = compare(store.root, str(other.parents[1]))
    assert (found.first, found.second, found.shared) == (folder.name, other.name, 6)
    shutil.rmtree(folder)
    shutil.copytree(other, folder.with_name(folder.name.replace("digits", "pictures")))
    with pytest.raises(UserError, match="share no experiment on the same data: they hold yosinski_grid-letters-"):
        compare(store.root, str(other.parents[1]))


def test_a_sweep_beside_itself_has_not_changed(store, folder):
    (found,) = compare(str(folder), store.root)
    assert (found.options, found.shared, found.same) == ([], 6, 6)
    assert set(found.changes["estimate"]) == {0.0}
    assert not found.changes["clear"].any()


def test_runs_that_are_others_though_no_option_differs_are_named(store, folder, other, command):
    shutil.copy(folder / "config.yaml", other)  # as after a change in the source of one's own network
    results = pd.read_parquet(other / "results.parquet")
    results.assign(id="another " + results["id"]).to_parquet(other / "results.parquet")
    _, printed, _ = command("compare", folder, other)
    assert "No option differs that could change a result, yet no run is the same trial in both: the data" in printed
    assert "yet no run" not in command("compare", folder, folder)[1]


def test_the_same_trials_that_came_out_otherwise_are_told(store, folder, other, command):
    shutil.copy(folder / "config.yaml", other)  # as of a store that a GPU filled
    results = pd.read_parquet(folder / "results.parquet")
    results.assign(top1=results["top1"] + np.where(results["treatment"] == "AnB", 0.01, 0)).to_parquet(
        other / "results.parquet"
    )
    (found,) = compare(str(folder), str(other))
    assert (found.shared, found.same, found.repeated_otherwise) == (6, 6, 3)
    told = "6 of them the same trial in both: 3 of these came out otherwise, as on another kind of CPU or GPU"
    assert told in command("compare", folder, other)[1]
    assert "6 of them the same trial in both, which did not change." in command("compare", folder, folder)[1]


def write(folder, **frames):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seeds: 1\n")
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet")
    return folder


def test_other_experiments_compare_their_outcomes_by_place(tmp_path, command):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"target": list("abcd"), "base": "e", "n_layers": 2, "seed": 0, "AnB": 0.5, "AnB_id": "x"})
    rows = rows.assign(RnB=[0.2, 0.2, np.nan, np.nan], RnB_id="x")  # fewer
    alone = rows.assign(**{"AnB+": 0.5, "baseB": 0.4})  # one of which the other sweep has not
    one = write(tmp_path / "one" / "transfer_vs_distance-digits-0", outcomes=alone)
    moved = rows.assign(AnB=0.6 + rng.normal(0, 0.001, 4), AnB_id=["x", "y", "y", "y"])
    two = write(tmp_path / "two?" / "transfer_vs_distance-digits-1", outcomes=moved)
    (two / "config.yaml").write_text("seeds: 1\nnew: 2\n")
    (found,) = compare(str(one), str(two))
    assert (found.options, found.shared, found.same) == ([("new", None, 2)], 6, 3)  # of AnB 4, of RnB 2
    change, fewer = found.changes.to_dict("records")
    alone = write(tmp_path / "alone" / "transfer_vs_distance-digits-2", outcomes=moved.drop(columns=["RnB", "RnB_id"]))
    assert command("compare", alone, two)[1].rstrip().endswith("not corrected for the 1 row.")
    assert (fewer["of"], fewer["runs"], fewer["estimate"]) == ("RnB", 2, 0)
    assert (change["of"], change["n_layers"], change["units"], change["clear"]) == ("AnB", 2, 4, True)
    code, printed, _ = command("compare", one, two)
    assert printed.startswith("first:  transfer_vs_distance-digits-0\nsecond: transfer_vs_distance-digits-1\n\n")
    assert "  new: null -> 2\n" in printed
    points = f"{100 * change['estimate']:+.1f}"
    interval = f"[{100 * change['low']:.1f},{100 * change['high']:.1f}]"
    rows = [line.split() for line in printed.splitlines() if "nB " in line]
    assert rows == [["AnB", "2", points, interval, "4", "*"], ["RnB", "2", "+0.0", "2"]]
    assert "Second minus first, percentage points" in printed
    assert printed.rstrip().endswith("not corrected for the 2 rows.")
    theory = write(tmp_path / "two_layer_theory-digits-0")
    code, printed, _ = command("compare", theory, theory)
    assert code == 0
    assert "Results are paired for yosinski, distance, checkpoints, selection" in printed
    assert "yet no run is the same trial" not in printed


def test_what_came_out_otherwise_is_counted_over_all_treatments_and_a_training_once(tmp_path, command):
    rows = pd.DataFrame({"target": list("aabb"), "base": list("xyxz"), "n_layers": 2, "seed": 0, "baseB": 0.4})
    rows = rows.assign(**{"AnB": 0.5, "AnB_id": list("1234"), "AnB+": 0.6, "AnB+_id": list("5678")})
    rows = rows.assign(RnB=[0.2, 0.2, 0.3, 0.3], RnB_id=list("rrss"))  # stands beside every base of its target
    one = write(tmp_path / "one" / "transfer_vs_distance-digits-0", outcomes=rows.assign(boost=0.2))
    two = rows.assign(**{"AnB+": 0.7, "boost": 0.3, "RnB": [0.2, 0.2, 0.4, 0.4]})
    two = write(tmp_path / "two" / "transfer_vs_distance-digits-0", outcomes=two[~two["base"].eq("y")])
    (found,) = compare(str(one), str(two))
    assert (found.shared, found.same, found.repeated_otherwise) == (8, 8, 4)
    random = row(found.changes, "RnB")
    assert (random["runs"], random["estimate"]) == (2, pytest.approx(0.05))  # two of the trials, not three of the rows
    assert "8 of them the same trial in both: 4 of these came out otherwise" in command("compare", one, two)[1]


def test_what_cannot_be_compared_is_refused(store, folder, other, tmp_path):
    theory = write(tmp_path / "two_layer_theory-digits-0")
    with pytest.raises(UserError, match="is of yosinski and two_layer_theory-digits-0 of theory: two of one"):
        compare(str(folder), str(theory))
    with pytest.raises(UserError, match=r"mine is no sweep's folder: its name begins with none of yosinski_grid"):
        compare(str(folder), str(write(tmp_path / "mine")))
    shutil.copytree(folder, folder.with_name(folder.name[:-8] + "00000000"))
    folders = " or ".join(map(str, sorted(folder.parent.iterdir())))
    with pytest.raises(UserError, match=rf"several sweeps yosinski_grid-digits: name the folder of one, {folders}$"):
        compare(store.root, str(other.parents[1]))
    results = pd.read_parquet(other / "results.parquet")
    moved = results["config"].str.replace('"dataset":"digits"', '"dataset":"other"')
    results.assign(config=moved).to_parquet(other / "results.parquet")
    with pytest.raises(UserError, match=r"cannot be paired: the target of random0 A->B is classes .* of digits in"):
        compare(str(folder), str(other))
    own = pd.read_parquet(folder / "results.parquet")
    pd.concat([own, own.assign(direction="B->A")]).to_parquet(folder / "results.parquet")
    pd.concat([own, own.assign(direction="B->A", config=moved)]).to_parquet(other / "results.parquet")
    with pytest.raises(UserError, match=r"the target of random0 B->A is classes .* of digits in"):
        compare(str(folder), str(other))
    own.to_parquet(folder / "results.parquet")
    results.assign(seed=9).to_parquet(other / "results.parquet")
    with pytest.raises(UserError, match="have no run in common by which they could be paired"):
        compare(str(folder), str(other))
    results.drop(columns="train_per_class").to_parquet(folder / "results.parquet")  # as frames of before
    pd.concat([results.assign(train_per_class=number) for number in (2, 7)]).to_parquet(other / "results.parquet")
    with pytest.raises(UserError, match="have no run in common by which they could be paired"):
        compare(str(folder), str(other))


def test_a_grid_of_one_number_of_images_is_compared_with_that_of_several_which_has_it(folder, other):
    results = pd.read_parquet(other / "results.parquet")
    numbered = [results.assign(train_per_class=number, top1=results["top1"] + number) for number in (5, 7)]
    pd.concat(numbered).to_parquet(other / "results.parquet")
    (found,) = compare(str(folder), str(other))
    assert (found.shared, set(found.changes["train_per_class"])) == (len(results), {5})
    assert row(found.changes, "mean of baseB")["estimate"] == pytest.approx(5)


def test_grids_of_one_number_of_images_each_are_compared_though_the_numbers_differ(folder, other):
    for place, number in ((folder, 5), (other, 7)):
        pd.read_parquet(place / "results.parquet").assign(train_per_class=number).to_parquet(place / "results.parquet")
    (found,) = compare(str(folder), str(other))
    assert (found.shared, "train_per_class" in found.changes) == (6, False)


def test_targets_of_one_source_are_no_units_of_a_change(tmp_path):
    rows = pd.DataFrame({"target": list("aaabbb"), "base": "e", "n_layers": 2, "seed": [0, 1, 2] * 2, "AnB": 0.5})
    rows = rows.assign(target_block="one source")
    one = write(tmp_path / "one" / "transfer_vs_distance-digits-0", outcomes=rows)
    moved = rows.assign(AnB=[0.6, 0.61, 0.62, 0.6, 0.63, 0.61])
    two = write(tmp_path / "two" / "transfer_vs_distance-digits-0", outcomes=moved)
    (change,) = compare(str(one), str(two))[0].changes.to_dict("records")
    assert (change["units"], change["runs"], change["clear"]) == (3, 6, True)  # seeds
    none = write(tmp_path / "none" / "transfer_vs_distance-digits-0", outcomes=moved.assign(seed=[7, 8, 9] * 2))
    with pytest.raises(UserError, match="have no run in common by which they could be paired"):
        compare(str(one), str(none))


def test_grids_of_several_numbers_of_images_are_compared_number_by_number(folder, other):
    results = pd.read_parquet(folder / "results.parquet")
    for place, change in ((folder, 0.0), (other, 0.25)):
        pd.concat(
            [results.assign(train_per_class=n, top1=results["top1"] + change * (n == 10)) for n in (10, 2)]
        ).to_parquet(place / "results.parquet")
    (found,) = compare(str(folder), str(other))
    assert found.shared == found.same == 2 * len(results)
    assert found.changes["train_per_class"].is_monotonic_increasing
    means = found.changes[found.changes["of"].str.startswith("mean of ")]
    assert means["estimate"].tolist() == pytest.approx(np.where(means["train_per_class"] == 10, 0.25, 0.0).tolist())
