import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from raytransfer.experiments.distance import report
from raytransfer.experiments.distance.config import DistanceConfig
from raytransfer.experiments.distance.dial_figures import dial_grid_figure, dials_figure, monotonicity_figure
from raytransfer.experiments.distance.figures import correlations_figure, transfer_figure
from tests.helpers import legend, marks, overlaps, titles

OUTCOMES = ("AnB", "AnB+", "boost")
N = (2, 4, 6)
DRAWN = "scope == 'within target' and coefficient == 'Spearman' and outcome != 'boost'"
"""The correlations that are drawn."""

WORDS = {"title": "convnet8 on cifar10, 30 bases, 3 n, 3 seeds"}


def points(targets=("T",), n_layers=N) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        ("OTDD", "distance", outcome, n, target, f"base{i}", 10 * x, 0.9 - 0.3 * x + 0.1 * rng.random())
        for outcome, n, target in itertools.product(OUTCOMES, n_layers, targets)
        for i, x in enumerate(rng.random(10))
    ]
    columns = ["measure", "kind", "outcome", "n_layers", "target", "base", "x", "y"]
    return pd.DataFrame(rows, columns=columns).assign(seeds=3)


def curves(n_layers=N) -> pd.DataFrame:
    x = np.linspace(0, 10, 50)
    tables = [
        pd.DataFrame({"measure": "OTDD", "outcome": outcome, "n_layers": n, "x": x, "y": 0.9 - 0.03 * x - n / 100})
        for outcome, n in itertools.product(OUTCOMES, n_layers)
    ]
    table = pd.concat(tables)
    return table.assign(low=table["y"] - 0.02, high=table["y"] + 0.04, blocks=10, target_blocks=1)


