import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raytransfer.analysis import READINGS, boost, boosts, readings, treatment_means
from raytransfer.analysis.intervals import clustered_t, student_t, welch_t, within_one
from raytransfer.analysis.transfer import DISSIMILAR
from raytransfer.tasks.halves import named_pairs

COPIES = ("BnB", "BnB+", "AnB", "AnB+", "RnB")
SPLITS = {"random0": "random", "random1": "random", "random2": "random", "animals/vehicles": "animals/vehicles"}
LAYERS = (1, 2, 3)

whole_grids = settings(max_examples=10, deadline=None)


def grid(seed: int = 0, seeds: int = 3) -> pd.DataFrame:
    """A finished grid of made-up accuracies: 4 splits x 2 directions x seeds, all treatments, n = 1..3."""
    rng = np.random.default_rng(seed)
    cells = [(treatment, 0) for treatment in ("baseB", "baseB-2x")] + list(itertools.product(COPIES, LAYERS))
    rows = [
        (treatment, SPLITS[split], split, direction, run, n, rng.uniform(0.3, 0.9), rng.uniform(0.5, 2.0))
        for split, direction, run in itertools.product(SPLITS, ("A->B", "B->A"), range(seeds))
        for treatment, n in cells
    ]
    columns = ["treatment", "halves", "split", "direction", "seed", "n_layers", "top1", "loss_nats"]
    return pd.DataFrame(rows, columns=columns)


def naive_differences(results: pd.DataFrame, first: str, second: str, halves: str, n: int) -> list[list[float]]:
    """Loop over all pairs of rows, and keep those of one split, direction and seed, by unit."""
    rows = list(results[(results["halves"] == halves) & results["treatment"].isin([first, second])].itertuples())
    differences: dict[str, list[float]] = {}
    for a, b in itertools.product(rows, rows):
        same_run = (a.split, a.direction, a.seed) == (b.split, b.direction, b.seed)
        same_n = a.n_layers in (0, n) and b.n_layers in (0, n)
        if (a.treatment, b.treatment) == (first, second) and same_run and same_n:
            unit = a.split if halves == "random" else f"seed {a.seed}"
            differences.setdefault(unit, []).append(a.top1 - b.top1)
    return list(differences.values())


