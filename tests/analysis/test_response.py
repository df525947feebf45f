import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from raytransfer.analysis import (
    curves,
    dial_means,
    grid_effects,
    grid_means,
    monotonicity,
    outcome_monotonicity,
    transfer_points,
    variance_of_dials,
    variance_of_distances,
)
from raytransfer.analysis.pairs import axes_of, resampled_tasks
from raytransfer.errors import UserError

ONE_TARGET = [("T", f"base{i}") for i in range(8)]
THREE_TARGETS = [(target, f"base{i}") for target in ("T", "U", "V") for i in range(6)]
ALL_PAIRS = list(itertools.permutations("ABCDE", 2))
DESIGNS = pytest.mark.parametrize("pairs", [ONE_TARGET, THREE_TARGETS, ALL_PAIRS], ids=["one", "three", "all pairs"])


def study(pairs, seeds: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up outcomes at one n, and two distances of the pairs."""
    rng = np.random.default_rng(0)
    rows = [(*pair, 2, seed, rng.random()) for pair in pairs for seed in range(seeds)]
    outcomes = pd.DataFrame(rows, columns=["target", "base", "n_layers", "seed", "AnB"])
    of = [(name, "distance", *pair, None, None, rng.normal()) for name in ("input", "label") for pair in pairs]
    return outcomes, pd.DataFrame(of, columns=["measure", "kind", "target", "base", "n_layers", "seed", "value"])


def repeated(outcomes, measures, of_targets, of_bases) -> pd.DataFrame:
    """One row a pair with y and a column a measure, repeated as often as its two tasks were drawn."""
    wide = measures.pivot(index=["target", "base"], columns="measure", values="value").reset_index()
    wide = wide.merge(outcomes.rename(columns={"AnB": "y"}), on=["target", "base"])
    times = [of_targets[row["target"]] * of_bases[row["base"]] for row in wide.to_dict("records")]
    return wide.loc[wide.index.repeat(times)]


def resamples(outcomes, measures, number, seed):
    axes = axes_of(outcomes, ("AnB",))
    for of_targets, of_bases in zip(*resampled_tasks(axes, number, seed), strict=True):
        named = (
            dict(zip(names, of, strict=True)) for names, of in ((axes.targets, of_targets), (axes.bases, of_bases))
        )
        yield repeated(outcomes, measures, *named)


def once(outcomes, measures) -> pd.DataFrame:
    return repeated(outcomes, measures, *(dict.fromkeys(outcomes[role], 1) for role in ("target", "base")))


def naive_fit(rows: pd.DataFrame, degree: int):
    """Least squares with a column of indicators for each target: intercepts by target, and the polynomial's slopes."""
    targets = sorted(set(rows["target"]))
    columns = [(rows["target"] == target).to_numpy(float) for target in targets]
    columns += [rows["input"].to_numpy() ** power for power in range(1, degree + 1)]
    solution, _, rank, _ = np.linalg.lstsq(np.stack(columns, axis=1), rows["y"].to_numpy(), rcond=None)
    return dict(zip(targets, solution[: len(targets)], strict=True)), solution[len(targets) :], rank == len(columns)


def naive_curve(rows, degree, grid):
    intercepts, slopes, _ = naive_fit(rows, degree)
    mean = np.mean([intercepts[target] for target in rows["target"]])
    return mean + sum(slope * grid ** (i + 1) for i, slope in enumerate(slopes))


@DESIGNS
def test_a_curve_is_the_least_squares_fit_with_an_intercept_for_each_target(pairs):
    outcomes, measures = study(pairs)
    table = curves(outcomes, measures, "input", ("AnB",), resamples=5)
    rows = once(outcomes, measures)
    assert len(table) == 50
    np.testing.assert_allclose(table["x"], np.linspace(rows["input"].min(), rows["input"].max(), 50))
    np.testing.assert_allclose(table["y"], naive_curve(rows, 2, table["x"].to_numpy()), atol=1e-9)
    if pairs is ONE_TARGET:
        np.testing.assert_allclose(table["y"], np.polyval(np.polyfit(rows["input"], rows["y"], 2), table["x"]))
    assert set(table["pairs"]) == {len(pairs)}


@DESIGNS
def test_a_band_is_percentiles_of_fits_to_resampled_tasks_without_the_targets_difficulty(pairs):
    outcomes, measures = study(pairs)
    table = curves(outcomes, measures, "input", ("AnB",), resamples=40, seed=7)
    intercepts, _, _ = naive_fit(once(outcomes, measures), 2)
    mean = np.mean([intercepts[target] for target, _ in pairs])
    grid = table["x"].to_numpy()
    fits = []
    for rows in resamples(outcomes, measures, 40, 7):
        level = rows.assign(y=rows["y"] - rows["target"].map(intercepts) + mean)
        if len(level) and naive_fit(level, 2)[2]:
            fits.append(naive_curve(level, 2, grid))
    assert len(fits) > 20
    np.testing.assert_allclose(table["low"], np.percentile(fits, 2.5, axis=0), atol=1e-6)
    np.testing.assert_allclose(table["high"], np.percentile(fits, 97.5, axis=0), atol=1e-6)


def test_a_parabola_is_found_whatever_the_targets_difficulty():
    pairs = [(target, f"base{i}") for target in "TUV" for i in range(7)]
    outcomes, measures = study(pairs)
    x = measures.loc[measures["measure"] == "input", "value"].to_numpy()
    hard = outcomes["target"].map({"T": 0.3, "U": 0.0, "V": -0.3})
    outcomes["AnB"] = 0.8 - 0.1 * x - 0.02 * x**2 + hard
    table = curves(outcomes, measures, "input", ("AnB",), 50)
    np.testing.assert_allclose(table["y"], 0.8 - 0.1 * table["x"] - 0.02 * table["x"] ** 2, atol=1e-9)
    assert not (table["high"] - table["low"] > 1e-9).any()


def test_few_distinct_values_get_a_straight_line_and_one_gets_none():
    outcomes, measures = study(ONE_TARGET)
    measures["value"] = [0, 0, 1, 1, 2, 2, 5, 5] * 2
    table = curves(outcomes, measures, "input", ("AnB",), 20)
    np.testing.assert_allclose(np.diff(table["y"], 2), 0, atol=1e-12)
    assert curves(outcomes, measures.assign(value=3.0), "input", ("AnB",), 20).empty
    assert curves(outcomes.assign(AnB=np.nan), measures, "input", ("AnB",), 20).empty


def test_points_are_the_pairs_means_over_seeds():
    outcomes, measures = study(ALL_PAIRS, seeds=3)
    outcomes.loc[0, "AnB"] = np.nan
    points = transfer_points(outcomes, measures, "label", ("AnB",))
    assert len(points) == len(ALL_PAIRS)
    for point in points.to_dict("records"):
        pair = (outcomes["target"] == point["target"]) & (outcomes["base"] == point["base"])
        assert point["y"] == pytest.approx(outcomes.loc[pair, "AnB"].mean())
        of = measures[(measures["target"] == point["target"]) & (measures["base"] == point["base"])]
        assert point["x"] == pytest.approx(of.loc[of["measure"] == "label", "value"].item())
        assert (point["kind"], point["outcome"], point["n_layers"]) == ("distance", "AnB", 2)


def test_an_unknown_measure_is_named_with_those_there_are():
    outcomes, measures = study(ONE_TARGET)
    for analyse in (curves, transfer_points):
        with pytest.raises(UserError, match="no measure 'FID': there are input, label"):
            analyse(outcomes, measures, "FID", ("AnB",))
    with pytest.raises(UserError, match="no measure 'tree'"):
        variance_of_distances(outcomes, measures, input_measure="input", label_measure="tree", outcomes_named=("AnB",))


def dial_grid(targets=("T",), seeds: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A 3 x 4 grid of made-up outcomes for every target and seed."""
    rng = np.random.default_rng(1)
    cells = [(i, j / 4) for i in range(3) for j in range(4)]
    grid = [(target, f"{i} {j}", i, j) for target in targets for i, j in cells]
    rows = [
        (t, b, 1, seed, 0.9 - 0.1 * i - j / 4 + 0.05 * rng.normal()) for t, b, i, j in grid for seed in range(seeds)
    ]
    return (
        pd.DataFrame(rows, columns=["target", "base", "n_layers", "seed", "AnB"]),
        pd.DataFrame(grid, columns=["target", "base", "input_level", "label_level"]),
    )


def naive_shares(outcomes, grid) -> list[float]:
    """Two-way analysis of variance by the textbook's sums over all rows."""
    rows = outcomes.merge(grid, on=["target", "base"])
    y = rows["AnB"] - rows.groupby("target")["AnB"].transform("mean")
    i, j = rows["input_level"], rows["label_level"]
    cell = y.groupby([i, j]).transform("mean")
    of_input, of_label = (y.groupby(level).transform("mean") for level in (i, j))
    squares = [
        (of_input**2).sum(),
        (of_label**2).sum(),
        ((cell - of_input - of_label) ** 2).sum(),
        ((y - cell) ** 2).sum(),
    ]
    assert sum(squares) == pytest.approx((y**2).sum())
    return [square / sum(squares) for square in squares]


@pytest.mark.parametrize("targets", [("T",), ("T", "U", "V")])
def test_variance_of_dials_is_the_textbooks_with_a_jackknife_over_targets_or_seeds(targets):
    outcomes, grid = dial_grid(targets)
    table = variance_of_dials(outcomes, grid, ("AnB",))
    assert list(table["part"]) == ["input", "label", "interaction", "rest"]
    np.testing.assert_allclose(table["eta_squared"], naive_shares(outcomes, grid))
    left_out = "seed" if len(targets) == 1 else "target"
    names = outcomes[left_out].unique()
    without = [naive_shares(outcomes[outcomes[left_out] != name], grid) for name in names]
    pseudo_values = 3 * np.array(naive_shares(outcomes, grid)) - 2 * np.array(without)
    ends = stats.ttest_1samp(pseudo_values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(table["share"], pseudo_values.mean(axis=0))
    np.testing.assert_allclose(table[["low", "high"]].T, ends)
    assert set(table["units"]) == {3 * len(targets)}
    assert set(table["cells"]) == {12}


def test_variance_that_is_all_of_the_dials_is_shared_out_exactly():
    outcomes, grid = dial_grid()
    placed = outcomes.merge(grid, on=["target", "base"])
    outcomes["AnB"] = placed["input_level"] - 4 * placed["label_level"]
    table = variance_of_dials(outcomes, grid, ("AnB",)).set_index("part")
    # Variances of 0, 1, 2 and of 0, 1, 2, 3.
    expected = np.array([8 / 12, 15 / 12, 0, 0]) / (23 / 12)
    for column in ("eta_squared", "share"):
        np.testing.assert_allclose(table[column], expected, atol=1e-12)
    assert table[["low", "high"]].isna().all(axis=None)  # all units are equal
    outcomes["AnB"] = (placed["input_level"] - 1) * (placed["label_level"] - 0.375)
    assert variance_of_dials(outcomes, grid, ("AnB",))["eta_squared"].to_numpy() == pytest.approx([0, 0, 1, 0])
    assert variance_of_dials(outcomes.assign(AnB=0.3), grid, ("AnB",))["eta_squared"].isna().all()


def test_one_whole_grid_has_no_interval_and_unfinished_ones_are_left_out():
    outcomes, grid = dial_grid()
    outcomes.loc[(outcomes["seed"] == 1) & (outcomes["base"] == "0 0.25"), "AnB"] = np.nan
    part = outcomes[~((outcomes["seed"] == 2) & (outcomes["base"] == "2 0.75"))]
    table = variance_of_dials(part, grid, ("AnB",))
    assert list(table["part"]) == ["input", "label", "interaction + rest"]
    assert set(table["units"]) == {1}
    np.testing.assert_allclose(table["eta_squared"], naive_shares(outcomes[outcomes["seed"] == 0], grid)[:3])
    assert table[["share", "low", "high"]].isna().all(axis=None)
    assert variance_of_dials(outcomes[outcomes["seed"] == 1], grid, ("AnB",)).empty
    with pytest.raises(ValueError, match=r"two bases are on the same cell of the grid: .*'base': 'again'"):
        variance_of_dials(outcomes, pd.concat([grid, grid.head(1).assign(base="again")]), ("AnB",))


def naive_commonality(rows) -> list[float]:
    """R² by least squares on ranks within targets, the rows of resampled tasks repeated."""
    ranks = []
    for _, of_target in rows.groupby("target"):
        values = of_target[["input", "label", "y"]].to_numpy()
        ranks.append((stats.rankdata(values, axis=0) - (len(values) + 1) / 2) / len(values))
    x, z, y = np.concatenate(ranks).T
    if min(np.ptp(x), np.ptp(z), np.ptp(y)) == 0:
        return [np.nan] * 6

    def r2(*columns):
        solution = np.linalg.lstsq(np.stack(columns, axis=1), y, rcond=None)[0]
        return 1 - ((y - np.stack(columns, axis=1) @ solution) ** 2).sum() / (y**2).sum()

    a, b, both = r2(x), r2(z), r2(x, z)
    return [a, b, both, both - b, both - a, a + b - both]


@DESIGNS
def test_variance_of_distances_is_commonality_on_ranks_with_percentiles_over_tasks(pairs):
    outcomes, measures = study(pairs)
    outcomes["AnB"] -= 0.2 * measures["value"][: len(pairs)].to_numpy()
    table = variance_of_distances(
        outcomes, measures, input_measure="input", label_measure="label", outcomes_named=("AnB",), resamples=40, seed=2
    )
    assert list(table["part"]) == ["input", "label", "both", "unique input", "unique label", "common"]
    np.testing.assert_allclose(table["share"], naive_commonality(once(outcomes, measures)), atol=1e-12)
    drawn = [naive_commonality(rows) for rows in resamples(outcomes, measures, 40, 2) if len(rows)]
    np.testing.assert_allclose(table["low"], np.nanpercentile(drawn, 2.5, axis=0), atol=1e-9)
    np.testing.assert_allclose(table["high"], np.nanpercentile(drawn, 97.5, axis=0), atol=1e-9)
    assert set(table["pairs"]) == {len(pairs)}


def test_the_same_distance_twice_adds_nothing_and_a_constant_one_explains_nothing_known():
    outcomes, measures = study(ONE_TARGET)
    named = {"input_measure": "input", "label_measure": "label", "outcomes_named": ("AnB",), "resamples": 20}
    values = measures.loc[measures["measure"] == "input", "value"].to_numpy()
    outcomes["AnB"] = -values
    twice = measures.assign(value=np.tile(values, 2))
    assert variance_of_distances(outcomes, twice, **named)["share"].to_numpy() == pytest.approx([1, 1, 1, 0, 0, 1])
    constant = measures.assign(value=np.concatenate([values, np.zeros(8)]))
    table = variance_of_distances(outcomes, constant, **named)
    assert table[["share", "low", "high"]].isna().all(axis=None)


def dialled() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three targets on a blur dial of three levels and a dial of random labels of two, and a base on no dial."""
    dials, rows = [], []
    for target in ("T", "U", "V"):
        for dial, kind, levels in (("blur_px", "input", (0, 1, 4)), ("random", "random labels", (0, 0.5))):
            dials += [
                (target if level == 0 else f"{target} {dial} {level}", target, dial, kind, level) for level in levels
            ]
        dials.append((f"{target} other", target, None, None, np.nan))
    table = pd.DataFrame(dials, columns=["base", "target", "dial", "kind", "level"])
    rng = np.random.default_rng(0)
    pairs = sorted({(target, base) for base, target, *_ in dials})
    rows = [(*pair, n, seed, rng.random()) for pair in pairs for n in (1, 2) for seed in range(3)]
    return pd.DataFrame(rows, columns=["target", "base", "n_layers", "seed", "AnB"]), table


def test_monotonicity_is_the_mean_rank_correlation_over_the_curves_of_targets_and_seeds():
    outcomes, dials = dialled()
    scores = outcomes.rename(columns={"AnB": "value"}).assign(measure="fit", kind="score")
    table = monotonicity(scores, dials)
    assert len(table) == 4
    for row in table.to_dict("records"):
        rhos = []
        for target, seed in itertools.product("TUV", range(3)):
            on = dials[(dials["dial"] == row["dial"]) & (dials["target"] == target)]
            run = scores[(scores["n_layers"] == row["n_layers"]) & (scores["seed"] == seed)]
            values = [run.loc[run["base"] == base, "value"].item() for base in on["base"]]
            rhos.append(stats.spearmanr(on["level"], values).statistic)
        half = stats.t.ppf(0.975, 8) * np.std(rhos, ddof=1) / 3
        expected = [np.mean(rhos), max(np.mean(rhos) - half, -1), min(np.mean(rhos) + half, 1)]
        if row["levels"] == 2:  # where chance alone gives 1 and -1
            expected = [np.nan] * 3
        assert [row[name] for name in ("estimate", "low", "high")] == pytest.approx(expected, nan_ok=True)
        assert (row["curves"], row["constant"]) == (9, 0)
        assert row["levels"] == {"blur_px": 3, "random": 2}[row["dial"]]
        assert row["share_right_way"] == np.mean(np.array(rhos) < 0)
        assert (row["kind"], row["dial_kind"]) == (
            "score",
            {"blur_px": "input", "random": "random labels"}[row["dial"]],
        )
    named = outcome_monotonicity(outcomes, dials, ("AnB",))
    assert list(named["kind"].unique()) == ["outcome"]
    pd.testing.assert_frame_equal(named.drop(columns=["measure", "kind"]), table.drop(columns=["measure", "kind"]))


def test_the_right_way_is_up_for_distances_and_down_for_scores_and_nowhere_for_the_blind():
    _, dials = dialled()
    on = dials.dropna(subset=["dial"]).drop_duplicates(["base", "target"])
    keys = {"n_layers": None, "seed": None, "kind": "distance"}
    far = on[["base", "target"]].assign(measure="far", value=10.0 + on["level"], **keys)
    blind = on[["base", "target"]].assign(measure="blind", value=0.3 * (1 + 1e-15 * on["level"]), **keys)
    table = monotonicity(pd.concat([far, blind]), dials).set_index(["measure", "dial"])
    sees = table.loc["far"]
    assert sees["share_right_way"].to_numpy() == pytest.approx(1)
    assert sees.loc["blur_px", "estimate"] == pytest.approx(1)
    assert np.isnan(sees.loc["random", "estimate"])  # of two levels
    assert (sees["curves"] == 3).all()
    assert sees[["low", "high"]].isna().all(axis=None)  # equal in all curves
    assert sees["n_layers"].isna().all()
    sees_not = table.loc["blind"]
    assert sees_not[["estimate", "low", "high", "share_right_way"]].isna().all(axis=None)
    assert (sees_not[["curves", "constant"]] == [0, 3]).all(axis=None)
    wrong = monotonicity(far.assign(kind="score"), dials)
    assert (wrong["share_right_way"] == 0).all()
    alone = monotonicity(far[far["target"] == "T"], dials)
    assert alone[["low", "high"]].isna().all(axis=None)
    assert alone.set_index("dial")["estimate"].to_dict() == pytest.approx({"blur_px": 1, "random": np.nan}, nan_ok=True)


def test_means_are_t_intervals_over_seeds_of_one_target_and_over_several_targets():
    outcomes, dials = dialled()
    outcomes.loc[outcomes["base"] == "T other", "AnB"] = np.nan
    one = dial_means(outcomes[outcomes["target"] == "T"], dials, ("AnB",))
    assert len(one) == 2 * 5
    row = one.query("dial == 'blur_px' and level == 4 and n_layers == 2").iloc[0]
    values = outcomes.query("base == 'T blur_px 4' and n_layers == 2")["AnB"]
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((values.mean(), ends.low, ends.high))
    assert (row["units"], row["kind"], row["outcome"]) == (3, "input", "AnB")
    every = dial_means(outcomes, dials, ("AnB",)).query("dial == 'blur_px' and level == 4 and n_layers == 2").iloc[0]
    of_every = outcomes[outcomes["base"].str.endswith("blur_px 4") & (outcomes["n_layers"] == 2)]
    ends = stats.ttest_1samp(of_every.groupby("target")["AnB"].mean(), 0).confidence_interval(0.95)
    assert (every["mean"], every["low"], every["high"]) == pytest.approx((of_every["AnB"].mean(), ends.low, ends.high))
    assert every["units"] == 9
    two = dial_means(outcomes[outcomes["target"] != "V"], dials, ("AnB",))
    assert set(two["units"]) == {6}  # but of two targets, whose seeds are not independent
    assert two[["low", "high"]].isna().all(axis=None)


def test_the_grids_means_are_its_cells():
    outcomes, grid = dial_grid()
    outcomes.loc[(outcomes["seed"] > 0) & (outcomes["base"] == "1 0.5"), "AnB"] = np.nan
    table = grid_means(outcomes, grid, ("AnB",))
    assert len(table) == 12
    for row in table.to_dict("records"):
        values = outcomes.loc[outcomes["base"] == f"{row['input_level']} {row['label_level']}", "AnB"].dropna()
        assert row["mean"] == pytest.approx(values.mean())
        assert row["units"] == len(values)
        assert np.isnan(row["low"]) == (len(values) < 3)


def test_effects_of_the_grid_turn_one_dial_to_its_end_and_leave_the_other():
    outcomes, grid = dial_grid()
    effects = grid_effects(outcomes, grid, ("AnB",)).set_index(["n_layers", "turned"])
    ends = {"input": grid["input_level"].max(), "label": grid["label_level"].max()}
    for (n, turned), row in effects.iterrows():
        inner = outcomes[outcomes["n_layers"] == n].merge(grid, on=["target", "base"])
        of = {
            (row.input_level, row.label_level, row.target, row.seed): row.AnB for row in inner.itertuples(index=False)
        }
        units = sorted({key[2:] for key in of})
        end = (ends["input"], 0) if turned == "input" else (0, ends["label"])
        values = [of[(*end, *unit)] - of[(0, 0, *unit)] for unit in units]
        assert row["mean"] == pytest.approx(sum(values) / len(values))
        assert row["units"] == len(units)
    assert {turned for _, turned in effects.index} == {"input", "label"}


def test_no_rows_give_empty_tables():
    outcomes, dials = dialled()
    scores = outcomes.rename(columns={"AnB": "value"}).assign(measure="fit", kind="score")
    grid = dial_grid()[1]
    assert monotonicity(scores.iloc[:0], dials).empty
    assert monotonicity(scores, dials.iloc[:0]).empty
    assert list(monotonicity(scores.iloc[:0], dials)) == list(monotonicity(scores, dials))
    assert outcome_monotonicity(outcomes.iloc[:0], dials, ("AnB",)).empty
    assert dial_means(outcomes, dials.iloc[:0], ("AnB",)).empty
    assert grid_means(outcomes, grid.iloc[:0], ("AnB",)).empty
    assert grid_effects(outcomes, grid.iloc[:0], ("AnB",)).empty
    assert variance_of_dials(outcomes, grid.iloc[:0], ("AnB",)).empty