def correlations(n_layers=N, measures=12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (f"measure {i}", ("distance", "score")[i % 2], outcome, n, scope, coefficient, i / measures - 0.1, p)
        for outcome, n, scope in itertools.product(OUTCOMES, n_layers, ("within target", "pooled"))
        for coefficient in ("Spearman", "Kendall")
        for i, p in enumerate(rng.random(measures) / 10 if coefficient == "Spearman" else [np.nan] * measures)
    ]
    columns = ["measure", "kind", "outcome", "n_layers", "scope", "coefficient", "estimate", "p_adjusted"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(
        low=table["estimate"] - 0.2, high=table["estimate"] + 0.1, pairs=30, tasks=31, blocks=10, target_blocks=1
    )


def grid_means(n_layers=N, outcomes=("AnB", "AnB+")) -> pd.DataFrame:
    cells = itertools.product(outcomes, n_layers, (0, 1, 2, 4), (0, 0.25, 0.5, 1))
    rows = [(o, n, i, j, 0.9 - 0.1 * i - 0.2 * j - n / 100) for o, n, i, j in cells]
    table = pd.DataFrame(rows, columns=["outcome", "n_layers", "input_level", "label_level", "mean"])
    return table.assign(low=table["mean"] - 0.013, high=table["mean"] + 0.013, units=3, unit="seed", runs=3)


SETTINGS = pd.DataFrame(
    [
        (dial, level, setting)
        for dial in ("blur_px", "block shuffle", "noise_std", "invert", "random labels")
        for level, setting in ((0, pd.NA), (1, "0.5"), (2, "True"), (4, "brightness"))
    ],
    columns=["dial", "level", "setting"],
)


def dial_means(dials=("blur_px", "block shuffle", "noise_std", "invert", "random labels"), n_layers=N) -> pd.DataFrame:
    rows = [
        (
            dial,
            dial if dial == "random labels" else "input",
            o,
            n,
            level,
            0.9 - 0.05 * level - n / 100 + (o == "AnB+") / 20,
        )
        for dial, o, n, level in itertools.product(dials, ("AnB", "AnB+"), n_layers, (0, 1, 2, 4))
    ]
    table = pd.DataFrame(rows, columns=["dial", "kind", "outcome", "n_layers", "level", "mean"])
    return table.assign(low=table["mean"] - 0.01, high=table["mean"] + 0.01, units=3, unit="seed", runs=3)


def monotonicity(n_layers=N) -> pd.DataFrame:
    dials = [("blur_px", "input"), ("block shuffle", "input"), ("random labels", "random labels")]
    named = [(name, "distance", pd.NA) for name in ("FID of pixels", "class overlap")]
    named += [("LogME", "score", n) for n in n_layers] + [("AnB", "outcome", n) for n in n_layers]
    rows = [
        (measure, kind, dial, dial_kind, n, 0.9 if kind == "distance" else -0.8)
        for (measure, kind, n), (dial, dial_kind) in itertools.product(named, dials)
    ]
    table = pd.DataFrame(rows, columns=["measure", "kind", "dial", "dial_kind", "n_layers", "estimate"])
    return table.astype({"n_layers": "Int64"}).assign(
        levels=4, right_way=3, curves=3, units=3, unit="seed", low=np.nan, high=np.nan
    )


def drawn_points(axes: Axes) -> list[tuple[float, float]]:
    return sorted(
        xy for line in axes.lines if line.get_linestyle() == "None" for xy in zip(*line.get_data(), strict=True)
    )


def test_every_pair_is_a_point_and_curves_and_bands_are_those_of_the_table():
    figure = transfer_figure(points(), curves(), title="t")
    assert titles(figure) == [f"n = {n}, 10 pairs" for n in N] * 2
    for axes, n in zip(figure.axes[:3], N, strict=True):
        rows = points()[(points()["n_layers"] == n) & (points()["outcome"] != "boost")]
        np.testing.assert_allclose(drawn_points(axes), sorted(zip(rows["x"], 100 * rows["y"], strict=True)))
        lines = {to_hex(line.get_color()): line.get_ydata() for line in axes.lines if line.get_linestyle() == "-"}
        expected = curves()[(curves()["n_layers"] == n) & (curves()["outcome"] == "AnB")]
        assert lines["#b2182b"] == pytest.approx(100 * expected["y"].to_numpy())
        assert set(lines) == {"#b2182b", "#f4866a"}
        assert len(axes.collections) == 2
        for band in axes.collections:
            heights = band.get_paths()[0].vertices[:, 1]
            assert heights.min() == pytest.approx(100 * expected["low"].min())
            assert heights.max() == pytest.approx(100 * expected["high"].max())
    assert legend(figure)[:3] == list(OUTCOMES)


def test_a_caption_tells_of_bands_where_there_are_some():
    config = DistanceConfig(drawn=["OTDD"], tree=None)
    none = dict.fromkeys(report._CAPTIONS, pd.DataFrame())
    against = report._captions({**none, "curves-of-OTDD": curves()}, config)["transfer-against-OTDD"]
    assert against.endswith("the mean over its seeds; bands over 10 blocks.")
    bare = curves().assign(low=np.nan, high=np.nan)
    against = report._captions({**none, "curves-of-OTDD": bare}, config)["transfer-against-OTDD"]
    assert against.endswith("the mean over its seeds.")


def test_the_axis_below_says_which_way_a_measure_should_go():
    for kind, way in (("distance", "larger is farther"), ("score", "larger should transfer better")):
        figure = transfer_figure(points().assign(kind=kind), curves(), title="t")
        assert figure.get_supxlabel() == f"OTDD ({way})"
        assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["AnB and AnB+: top-1, %", "boost, points"]


def test_several_targets_have_colours_and_each_outcome_a_row():
    figure = transfer_figure(points(("T", "U")), curves(), title="t")
    entries = {
        entry.get_label(): to_hex(entry.get_color()) for entry in figure.legends[0].legend_handles if entry.get_marker()
    }
    rows_of = dict(list(points(("T", "U")).groupby(["outcome", "n_layers", "target"])))
    for axes, place in zip(figure.axes, itertools.product(OUTCOMES, N), strict=True):
        for target in ("T", "U"):
            rows = rows_of[*place, target]
            (drawn,) = [line for line in axes.lines if to_hex(line.get_color()) == entries[f"target {target}"]]
            np.testing.assert_allclose(drawn.get_xydata(), rows.assign(y=100 * rows["y"])[["x", "y"]])
    assert len(figure.axes) == 9
    assert titles(figure)[0] == "n = 2, 20 pairs"
    colors = [
        {to_hex(line.get_color()) for line in axes.lines if line.get_linestyle() == "None"} for axes in figure.axes
    ]
    assert [len(of) for of in colors] == [2] * 9
    assert legend(figure)[:2] == ["target T", "target U"]
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["AnB: top-1, %", "AnB+: top-1, %", "boost, points"]


def test_a_pair_tells_its_tasks_and_values_and_a_fit_its_ends():
    told, series = marks(transfer_figure(points(), curves(), title="t"))
    expected = [
        f"{row.outcome}, n = {row.n_layers}, {row.base} to T: "
        + (f"{100 * row.y:+.1f} points" if row.outcome == "boost" else f"{100 * row.y:.1f}%")
        + f" at OTDD {row.x:.3g}, 3 seeds"
        for row in points().itertuples()
    ]
    assert sorted(text for text in told if "fit" not in text) == sorted(expected)
    assert len(told) == len(expected) + 9
    assert "AnB, n = 2, fit: 88.0 [86.0, 92.0]% at 0, 58.0 [56.0, 62.0]% at 10, 10 blocks" in told
    assert "boost, n = 6, fit: +84.0 [82.0, 88.0] points at 0, +54.0 [52.0, 58.0] points at 10, 10 blocks" in told
    assert series == list(OUTCOMES)
    assert marks(transfer_figure(points(("T", "U")), curves(), title="t"))[1] == ["target T", "target U", "fits"]


def test_a_correlation_tells_its_interval_pairs_and_blocks_and_one_that_is_missing_nothing():
    table = correlations()
    table.loc[table["measure"] == "measure 7", ["estimate", "low", "high", "p_adjusted"]] = np.nan
    untested, _ = marks(correlations_figure(table.assign(p_adjusted=np.nan), title="t"))
    assert all(text.endswith("30 pairs, 10 blocks") for text in untested)
    told, series = marks(correlations_figure(table, title="t"))
    rows = table.query(DRAWN).dropna(subset=["estimate"])
    assert sorted(told) == sorted(
        f"{'− ' * (row.kind == 'distance')}{row.measure}, {row.outcome}, n = {row.n_layers}: "
        f"{row.estimate:z.2f} [{row.low:z.2f}, {row.high:z.2f}], 30 pairs, 10 blocks, adjusted p = {row.p_adjusted:.2g}"
        for row in rows.itertuples()
    )
    assert series == ["n = 2", "n = 4", "n = 6"]


def test_dials_cells_and_movements_tell_where_they_stand_and_of_how_many_units_they_are():
    told, series = marks(dials_figure(dial_means(), SETTINGS, title="t"))
    assert len(told) == len(set(told)) == len(dial_means())
    assert "AnB, n = 2, blur_px (input) = 0.5: 83.0 [82.0, 84.0]%, 3 seeds" in told
    assert "AnB+, n = 4, random labels, the target itself: 91.0 [90.0, 92.0]%, 3 seeds" in told
    assert series == ["n = 2", "n = 4", "n = 6"]
    told, series = marks(dial_grid_figure(grid_means(), title="t"))
    assert len(told) == len(set(told)) == len(grid_means())
    assert "AnB, n = 2, input 1, label 0.5: 68.0 [66.7, 69.3]%, 3 seeds" in told
    assert len(series) == 1  # so that nothing can be switched off
    table = monotonicity().assign(low=-0.95, high=0.95)
    table["blind"] = (table["measure"] == "class overlap") & (table["dial_kind"] == "input")
    table.loc[table["dial"] == "blur_px", ["levels", "right_way"]] = [2, 1]
    table.loc[(table["measure"] == "FID of pixels") & (table["dial"] == "random labels"), "estimate"] = np.nan
    told, series = marks(monotonicity_figure(table, title="t"))
    assert len(told) == len(set(told)) == len(table)
    assert "LogME, n = 4, random labels: ρ = -0.80 [-0.95, 0.95], 3 of 3 curves the right way, 3 seeds" in told
    assert "AnB, n = 6, blur_px (input): 1 of 3 curves the right way" in told
    assert "class overlap, block shuffle (input): blind" in told
    assert "FID of pixels, random labels: const." in told
    assert len(series) == 1


def test_a_band_without_bounds_or_far_wider_than_the_points_leaves_the_scale_to_the_points():
    wide = curves().assign(low=-50.0, high=50.0)
    for table in (wide, curves().assign(low=np.nan, high=np.nan)):
        bottom, top = transfer_figure(points(), table, title="t").axes[0].get_ylim()
        assert bottom > 30
        assert top < 130


def test_points_without_a_fit_are_drawn_alone():
    table = curves().iloc[:0].astype(object)  # as the analysis gives it of two tasks that are each other's base
    figure = transfer_figure(points(("T", "U")), table, title="t")
    assert not any(line.get_linestyle() == "-" for axes in figure.axes[:6] for line in axes.lines)
    assert not any("lines" in entry for entry in legend(figure))


def test_dots_and_intervals_are_spearmans_within_target_best_on_top_and_not_the_boosts():
    boost = correlations()["outcome"] == "boost"
    table = correlations().assign(estimate=lambda rows: rows["estimate"].where(~boost, -9 * rows["estimate"]))
    figure = correlations_figure(table.assign(blocks=table["blocks"].where(~boost, 3)), title="t")
    assert titles(figure) == [f"{outcome}: 30 pairs, 10 blocks" for outcome in ("AnB", "AnB+")]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"measure {i}" if i % 2 else f"− measure {i}" for i in range(12)]
    for axes, outcome in zip(figure.axes, ("AnB", "AnB+"), strict=True):
        rows = correlations().query(DRAWN)
        rows = rows[rows["outcome"] == outcome]
        dots = [(line, line.get_data()) for line in axes.lines if line.get_linestyle() == "None"]
        filled = sum(len(x) for line, (x, _) in dots if line.get_markerfacecolor() != "white")
        assert filled == (rows["p_adjusted"] < 0.05).sum() < len(rows)
        assert sorted(x for _, (xs, _) in dots for x in xs) == pytest.approx(sorted(rows["estimate"]))
        for _, (xs, ys) in dots:  # each dot on the row of its measure
            assert np.round(ys) / 12 - 0.1 == pytest.approx(xs)
        assert axes.get_xlim()[0] < -1 < 1 < axes.get_xlim()[1]
        assert axes.get_ylim()[0] < min(min(ys) for _, (_, ys) in dots if len(ys))
        assert axes.get_ylim()[1] > max(max(ys) for _, (_, ys) in dots if len(ys))
        top = {round(y, 3): to_hex(line.get_color()) for line, (_, ys) in dots for y in ys if round(y) == 11}
        entries = {to_hex(entry.get_color()): entry.get_label() for entry in figure.legends[0].legend_handles[:3]}
        assert [entries[top[y]] for y in sorted(top, reverse=True)] == ["n = 2", "n = 4", "n = 6"]
        for line, (xs, ys) in dots:
            for x, y in zip(xs, ys, strict=True):
                n = int(entries[to_hex(line.get_color())].removeprefix("n = "))
                found = rows[(rows["n_layers"] == n) & np.isclose(rows["estimate"], x)]
                assert (found["p_adjusted"].item() < 0.05) == (line.get_markerfacecolor() != "white")
                assert abs(y - round(y)) < 0.45
        ends = sorted(tuple(segment[:, 0]) for lines in axes.collections for segment in lines.get_segments())
        np.testing.assert_allclose(ends, sorted(zip(rows["low"], rows["high"], strict=True)))
    assert figure.get_supxlabel() == "Spearman's correlation with transfer, within target"
    assert legend(figure)[3:] == ["adjusted p < 0.05", "adjusted p ≥ 0.05", "lines: 95% intervals\n−: minus a distance"]
    assert [entry.get_markerfacecolor() for entry in figure.legends[0].legend_handles[3:5]] == ["#333333", "white"]
    few = legend(correlations_figure(correlations().assign(blocks=3), title="t"))
    assert "3 blocks:\nno p below 1/6,\nso none can be below 0.05" in few
    assert not any("no p below" in text for text in legend(figure))
    table = correlations()
    table["blocks"] = table["blocks"].where(table["measure"] != "measure 1", 4)
    assert "4 blocks:\nno p below 1/24" in legend(correlations_figure(table, title="t"))


