import math
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from raytransfer.analysis.comparisons import effects
from raytransfer.analysis.profiles import profiles
from raytransfer.analysis.verdicts import NEARER, PRIMARY, rank_correlations, verdicts
from raytransfer.experiments.mechanisms.cells import RESTART
from raytransfer.experiments.mechanisms.figures import comparisons_figure, gradients_figure, training_figure
from raytransfer.experiments.mechanisms.landscapes import landscape_figure, paths_figure
from raytransfer.experiments.mechanisms.networks import largest_n, log_ticks
from raytransfer.experiments.mechanisms.tables import comparisons_table, nearness_table
from raytransfer.experiments.verdicts import said_verdict, size, verdicts_markdown, verdicts_table
from tests.analysis.test_comparisons import DISTANCES, STAGES, comparisons, frame, nearness, row, sweep, two_networks
from tests.helpers import legend, marks, overlaps, rendered, titles

WORDS = {"title": "convnet8 on cifar10, 2 targets, 1 seed"}
OF_READINGS = {
    "training": lambda readings: training_figure(readings, **WORDS),
    "gradients": lambda readings: gradients_figure(readings, STAGES, **WORDS),
    "landscape": lambda readings: landscape_figure(readings, **WORDS),
    "paths": lambda readings: paths_figure(readings, STAGES, **WORDS),
}
BLACK, BLUE = "#000000", "#0072b2"
EFFECT = ["base", "n_layers", "claim", "test", "estimate", "low", "high", "units"]
REST = ["unit", "runs", "scale", "detectable", "extrapolated"]

every_figure = pytest.mark.parametrize("draw", OF_READINGS.values(), ids=OF_READINGS)


@pytest.mark.parametrize(
    ("low", "high", "named"),
    [
        (0.0033, 0.035, [0.005, 0.01, 0.02]),
        (0.0017, 0.087, [0.003, 0.01, 0.03]),
        (0.01, 2.2, [0.01, 0.03, 0.1, 0.3, 1]),
        (0.009, 11, [0.01, 0.1, 1, 10]),
        (1e-9, 1, [1e-8, 1e-6, 1e-4, 0.01, 1]),
    ],
)
def test_a_logarithmic_axis_names_values_to_read_by_and_no_more(low, high, named):
    axes = Figure().add_subplot()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    log_ticks(axes.yaxis, (low, high))
    places = axes.yaxis.get_majorticklocs()
    assert places[(low <= places) & (places <= high)] == pytest.approx(named)


@pytest.fixture(scope="module")
def readings() -> pd.DataFrame:
    return sweep(bases=("far", "near"), targets=("A", "B"))


def line(figure: Figure, panel: int, color: str):
    (found,) = [line for line in figure.axes[panel].lines if to_hex(line.get_color()) == color]
    return found


def compared(*rows) -> pd.DataFrame:
    """Comparisons of one test: base, n, estimate, low, high, scale."""
    table = [
        (base, n, "flatter minima", test, estimate, low, high, 4, "seed", 4, scale, 1.5, early)
        for base, n, test, estimate, low, high, scale, early in rows
    ]
    return pd.DataFrame(table, columns=EFFECT + REST)


FEW = compared(
    ("near", 3, "trace at the last step", 9.0, 8.0, 10.0, "ratio", 0),
    ("near", 7, "trace at the last step", 0.62, 0.5, 0.774, "ratio", 0),
    ("far", 7, "trace at the last step", 0.9, 0.7, 1.2, "ratio", 0),
    ("far", 7, "trace at matched training loss", -20.5, math.nan, math.nan, "difference", 1),
)


