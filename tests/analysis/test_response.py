import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

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
from raytransfer.errors import UserError
from tests.analysis.test_association import blocked

ONE_TARGET = [("T", f"base{i}") for i in range(8)]
THREE_TARGETS = [(target, f"base{i}") for target in ("T", "U", "V") for i in range(6)]
ALL_PAIRS = list(itertools.permutations("ABCDE", 2))
UNEVEN = [(target, f"base{i}") for target, bases in (("T", 7), ("U", 5), ("V", 4), ("W", 1)) for i in range(bases)]
DESIGNS = pytest.mark.parametrize("pairs", [ONE_TARGET, THREE_TARGETS, ALL_PAIRS], ids=["one", "three", "all pairs"])
ALL_DESIGNS = pytest.mark.parametrize("pairs", [*DESIGNS.args[1], UNEVEN], ids=[*DESIGNS.kwargs["ids"], "uneven"])


def study(pairs, seeds: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up outcomes at one n, and two distances of the pairs."""
    rng = np.random.default_rng(0)
    rows = [(*pair, 2, seed, rng.random()) for pair in pairs for seed in range(seeds)]
    outcomes = blocked(pd.DataFrame(rows, columns=["target", "base", "n_layers", "seed", "AnB"]))
    of = [(name, "distance", *pair, None, None, rng.normal()) for name in ("input", "label") for pair in pairs]
    return outcomes, pd.DataFrame(of, columns=["measure", "kind", "target", "base", "n_layers", "seed", "value"])


def wide(outcomes, measures) -> pd.DataFrame:
    """One row a pair, with y and a column a measure."""
    of = measures.pivot(index=["target", "base"], columns="measure", values="value").reset_index()
    return of.merge(outcomes.rename(columns={"AnB": "y"}), on=["target", "base"])


def naive_jackknife(rows: pd.DataFrame, value):
    """Ends of the t interval of value(rows), from leaving tasks out in all roles, or bases and targets apart."""
    if set(rows["target"]) & set(rows["base"]):
        parts = [[(rows["target"] != out) & (rows["base"] != out) for out in sorted(set(rows["base"]))]]
    else:
        roles = ("base", "target")[: 1 + (rows["target"].nunique() > 1)]
        parts = [[rows[role] != out for out in sorted(set(rows[role]))] for role in roles]
    without = [np.array([value(rows[kept]) for kept in part]) for part in parts]
    variances = [(len(v) - 1) * np.var(v, axis=0) for v in without]
    total = sum(variances)
    gone = [np.array([(~kept).sum() for kept in part]) for part in parts]
    of_parts = [max(1, lost.sum() ** 2 / (lost**2).sum() - 1) for lost in gone]
    degrees = total**2 / sum(v**2 / of for v, of in zip(variances, of_parts, strict=True))
    half = stats.t.ppf(0.975, degrees) * np.sqrt(total)
    return value(rows) - half, value(rows) + half


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


@ALL_DESIGNS
def test_a_curve_is_the_least_squares_fit_with_an_intercept_for_each_target(pairs):
    outcomes, measures = study(pairs)
    table = curves(outcomes, measures, "input")
    rows = wide(outcomes, measures)
    assert len(table) == 50
    np.testing.assert_allclose(table["x"], np.linspace(rows["input"].min(), rows["input"].max(), 50))
    np.testing.assert_allclose(table["y"], naive_curve(rows, 2, table["x"].to_numpy()), atol=1e-9)
    if pairs is ONE_TARGET:
        np.testing.assert_allclose(table["y"], np.polyval(np.polyfit(rows["input"], rows["y"], 2), table["x"]))
    assert set(table["pairs"]) == {len(pairs)}


@ALL_DESIGNS
def test_a_band_is_of_fits_without_each_block_and_without_the_targets_difficulty(pairs):
    outcomes, measures = study(pairs)
    table = curves(outcomes, measures, "input")
    rows = wide(outcomes, measures)
    intercepts, _, _ = naive_fit(rows, 2)
    mean = np.mean([intercepts[target] for target, _ in pairs])
    grid = table["x"].to_numpy()
    level = rows.assign(y=rows["y"] - rows["target"].map(intercepts) + mean)
    low, high = naive_jackknife(level, lambda part: naive_curve(part, 2, grid))
    np.testing.assert_allclose(table["low"], low, atol=1e-6)
    np.testing.assert_allclose(table["high"], high, atol=1e-6)
    assert set(table["blocks"]) == {len({base for _, base in pairs})}


def test_a_parabola_is_found_whatever_the_targets_difficulty():
    pairs = [(target, f"base{i}") for target in "TUV" for i in range(7)]
    outcomes, measures = study(pairs)
    x = measures.loc[measures["measure"] == "input", "value"].to_numpy()
    hard = outcomes["target"].map({"T": 0.3, "U": 0.0, "V": -0.3})
    outcomes["AnB"] = 0.8 - 0.1 * x - 0.02 * x**2 + hard
    table = curves(outcomes, measures, "input")
    np.testing.assert_allclose(table["y"], 0.8 - 0.1 * table["x"] - 0.02 * table["x"] ** 2, atol=1e-9)
    assert not (table["high"] - table["low"] > 1e-9).any()


def test_few_distinct_values_get_a_straight_line_and_one_gets_none():
    outcomes, measures = study(ONE_TARGET)
    measures["value"] = [0, 0, 1, 1, 2, 2, 5, 5] * 2
    table = curves(outcomes, measures, "input")
    np.testing.assert_allclose(np.diff(table["y"], 2), 0, atol=1e-12)
    one_apart = curves(outcomes, measures.assign(value=[0, 0, 0, 0, 0, 0, 0, 1] * 2), "input")
    assert one_apart["y"].notna().all()
    assert one_apart[["low", "high"]].isna().all(axis=None)  # without that base there is no line
    assert curves(outcomes, measures.assign(value=3.0), "input").empty
    of_targets, measures_of = study(THREE_TARGETS)  # one value a target has no slope within any
    apart = measures_of.assign(value=measures_of["target"].map({"T": 0.0, "U": 1.0, "V": 2.0}))
    assert curves(of_targets, apart, "input").empty
    assert curves(outcomes.assign(AnB=np.nan), measures, "input").empty


def test_points_are_the_pairs_means_over_seeds():
    outcomes, measures = study(ALL_PAIRS, seeds=3)
    outcomes.loc[0, "AnB"] = np.nan
    points = transfer_points(outcomes, measures, "label")
    assert len(points) == len(ALL_PAIRS)
    assert set(points["seeds"]) == {2, 3}
    for point in points.to_dict("records"):
        pair = (outcomes["target"] == point["target"]) & (outcomes["base"] == point["base"])
        assert point["y"] == pytest.approx(outcomes.loc[pair, "AnB"].mean())
        of = measures[(measures["target"] == point["target"]) & (measures["base"] == point["base"])]
        assert point["x"] == pytest.approx(of.loc[of["measure"] == "label", "value"].item())
        assert point["seeds"] == outcomes.loc[pair, "AnB"].notna().sum()
        assert (point["kind"], point["outcome"], point["n_layers"]) == ("distance", "AnB", 2)


def test_an_unknown_measure_is_named_with_those_there_are():
    outcomes, measures = study(ONE_TARGET)
    for analyse in (curves, transfer_points):
        with pytest.raises(UserError, match="no measure 'FID': there are input, label"):
            analyse(outcomes, measures, "FID")
    with pytest.raises(UserError, match="no measure 'tree'"):
        variance_of_distances(outcomes, measures, input_measure="input", label_measure="tree")


def dial_grid(targets=("T",), seeds: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A 3 x 4 grid of made-up outcomes for every target and seed."""
    rng = np.random.default_rng(1)
    cells = [(i, j / 4) for i in range(3) for j in range(4)]
    grid = [(target, f"{i} {j}", i, j) for target in targets for i, j in cells]
    rows = [
        (t, b, 1, seed, 0.9 - 0.1 * i - j / 4 + 0.05 * rng.normal()) for t, b, i, j in grid for seed in range(seeds)
    ]
    return (
        blocked(pd.DataFrame(rows, columns=["target", "base", "n_layers", "seed", "AnB"])),
        pd.DataFrame(grid, columns=["target", "base", "input_level", "label_level"]),
    )


def naive_shares(outcomes, grid) -> list[float]:
    """Two-way analysis of variance with runs as blocks, by the textbook's sums over all rows."""
    rows = outcomes.merge(grid, on=["target", "base"])
    y = rows["AnB"] - rows.groupby(["target", "seed"])["AnB"].transform("mean")
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


@pytest.mark.parametrize(
    ("targets", "sources"), [(("T",), 1), (("T", "U", "V"), 3), (("T", "U", "V"), 1)], ids=["one", "three", "alike"]
)
def test_variance_of_dials_is_the_textbooks_with_a_jackknife_over_sources_or_seeds(targets, sources):
    outcomes, grid = dial_grid(targets)
    if sources == 1:
        outcomes = outcomes.assign(target_block="x")
    table = variance_of_dials(outcomes, grid)
    assert list(table["part"]) == ["input", "label", "interaction", "rest"]
    np.testing.assert_allclose(table["eta_squared"], naive_shares(outcomes, grid))
    left_out = "seed" if sources == 1 else "target"
    names = outcomes[left_out].unique()
    without = [naive_shares(outcomes[outcomes[left_out] != name], grid) for name in names]
    pseudo_values = 3 * np.array(naive_shares(outcomes, grid)) - 2 * np.array(without)
    ends = np.array(stats.ttest_1samp(pseudo_values, 0).confidence_interval(0.95))
    angles = 3 * np.arcsin(np.sqrt(naive_shares(outcomes, grid)[3])) - 2 * np.arcsin(np.sqrt(without)[:, 3])
    of_angle = np.array(stats.ttest_1samp(angles, 0).confidence_interval(0.95))
    ends[:, 3] = np.sin(of_angle.clip(0, np.pi / 2)) ** 2
    np.testing.assert_allclose(table["share"], pseudo_values.mean(axis=0))
    np.testing.assert_allclose(table[["low", "high"]].T, ends)
    assert set(table["units"]) == {3}
    assert set(table["unit"]) == {"seed" if sources == 1 else "source"}
    assert set(table["cells"]) == {12}


def test_how_well_a_run_does_altogether_is_nothing_that_dials_explain():
    outcomes, grid = dial_grid(("T", "U"))
    shifted = outcomes.assign(AnB=outcomes["AnB"] + 0.3 * outcomes["seed"] - 0.2 * (outcomes["target"] == "U"))
    numbers = ["eta_squared", "share", "low", "high"]
    found, expected = (variance_of_dials(table, grid)[numbers] for table in (shifted, outcomes))
    np.testing.assert_allclose(found, expected)


def test_variance_that_is_all_of_the_dials_is_shared_out_exactly():
    outcomes, grid = dial_grid()
    placed = outcomes.merge(grid, on=["target", "base"])
    outcomes["AnB"] = placed["input_level"] - 4 * placed["label_level"]
    table = variance_of_dials(outcomes, grid).set_index("part")
    # Variances of 0, 1, 2 and of 0, 1, 2, 3.
    expected = np.array([8 / 12, 15 / 12, 0, 0]) / (23 / 12)
    for column in ("eta_squared", "share"):
        np.testing.assert_allclose(table[column], expected, atol=1e-12)
    assert table[["low", "high"]].isna().all(axis=None)  # all units are equal
    outcomes["AnB"] = (placed["input_level"] - 1) * (placed["label_level"] - 0.375)
    assert variance_of_dials(outcomes, grid)["eta_squared"].to_numpy() == pytest.approx([0, 0, 1, 0])
    assert variance_of_dials(outcomes.assign(AnB=0.3), grid)["eta_squared"].isna().all()


def test_one_whole_grid_has_no_interval_and_unfinished_ones_are_left_out():
    outcomes, grid = dial_grid()
    outcomes.loc[(outcomes["seed"] == 1) & (outcomes["base"] == "0 0.25"), "AnB"] = np.nan
    part = outcomes[~((outcomes["seed"] == 2) & (outcomes["base"] == "2 0.75"))]
    table = variance_of_dials(part, grid)
    assert list(table["part"]) == ["input", "label", "interaction + rest"]
    assert set(table["units"]) == {1}
    np.testing.assert_allclose(table["eta_squared"], naive_shares(outcomes[outcomes["seed"] == 0], grid)[:3])
    assert table[["share", "low", "high"]].isna().all(axis=None)
    assert variance_of_dials(outcomes[outcomes["seed"] == 1], grid).empty
    with pytest.raises(ValueError, match=r"two bases are on the same cell of the grid: .*'base': 'again'"):
        variance_of_dials(outcomes, pd.concat([grid, grid.head(1).assign(base="again")]))


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


@ALL_DESIGNS
def test_variance_of_distances_is_commonality_on_ranks_with_a_jackknife_over_blocks(pairs):
    outcomes, measures = study(pairs)
    outcomes["AnB"] -= 0.2 * measures["value"][: len(pairs)].to_numpy()
    table = variance_of_distances(outcomes, measures, input_measure="input", label_measure="label")
    assert list(table["part"]) == ["input", "label", "both", "unique input", "unique label", "common"]
    rows = wide(outcomes, measures).groupby("target").filter(lambda of_target: len(of_target) >= 4)
    np.testing.assert_allclose(table["share"], naive_commonality(rows), atol=1e-12)
    low, high = naive_jackknife(rows, lambda part: np.arctanh(np.sqrt(np.maximum(naive_commonality(part)[:5], 0))))
    np.testing.assert_allclose(table["low"][:5], np.tanh(np.maximum(low, 0)) ** 2, atol=1e-9)
    np.testing.assert_allclose(table["high"][:5], np.tanh(high) ** 2, atol=1e-9)
    low, high = naive_jackknife(rows, lambda part: naive_commonality(part)[5])
    assert table[["low", "high"]].iloc[5].tolist() == pytest.approx([low, high], abs=1e-9)
    assert set(table["pairs"]) == {len(rows)}


def test_the_same_distance_twice_adds_nothing_and_a_constant_one_explains_nothing_known():
    outcomes, measures = study(ONE_TARGET)
    named = {"input_measure": "input", "label_measure": "label"}
    values = measures.loc[measures["measure"] == "input", "value"].to_numpy()
    outcomes["AnB"] = -values
    twice = measures.assign(value=np.tile(values, 2))
    assert variance_of_distances(outcomes, twice, **named)["share"].to_numpy() == pytest.approx([1, 1, 1, 0, 0, 1])
    constant = measures.assign(value=np.concatenate([values, np.zeros(8)]))
    table = variance_of_distances(outcomes, constant, **named)
    assert table[["share", "low", "high"]].isna().all(axis=None)


def dialled(blur: tuple[int, ...] = (0, 1, 4)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three targets on a blur dial of some levels and a dial of random labels of two, and a base on no dial."""
    dials, rows = [], []
    for target in ("T", "U", "V"):
        for dial, kind, levels in (("blur_px", "input", blur), ("random", "random labels", (0, 0.5))):
            dials += [
                (target if level == 0 else f"{target} {dial} {level}", target, dial, kind, level) for level in levels
            ]
        dials.append((f"{target} other", target, None, None, np.nan))
    table = pd.DataFrame(dials, columns=["base", "target", "dial", "kind", "level"])
    rng = np.random.default_rng(0)
    pairs = sorted({(target, base) for base, target, *_ in dials})
    rows = [(*pair, n, seed, rng.random()) for pair in pairs for n in (1, 2) for seed in range(3)]
    return blocked(pd.DataFrame(rows, columns=["target", "base", "n_layers", "seed", "AnB"])), table


def naive_within_one(mean: float, half: float) -> tuple[float, float]:
    """Where the mean lies one half width away, once that goes with the root of 1 − μ²."""

    def beyond(mu: float) -> float:
        return abs(mean - mu) - half * np.sqrt((1 - mu**2) / (1 - mean**2))

    return optimize.brentq(beyond, -1, mean, xtol=1e-13), optimize.brentq(beyond, mean, 1, xtol=1e-13)


@pytest.mark.parametrize("blur", [(0, 1, 4), (0, 1, 2, 4)])
def test_monotonicity_is_the_mean_rank_correlation_over_the_curves_of_targets_and_seeds(blur):
    """With an interval where a dial has four levels."""
    outcomes, dials = dialled(blur)
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
        of_targets = np.reshape(rhos, (3, 3)).mean(axis=1)  # each target is a source
        half = stats.t.ppf(0.975, 2) * np.std(of_targets, ddof=1) / np.sqrt(3)
        assert row["estimate"] == pytest.approx(np.mean(rhos))
        ends = (np.nan, np.nan)
        if row["levels"] > 3:
            ends = naive_within_one(np.mean(rhos), half)
        assert (row["low"], row["high"]) == pytest.approx(ends, nan_ok=True)
        assert (row["curves"], row["constant"], row["units"], row["unit"]) == (9, 0, 3, "source")
        assert row["levels"] == {"blur_px": len(blur), "random": 2}[row["dial"]]
        assert row["right_way"] == np.sum(np.array(rhos) < 0)
        assert (row["kind"], row["dial_kind"]) == (
            "score",
            {"blur_px": "input", "random": "random labels"}[row["dial"]],
        )
    named = outcome_monotonicity(outcomes, dials)
    assert list(named["kind"].unique()) == ["outcome"]
    pd.testing.assert_frame_equal(named.drop(columns=["measure", "kind"]), table.drop(columns=["measure", "kind"]))


def test_curves_of_three_levels_have_no_interval_though_together_they_have_four():
    outcomes, dials = dialled((0, 1, 2, 4))
    scores = outcomes.rename(columns={"AnB": "value"}).assign(measure="fit", kind="score")
    lost = ["T blur_px 1", "U blur_px 2", "V blur_px 4"]
    rows = monotonicity(scores[~scores["base"].isin(lost)], dials).query("dial == 'blur_px'")
    assert set(rows["levels"]) == {3}
    assert rows["estimate"].notna().all()
    assert rows[["low", "high"]].isna().all(axis=None)
    assert monotonicity(scores[scores["base"].isin(["T", "U", "V"])], dials).empty  # one level is no curve


def test_the_right_way_is_up_for_distances_and_down_for_scores_and_nowhere_for_the_blind():
    _, dials = dialled()
    on = dials.dropna(subset=["dial"]).drop_duplicates(["base", "target"])
    keys = {"n_layers": None, "seed": None, "kind": "distance", "target_block": on["target"]}
    far = on[["base", "target"]].assign(measure="far", value=10.0 + on["level"], **keys)
    blind = on[["base", "target"]].assign(measure="blind", value=0.3 * (1 + 1e-15 * on["level"]), **keys)
    table = monotonicity(pd.concat([far, blind]), dials).set_index(["measure", "dial"])
    sees = table.loc["far"]
    assert sees["estimate"].to_numpy() == pytest.approx(1)
    assert (sees[["curves", "right_way"]] == 3).all(axis=None)
    assert sees[["low", "high"]].isna().all(axis=None)  # equal in all curves
    assert sees["n_layers"].isna().all()
    sees_not = table.loc["blind"]
    assert sees_not[["estimate", "low", "high"]].isna().all(axis=None)
    assert (sees_not[["curves", "right_way", "constant"]] == [0, 0, 3]).all(axis=None)
    assert (monotonicity(blind.assign(value=0.0), dials)["constant"] == 3).all()
    wrong = monotonicity(far.assign(kind="score"), dials)
    assert (wrong["right_way"] == 0).all()
    alone = monotonicity(far[far["target"] == "T"], dials)
    assert alone[["low", "high"]].isna().all(axis=None)
    assert alone["estimate"].to_numpy() == pytest.approx(1)


def test_means_are_t_intervals_over_sources_of_targets_and_over_seeds_of_one_source():
    outcomes, dials = dialled()
    outcomes.loc[outcomes["base"] == "T other", "AnB"] = np.nan
    one = dial_means(outcomes[outcomes["target"] == "T"], dials)
    assert len(one) == 2 * 5
    row = one.query("dial == 'blur_px' and level == 4 and n_layers == 2").iloc[0]
    values = outcomes.query("base == 'T blur_px 4' and n_layers == 2")["AnB"]
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((values.mean(), ends.low, ends.high))
    assert (row["units"], row["unit"], row["runs"], row["kind"], row["outcome"]) == (3, "seed", 3, "input", "AnB")
    every = dial_means(outcomes, dials).query("dial == 'blur_px' and level == 4 and n_layers == 2").iloc[0]
    of_every = outcomes[outcomes["base"].str.endswith("blur_px 4") & (outcomes["n_layers"] == 2)]
    ends = stats.ttest_1samp(of_every.groupby("target")["AnB"].mean(), 0).confidence_interval(0.95)
    assert (every["mean"], every["low"], every["high"]) == pytest.approx((of_every["AnB"].mean(), ends.low, ends.high))
    assert (every["units"], every["unit"], every["runs"]) == (3, "source", 9)
    two = dial_means(outcomes[outcomes["target"] != "V"], dials)
    assert set(two["units"]) == {2}
    assert set(two["runs"]) == {6}
    assert two[["low", "high"]].isna().all(axis=None)
    alike = dial_means(outcomes.assign(target_block="digits"), dials)
    row = alike.query("dial == 'blur_px' and level == 4 and n_layers == 2").iloc[0]
    ends = stats.ttest_1samp(of_every.groupby("seed")["AnB"].mean(), 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
    assert (row["units"], row["unit"], row["runs"]) == (3, "seed", 9)


def test_the_grids_means_are_its_cells():
    outcomes, grid = dial_grid()
    outcomes.loc[(outcomes["seed"] > 0) & (outcomes["base"] == "1 0.5"), "AnB"] = np.nan
    table = grid_means(outcomes, grid)
    assert len(table) == 12
    for row in table.to_dict("records"):
        values = outcomes.loc[outcomes["base"] == f"{row['input_level']} {row['label_level']}", "AnB"].dropna()
        assert row["mean"] == pytest.approx(values.mean())
        assert row["units"] == len(values)
        assert np.isnan(row["low"]) == (len(values) < 3)


def test_effects_of_the_grid_turn_one_dial_to_its_end_and_leave_the_other():
    outcomes, grid = dial_grid()
    effects = grid_effects(outcomes, grid).set_index(["n_layers", "turned"])
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
    assert outcome_monotonicity(outcomes.iloc[:0], dials).empty
    assert dial_means(outcomes, dials.iloc[:0]).empty
    assert grid_means(outcomes, grid.iloc[:0]).empty
    assert grid_effects(outcomes, grid.iloc[:0]).empty
    assert variance_of_dials(outcomes, grid.iloc[:0]).empty