def test_where_there_is_no_correlation_nothing_is_said_of_p():
    figure = correlations_figure(correlations().assign(estimate=np.nan, p_adjusted=np.nan), title="t")
    assert legend(figure) == ["n = 2", "n = 4", "n = 6", "lines: 95% intervals\n−: minus a distance"]


def test_a_measure_without_a_correlation_keeps_its_row_at_the_bottom():
    table = correlations()
    table.loc[table["measure"] == "measure 7", ["estimate", "low", "high", "p_adjusted"]] = np.nan
    figure = correlations_figure(table, title="t")
    assert figure.axes[0].get_yticklabels()[0].get_text() == "measure 7"
    assert legend(figure)[-1] == "lines: 95% intervals\n−: minus a distance"
    without = correlations_figure(table.assign(low=np.nan, high=np.nan), title="t")
    assert legend(without)[-1] == "−: minus a distance"


def test_cells_say_their_means_and_half_widths():
    figure = dial_grid_figure(grid_means(), title="t")
    assert titles(figure) == [f"{outcome}, n = {n}, 3 runs a cell" for outcome in ("AnB", "AnB+") for n in N]
    axes = figure.axes[4]
    rows = grid_means().query("outcome == 'AnB+' and n_layers == 4")
    levels = {"x": [0, 0.25, 0.5, 1], "y": [0, 1, 2, 4]}
    for text in axes.texts:
        x, y = (int(place) for place in text.get_position())
        row = rows[(rows["label_level"] == levels["x"][x]) & (rows["input_level"] == levels["y"][y])].iloc[0]
        assert text.get_text() == f"{100 * row['mean']:.1f}\n±1.3"
        assert axes.images[0].get_array()[y, x] == pytest.approx(100 * row["mean"])
    assert len(axes.texts) == 16
    inks = {text.get_position(): text.get_color() for text in axes.texts}
    assert (inks[0, 0], inks[3, 3]) == ("white", "black")  # on dark blue, the most, and on the lightest
    assert (figure.get_supxlabel(), figure.get_supylabel()) == tuple(
        f"level of the {dial} dial (0: as the target)" for dial in ("label", "input")
    )
    assert [bar.get_ylabel() for bar in figure.axes[6:]] == ["AnB: top-1, %", "AnB+: top-1, %"]
    scales = [axes.images[0].get_clim() for axes in figure.axes[:6]]
    assert scales[0] == scales[2] == pytest.approx((100 * (0.9 - 0.4 - 0.2 - 0.06), 88))