def test_a_comparison_is_a_mark_with_its_interval_hollow_if_that_holds_no_effect():
    figure = comparisons_figure(FEW, title="t")
    ratios, differences = figure.axes
    assert figure.get_suptitle() == "t, n = 7"
    marks = {to_hex(m.get_color()): m for m in ratios.lines if m.get_marker() != "None"}
    assert sorted(float(m.get_xdata()[0]) for m in marks.values()) == [0.62, 0.9]
    assert marks[BLUE].get_markerfacecolor() == "white"
    assert sum(m.get_markerfacecolor() == "white" for m in marks.values()) == 1
    ends = [tuple(segment[:, 0]) for lines in ratios.collections for segment in lines.get_segments()]
    assert sorted(ends) == [(0.5, 0.774), (0.7, 1.2)]
    assert [tick.get_text() for tick in ratios.get_yticklabels()] == ["flatter minima", "trace at the last step"]
    assert [tick.get_fontweight() for tick in ratios.get_yticklabels()] == ["bold", "normal"]
    assert (ratios.get_xscale(), differences.get_xscale()) == ("log", "linear")
    no_effect = [line.get_xdata() for axes in figure.axes for line in axes.lines if line.get_marker() == "None"]
    assert no_effect == [[1, 1], [0, 0]]
    assert legend(figure) == [
        *("base far", "base near", "interval on one\nside of no effect", "on both, or none"),
        "lines:\n95% intervals\nover 4 seeds",
    ]


def test_a_comparison_tells_its_effect_interval_and_units():
    told, series = marks(comparisons_figure(FEW, title="t"))
    assert sorted(told) == [
        "base far, trace at matched training loss: -20.5 (fine-tuned − scratch), 4 seeds",
        "base far, trace at the last step: 0.9 [0.7, 1.2] (ratio fine-tuned / scratch), 4 seeds",
        "base near, trace at the last step: 0.62 [0.5, 0.774] (ratio fine-tuned / scratch), 4 seeds",
    ]
    assert series == ["base far", "base near"]


def test_points_tell_network_quantity_place_and_value_and_cuts_their_network(readings):
    of = {name: marks(draw(readings)) for name, draw in OF_READINGS.items()}
    networks = ["scratch (baseB)", "base far", "base near"]
    assert all(series == networks for _, series in of.values())
    said = {name: told for name, (told, _) in of.items()}
    for of_step in profiles(largest_n(readings, "t")[0], "train loss").itertuples():
        name = "scratch (baseB)" if of_step.treatment == "baseB" else f"base {of_step.base}"
        assert f"{name}, train loss, step {of_step.step}: {of_step.mean:.3g} nats, 2 sources" in said["training"]
    assert any(text.startswith(f"base near, input gradient, {STAGES[0]}, step 0: ") for text in said["gradients"])
    assert any(text.startswith("base near, relative projection, i = 1, last step: ") for text in said["gradients"])
    assert any(text.startswith("base near, path loss from one start, α = 0.5, last step: ") for text in said["paths"])
    assert any(text.startswith(f"base far, CKA with scratch, {STAGES[0]}, last step: ") for text in said["paths"])
    assert said["landscape"] == networks * 2


def test_what_has_no_interval_is_hollow():
    few = compared(("near", 7, "trace at the last step", 0.62, math.nan, math.nan, "ratio", 0))
    figure = comparisons_figure(few, title="t")
    (mark,) = [m for m in figure.axes[0].lines if m.get_marker() != "None"]
    assert mark.get_markerfacecolor() == "white"
    assert legend(figure) == ["base near", "interval on one\nside of no effect", "on both, or none"]


def test_bands_are_drawn_from_three_units_on():
    three = sweep(bases=("far", "near"), seeds=2)
    figure = training_figure(three, title="t")
    assert legend(figure)[-1] == "bands:\n95% intervals"
    bands = profiles(three, "train loss")
    (scratch, *_) = figure.axes[0].collections
    heights = scratch.get_paths()[0].vertices[:, 1]
    expected = bands[bands["treatment"] == "baseB"]
    assert (heights.min(), heights.max()) == pytest.approx((expected["low"].min(), expected["high"].max()))


def test_a_base_keeps_its_colour_where_a_test_lacks_it(readings):
    lines = training_figure(readings, title="t").axes[0].lines
    assert to_hex(lines[1].get_color()) == BLUE  # base far
    (difference,) = [m for m in comparisons_figure(FEW, title="t").axes[1].lines if m.get_marker() != "None"]
    assert to_hex(difference.get_color()) == BLUE