def reading(table: pd.DataFrame, name: str, halves: str, n: int) -> pd.Series:
    rows = table[(table["reading"] == name) & (table["halves"] == halves) & (table["n_layers"] == n)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_paired_reading_is_the_t_interval_of_the_units_mean_differences():
    results = grid()
    table = readings(results)
    for name, (first, second) in READINGS.items():
        if name == "distance effect":
            continue
        for halves in ("random", "animals/vehicles"):
            if name == "value of distant features" and halves == "random":
                continue
            units = naive_differences(results, first, second, halves, 2)
            means = [sum(differences) / len(differences) for differences in units]
            expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
            row = reading(table, name, halves, 2)
            assert row["units"] == len(units) == 3
            assert row["runs"] == sum(map(len, units)) == {"random": 18, "animals/vehicles": 6}[halves]
            assert row["method"] == "paired t"
            assert row["estimate"] == pytest.approx(sum(means) / len(means), abs=1e-12)
            assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_distance_effect_is_welchs_t_of_the_two_groups_of_units_mean_drops():
    results = grid()
    row = reading(readings(results), "distance effect", "animals/vehicles", 3)
    dissimilar = [np.mean(unit) for unit in naive_differences(results, "baseB", "AnB", "animals/vehicles", 3)]
    random = [np.mean(unit) for unit in naive_differences(results, "baseB", "AnB", "random", 3)]
    expected = stats.ttest_ind(dissimilar, random, equal_var=False).confidence_interval(0.95)
    assert row["estimate"] == pytest.approx(np.mean(dissimilar) - np.mean(random), abs=1e-12)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (row["units"], row["random_units"], row["method"]) == (3, 3, "Welch t")


def test_each_reading_has_the_sign_its_name_says():
    level = {"baseB": 0.60, "baseB-2x": 0.61, "BnB": 0.57, "BnB+": 0.62, "AnB": 0.52, "AnB+": 0.65, "RnB": 0.30}
    results = grid()
    farther = np.where((results["treatment"] == "AnB") & (results["halves"] != "random"), 0.08, 0.0)
    results["top1"] = results["treatment"].map(level) - farther
    table = readings(results).set_index(["reading", "halves", "n_layers"])["estimate"]
    expected = {
        "co-adaptation drop": 0.03,
        "specificity drop": 0.05,
        "recovery": 0.05,
        "generalisation boost": 0.05,
        "boost over twice the steps": 0.04,
        "boost over selffer": 0.03,
    }
    for name, value in expected.items():
        assert table[name, "random", 1] == pytest.approx(value)
    assert table["specificity drop", "animals/vehicles", 1] == pytest.approx(0.13)
    assert table["distance effect", "animals/vehicles", 1] == pytest.approx(0.08)
    assert table["value of distant features", "animals/vehicles", 1] == pytest.approx(0.14)
    assert len(table) == 3 * (2 * 6 + 2)


@whole_grids
@given(st.integers(0, 10**6), st.lists(st.floats(-1, 1), min_size=24, max_size=24))
def test_what_is_added_to_all_runs_of_a_split_direction_and_seed_leaves_the_paired_readings_as_they_are(seed, shifts):
    results = grid(seed)
    shifted = results.copy()
    shifted["top1"] += shifted.groupby(["split", "direction", "seed"]).ngroup().map(dict(enumerate(shifts)))
    columns = ["estimate", "low", "high"]
    np.testing.assert_allclose(readings(results)[columns], readings(shifted)[columns], atol=1e-12)
    assert boost(results, of="AnB+", over="baseB", first=1, last=3, paired=True).low == pytest.approx(
        boost(shifted, of="AnB+", over="baseB", first=1, last=3, paired=True).low, abs=1e-12
    )


@whole_grids
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(random):
    results = grid()
    order = list(range(len(results)))
    random.shuffle(order)
    shuffled = results.iloc[order]
    pd.testing.assert_frame_equal(readings(results), readings(shuffled), check_exact=True)
    pd.testing.assert_frame_equal(treatment_means(results), treatment_means(shuffled), check_exact=True)
    pd.testing.assert_frame_equal(boosts(results, [(1, 3)]), boosts(shuffled, [(1, 3)]), check_exact=True)


@whole_grids
@given(st.sets(st.integers(0, len(grid()) - 1)))
def test_any_part_of_a_grid_is_read_and_each_reading_counts_the_pairs_that_exist(rows):
    results = grid().iloc[sorted(rows)]
    table = readings(results)
    assert (treatment_means(results)["units"] > 0).all()
    assert treatment_means(results)["runs"].sum() == len(rows)
    paired = table[table["reading"] == "generalisation boost"]
    units = [unit["treatment"] for _, unit in results.groupby(["split", "direction", "seed"])]
    pairs = sum((unit == "AnB+").sum() for unit in units if (unit == "baseB").any())
    assert paired["runs"].sum() == pairs
    boosts(results)


def test_no_rows_give_empty_tables():
    nothing = grid().iloc[:0]
    assert treatment_means(nothing).empty
    assert readings(nothing).empty
    assert boosts(nothing).empty
    assert list(readings(nothing)) == list(readings(grid()))


def test_halves_given_as_lists_have_no_reading_that_takes_dissimilar_ones():
    results = grid()
    results["halves"] = results["halves"].replace("animals/vehicles", "0 1/2 3")
    of_lists = readings(results).query("halves != 'random'")["reading"]
    assert set(READINGS) - set(of_lists) == {"distance effect", "value of distant features"}
    assert not of_lists.empty
    assert set(DISSIMILAR) == set(named_pairs())  # the halves that a configuration can name


def test_a_boost_says_which_n_it_averages():
    results = grid()
    random = results["halves"] == "random"
    averaged = boosts(results, [(1, 3), (2, 3)]).groupby(["first", "last"])["averaged"].unique().map(list).to_dict()
    assert averaged == {(1, 3): ["1-3"], (2, 3): ["2, 3"]}
    holes = boosts(results[results["n_layers"] != 2], [(1, 3)])
    assert set(holes["averaged"]) == {"1, 3"}
    # Of AnB+ there are only n = 1 and 3: unpaired it is held against all runs of BnB+, paired against those of its n.
    uneven = boosts(results[~(random & (results["treatment"] == "AnB+") & (results["n_layers"] == 2))], [(1, 3)])
    assert uneven.set_index(["of", "over", "method"])["averaged"].to_dict() == {
        ("AnB+", "baseB", "unpaired"): "1, 3",
        ("AnB+", "BnB+", "unpaired"): "1, 3 against 1-3",
        ("AnB+", "baseB", "paired, t over units"): "1, 3",
        ("BnB+", "baseB", "paired, t over units"): "1-3",
        ("AnB+", "BnB+", "paired, t over units"): "1, 3",
    }


def test_one_unit_has_an_estimate_and_no_interval():
    results = grid().query("split == 'random0' and direction == 'A->B' and seed == 0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table, means = readings(results), treatment_means(results)
        gain = boost(results, of="AnB+", over="baseB", first=1, last=3, paired=True)
    assert np.isfinite(table["estimate"]).all()
    assert table[["low", "high"]].isna().all(axis=None)
    assert means[["low", "high"]].isna().all(axis=None)
    assert math.isfinite(gain.estimate)
    assert math.isnan(gain.low)
    assert (gain.runs, gain.units) == (3, 1)


def test_a_run_that_diverged_makes_what_it_enters_unknown_and_nothing_else():
    results = grid()
    at = (results["treatment"] == "AnB+") & (results["split"] == "random0") & (results["n_layers"] == 2)
    results.loc[at, "loss_nats"] = math.inf
    table = readings(results, "loss_nats").set_index(["reading", "halves", "n_layers"])
    means = treatment_means(results, "loss_nats").set_index(["treatment", "halves", "n_layers"])
    unknown = table.index[table["estimate"].isna()]
    assert set(unknown) == {
        (name, "random", 2) for name in ("generalisation boost", "boost over twice the steps", "boost over selffer")
    }
    assert list(means.index[means["low"].isna()]) == [("AnB+", "random", 2)]


def test_means_are_those_of_the_units_with_bases_first_and_random_halves_before_others():
    results = grid()
    means = treatment_means(results)
    assert list(means["treatment"].unique()) == ["baseB", "baseB-2x", "BnB", "BnB+", "AnB", "AnB+", "RnB"]
    assert list(means.query("treatment == 'AnB'")["halves"].unique()) == ["random", "animals/vehicles"]
    for row in means.itertuples():
        same = (results["treatment"] == row.treatment) & (results["halves"] == row.halves)
        runs = results[same & (results["n_layers"] == row.n_layers)]
        values = runs.groupby("split" if row.halves == "random" else "seed")["top1"].mean()
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert row.mean == pytest.approx(runs["top1"].mean())
        assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
        assert (row.units, row.runs) == (len(values), len(runs))


def test_rows_of_the_same_run_are_named():
    results = grid()
    twice = pd.concat([results, results[(results["treatment"] == "AnB") & (results["n_layers"] == 2)].head(1)])
    named = r"more than one row of the same run: treatment AnB, split random0, direction A->B, seed 0, n_layers 2$"
    for analyse in (treatment_means, readings, boosts):
        with pytest.raises(ValueError, match=named):
            analyse(twice)


def test_a_missing_column_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"lack the column seed; they have treatment, .*top1"):
        treatment_means(grid().drop(columns="seed"))
    with pytest.raises(ValueError, match="lack the column accuracy"):
        readings(grid(), "accuracy")


@pytest.mark.parametrize(("first", "last"), [(0, 3), (3, 2)])
def test_a_span_counts_copied_layers_upwards(first, last):
    with pytest.raises(ValueError, match=rf"n from {first} to {last}"):
        boost(grid(), of="AnB+", over="baseB", first=first, last=last, paired=True)


def test_the_paired_boost_of_a_whole_grid_is_the_t_interval_of_the_splits_means():
    results = grid()
    gain = boost(results, of="AnB+", over="BnB+", first=2, last=3, paired=True)
    random = results[results["halves"] == "random"]
    unit_means = [
        np.mean(
            [
                unit.query(f"treatment == 'AnB+' and n_layers == {n}")["top1"].item()
                - unit.query(f"treatment == 'BnB+' and n_layers == {n}")["top1"].item()
                for n in (2, 3)
            ]
        )
        for _, unit in random.groupby(["split", "direction", "seed"])
    ]
    split_means = np.reshape(unit_means, (3, -1)).mean(axis=1)
    expected = stats.ttest_1samp(split_means, 0).confidence_interval(0.95)
    assert gain.estimate == pytest.approx(np.mean(unit_means), abs=1e-12)
    assert (gain.low, gain.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (gain.runs, gain.units) == (36, 3)


def test_the_unpaired_boost_is_the_difference_of_two_means_over_runs_of_random_halves():
    results = grid()
    random = results[results["halves"] == "random"]
    of = random.query("treatment == 'AnB+' and n_layers >= 2")["top1"].mean()
    over = random.query("treatment == 'baseB'")["top1"].mean()
    gain = boost(results, of="AnB+", over="baseB", first=2, last=3, paired=False)
    assert gain.estimate == pytest.approx(of - over, abs=1e-12)
    assert math.isnan(gain.low)
    assert gain.runs == 36


values = st.lists(st.integers(-1000, 1000).map(lambda i: i / 1000), min_size=3, max_size=6).filter(
    lambda sample: len(set(sample)) > 1
)


@given(values)
def test_student_t_by_hand(sample):
    mean = sum(sample) / len(sample)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in sample) / (len(sample) - 1))
    half = stats.t.ppf(0.975, len(sample) - 1) * deviation / math.sqrt(len(sample))
    interval = student_t(np.array(sample))
    assert (interval.low, interval.high) == pytest.approx((mean - half, mean + half), abs=1e-12)