def test_of_a_grid_whose_fine_tuning_has_not_begun_at_one_n_that_panel_is_empty():
    begun = grid_means().query("outcome == 'AnB' or n_layers != 4")
    figure = dial_grid_figure(begun, title="t")
    assert titles(figure)[3:] == ["AnB+, n = 2, 3 runs a cell", "AnB+, n = 4", "AnB+, n = 6, 3 runs a cell"]
    assert [len(axes.texts) for axes in figure.axes[:6]] == [16, 16, 16, 16, 0, 16]


def test_a_missing_cell_stays_empty_and_one_run_has_no_half_width():
    means = grid_means(outcomes=("AnB",)).iloc[1:].assign(low=np.nan, high=np.nan)
    axes = dial_grid_figure(means, title="t").axes[0]
    assert len(axes.texts) == 15
    assert not any("±" in text.get_text() for text in axes.texts)


def test_dials_have_a_panel_each_solid_for_frozen_and_dashed_for_tuned():
    figure = dials_figure(dial_means(), SETTINGS, title="t")
    assert titles(figure) == [
        *("block shuffle (input)", "blur_px (input)", "invert (input)", "noise_std (input)"),
        "random labels",
    ]
    for axes in figure.axes:
        dashes = [line.get_linestyle() for line in axes.lines]
        assert sorted(dashes) == ["-"] * 3 + ["--"] * 3
        for line in axes.lines:
            assert line.get_xdata() == pytest.approx([0, 1, 2, 4], abs=0.08)
        assert axes.get_xticks().tolist() == [0, 1, 2, 4]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["–", "0.5", "yes", "brightness"]
        heights = sorted(tuple(line.get_ydata()) for line in axes.lines)
        rows = dial_means(("blur_px",)).groupby(["outcome", "n_layers"])["mean"]
        assert heights == [pytest.approx(tuple(line)) for line in sorted(tuple(100 * mean) for _, mean in rows)]
    runs = ["points: means of\n3 runs", "whiskers:\n95% intervals over\n3 seeds of these targets alone"]
    assert legend(figure) == ["n = 2", "n = 4", "n = 6", "AnB", "AnB+", *runs]
    assert figure.get_supxlabel() == "setting of the dial (–: the target itself)"
    assert figure.get_supylabel() == "top-1 accuracy on the target, %"
    wide = dial_means().assign(low=-1.0, high=2.0)  # as of few seeds: cut off, and the scale is the means'
    bottom, top = dials_figure(wide, SETTINGS, title="t").axes[0].get_ylim()
    least, most = 100 * wide["mean"].min(), 100 * wide["mean"].max()
    margin = 0.35 * (most - least) + 0.5
    assert (bottom, top) == pytest.approx((least - margin, most + margin))