def test_training_shows_scratch_against_each_base_at_every_step(readings):
    figure = training_figure(readings, title="t")
    assert [title.split(" ")[0] for title in titles(figure)] == [
        "training",
        "generalisation",
        "relative",
        "top",
        "loss",
    ]
    assert legend(figure) == ["scratch (baseB)", "base far", "base near"]  # two units have no bands
    losses = profiles(readings, "train loss")
    expected = losses[losses["treatment"] == "baseB"].sort_values("step")
    drawn = line(figure, 0, BLACK)
    assert list(drawn.get_xdata()) == [0, 1, 10, 100, 1000]
    assert drawn.get_ydata() == pytest.approx(expected["mean"].to_numpy())
    top = profiles(readings, "eigenvalue")
    top = top[(top["base"] == "far") & (top["n_layers"] == 4) & (top["index"] == 1)].sort_values("step")
    assert line(figure, 3, BLUE).get_ydata() == pytest.approx(top["mean"].to_numpy())
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "log", "log", "log"]
    assert {axes.get_xscale() for axes in figure.axes} == {"symlog"}
    assert all(axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > 1000 for axes in figure.axes)
    assert figure.get_supxlabel() == "training step"


def test_steps_within_a_power_of_ten_are_named_on_their_logarithmic_axis(readings):
    near = readings[readings["step"].isin([0, 10, 100])].replace({"step": {100: 30}})
    axis = training_figure(near, title="t").axes[0].xaxis
    assert list(axis.get_majorticklocs()) == [0, 10, 30]
    assert len(training_figure(readings, title="t").axes[0].xaxis.get_majorticklocs()) > 3


def drawn_as(figure: Figure) -> dict[str, str]:
    """The colour of every network in the legend."""
    return {entry.get_label(): to_hex(entry.get_color()) for entry in figure.legends[0].legend_handles[:3]}


def test_every_panel_has_the_means_and_bands_of_each_network():
    three = sweep(bases=("far", "near"), n_layers=(4,), targets=tuple("ABC"))
    backwards, copied = STAGES[::-1], three[three["stage"].isin(STAGES[:4])]
    whole = three[three["stage"].isna()]
    expected = {
        "training": [
            *(
                profiles(three, name).assign(at=lambda rows: rows["step"])
                for name in ("train loss", "generalisation gap")
            ),
            *(profiles(whole, name).assign(at=lambda rows: rows["step"]) for name in ("relative deviation",)),
            profiles(three[three["index"].eq(1).fillna(False)], "eigenvalue").assign(at=lambda rows: rows["step"]),
            profiles(three, "loss variation").assign(at=lambda rows: rows["step"]),
        ],
        "gradients": [
            rows
            for step in (0, "last")
            for rows in (
                profiles(three, "input gradient", step=step).assign(at=lambda rows: rows["stage"].map(backwards.index)),
                profiles(copied, "relative projection", step=step, over_stages=True).assign(
                    at=lambda rows: rows["index"]
                ),
            )
        ],
        "paths": [
            *(
                profiles(three, f"path loss from {start}", step="last").assign(at=lambda rows: rows["x"])
                for start in ("one start", "two starts")
            ),
            *(
                profiles(three[three["against"].eq(against).fillna(False)], "CKA", step="last").assign(
                    at=lambda rows: rows["stage"].map(STAGES.index)
                )
                for against in ("base", "scratch", "twin")
            ),
        ],
    }
    for name, panels in expected.items():
        figure = OF_READINGS[name](three)
        looks = drawn_as(figure)
        assert list(looks) == ["scratch (baseB)", "base far", "base near"]
        for axes, rows in zip(figure.axes, panels, strict=True):
            found = {to_hex(line.get_color()): line for line in axes.lines}
            bands = {to_hex(band.get_facecolor()[0]): band for band in axes.collections}
            for network, color in looks.items():
                of = rows[rows["base"].isna() if network.startswith("scratch") else rows["base"] == network[5:]]
                if of.empty:
                    assert color not in found
                    continue
                of = of.sort_values("at").astype({"at": float})
                np.testing.assert_allclose(found[color].get_xydata(), of[["at", "mean"]])
                corners = [tuple(corner) for corner in bands[color].get_paths()[0].vertices]
                for end in ("low", "high"):
                    for corner in of[["at", end]].dropna().itertuples(index=False):
                        assert any(np.allclose(corner, other) for other in corners)