@given(values, values)
def test_welchs_interval_contains_the_estimate_and_mirrors_when_the_groups_swap(group, reference):
    forth, back = (welch_t(np.array(a), np.array(b)) for a, b in ((group, reference), (reference, group)))
    assert forth.low <= forth.estimate <= forth.high
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=1e-12)


@pytest.mark.parametrize(
    ("group", "reference"),
    [
        ([0.5], [0.25, 0.5, 0.75]),
        ([0.4, 0.6], [0.25, 0.5, 0.75]),
        ([0.25, 0.5, 0.75], [0.4, 0.6]),
        ([0.5, 0.5, 0.5], [0.25, 0.5, 0.75]),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ],
)
def test_two_groups_have_an_interval_only_if_both_have_three_values_that_differ(group, reference):
    interval = welch_t(np.array(group), np.array(reference))
    assert interval.estimate == 0.0
    assert (math.isnan(interval.low), math.isnan(interval.high)) == (True, True)


@pytest.mark.parametrize(
    ("interval", "estimate"),
    [
        (student_t(np.array([0.25, 0.75])), 0.5),
        (student_t(np.array([0.5, 0.5, 0.5])), 0.5),
        (clustered_t(np.array([0.1, 0.3, 0.5, 0.7]), np.array([0, 0, 1, 1])), 0.4),
        (clustered_t(np.array([0.2, 0.6, 0.4, 0.4, 0.3, 0.5]), np.array([0, 0, 1, 1, 2, 2])), 0.4),
    ],
)
def test_few_units_and_equal_units_have_no_interval(interval, estimate):
    assert interval.estimate == pytest.approx(estimate)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_units_that_are_equal_but_for_rounding_have_no_interval(scale):
    equal = scale * np.array([0.8 - 0.7, 0.7 - 0.6, 0.3 - 0.2, 0.1])
    assert len(set(equal)) > 1
    assert student_t(equal).estimate == pytest.approx(0.1 * scale)
    assert math.isnan(student_t(equal).low)
    assert math.isnan(clustered_t(equal, np.arange(4)).low)
    nearly = scale * np.array([0.1, 0.1, 0.1001])
    assert student_t(nearly).low < student_t(nearly).estimate < student_t(nearly).high


