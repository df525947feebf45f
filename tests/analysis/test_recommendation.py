"""What measures would have chosen, against a twin written from the sentences."""

import re

import numpy as np
import pandas as pd
import pytest

from raytransfer.analysis.intervals import student_t
from raytransfer.analysis.recommendation import ANY, MEASURED, recommendations
from raytransfer.experiments.recommendation import advice, recommendations_table
from tests.helpers import rendered

TARGETS, BASES, CUTS, SEEDS = ("x", "y", "z"), ("a", "b", "c"), (2, 5), range(3)


def random_sweep(seed):
    rng = np.random.default_rng(seed)
    keys = [(t, b, n, s) for t in TARGETS for b in BASES for n in CUTS for s in SEEDS]
    outcomes = pd.DataFrame(keys, columns=["target", "base", "n_layers", "seed"])
    outcomes = outcomes.assign(treatment="AnB", top1=rng.random(len(keys)))
    of_cuts = [
        outcomes[["target", "base", "n_layers", "seed"]].assign(measure=m, value=rng.random(len(keys)))
        for m in ("LogME", "kNN")
    ]
    of_bases = outcomes[outcomes["n_layers"] == 2][["target", "base", "seed"]].copy()
    of_bases = of_bases.assign(n_layers=None, measure="OTDD", value=rng.random(len(of_bases)))
    measures = pd.concat([*of_cuts, of_bases]).astype({"n_layers": "Int64"})
    return outcomes, measures


def accuracy(outcomes, target, base=None, n=None, seed=None):
    rows = outcomes[outcomes["target"] == target]
    for column, value in (("base", base), ("n_layers", n), ("seed", seed)):
        rows = rows if value is None else rows[rows[column] == value]
    return rows["top1"].mean()


@pytest.mark.parametrize("seed", range(2))
def test_choices_are_those_of_the_formula(seed):
    outcomes, measures = random_sweep(seed)
    found = recommendations(outcomes, measures).set_index(["target", "by"])
    gains = {}
    for target in TARGETS:
        blind = accuracy(outcomes, target)
        assert found.loc[(target, ANY), "top1"] == pytest.approx(blind)
        values = measures[measures["target"] == target]
        for measure in ("LogME", "kNN", "OTDD"):
            row = found.loc[(target, measure)]
            cuts = (None,) if measure == "OTDD" else CUTS
            scored = {}
            for base in BASES:
                for n in cuts:
                    same = values[(values["measure"] == measure) & (values["base"] == base)]
                    scored[base, n] = (same if n is None else same[same["n_layers"] == n])["value"].mean()
            base, n = max(scored, key=scored.get)
            assert (row["base"], None if pd.isna(row["n_layers"]) else row["n_layers"]) == (base, n)
            of_seeds = student_t(np.array([accuracy(outcomes, target, base, n, s) for s in SEEDS]))
            assert (row["top1"], row["low"]) == pytest.approx((of_seeds.estimate, of_seeds.low))
            assert row["units"] == 3
            assert row["gain"] == pytest.approx(row["top1"] - blind)
            gains[target, measure] = row["gain"]
        held_out = []
        for s in SEEDS:
            others = outcomes[(outcomes["target"] == target) & (outcomes["seed"] != s)]
            base, n = others.groupby(["base", "n_layers"])["top1"].mean().idxmax()
            held_out.append(accuracy(outcomes, target, base, n, s))
        row, starts = found.loc[(target, MEASURED)], outcomes[outcomes["target"] == target]
        assert row["top1"] == pytest.approx(np.mean(held_out))
        assert np.isnan(row["low"])
        assert (row["base"], row["n_layers"]) == starts.groupby(["base", "n_layers"])["top1"].mean().idxmax()
    for target in TARGETS:
        mean = {m: np.mean([gains[t, m] for t in TARGETS if t != target]) for m in ("LogME", "kNN", "OTDD")}
        (recommended,) = found.loc[target].query("recommended").index
        assert recommended == max(mean, key=mean.get)
        assert found.loc[(target, recommended), "elsewhere"]