def test_every_effect_stands_in_the_row_of_its_test_and_on_the_side_of_its_base():
    table = pd.concat(
        [
            compared(
                ("far", 7, test, value, value / 2, value * 2, "ratio", 0),
                ("near", 7, test, value + 1, value, 9, "ratio", 0),
            )
            for test, value in (("top eigenvalue at the last step", 0.5), ("trace at the last step", 0.7))
        ]
    )
    table["claim"] = np.where(table["test"].str.startswith("top"), "one claim", "another")
    figure = comparisons_figure(table, title="t")
    (axes,) = figure.axes
    labels = ["one claim", "top eigenvalue at the last step", "another", "trace at the last step"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == labels
    assert axes.get_ylim() == (3.5, -0.5)  # the first on top
    looks = dict(list(drawn_as(figure).items())[:2])
    for base, shift in (("far", -0.1), ("near", 0.1)):
        rows = table[table["base"] == base]
        dots = [line for line in axes.lines if to_hex(line.get_color()) == looks[f"base {base}"]]
        places = [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots]
        expected = [(row.estimate, labels.index(row.test) + shift) for row in rows.itertuples()]
        np.testing.assert_allclose(sorted(places), sorted(expected))
        (ends,) = [lines for lines in axes.collections if to_hex(lines.get_color()[0]) == looks[f"base {base}"]]
        segments = [tuple(segment.ravel()) for segment in ends.get_segments()]
        expected = [
            (row.low, labels.index(row.test) + shift, row.high, labels.index(row.test) + shift)
            for row in rows.itertuples()
        ]
        np.testing.assert_allclose(sorted(segments), sorted(expected))
    assert axes.get_xlabel() == "ratio fine-tuned / scratch"


@pytest.mark.parametrize(
    ("low", "high", "scale", "filled"),
    [
        *((1.1, 2.0, "ratio", True), (0.9, 2.0, "ratio", False), (0.4, 0.9, "ratio", True)),
        *((0.1, 2.0, "difference", True), (-0.9, 0.9, "difference", False), (-0.9, -0.1, "difference", True)),
    ],
)
def test_a_mark_is_filled_where_its_interval_lies_on_one_side_of_no_effect(low, high, scale, filled):
    rows = compared(("near", 7, "trace at the last step", (low + high) / 2, low, high, scale, 0))
    (mark,) = [m for m in comparisons_figure(rows, title="t").axes[0].lines if m.get_marker() != "None"]
    assert (mark.get_markerfacecolor() == mark.get_color()) == filled


def test_a_second_eigenvalue_below_zero_leaves_the_first_on_its_logarithmic_axis(readings):
    negative = readings.assign(value=readings["value"].where(readings["index"].ne(3).fillna(True), -1.0))
    assert training_figure(negative, title="t").axes[3].get_yscale() == "log"


def test_gradients_go_from_head_to_input_and_components_over_copied_stages(readings):
    figure = gradients_figure(readings, STAGES, title="t")
    first, second, third, _ = figure.axes
    assert [tick.get_text() for tick in first.get_xticklabels()] == STAGES[::-1]
    norms = profiles(readings, "input gradient", step="last").query("treatment == 'baseB'").set_index("stage")["mean"]
    assert line(figure, 2, BLACK).get_ydata() == pytest.approx(norms[STAGES[::-1]].to_numpy())
    copied = readings[readings["stage"].isin(STAGES[:4])]
    shares = profiles(copied, "relative projection", step=0, over_stages=True).query("treatment == 'baseB'")
    assert line(figure, 1, BLACK).get_ydata() == pytest.approx(shares["mean"].to_numpy())
    assert second.get_xlabel() == "i (mean over conv1 to fc4)"
    assert first.get_title("left").endswith("step 0")
    assert third.get_title("left").endswith("last step")


def test_landscapes_share_levels_in_a_row_and_cuts_are_means_over_units(readings):
    figure = landscape_figure(readings, title="t")
    contours = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in contours] == ["scratch (baseB)", "base far", "base near"]
    filled = [axes.collections[0] for axes in contours]
    assert all(np.array_equal(drawn.levels, filled[0].levels) for drawn in filled)
    losses = readings[(readings["probe"] == "initial-landscape") & (readings["n_layers"].fillna(4) == 4)]
    assert (filled[0].levels[0], filled[0].levels[-1]) == pytest.approx((losses["value"].min(), losses["value"].max()))
    (cut,) = [i for i, axes in enumerate(figure.axes) if axes.get_title("left").startswith("at the solution")]
    of_scratch = readings.query("probe == 'landscape' and y == 0 and treatment == 'baseB'")
    expected = np.exp(np.log(of_scratch["value"]).groupby(of_scratch["x"]).mean())
    assert line(figure, cut, BLACK).get_ydata() == pytest.approx(expected.to_numpy())