def test_the_interval_of_a_mean_of_correlations_ends_within_one():
    interval = student_t(np.array([1.0, 1.0, 0.8]))
    assert interval.high > 1
    within = within_one(interval)
    assert -1 < within.low < interval.low < within.estimate < within.high < 1
    assert (within.estimate, within.degrees) == (interval.estimate, 2)
    mirrored = within_one(student_t(np.array([-1.0, -1.0, -0.8])))
    assert (mirrored.low, mirrored.high) == pytest.approx((-within.high, -within.low))
    assert math.isnan(within_one(student_t(np.ones(3))).low)


def test_differences_of_differences_that_are_rounding_have_no_interval():
    rounding = np.array([(0.8 - 0.7) - 0.1, (0.7 - 0.6) - 0.1, (0.3 - 0.2) - 0.1])
    assert rounding.any()
    assert math.isnan(student_t(rounding).low)


@pytest.mark.parametrize("sizes", [(7, 3, 7, 5, 7), (10, 1, 1, 1), (5, 1, 1, 1, 1, 1, 1, 1)], ids=str)
def test_clustered_intervals_cover_what_they_should_where_runs_share_a_unit(sizes):
    rng = np.random.default_rng(0)
    covered, naively = 0, 0
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(1000):
        sample = rng.normal(size=len(sizes))[clusters] + 0.3 * rng.normal(size=len(clusters))
        interval, naive = clustered_t(sample, clusters), student_t(sample)
        covered += interval.low <= 0 <= interval.high
        naively += naive.low <= 0 <= naive.high
    assert 920 <= covered <= 980
    assert naively < 800