def test_a_single_target_recommends_by_itself_and_says_so():
    outcomes, measures = random_sweep(0)
    one, of_one = outcomes[outcomes["target"] == "x"], measures[measures["target"] == "x"]
    found = recommendations(one, of_one)
    row = found[found["recommended"]].iloc[0]
    assert row["gain"] == found[~found["by"].isin([ANY, MEASURED])]["gain"].max()
    assert not row["elsewhere"]
    assert MEASURED in set(recommendations(one[one["seed"] < 2], of_one)["by"])
    single = recommendations(one[one["seed"] == 0], of_one)
    assert MEASURED not in set(single["by"])  # there is no other repeat to choose on
    assert single["low"].isna().all()


def test_the_table_explains_the_lines_it_has():
    outcomes, measures = random_sweep(0)
    one = [rows[rows["seed"] == SEEDS[0]] for rows in (outcomes, measures)]
    for rows, explained in (((outcomes, measures), True), (one, False)):  # training all takes two repeats
        table = "\n".join(rendered(recommendations_table(recommendations(*rows)), 120))
        assert (f"{MEASURED}: for each repeat" in table) == explained
        assert f"{ANY}: the mean of all starts." in table


def test_choosing_by_measures_that_say_nothing_gains_nothing():
    gains = []
    for seed in range(40):
        found = recommendations(*random_sweep(seed))
        gains.append(found[found["by"] == "LogME"]["gain"].mean())
    assert abs(np.mean(gains)) < 3 * np.std(gains) / np.sqrt(len(gains))
    best = [recommendations(*random_sweep(seed)).query("by == @MEASURED")["gain"].mean() for seed in range(12)]
    assert abs(np.mean(best)) < 3 * np.std(best) / np.sqrt(len(best))  # held out, so not flattered either


@pytest.mark.parametrize("targets", [TARGETS, TARGETS[:1]])
def test_where_every_start_is_as_good_no_measure_is_the_best(targets):
    outcomes, measures = random_sweep(0)
    alike = outcomes[outcomes["target"].isin(targets)].assign(top1=0.7)  # three of which have no exact mean
    found = recommendations(alike, measures)
    assert {"LogME", "kNN", "OTDD"} < set(found["by"])
    assert not found["recommended"].any()
    better = alike["top1"].where((alike["base"] != "a") | (alike["seed"] != 0), 0.71)
    assert recommendations(alike.assign(top1=better), measures)["recommended"].sum() == len(targets)


def test_repeated_rows_are_refused():
    outcomes, measures = random_sweep(0)
    with pytest.raises(ValueError, match="outcomes hold more than one row of the same"):
        recommendations(pd.concat([outcomes, outcomes]), measures)
    with pytest.raises(ValueError, match="measures hold more than one row of the same"):
        recommendations(outcomes, pd.concat([measures, measures]))


def test_nothing_to_choose_from_recommends_nothing():
    outcomes, measures = random_sweep(0)
    assert recommendations(outcomes[(outcomes["base"] == "a") & (outcomes["n_layers"] == 2)], measures).empty
    assert recommendations(outcomes.head(0), measures.head(0)).empty


def test_a_measure_that_tells_no_start_apart_chooses_none_and_of_equals_the_rows_order_decides_nothing():
    outcomes, measures = random_sweep(0)
    same = measures[measures["measure"] == "OTDD"].assign(measure="class overlap", value=-1.0)
    tied = same.assign(measure="tied", value=np.where(same["base"] == "a", 0.0, 1.0))  # of b and c
    means = {"a": (0.0, 0.1, 0.2), "b": (0.15, 0.15, 0.15), "c": (0.1, 0.2, 0.15)}  # b and c: equal but for rounding
    assert sum(means["b"]) < sum(means["c"])
    rounded = same.assign(
        measure="rounded", value=[means[b][s] for b, s in zip(same["base"], same["seed"], strict=True)]
    )
    measures = pd.concat([measures, same, tied, rounded])
    found = recommendations(outcomes, measures)
    assert "class overlap" not in set(found["by"])
    assert set(found.loc[found["by"].isin(["tied", "rounded"]), "base"]) == {"b"}
    keys = ["treatment", "target", "by"]
    backwards = recommendations(outcomes[::-1], measures[::-1]).sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(backwards, found.sort_values(keys, ignore_index=True))