def contours(figure: Figure) -> list[list[bool]]:
    """Which networks of a row have contours, above the cuts."""
    panels = [axes for axes in figure.axes if not axes.get_title("left") and axes.get_label() != "<colorbar>"]
    return [[bool(axes.collections) for axes in panels[at : at + 3]] for at in range(0, len(panels), 3)]


def test_contours_are_of_the_unit_that_has_most_and_of_none_that_has_both_kinds_a_row_is_empty(readings):
    at_solution, of_a = readings["probe"] == "landscape", readings["target"] == "A"
    figure = landscape_figure(readings[~(at_solution & of_a)], title="t")
    assert contours(figure) == [[True] * 3] * 2
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_label() == "<colorbar>"] == ["loss, nats"] * 2
    assert "target B, seed 0" in figure.subfigs[0].get_supxlabel()
    figure = landscape_figure(readings[at_solution != of_a], title="t")
    assert contours(figure) == [[True] * 3, [False] * 3]
    assert "target A, seed 0" in landscape_figure(readings, title="t").subfigs[0].get_supxlabel()


def test_contours_have_the_losses_at_their_places(readings):
    skewed = readings.assign(value=readings["value"] * (1 + readings["x"].fillna(0) / 4 + readings["y"].fillna(0) / 9))
    figure = landscape_figure(skewed, title="t")
    axes = next(axes for axes in figure.axes if axes.get_title() == "base far")
    rows = skewed.query("probe == 'initial-landscape' and target == 'A' and base == 'far' and n_layers == 4")
    table = {(row.x, row.y): row.value for row in rows.itertuples()}
    filled = axes.collections[0]
    assert table[1, 0] != pytest.approx(table[0, 1])
    for (x, y), value in table.items():
        above = filled.levels.searchsorted(value, side="right") - 1
        inside = [path.contains_point((0.999 * x, 0.999 * y), radius=1e-3) for path in filled.get_paths()]
        assert any(inside[max(0, above - 1) : above + 2])


def test_a_loss_that_overflowed_is_cut_off(readings):
    huge = readings.assign(value=readings["value"].where(readings["x"] != 1, 3.4e38))
    figure = landscape_figure(huge, title="t")
    filled = next(axes for axes in figure.axes if axes.get_title()).collections[0]
    assert filled.levels[-1] == pytest.approx(1000)