def test_a_clustered_interval_is_that_of_bias_reduced_linearisation():
    """The matrices of Bell and McCaffrey, with clusters that are not numbered one after the other."""
    clusters = np.array([0, 0, 0, 0, 2, 2, 5, 7])
    values = np.random.default_rng(0).normal(size=len(clusters))
    size = len(values)
    maker = np.eye(size) - 1 / size
    columns = []
    for cluster in np.unique(clusters):
        own = clusters == cluster
        w, v = np.linalg.eigh(maker[np.ix_(own, own)])
        columns.append(maker[own].T @ (v / np.sqrt(w)) @ v.T @ np.full(own.sum(), 1 / size))
    parts = np.array(columns)
    eigenvalues = np.linalg.eigvalsh(parts @ parts.T)
    degrees = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    half = stats.t.ppf(0.975, degrees) * math.sqrt(((parts @ values) ** 2).sum())
    interval = clustered_t(values, clusters)
    assert interval.degrees == pytest.approx(degrees)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half))


@pytest.mark.parametrize("shares", [(0, 0, 1), (0.2, 0.2, 0.6), (0.33, 0.33, 0.34), (0, 0.6, 0.4)], ids=str)
@pytest.mark.parametrize("splits", [4, 8])
def test_intervals_of_the_grid_cover_what_they_should_however_the_variance_divides(splits, shares):
    """Between splits, between directions of a split and between seeds, each a share; every n is a grid of its own."""
    rng, grids = np.random.default_rng(0), 1000
    between, within, seeds = np.sqrt(shares)
    shape = (grids, splits, 2, 2)
    values = between * rng.normal(size=(grids, splits, 1, 1)) + within * rng.normal(size=(grids, splits, 2, 1))
    names = ["n_layers", "split", "direction", "seed"]
    place = pd.MultiIndex.from_product([range(1, grids + 1), range(splits), ("A->B", "B->A"), range(2)], names=names)
    tuned = place.to_frame(index=False).assign(treatment="AnB+", top1=(values + seeds * rng.normal(size=shape)).ravel())
    bases = tuned[tuned["n_layers"] == 1].assign(treatment="baseB", n_layers=0, top1=0.0)
    found = readings(pd.concat([bases, tuned]).assign(halves="random"))
    covered = ((found["low"] <= 0) & (found["high"] >= 0)).mean()
    assert len(found) == grids
    assert 0.92 <= covered <= 0.98