def test_every_mean_along_a_dial_has_its_whisker_beside_it_within_0_to_100_percent():
    rng = np.random.default_rng(0)
    means = dial_means(("blur_px", "invert"))
    means = means.assign(mean=rng.uniform(0.02, 0.98, len(means)))
    means = means.assign(low=means["mean"] - 0.1, high=means["mean"] + 0.05)
    figure = dials_figure(means, SETTINGS, title="t")
    entries = figure.legends[0].legend_handles
    color_of = {n: to_hex(entry.get_color()) for n, entry in zip(N, entries, strict=False)}
    dash_of = {entry.get_label(): (entry.get_linestyle(), entry.get_marker()) for entry in entries[3:5]}
    for axes, dial in zip(figure.axes, ("blur_px", "invert"), strict=True):
        starts = []
        for n, outcome in itertools.product(N, ("AnB", "AnB+")):
            rows = means[(means["dial"] == dial) & (means["n_layers"] == n) & (means["outcome"] == outcome)]
            look = (color_of[n], *dash_of[outcome])
            (line,) = [
                line
                for line in axes.lines
                if (to_hex(line.get_color()), line.get_linestyle(), line.get_marker()) == look
            ]
            np.testing.assert_allclose(line.get_ydata(), 100 * rows["mean"])
            np.testing.assert_allclose(np.diff(line.get_xdata()), [1, 1, 2])
            ends = np.stack([line.get_xdata(), *(100 * rows[end].clip(0, 1) for end in ("low", "high"))], axis=1)
            drawn = [
                [(a, low, high) for (a, low), (_, high) in lines.get_segments()]
                for lines in axes.collections
                if to_hex(lines.get_color()[0]) == color_of[n]
            ]
            assert any(np.allclose(each, ends) for each in drawn)
            starts.append(line.get_xdata()[0])
        assert starts == sorted(set(starts))  # in the order of the legend
        assert sum(starts) == pytest.approx(0.5 * 6 * 0.032 / 2)  # around the level: AnB+ half a step to the right