def test_paths_show_the_lines_of_both_starts_and_cka_at_every_stage(readings):
    figure = paths_figure(readings, STAGES, title="t")
    assert titles(figure) == [
        "loss on the line, one start, nats",
        "loss on the line, two starts, nats",
        *("CKA with the base", "CKA with scratch", "CKA with the twin"),
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["α"] * 2 + ["stage, from input to head"] * 3
    assert all([tick.get_text() for tick in axes.get_xticklabels()] == STAGES for axes in figure.axes[2:])
    assert list(line(figure, 0, BLACK).get_xdata()) == pytest.approx(np.linspace(0, 1, 11))
    cka = profiles(readings, "CKA", step="last").query("treatment == 'baseB'").set_index("stage")["mean"]
    assert line(figure, 4, BLACK).get_ydata() == pytest.approx(cka[STAGES].to_numpy())
    assert not any(to_hex(drawn.get_color()) == BLACK for drawn in figure.axes[2].lines)


@every_figure
def test_the_largest_n_is_shown_and_named(draw, readings):
    assert draw(readings).get_suptitle() == "convnet8 on cifar10, 2 targets, 1 seed, n = 4"


def test_networks_that_start_again_are_not_drawn_among_those_from_scratch(readings):
    again = readings[readings["treatment"] == "baseB"].assign(treatment=RESTART, value=99.0)
    for draw in (OF_READINGS["training"], OF_READINGS["gradients"]):
        with_it, without = (draw(rows) for rows in (pd.concat([readings, again], ignore_index=True), readings))
        for one, other in zip(with_it.axes, without.axes, strict=True):
            assert [list(line.get_ydata()) for line in one.lines] == [list(line.get_ydata()) for line in other.lines]


def test_a_single_n_needs_no_name(readings):
    one = readings[readings["n_layers"].fillna(3) == 3]
    assert paths_figure(one, STAGES, **WORDS).get_suptitle() == WORDS["title"]


def test_no_text_lies_on_another_or_leaves_the_page(readings):
    assert overlaps(comparisons_figure(comparisons(readings, STAGES), **WORDS)) == []
    assert overlaps(training_figure(readings, **WORDS)) == []
    bases, stages = [f"cifar10[blur_px={i}]" for i in range(4)], [f"layer{i}.block" for i in range(12)]
    long = sweep(bases=bases, n_layers=(4,), targets=("A",), seeds=1, stages=stages)
    assert overlaps(gradients_figure(long, stages, **WORDS)) == []
    assert overlaps(landscape_figure(long, **WORDS)) == []
    assert overlaps(paths_figure(long, stages, **WORDS)) == []
    of_one = sweep(bases=("package.module:network@step250.safetensors",), targets=("A",), seeds=3)
    assert overlaps(landscape_figure(of_one, **WORDS)) == []


def test_each_quantity_of_which_differences_are_taken_has_an_axis_with_its_unit():
    rows = [
        ("far", 4, f"{test} {when}", value, value - size, value + size, "difference", 0)
        for test, value, size in (
            ("top-1 gap", 0.01, 0.02),
            ("loss gap", -0.4, 0.1),
            ("barrier from one start", 254_215.0, 9000.0),
            ("barrier from two starts", 0.0015, 0.001),
        )
        for when in ("at the last step", "along training")
    ]
    figure = comparisons_figure(compared(*rows), title="t")
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "top-1 gap, fine-tuned − scratch, fractions",
        "loss gap, fine-tuned − scratch, nats",
        "barrier, fine-tuned − scratch, nats",
    ]
    assert overlaps(figure) == []
    gap = figure.axes[1]
    assert [tick.get_text() for tick in gap.get_yticklabels()][1:] == [
        "loss gap at the last step",
        "loss gap along training",
    ]
    assert gap.get_xlim()[0] < -0.4 < 0 < gap.get_xlim()[1] < 1


def test_after_six_bases_dashes_tell_colours_apart():
    table = pd.concat([FEW.iloc[[1]].assign(base=f"base{i}") for i in range(14)])
    marks = [(m.get_marker(), m.get_color()) for m in comparisons_figure(table, title="t").axes[0].lines]
    assert len(set(marks[:-1])) == 14
    readings = frame(
        row(("AnB+", "A", f"base{i:02}", 4, 0), step, "generalisation", "train loss", 1.0 + i)
        for i in range(14)
        for step in (0, 1)
    )
    lines = training_figure(readings, title="t").axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 14