def test_a_start_without_all_repeats_of_a_measure_is_not_chosen_by_it():
    outcomes, measures = random_sweep(0)
    # Every repeat has a level of its own, and base c lacks the low ones.
    level = measures["seed"].map({0: 0.0, 1: 0.0, 2: 10.0}) + measures["base"].map({"a": 0.0, "b": 1.0, "c": 0.5})
    uneven = measures.assign(value=level)[(measures["base"] != "c") | (measures["seed"] == 2)]
    found = recommendations(outcomes, uneven)
    assert set(found.loc[~found["by"].isin([ANY, MEASURED]), "base"]) == {"b"}


def test_a_measure_is_recommended_by_all_other_targets_and_not_by_those_alone_where_it_chose():
    rows = [
        ("AnB", target, base, 2, seed, top1)
        for target, worth in (("w", 0.4), ("x", 0.3), ("y", 0.3), ("z", 0.3))
        for base, top1 in (("a", 0.1), ("b", 0.1 + worth))
        for seed in SEEDS
    ]
    outcomes = pd.DataFrame(rows, columns=["treatment", "target", "base", "n_layers", "seed", "top1"])
    right = outcomes.assign(measure="LogME", value=outcomes["base"].map({"a": 0.0, "b": 1.0}))
    # It is right as well, but tells the bases of two targets apart alone, one of them the target where it matters most.
    blind = right.assign(measure="class overlap", value=right["value"].where(right["target"].isin(["w", "x"]), 0.0))
    found = recommendations(outcomes, pd.concat([right, blind])).set_index(["target", "by"])
    assert list(found.loc["x"].query("recommended").index) == ["LogME"]


def test_a_measure_that_chose_nothing_on_a_target_or_on_any_other_is_not_recommended_there():
    rows = [
        ("AnB", target, base, 2, seed, top1)
        for target in "wxyz"
        for base, top1 in (("a", 0.1), ("b", 0.4))
        for seed in SEEDS
    ]
    outcomes = pd.DataFrame(rows, columns=["treatment", "target", "base", "n_layers", "seed", "top1"])
    right = outcomes["base"].map({"a": 0.0, "b": 1.0})
    wrong_on_w = outcomes.assign(measure="LogME", value=right.where(outcomes["target"] != "w", -right))
    silent_on_y = outcomes.assign(measure="class overlap", value=right.where(outcomes["target"] != "y", 0.0))
    wrong = outcomes.assign(measure="kNN", value=-right)
    on_y_alone = outcomes.assign(measure="class overlap", value=right.where(outcomes["target"] == "y", 0.0))
    for measures, recommended in (([wrong_on_w, silent_on_y], "LogME"), ([wrong, on_y_alone], "kNN")):
        found = recommendations(outcomes, pd.concat(measures)).set_index(["target", "by"])
        assert list(found.loc["y"].query("recommended").index) == [recommended]


def test_treatments_are_recommended_for_by_themselves_and_a_start_that_lacks_a_repeat_is_none():
    frozen, measures = random_sweep(0)
    tuned = random_sweep(1)[0].assign(treatment="AnB+")
    both = recommendations(pd.concat([frozen, tuned]), measures)
    alone = [recommendations(outcomes, measures) for outcomes in (frozen, tuned)]
    pd.testing.assert_frame_equal(both, pd.concat(alone, ignore_index=True))
    assert both[both["recommended"]].groupby("target")["by"].nunique().max() == 2
    best = frozen.assign(top1=frozen["top1"].where(frozen["base"] != "b", 1.0))
    lacking = best[(best["base"] != "b") | (best["seed"] != 0)]
    pd.testing.assert_frame_equal(
        recommendations(lacking, measures), recommendations(best[best["base"] != "b"], measures)
    )


def test_a_start_without_a_cut_is_said_to_be_the_mean_over_its_cuts():
    outcomes, measures = random_sweep(0)
    found = recommendations(outcomes, measures[measures["measure"] == "OTDD"])
    for sentence in advice(found):
        assert re.search(r"OTDD, .*, would start from [abc], the mean over its cuts: [\d.]+", sentence)
        assert re.search(r"the best of all repeats is [abc], n = [25]\)", sentence)