def test_the_matrix_holds_the_mean_correlations_and_says_who_is_blind():
    table = monotonicity()
    table["blind"] = (table["measure"] == "class overlap") & (table["dial_kind"] == "input")
    table.loc[(table["measure"] == "FID of pixels") & (table["dial_kind"] == "random labels"), "estimate"] = np.nan
    figure = monotonicity_figure(table, title="t")
    distances, scores, outcomes = figure.axes[:3]
    assert titles(figure) == [
        "distances: +1 is right, they grow along the dial",
        "scores: −1 is right, they fall along the dial",
        "transfer: −1 where it falls along the dial",
    ]
    assert figure.axes[3].get_ylabel() == "mean Spearman ρ of level and value"
    assert [text.get_text() for text in distances.texts] == ["+0.90"] * 2 + ["const."] + ["blind"] * 2 + ["+0.90"]
    of_two = monotonicity_figure(table.assign(levels=2, curves=3, right_way=3), title="t").axes[0]
    assert [text.get_text() for text in of_two.texts][:3] == ["3 of 3"] * 2 + ["const."]
    assert np.isnan(of_two.images[0].get_array().filled(np.nan)).all()  # no colour: of two levels ρ says nothing
    assert [label.get_text() for label in distances.get_yticklabels()] == ["FID of pixels", "class overlap"]
    assert len(distances.patches) == 2
    assert all(patch.get_hatch() for patch in distances.patches)
    assert [label.get_text() for label in scores.get_yticklabels()] == [f"LogME, n = {n}" for n in N]
    np.testing.assert_allclose(scores.images[0].get_array().filled(np.nan), np.full((3, 3), -0.8))
    assert scores.images[0].get_clim() == (-1, 1)
    assert {text.get_text() for text in outcomes.texts} == {"−0.80"}
    table.loc[table["dial"] == "blur_px", ["levels", "right_way"]] = [2, 1]
    cells = [text.get_text() for text in monotonicity_figure(table, title="t").axes[1].texts]
    assert cells == ["1 of 3", "−0.80", "−0.80"] * 3
    labels = [label.get_text() for label in outcomes.get_xticklabels()]
    assert labels == ["block shuffle (input)", "blur_px (input)", "random labels"]