@every_figure
def test_one_unit_has_lines_without_bands(draw):
    figure = draw(sweep(bases=("near",), n_layers=(4,), targets=("A",), seeds=1))
    assert legend(figure) == ["scratch (baseB)", "base near"]


@pytest.mark.parametrize(
    ("name", "probe", "panels"),
    [
        ("training", "generalisation", 2),
        ("training", "deviation", 1),
        ("training", "flatness", 1),
        ("training", "loss-variation", 1),
        ("gradients", "gradient-scale", 2),
        ("gradients", "gradient-components", 2),
        ("landscape", "initial-landscape", 1),
        ("landscape", "landscape", 1),
        ("paths", "path", 2),
        ("paths", "CKA", 3),
    ],
)
def test_what_has_been_probed_so_far_can_be_drawn(name, probe, panels, readings):
    tuned = readings[(readings["probe"] == probe) & (readings["treatment"] == "AnB+")]
    figure = OF_READINGS[name](tuned)
    assert len(titles(figure)) == panels
    assert legend(figure)[0] == "base far"


@every_figure
def test_scratch_alone_can_be_drawn(draw, readings):
    assert legend(draw(readings[readings["treatment"] == "baseB"]))[0] == "scratch (baseB)"


@every_figure
def test_nothing_to_draw_is_refused(draw, readings):
    with pytest.raises(ValueError, match="nothing to draw: there are no rows"):
        draw(readings.iloc[:0])
    with pytest.raises(ValueError, match="nothing to draw: no reading is of"):
        draw(frame([row(("baseB", "A", None, pd.NA, 0), 0, "loss-variation", "walk loss", 1.0, index=0)]))


def test_no_comparison_makes_no_figure():
    with pytest.raises(ValueError, match="nothing to draw: there are no rows"):
        comparisons_figure(FEW.iloc[:0], title="t")


def test_comparisons_stand_by_claim_with_interval_units_and_what_would_be_seen():
    lines = rendered(comparisons_table(FEW))
    assert lines[0] == "Claim: flatter minima"
    rows = [line.split() for line in lines if line.rstrip().endswith("1.50") or "±1.500" in line]
    assert rows == [
        ["trace", "at", "the", "last", "step", "near", "3", "9.00", "[8.00,10.00]", "4", "×1.50"],
        ["near", "7", "0.62", "[0.50,0.77]", "4", "×1.50"],
        ["far", "7", "0.90", "[0.70,1.20]", "4", "×1.50"],
        ["trace", "at", "matched", "training", "loss", "far", "7", "-20.5", "4", "(1", "early)", "±1.500"],
    ]
    assert any("over 4 seeds of these targets alone" in line for line in lines)
    assert any("early: in so many runs" in line for line in lines)
    assert not any("early" in line for line in rendered(comparisons_table(FEW.iloc[:3])))
    assert rendered(comparisons_table(FEW.iloc[:0]))[0].startswith("Effect:")


def test_an_interval_of_any_size_is_written():
    wide = compared(
        ("near", 7, "trace at the last step", 150.0, 1e-9, math.inf, "ratio", 0),
        ("far", 7, "trace at the last step", -0.0001, -0.5, 0.5, "difference", 0),
    )
    lines = rendered(comparisons_table(wide))
    assert any("150 [1e-09,inf]" in line for line in lines)
    assert any("+0.000 [-0.500,0.500]" in line for line in lines)


def test_nearness_is_a_row_for_each_test_and_n(readings):
    lines = rendered(nearness_table(nearness(sweep(), DISTANCES)))
    assert lines[0] == "Claim: nearer when the target is similar"
    first, second, *_ = [" ".join(line.split()) for line in lines if "eigenvalue at the last step" in line]
    assert second.startswith("top eigenvalue at the last step 4 ")
    assert first == "top eigenvalue at the last step 3 +1.00 4 3 -"  # in all units alike
    assert nearness(readings, DISTANCES).empty  # of two bases, for which a report has no table


def judged(readings):
    return verdicts(effects(readings, STAGES), rank_correlations(readings, DISTANCES))


def test_verdicts_say_test_effect_units_and_what_would_be_seen():
    table = judged(sweep())
    markdown = verdicts_markdown(table).split("\n")
    assert markdown[0].startswith("| claim | how it is tested | effect and 95% interval | units | would be seen")
    assert [line.split(" | ")[0] for line in markdown[2:]] == [f"| {claim}" for claim in PRIMARY]
    assert {line.count(" | ") for line in markdown if "---" not in line} == {6}
    near = next(line for line in markdown if line.startswith("| weights stay near"))
    row = table.set_index("claim").loc["weights stay near"]
    effect = f"{row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    assert f"| relative deviation at the last step | {effect} (ratio) | 4 sources | ×{row['detectable']:.2f} |" in near
    assert near.endswith("| **supported** |")
    (line,) = [" ".join(line.split()) for line in rendered(verdicts_table(table), 120) if "weights stay near" in line]
    assert line.startswith(f"weights stay near {effect.replace(', ', ',')} 4 ×{row['detectable']:.2f} ")
    assert any("over 4 sources of targets" in line for line in rendered(verdicts_table(table), 120))
    assert rendered(verdicts_table(table), 120)[-1] == ""  # what comes next stands apart
    # The note explains the words that stand in the table.
    assert any(line.startswith("no effect beyond: not seen, ") for line in rendered(verdicts_table(table), 120))
    assert said_verdict(row.to_dict()).startswith(
        f"supported (relative deviation at the last step: fine-tuned / scratch {effect}, "
    )
    nothing = dict.fromkeys(("estimate", "low", "high", "detectable"), math.nan)
    assert "at the last step: no value, " in said_verdict(row.to_dict() | nothing)


def test_too_few_units_say_how_many_it_takes():
    one = frame(two_networks({5: (0.1, 3.0)}, {5: (0.1, 1.0)}, seed=0)).query("probe == 'flatness'")
    assert judged(one).empty  # the trace at the last step decides about nothing
    assert len(verdicts_markdown(judged(one)).split("\n")) == 2
    few = judged(sweep(targets=("A", "B"), seeds=1))
    said = [said_verdict(row) for row in few.to_dict("records")]
    assert all(text.startswith("too few units: ") for text in said)
    assert any(re.match(r"too few units: it takes about \d+ sources to see this effect \(", text) for text in said)
    assert said_verdict(judged(sweep(targets=("A",), seeds=1)).iloc[0].to_dict()).startswith(
        "too few units: how many it takes cannot be said ("
    )


def test_no_correlation_or_accuracy_is_said_to_be_seen_that_is_larger_than_there_can_be():
    rhos = rank_correlations(sweep(), DISTANCES)
    rhos["rho"] = np.resize([1.0, -1.0, 0.5], len(rhos))  # 4 units so far apart see nothing
    table = verdicts(effects(sweep(), STAGES), rhos)
    row = table.set_index("claim").loc[NEARER]
    assert row["detectable"] > 1
    assert said_verdict(row.to_dict()).endswith("; no effect would be seen in 4 studies of 5)")
    assert " sources | none | " in verdicts_markdown(table)
    assert any(" none " in line for line in rendered(verdicts_table(table), 120))
    assert [size(1.2, scale) for scale in ("points", "difference", "ratio")] == ["none", "±1.200", "×1.20"]
    assert size(0.998, "ρ") == "±1.00"


def test_effects_that_are_all_zero_are_drawn_without_a_warning():
    figure = comparisons_figure(FEW.assign(estimate=0.0, low=0.0, high=0.0, scale="difference"), title="t")
    assert all(axis.get_xlim()[0] < axis.get_xlim()[1] for axis in figure.axes)