TEN_TARGETS = tuple(f"target {i}" for i in range(10))


@pytest.mark.parametrize(
    "figure",
    [
        lambda n: transfer_figure(points(n_layers=n), curves(n), **WORDS),
        lambda n: transfer_figure(points(TEN_TARGETS, n), curves(n), **WORDS),
        lambda n: correlations_figure(correlations(n), **WORDS),
        lambda n: correlations_figure(correlations(n, measures=2), **WORDS),
        lambda n: dial_grid_figure(grid_means(n), **WORDS),
        lambda n: dial_grid_figure(grid_means(n, ("AnB",)), **WORDS),
        lambda n: dials_figure(dial_means(n_layers=n), SETTINGS, **WORDS),
        lambda n: dials_figure(dial_means(("blur_px",), n), SETTINGS, **WORDS),
        lambda n: monotonicity_figure(monotonicity(n), **WORDS),
    ],
    ids=[
        "transfer",
        "targets",
        "correlations",
        "two measures",
        "grid",
        "one grid",
        "dials",
        "one dial",
        "monotonicity",
    ],
)
@pytest.mark.parametrize("n_layers", [N, (3,)], ids=["several n", "one n"])
def test_no_text_lies_on_another_or_leaves_the_page(figure, n_layers):
    assert overlaps(figure(n_layers)) == []


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match=r"nothing to draw: no row is of AnB, AnB\+, boost"):
        transfer_figure(points().iloc[:0], curves(), title="t")
    with pytest.raises(ValueError, match="one measure a figure, not OTDD, FID"):
        transfer_figure(pd.concat([points(), points().assign(measure="FID")]), curves(), title="t")
    with pytest.raises(ValueError, match="nothing to draw: no row is Spearman within target"):
        correlations_figure(correlations().query("coefficient != 'Spearman'"), title="t")
    with pytest.raises(ValueError, match=r"nothing to draw: no row is of AnB, AnB\+$"):
        dial_grid_figure(grid_means().iloc[:0], title="t")
    with pytest.raises(ValueError, match=r"nothing to draw: no row is of AnB, AnB\+$"):
        dials_figure(dial_means().iloc[:0], SETTINGS, title="t")
    with pytest.raises(ValueError, match="nothing to draw: no row is of distance, score, outcome"):
        monotonicity_figure(monotonicity().iloc[:0], title="t")


def test_a_measure_without_any_correlation_is_named_and_neither_tabulated_nor_drawn():
    rows = [("FID", "AnB", 2, 0.5), ("FID", "AnB", 4, np.nan), ("class overlap", "AnB", 2, np.nan)]
    found = pd.DataFrame(rows, columns=["measure", "outcome", "n_layers", "estimate"])
    told, undefined = report.with_any(found)
    assert told.equals(found.iloc[:2])
    assert undefined == ["class overlap"]


def test_without_measures_there_is_no_correlation_and_none_is_named():
    found = pd.DataFrame(columns=["measure", "outcome", "scope", "coefficient", "estimate", "n_layers"])
    told, undefined = report.with_any(found)
    assert (list(told), len(told), undefined) == (list(found), 0, [])
    assert report._answer(told) == []
